"""The uniform API with tensors: what NumPy gets from NumPy arrays, torch gets from tensors, with autograd."""

import inspect

import numpy as np
import pytest
from conftest import need

import fastlogits

torch = need("torch")
ft = need("fastlogits.torch")

X = np.random.default_rng(0).standard_normal((4, 5, 3))
G = np.random.default_rng(1).standard_normal((4, 5, 3))
LABELS = np.arange(12).reshape(4, 3) % 5
IDS = np.arange(24).reshape(4, 2, 3) % 5
SHARES = np.abs(G)
MASK = X > -0.5
MASK[0, :, 0] = False
WEIGHT, ROWS = np.linspace(0.5, 1, 5), np.linspace(1, 2, 12).reshape(4, 3)

CALLS = {
    "softmax": (fastlogits.softmax, (X,), {}),
    "softmax of two axes": (fastlogits.softmax, (X,), {"axis": (0, 2), "temperature": 0.7}),
    "softmax of all": (fastlogits.softmax, (X,), {"axis": None}),
    "softmax of some": (fastlogits.softmax, (X,), {"axis": 1, "where": MASK}),
    "log_softmax": (fastlogits.log_softmax, (X,), {"axis": 0, "temperature": 2.0}),
    "log_softmax of some": (fastlogits.log_softmax, (X,), {"axis": 1, "where": MASK}),
    "logsumexp": (fastlogits.logsumexp, (X,), {"axis": None}),
    "logsumexp of some": (fastlogits.logsumexp, (X,), {"axis": 1, "where": MASK, "keepdims": True}),
    "logsumexp weighted": (fastlogits.logsumexp, (X,), {"axis": 1, "b": SHARES, "where": MASK[:1]}),
    "logsumexp signed": (fastlogits.logsumexp, (X,), {"b": G, "return_sign": True}),
    "logsumexp and sign": (fastlogits.logsumexp, (X,), {"return_sign": True}),
    "softmax_backward": (fastlogits.softmax_backward, (G, SHARES), {"axis": 1}),
    "log_softmax_backward": (fastlogits.log_softmax_backward, (G, X), {}),
    "cross_entropy": (fastlogits.cross_entropy, (X, LABELS), {"axis": 1, "weight": WEIGHT, "z_loss": 0.1}),
    "cross_entropy of shares": (fastlogits.cross_entropy, (X, SHARES), {"axis": 0, "reduction": "none"}),
    "cross_entropy of rows": (
        fastlogits.cross_entropy, (X, LABELS), {"axis": -2, "sample_weight": ROWS, "ignore_index": 1},
    ),
    "selective_log_softmax": (fastlogits.selective_log_softmax, (X, LABELS), {"axis": 1}),
    "selective_log_softmax of several": (fastlogits.selective_log_softmax, (X, IDS), {"axis": -2}),
    "selective_log_softmax_backward": (fastlogits.selective_log_softmax_backward, (ROWS, X, LABELS), {"axis": 1}),
    "selective_log_softmax_backward of several": (
        fastlogits.selective_log_softmax_backward, (G[:, :2], X, IDS), {"axis": 1},
    ),
}  # fmt: skip


