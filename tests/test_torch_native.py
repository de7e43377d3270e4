"""Calls of the C core on torch's tensors: the bits of the way through NumPy, and what is not theirs left to it."""

import contextlib
import functools

import numpy as np
import pytest
import subprocesses
from conftest import need

import fastlogits

torch = need("torch")
ft = need("fastlogits.torch")
_native, _autograd = need("fastlogits.torch._native"), need("fastlogits.torch._autograd")

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_shape = pytest.mark.parametrize("shape", [(5,), (1, 2), (40, 7), (40, 300), (3, 50, 9), (3, 4000), (2, 7, 3, 4)])


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape) * 3).to(dtype)


@pytest.fixture
def answers(monkeypatch):
    """What the core has answered: names of functions, or None."""
    found = []

    def watched(name):
        own = getattr(_native, name)

        def call(*args):
            result = own(*args)
            found.append(name.replace("cross_entropy", "loss") if result is not None else None)
            return result

        return call

    class Watched:
        pass

    for name in ("loss", "cross_entropy", "softmax", "log_softmax", "softmax_backward", "log_softmax_backward"):
        setattr(Watched, name, staticmethod(watched(name)))
    assert _autograd.core() is _native
    monkeypatch.setattr(_autograd, "core", lambda: Watched)
    return found


@contextlib.contextmanager
def by_numpy_arrays():
    own, _autograd.core = _autograd.core, lambda: None
    try:
        yield
    finally:
        _autograd.core = own


def both(function, answers):
    """The core's results and those by way of NumPy"""
    answers.clear()
    ours = function()
    assert answers
    assert None not in answers
    with by_numpy_arrays():
        return ours, function()


def same(ours, others):
    for one, other in zip(ours, others, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@each_shape
@each_dtype
@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_its_gradient(answers, name, dim, dtype, shape):
    x, g = normal(*shape, dtype=dtype).requires_grad_(), normal(*shape, dtype=dtype, seed=1)

    def computed():
        y = getattr(ft, name)(x, dim)
        return y, *torch.autograd.grad(y, x, g)

    same(*both(computed, answers))


def test_a_gradient_that_is_one_number_seen_from_everywhere(answers):
    x = normal(40, 7).requires_grad_()
    same(*both(lambda: torch.autograd.grad(ft.softmax(x, 1).sum(), x), answers))


@pytest.mark.parametrize("shape", [(5,), (1, 2), (40, 7), (700, 30), (3, 4000), (2, 7, 3, 4)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("labels", [torch.int32, torch.int64, "distribution"])
@each_dtype
def test_losses_and_their_gradients(answers, dtype, labels, reduction, shape):
    x, axis = normal(*shape, dtype=dtype).requires_grad_(), min(1, len(shape) - 1)
    if labels == "distribution":
        target = torch.softmax(normal(*shape, dtype=dtype, seed=1), axis)
    else:
        target = torch.arange(x[..., :1].numel() if axis == 1 and x.dim() == 2 else x.select(axis, 0).numel())
        target = (target % shape[axis]).reshape(x.select(axis, 0).shape).to(labels)

    def computed():
        loss = ft.cross_entropy(x, target, reduction=reduction)
        return loss, *torch.autograd.grad(loss.sum(), x)

    same(*both(computed, answers))
    # What differs by row, or may be scaled, is left for later.
    assert answers == ["loss"] * (2 if reduction == "none" or dtype is torch.float16 else 1)


@each_dtype
@pytest.mark.parametrize("of_weights", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("labels", [torch.int64, "distribution"])
def test_weights_and_gradients_of_rows(answers, labels, reduction, of_weights, dtype):
    x = normal(6, 20, 7, dtype=dtype).requires_grad_()
    target = (
        torch.arange(42).reshape(6, 7) % 20 if labels is torch.int64 else torch.softmax(normal(6, 20, 7), 1).to(dtype)
    )
    weight, rows = normal(20, seed=2).square().to(of_weights), normal(6, 7, seed=3).square().to(of_weights)
    options = {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 30, "reduction": reduction}

    def computed():
        loss = ft.cross_entropy(x, target, weight, sample_weight=rows, **options)
        arriving = normal(*(loss.shape or (1,)), seed=4).to(loss.dtype).reshape(loss.shape)
        return loss, *torch.autograd.grad(loss, x, arriving)

    same(*both(computed, answers))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_rows_that_do_not_lie_plainly(answers, dtype):
    x, labels = normal(40, 7, dtype=dtype).requires_grad_(), torch.arange(40) % 7

    def gradient(arriving):
        return torch.autograd.grad(ft.cross_entropy(x, labels, reduction="none"), x, arriving)

    for arriving in (normal(1, dtype=dtype).expand(40), normal(80, dtype=dtype)[::2]):
        same(*both(functools.partial(gradient, arriving), answers))
    answers.clear()
    same(gradient(torch._neg_view(-arriving)), gradient(arriving))
    assert answers == ["loss", None, "loss", "loss"]


def test_bfloat16_losses_are_rounded_as_torch_does(answers):
    x = torch.arange(0, 1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).reshape(-1, 2)
    labels = torch.arange(len(x)) % 2
    same(*both(lambda: [ft.cross_entropy(x, labels, reduction="none")], answers))


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": -0.1}, {"label_smoothing": float("nan")}, {"z_loss": float("inf")}, {"softcap": 0.0},
        {"logit_scale": float("nan")}, {"normalizer": -1}, {"normalizer": 1, "reduction": "sum"}, {"reduction": "max"},
        {"ignore_index": -(2**63)}, {"ignore_index": 2**63}, {"weight": torch.ones(6)}, {"weight": torch.ones(1, 7)},
        {"sample_weight": torch.ones(4)}, {"sample_weight": torch.ones(1, 5)},
    ],
    ids=str,
)  # fmt: skip
def test_bad_options_are_left(answers, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ft.cross_entropy(normal(5, 7), torch.arange(5), **options)
    assert answers == [None]


def test_options_of_other_types_are_left(answers):
    x, labels = normal(50, 20), torch.arange(50) % 20
    plain = ft.cross_entropy(x, labels, label_smoothing=0.5, logit_scale=2.0, normalizer=8.0)
    assert torch.equal(plain, ft.cross_entropy(x, labels, label_smoothing=np.float32(0.5), logit_scale=2, normalizer=8))
    assert torch.equal(
        plain,
        ft.cross_entropy(
            x, labels, None, None, np.int64(-100), label_smoothing=0.5, logit_scale=2, normalizer=torch.tensor(8)
        ),
    )
    assert answers == ["loss", None, None]


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1, "ignore_index": 3},
        {"z_loss": 1e-3, "softcap": 5.0, "logit_scale": -0.7},
        {"normalizer": 17.5},
        {"normalizer": 0},
        {"ignore_index": -(2**63) + 1},
    ],
    ids=str,
)
def test_options(answers, options):
    x, labels = normal(50, 20).requires_grad_(), torch.arange(50) % 20

    def computed():
        loss = ft.cross_entropy(x, labels, **options)
        return loss, *torch.autograd.grad(loss, x)

    same(*both(computed, answers))


