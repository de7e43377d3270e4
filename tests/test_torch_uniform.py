"""The uniform API with tensors, as far as it is torch's alone: see test_adapters.py for the rest."""

import pytest
from conftest import need
from test_adapters import CALLS, LABELS, SOME, X

import fastlogits

torch = need("torch")
ft = need("fastlogits.torch")


def tensor(value):
    return torch.from_numpy(value.copy())


@pytest.mark.parametrize(("function", "args", "options"), CALLS.values(), ids=CALLS)
def test_derivatives(function, args, options):
    args = [tensor(arg) for arg in args]
    options = {key: tensor(value) if hasattr(value, "shape") else value for key, value in options.items()}
    args[0].requires_grad_()
    if "where" in options:
        options["where"] = tensor(SOME[: len(options["where"])])

    def values(*args):
        result = function(*args, **options)
        return (result[0] if isinstance(result, tuple) else result).nan_to_num(neginf=0.0)

    assert torch.autograd.gradcheck(values, args)
    assert torch.autograd.gradgradcheck(values, args)


def test_tracked_results_require_grad():
    x = tensor(X).requires_grad_()
    assert fastlogits.softmax(x).requires_grad
    assert not fastlogits.softmax(x.detach()).requires_grad
    assert not fastlogits.cross_entropy_with_grad(x[..., 0], tensor(LABELS[:, 0])).grad_logits.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradient_in_place(dtype):
    x, labels = tensor(X).to(dtype), tensor(LABELS)
    _, grad = fastlogits.cross_entropy_with_grad(x, labels, axis=1, grad_loss=2.0)
    version = x._version
    result = fastlogits.cross_entropy_with_grad(x, labels, axis=1, grad_loss=torch.tensor(2.0), out=x)
    assert result.grad_logits is x
    assert x._version > version
    torch.testing.assert_close(x, grad)


@pytest.mark.parametrize("function", [fastlogits.softmax, fastlogits.log_softmax])
def test_out(function):
    x = tensor(X).bfloat16()
    out = torch.empty_like(x)
    assert function(x, out=out) is out
    torch.testing.assert_close(out, function(x))
    with pytest.raises(RuntimeError, match="out"):
        function(x.requires_grad_(), out=out)


def test_no_gradient_needed_by_memory():
    with torch.no_grad():
        assert fastlogits.topk(tensor(X).requires_grad_(), 2).values.shape == (4, 5, 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled():
    def function(x):
        return fastlogits.torch.uniform.softmax(x, (0, 1), temperature=2.0).square().sum()

    x = tensor(X)
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x))
