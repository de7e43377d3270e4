"""Calls of XLA's that the C core serves: the same numbers, and no Python."""

import itertools

import numpy as np
import pytest
from conftest import need
from numpy.testing import assert_allclose, assert_array_equal
from subprocesses import run

import fastlogits

jax = need("jax")
need("fastlogits.backends.cython")
jnp = jax.numpy
fj = need("fastlogits.jax")
_host, _lowering = need("fastlogits.jax._host"), need("fastlogits.jax._lowering")

pytestmark = pytest.mark.skipif(_lowering._handler is None, reason="built without a C compiler")

DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture
def no_python():
    def called(text):
        raise AssertionError(f"Python is called: {text}")

    _lowering._handler.capsule(called)
    yield
    _lowering._handler.capsule(_host.call)


def logits_of(shape, dtype):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape) * 3, dtype)


@pytest.mark.parametrize("shape", [(5,), (40, 7), (40, 300), (3, 50, 9), (3, 4000)])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_its_gradient(no_python, name, dtype, axis, shape):
    x, g = logits_of(shape, dtype), logits_of(shape, dtype)[::-1]
    function, backward = getattr(fj, name), getattr(fastlogits, f"{name}_backward")
    y, pull = jax.vjp(lambda x: function(x, axis=axis), x)
    assert_array_equal(y, getattr(fastlogits, name)(np.asarray(x), axis))
    assert_array_equal(pull(g)[0], backward(np.asarray(g), np.asarray(y), axis))


@pytest.mark.parametrize("axis", [-1, 0])
def test_logsumexp(no_python, axis):
    x = logits_of((40, 7), "float32")
    assert_array_equal(fj.logsumexp(x, axis=axis), fastlogits.logsumexp(np.asarray(x), axis))