def test_autocast_gives_losses_in_float32(answers):
    x, labels = normal(50, 20, dtype=torch.bfloat16), torch.arange(50) % 20
    with torch.autocast("cpu"):
        same(*both(lambda: [ft.cross_entropy(x, labels), ft.cross_entropy(x, labels, reduction="none")], answers))


@pytest.mark.parametrize(
    "seen",
    [lambda x: x.t().contiguous().t(), lambda x: x[:, ::2], lambda x: x[:1].expand(40, -1), lambda x: x[:0]],
    ids=["transposed", "steps", "expanded", "empty"],
)
def test_what_does_not_lie_plainly_is_left(answers, seen):
    x = seen(normal(40, 8))
    torch.testing.assert_close(ft.softmax(x, 1), torch.softmax(x, 1))
    labels = torch.zeros(len(x), dtype=int)
    exact = torch.nn.functional.cross_entropy(x, labels)
    torch.testing.assert_close(ft.cross_entropy(x, labels), exact, equal_nan=True)
    assert set(answers) == {None}


def test_a_gradient_that_arrives_negated(answers):
    """By a bit of the tensor, not in memory."""
    x, g = normal(40, 7).requires_grad_(), normal(40, 7, seed=1)
    negated = torch._neg_view(-g)
    same(torch.autograd.grad(ft.softmax(x, 1), x, negated), torch.autograd.grad(ft.softmax(x, 1), x, g))
    assert answers == ["softmax", None, "softmax", "softmax_backward"]


@pytest.mark.parametrize("label", [-1, 7, -(2**63)])
def test_a_bad_label_is_named(label):
    with pytest.raises(IndexError, match=rf"target: expected values in \[0, 7\).*, got {label} at \(3,\)"):
        ft.cross_entropy(normal(5, 7), torch.tensor([0, 1, 2, label, 4]))


def test_labels_of_other_types_and_shapes_are_left(answers):
    x = normal(5, 7)
    assert ft.cross_entropy(x, torch.ones(5, dtype=torch.uint8)) == ft.cross_entropy(x, torch.ones(5, dtype=int))
    assert answers == [None, "loss"]
    with pytest.raises(ValueError, match="target"):
        ft.cross_entropy(x, torch.ones(4, dtype=int))


def test_the_route_is_shown_and_can_be_closed():
    code = """
        import fastlogits, fastlogits.torch as ft, torch
        print(fastlogits.show_config("dicts")["torch"])
        print(float(ft.softmax(torch.zeros((1, 4)), 1)[0, 0]))
    """
    assert subprocesses.run(code).splitlines() == ["by the C core", "0.25"]
    assert subprocesses.run(code, FASTLOGITS_NATIVE=0).splitlines() == ["by Python", "0.25"]
    assert subprocesses.run(code, FASTLOGITS_BACKEND="numpy").splitlines() == ["by Python", "0.25"]


def test_a_version_that_exchanges_tensors_otherwise_is_not_trusted(monkeypatch):
    monkeypatch.setattr(_native, "begin", lambda: None)
    monkeypatch.setattr(_native, "softmax", lambda x, dim: x)
    assert not _autograd._trusted.__wrapped__()


def test_memory_is_given_back():
    """A large result lives as long as its tensor, and no longer."""
    code = """
        import resource, torch, fastlogits.torch as ft
        x = torch.randn(900, 1000)
        for _ in range(20):
            ft.softmax(x, 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(200):
            ft.softmax(x, 1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000)
    """
    assert subprocesses.run(code) == "True"


def test_threads_and_results(answers):
    x, labels = normal(400, 500), torch.arange(400)
    with fastlogits.settings(num_threads=1):
        one = ft.softmax(x, 1), ft.cross_entropy(x, labels)
    with fastlogits.settings(num_threads=3):
        same(one, (ft.softmax(x, 1), ft.cross_entropy(x, labels)))
    assert answers == ["softmax", "loss"] * 2