def tensors(value):
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def flat(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("track", [False, True])
@pytest.mark.parametrize(("function", "args", "options"), CALLS.values(), ids=CALLS)
def test_same_numbers_as_numpy(function, args, options, track):
    expected = flat(function(*args, **options))
    args = [tensors(arg) for arg in args]
    args[0].requires_grad_(track)
    given = flat(function(*args, **{key: tensors(value) for key, value in options.items()}))
    assert given[0].requires_grad == track
    for ours, numpy in zip(given, expected, strict=True):
        torch.testing.assert_close(ours.detach(), torch.as_tensor(numpy), equal_nan=True)


@pytest.mark.parametrize(("function", "args", "options"), CALLS.values(), ids=CALLS)
def test_derivatives(function, args, options):
    args = [tensors(arg) for arg in args]
    options = {key: tensors(value) for key, value in options.items()}
    args[0].requires_grad_()
    if "where" in options:
        options["where"][:, 0] = True  # a row of nothing has no finite differences

    def values(*args):
        return flat(function(*args, **options))[0].nan_to_num(neginf=0.0)

    assert torch.autograd.gradcheck(values, args)
    assert torch.autograd.gradgradcheck(values, args)


def test_nothing_selected_has_no_gradient():
    x = tensors(X).requires_grad_()
    for function in (fastlogits.softmax, fastlogits.logsumexp):
        total = function(x, 1, where=tensors(MASK)).nan_to_num(neginf=0.0).sum()
        (grad,) = torch.autograd.grad(total, x)
        assert not grad[0, :, 0].any()
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_cross_entropy_with_grad(dtype):
    x, labels = tensors(X).to(dtype), tensors(LABELS)
    loss, grad = fastlogits.cross_entropy_with_grad(x, labels, axis=1, grad_loss=2.0)
    tracked = x.clone().requires_grad_()
    expected = ft.cross_entropy(tracked, labels)
    (2 * expected.float()).backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(grad, tracked.grad)
    version = x._version
    result = fastlogits.cross_entropy_with_grad(x, labels, axis=1, grad_loss=torch.tensor(2.0), out=x)
    assert result.grad_logits is x
    assert x._version > version
    torch.testing.assert_close(x, grad)
    rows = fastlogits.cross_entropy_with_grad(
        tensors(X), labels, axis=1, reduction="none", grad_loss=tensors(ROWS)
    )
    exact = fastlogits.cross_entropy_with_grad(X, LABELS, axis=1, reduction="none", grad_loss=ROWS)
    torch.testing.assert_close(rows.grad_logits, tensors(exact.grad_logits))


def test_argmax_and_integers():
    assert torch.equal(fastlogits.argmax(tensors(X), 1), tensors(np.argmax(X, 1)))
    assert fastlogits.argmax(tensors(X), 1).dtype == torch.int64
    numbers = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(fastlogits.softmax(numbers), torch.softmax(numbers.double(), -1))


@pytest.mark.parametrize("function", [fastlogits.softmax, fastlogits.log_softmax])
def test_out(function):
    x = tensors(X).bfloat16()
    out = torch.empty_like(x)
    assert function(x, out=out) is out
    torch.testing.assert_close(out, function(x))
    with pytest.raises(RuntimeError, match="out"):
        function(x.requires_grad_(), out=out)


def test_ignore_index_beside_a_distribution():
    with pytest.raises(ValueError, match="ignore_index"):
        fastlogits.cross_entropy(tensors(X), tensors(SHARES), ignore_index=-100)


def test_errors_speak_of_labels():
    with pytest.raises(IndexError, match="labels: .*got 7"):
        fastlogits.cross_entropy(tensors(X)[..., 0], torch.tensor([0, 7, 0, 0]))



def test_signatures_are_those_of_fastlogits():
    for name in set(fastlogits.__all__) & vars(ft.uniform).keys() - {"CrossEntropy"}:
        ours = inspect.signature(getattr(ft.uniform, name)).parameters.values()
        theirs = inspect.signature(inspect.unwrap(getattr(fastlogits, name))).parameters.values()
        assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled():
    def function(x):
        return fastlogits.torch.uniform.softmax(x, (0, 1), temperature=2.0).square().sum()

    x = tensors(X)
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_by_memory(dtype):
    """Functions without one of their own here: tensors in, tensors out, also within named tuples and RowStats."""
    x, labels = tensors(X).to(dtype), tensors(LABELS)
    stats = fastlogits.row_stats(x, labels, top_k=2, axis=1)
    expected = fastlogits.row_stats(x.float().numpy(), LABELS, top_k=2, axis=1)
    assert type(stats) is fastlogits.RowStats
    for name, values in vars(stats).items():
        assert values.dtype in (dtype, torch.int64, torch.bool)
        close = torch.from_numpy(getattr(expected, name)).float()
        torch.testing.assert_close(values.float(), close, atol=0.02, rtol=0.02)
    top = fastlogits.topk(logits=x, k=2, axis=1)
    assert type(top) is fastlogits.TopK
    assert torch.equal(top.values, torch.topk(x, 2, dim=1).values)
    assert fastlogits.accuracy(x, labels, axis=1).shape == ()
    assert fastlogits.perplexity(x, labels, axis=1).dtype == torch.float32


def test_by_memory_has_no_gradient():
    x = tensors(X).requires_grad_()
    with pytest.raises(RuntimeError, match=r"logits: .*topk.*logits\.detach\(\)"):
        fastlogits.topk(x, 2)
    with torch.no_grad():
        assert fastlogits.topk(x, 2).values.shape == (4, 5, 2)
