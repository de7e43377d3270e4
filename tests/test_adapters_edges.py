"""Where frameworks disagree with each other, or with common sense: one answer in every adapter."""

import functools

import ml_dtypes
import numpy as np
import pytest
from conftest import need
from tensors import ADAPTERS

import fastlogits

X = np.random.default_rng(0).standard_normal((4, 5))
LABELS, SHARES = np.arange(4), np.random.default_rng(1).random((4, 5))
HALVES = (ml_dtypes.bfloat16, np.float16)


class NumPy:
    def tensor(self, array):
        return array

    def array(self, array):
        return np.asarray(array)


class Dask:
    def __init__(self):
        self.dask = need("dask.array")
        need("fastlogits.dask")

    def tensor(self, array):
        return self.dask.from_array(array, chunks=3) if array.ndim else array

    def array(self, array):
        return np.asarray(array.compute(scheduler="synchronous"))


@functools.cache
def loaded(name):
    return {"numpy": NumPy, "dask": Dask, **ADAPTERS}[name]()


@pytest.fixture(params=["numpy", "dask", *ADAPTERS])
def library(request):
    return loaded(request.param)


@pytest.fixture(params=ADAPTERS)
def framework(request):
    return loaded(request.param)


# A step in which no label counts


NOTHING = {"ignored": np.full(4, -100), "labels": LABELS, "distribution": SHARES}


@pytest.mark.parametrize("labels", NOTHING.values(), ids=NOTHING)
def test_a_normalizer_of_zero_makes_loss_and_gradient_zero(library, labels):
    x, labels = library.tensor(X), library.tensor(labels)
    loss = fastlogits.cross_entropy(x, labels, normalizer=0)
    assert library.array(loss) == 0
    for values in fastlogits.cross_entropy_with_grad(x, labels, normalizer=0):
        assert not library.array(values).any()
    with pytest.raises(ValueError, match="normalizer: expected a number of at least 0, got -1"):
        fastlogits.cross_entropy(x, labels, normalizer=-1)


@pytest.mark.parametrize("labels", NOTHING.values(), ids=NOTHING)
def test_a_normalizer_of_zero_differentiated_and_compiled(framework, labels):
    x, labels = framework.tensor(X), framework.tensor(labels)

    def loss(x):
        return fastlogits.cross_entropy(x, labels, normalizer=0)

    for values in framework.value_and_gradient(loss, x):
        assert not framework.array(values).any()
    assert framework.array(framework.compiled(loss)(x)) == 0


@pytest.mark.parametrize("count", [0, 2])
def test_a_normalizer_that_is_traced(framework, count):
    x, labels = framework.tensor(X), framework.tensor(np.full(4, -100) if count == 0 else LABELS)
    compiled = framework.compiled(lambda x, count: fastlogits.cross_entropy(x, labels, normalizer=count))
    expected = fastlogits.cross_entropy(X, framework.array(labels), normalizer=count)
    given = framework.array(compiled(x, framework.tensor(np.array(count))))
    np.testing.assert_allclose(given, expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("count", [0, 0.0, "tensor"])
def test_a_step_of_a_language_model_without_labels(count):
    torch, hf = need("torch"), need("fastlogits.torch").hf
    count = torch.tensor(0) if count == "tensor" else count
    torch.compiler.reset()
    for loss in (hf.causal_lm_loss, torch.compile(hf.causal_lm_loss, fullgraph=True, backend="aot_eager")):
        logits = torch.tensor(X).unsqueeze(0).requires_grad_()
        value = loss(logits, torch.full((1, 4), -100), num_items_in_batch=count)
        value.backward()
        assert value == 0
        assert not logits.grad.any()


# logsumexp of nothing but -inf


def masked():
    x = X.copy()
    x[1], x[2, :3] = -np.inf, -np.inf
    return x


FACTORS = np.linspace(-0.5, 2, 20).reshape(4, 5)
KEPT = np.arange(20).reshape(4, 5) % 7 != 0
WAYS = {
    "plain": {},
    "factors": {"b": FACTORS},
    "factors and mask": {"b": FACTORS, "where": KEPT},
    "mask": {"where": KEPT},
    "keepdims": {"keepdims": True},
    "all": {"axis": None},
}


@pytest.mark.parametrize("mode", ["plain", "compiled"])
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_the_gradient_of_logsumexp_of_nothing_is_zero(framework, options, mode):
    options = {key: framework.tensor(v) if isinstance(v, np.ndarray) else v for key, v in options.items()}

    def total(x):
        values = fastlogits.logsumexp(x, return_sign=True, **options)[0]
        return framework.where_finite(values)

    for x in (masked(), np.full((4, 5), -np.inf)):
        function = framework.compiled(total) if mode == "compiled" else total
        _, grad = framework.value_and_gradient(function, framework.tensor(x))
        grad = framework.array(grad)
        empty = np.isneginf(x).all(1)
        assert not grad[empty].any()
        assert np.isfinite(grad).all()
        assert empty.all() or grad[~empty].any()


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_derivatives_of_logsumexp_of_nothing_under_transforms():
    torch, jax = need("torch"), need("jax")
    ft, fj = need("fastlogits.torch"), need("fastlogits.jax")
    x = masked()
    tangent = torch.func.jvp(lambda x: ft.logsumexp(x, 1), (torch.tensor(x),), (torch.ones(4, 5),))[1]
    np.testing.assert_allclose(tangent, [1, 0, 1, 1])
    with jax.enable_x64(True):
        tangent = jax.jvp(lambda x: fj.logsumexp(x, 1), (x,), (np.ones((4, 5)),))[1]
        hessian = jax.hessian(lambda x: fj.logsumexp(x, 1).sum())(x)
    np.testing.assert_allclose(tangent, [1, 0, 1, 1])
    assert np.isfinite(hessian).all()
    np.testing.assert_allclose(torch.func.hessian(lambda x: ft.logsumexp(x, 1).sum())(torch.tensor(x)), hessian)
    again = torch.tensor(x, requires_grad=True)
    (grad,) = torch.autograd.grad(ft.logsumexp(again, 1).sum(), again, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), again)
    assert second.isfinite().all()