@pytest.mark.parametrize("shape", [(1, 2), (40, 7), (700, 30), (3, 4000)])
@pytest.mark.parametrize("labels", ["int32", "distribution"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_and_their_gradients(no_python, dtype, labels, shape):
    x = logits_of(shape, dtype)
    upstream = jnp.linspace(-1, 2, shape[0]).astype(dtype)
    if labels == "int32":
        targets, loss = jnp.arange(shape[0], dtype=labels) % shape[1], fj.softmax_cross_entropy_with_integer_labels
    else:
        targets, loss = fj.softmax(x * 2), fj.softmax_cross_entropy
    losses, pull = jax.vjp(lambda x: loss(x, targets), x)
    own = fastlogits.cross_entropy_with_grad(
        np.asarray(x), np.asarray(targets), reduction="none", grad_loss=np.asarray(upstream, np.float32)
    )
    assert_array_equal(losses, own.loss.astype(dtype))
    assert_array_equal(pull(upstream)[0], own.grad_logits)


@jax.enable_x64(False)  # else weights and labels become wider than the logits
def test_uniform_losses_with_options(no_python):
    x, labels = logits_of((50, 20), "float32"), jnp.arange(50) % 20
    labels = labels.at[3].set(-100)
    weight = jnp.linspace(0.5, 2, 20)
    options = {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 5.0, "logit_scale": -0.7, "reduction": "none"}
    found = fastlogits.cross_entropy(x, labels, weight=weight, **options)
    exact = fastlogits.cross_entropy(np.asarray(x), np.asarray(labels), weight=np.asarray(weight), **options)
    assert_array_equal(found, exact)


def step_of(loss):
    """The loss and its gradient times `g`, in one program, as NumPy arrays."""

    def step(x, g):
        value, pull = jax.vjp(loss, x)
        return value, pull(g.astype(value.dtype))[0]

    return lambda x, g: jax.tree.map(np.asarray, jax.jit(step)(x, g))


@pytest.mark.parametrize(
    ("weights", "x64"), [*itertools.product([None, "float32", "bfloat16"], [False, True]), ("float64", True)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_that_was_guessed_is_the_same(no_python, dtype, weights, x64):
    """Whatever arrived before: computed beside the losses, or anew."""
    with jax.enable_x64(x64):
        x, labels = logits_of((53, 21), dtype), jnp.arange(53) % 21
        labels = labels.at[5].set(-100)
        options = {} if weights is None else {"weight": jnp.linspace(0.5, 2, 21).astype(weights)}
        step = step_of(lambda x: fastlogits.cross_entropy(x, labels, **options))
        first = step(x, jnp.float32(1))
        exact = fastlogits.cross_entropy_with_grad(
            np.asarray(x), np.asarray(labels), **{name: np.asarray(w, np.float64) for name, w in options.items()}
        )
        assert_allclose(first[0], exact.loss, rtol=1e-6)
        assert_allclose(first[1].astype(float), exact.grad_logits.astype(float), rtol=1e-2, atol=1e-7)
        for g in 1, 1, 2, 2, 2, 0, 1, np.inf, np.nan, 1, 1, 1, -1:
            value, grad = step(x, jnp.float32(g))
            assert_array_equal(value, first[0])
            if g == 1:
                assert_array_equal(grad, first[1])
            elif np.isfinite(g) and dtype != "float16":
                assert_array_equal(grad, first[1] * np.asarray(g, first[1].dtype))


def test_what_arrives_differs_by_row_after_all(no_python):
    x, labels = logits_of((53, 21), "float32"), jnp.arange(53) % 21
    step = step_of(lambda x: fj.softmax_cross_entropy_with_integer_labels(x, labels))
    ones, several = jnp.ones(53), jnp.linspace(-1, 2, 53)
    fresh = {0: step(x, several)[1], 1: step(x, ones)[1]}
    for same in 0, 1, 1, 1, 0, 0, 1:
        assert_array_equal(step(x, ones if same else several)[1], fresh[same])


def test_memory_without_a_gradient_is_no_nan(no_python):
    """Where nothing is guessed; `jax.debug_nans` looks at what a call alone gives."""
    x, labels = logits_of((53, 21), "float32"), jnp.arange(53) % 21

    def gradient():
        return jax.vjp(lambda x: fj.softmax_cross_entropy_with_integer_labels(x, labels), x)[1](
            jnp.linspace(0, 1, 53, dtype="float32")
        )

    gradient()
    jax.block_until_ready([jnp.full((53, 21), jnp.nan) for _ in range(20)])
    with jax.debug_nans(True):
        for _ in range(20):
            gradient()


def test_a_guess_in_a_scan_and_under_vmap(no_python):
    x, labels = logits_of((4, 30, 7), "float32"), jnp.arange(30) % 7

    def total(x):
        return fj.softmax_cross_entropy_with_integer_labels(x, labels).mean()

    exact = [fastlogits.cross_entropy_with_grad(np.asarray(rows), np.asarray(labels)).grad_logits for rows in x]
    mapped = jax.jit(jax.vmap(jax.grad(total)))
    inside = jax.jit(lambda x: jax.lax.scan(lambda c, rows: (c, jax.grad(total)(rows)), 0, x)[1])
    outside = jax.jit(jax.grad(lambda x: jax.lax.scan(lambda c, rows: (c + total(rows), None), 0.0, x)[0]))
    for _ in range(4):
        for gradient in mapped, inside, outside:
            assert_allclose(gradient(x), exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weights", [None, "float32", "bfloat16"])
def test_what_a_mean_divides_by_is_native(no_python, weights):
    labels = jnp.asarray([[0, 1, -100], [2, 2, 1]])
    options = [] if weights is None else [jnp.asarray([0.5, 1, 4], weights)]
    kernels, of = need("fastlogits.jax._kernels"), fastlogits._options.LossOptions()
    expected = [2, 3] if weights is None else [1.5, 9]
    assert kernels.divisor(labels, of, *options) == sum(expected)
    assert_array_equal(jax.vmap(lambda labels: kernels.divisor(labels, of, *options))(labels), expected)


@pytest.mark.parametrize("label", [-1, 7, -(2**31)])
def test_a_bad_label_is_named(label):
    """By Python, which the core hands the call back to."""
    x, labels = logits_of((5, 7), "float32"), jnp.asarray([0, 1, 2, label, 4])
    with pytest.raises(Exception, match=rf"\[0, 7\), got {label} at"):
        jax.block_until_ready(fj.softmax_cross_entropy_with_integer_labels(x, labels))


def test_no_label_is_ignored_that_was_not_named():
    code = """
        import jax
        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        import fastlogits.jax as fj
        for label in 1 - 2**63, -(2**63):
            labels = jnp.asarray([0, label])
            try:
                print(jax.block_until_ready(fj.softmax_cross_entropy_with_integer_labels(jnp.zeros((2, 3)), labels)))
            except Exception as error:
                print("expected values in [0, 3)" in str(error))
    """
    assert run(code, JAX_PLATFORMS="cpu") == "True\nTrue"


@pytest.mark.parametrize("variables", [{"FASTLOGITS_NATIVE": 0}, {"FASTLOGITS_BACKEND": "numpy"}])
def test_by_way_of_python_where_asked(variables):
    code = """
        import jax.numpy as jnp
        import fastlogits.jax as fj
        from fastlogits.jax import _host
        called = []
        own = _host.call
        fj._lowering._handler.capsule(lambda text: called.append(text) or own(text))
        fj.softmax(jnp.zeros((2, 3))).block_until_ready()
        print(len(called))
    """
    assert run(code, JAX_PLATFORMS="cpu", **variables) == "1"


def test_threads_as_set_where_it_was_traced(no_python):
    """And results that do not depend on them."""
    x = logits_of((400, 500), "float32")
    with fastlogits.settings(num_threads=1):
        one = jax.jit(fj.softmax)(x)
    with fastlogits.settings(num_threads=3):
        assert_array_equal(jax.jit(lambda x: fj.softmax(x))(x), one)
