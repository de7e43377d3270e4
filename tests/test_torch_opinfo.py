"""torch's own samples for its functions (OpInfo), fed to ours."""

import warnings

import pytest
from conftest import missing, need

torch = need("torch")
ft = need("fastlogits.torch")
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
except ImportError as error:  # private to torch, and asks for a package of its own
    missing("expecttest", error)

from torch.testing._comparison import default_tolerances  # noqa: E402

F = torch.nn.functional
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OURS = {
    "nn.functional.cross_entropy": (ft.cross_entropy, F.cross_entropy),
    "nn.functional.nll_loss": (ft.cross_entropy, F.cross_entropy),
    "softmax": (ft.softmax, F.softmax),
    "log_softmax": (ft.log_softmax, F.log_softmax),
    "logsumexp": (ft.logsumexp, torch.logsumexp),
}
OPS = [op for op in op_db if op.name in OURS and op.op is not None]


def widened(value):
    """`value` with its floating-point tensors in float64, keeping what requires grad."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return torch.float64 if isinstance(value, torch.dtype) else value


def tracked(arguments):
    return [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]


def test_every_operator_has_samples():
    assert {op.name for op in OPS} == set(OURS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.name}.{op.variant_test_name}".rstrip("."))
def test_samples(op, dtype):
    """Value and gradients are those of torch in float64, in torch's shape and dtype.

    Gradients may be as far off as torch's own in this dtype: softmax's start from rounded probabilities.
    """
    ours, theirs = OURS[op.name]
    compared = 0
    for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
        args = sample.input, *sample.args
        wide_args = [widened(a) for a in args]
        wide_kwargs = {key: widened(value) for key, value in sample.kwargs.items()}
        given, expected_like = ours(*args, **sample.kwargs), theirs(*args, **sample.kwargs)
        exact = theirs(*wide_args, **wide_kwargs)
        assert given.dtype == expected_like.dtype
        torch.testing.assert_close(given, exact.to(given.dtype), equal_nan=True)

        inputs = tracked([*args, *sample.kwargs.values()])
        wide_inputs = tracked([*wide_args, *wide_kwargs.values()])
        if not given.requires_grad:
            assert not inputs
            continue
        upstream = torch.linspace(-1, 1, given.numel(), dtype=given.dtype).reshape(given.shape)
        grads = torch.autograd.grad(given, inputs, upstream)
        plain_grads = torch.autograd.grad(expected_like, inputs, upstream)
        wide_grads = torch.autograd.grad(exact, wide_inputs, upstream.double())
        for grad, plain, wide in zip(grads, plain_grads, wide_grads, strict=True):
            assert grad.dtype == dtype
            error = (plain - wide).abs().nan_to_num().max().item() if wide.numel() else 0.0
            rtol, atol = default_tolerances(dtype)
            torch.testing.assert_close(grad, wide.to(dtype), equal_nan=True, rtol=rtol, atol=max(atol, error))
        compared += 1
    assert compared