# Halves


@pytest.mark.parametrize("dtype", HALVES)
def test_half_gradients_arrive_at_half_losses(library, dtype):
    arriving = np.array([1, 0.5, 0.25, 2])
    logits, labels = library.tensor(X.astype(dtype)), library.tensor(LABELS)
    options = {"reduction": "none"}
    expected = fastlogits.cross_entropy_with_grad(X.astype(dtype), LABELS, grad_loss=arriving, **options).grad_logits
    given = fastlogits.cross_entropy_with_grad(
        logits, labels, grad_loss=library.tensor(arriving.astype(dtype)), **options
    ).grad_logits
    np.testing.assert_array_equal(library.array(given), expected)
    scalar = library.tensor(np.array(0.5, dtype))
    given = fastlogits.cross_entropy_with_grad(logits, labels, grad_loss=scalar).grad_logits
    expected = fastlogits.cross_entropy_with_grad(X.astype(dtype), LABELS, grad_loss=0.5).grad_logits
    np.testing.assert_array_equal(library.array(given), expected)


# Messages, and functions without a gradient


def test_factors_that_do_not_broadcast_are_named(library):
    with pytest.raises(ValueError, match=r"^b: expected a shape that broadcasts with that of a, \(4, 5\), got \(3,\)"):
        fastlogits.logsumexp(library.tensor(X), b=library.tensor(np.ones(3)))


def test_factors_that_do_not_broadcast_are_named_in_gradients(framework):
    b = framework.tensor(np.ones(3))
    with pytest.raises(ValueError, match=r"b: expected a shape that broadcasts with that of a"):
        framework.value_and_gradient(lambda x: fastlogits.logsumexp(x, b=b), framework.tensor(X))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_labels_of_any_integer_dtype(library, dtype):
    given = fastlogits.cross_entropy(library.tensor(X), library.tensor(LABELS.astype(dtype)))
    np.testing.assert_allclose(library.array(given), fastlogits.cross_entropy(X, LABELS))


def test_variables_and_tangents_of_tensorflow_are_noticed():
    tf = need("tensorflow")
    variable = tf.Variable(X)
    with tf.GradientTape(), pytest.raises(RuntimeError, match="entropy has no gradient"):
        fastlogits.entropy(variable)
    with tf.autodiff.ForwardAccumulator(variable, tf.ones_like(variable)):
        with pytest.raises(RuntimeError, match="topk has no gradient; pass tf.stop_gradient"):
            fastlogits.topk(2 * variable, 2)
        fastlogits.entropy(tf.stop_gradient(2 * variable))
    np.testing.assert_array_equal(fastlogits.entropy(variable), fastlogits.entropy(X))
