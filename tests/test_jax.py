"""fastlogits.jax beside jax.nn and optax: the same numbers and gradients, and messages of its own."""

import functools

import numpy as np
import operations
import oracle
import pytest
from jax_cases import LABELS, MASK, SHARES, X, fj, integer_loss, jax, jnp
from operations import OPERATIONS
from tolerance import DTYPES, assert_close, compute_type

import fastlogits

pytestmark = pytest.mark.usefixtures("x64")


def optax_integer_loss(logits, labels, axis=-1, where=None):
    """What optax computes, by its formula."""
    picked = jnp.take_along_axis(logits, jnp.expand_dims(labels, axis), axis).squeeze(axis)
    if where is not None and where.ndim != logits.ndim:
        where = jnp.expand_dims(where, axis)
    losses = jax.nn.logsumexp(logits, axis, where=where) - picked
    return losses if where is None else jnp.where(jnp.any(where, axis), losses, 0)


def optax_loss(logits, labels, axis=-1, where=None):
    if where is not None and where.ndim != logits.ndim:
        where = jnp.expand_dims(where, axis)
    return -(labels * jax.nn.log_softmax(logits, axis, where)).sum(axis, where=where)


# name: our function, the other's, arguments, options
PEERS = {
    "softmax": (fj.softmax, jax.nn.softmax, (X,), {}),
    "softmax of an axis": (fj.softmax, jax.nn.softmax, (X,), {"axis": 1}),
    "softmax of two axes": (fj.softmax, jax.nn.softmax, (X,), {"axis": (2, 0)}),
    "softmax of neighbours": (fj.softmax, jax.nn.softmax, (X,), {"axis": (0, 1)}),
    "softmax of all": (fj.softmax, jax.nn.softmax, (X,), {"axis": None}),
    "softmax of no axis": (fj.softmax, jax.nn.softmax, (X,), {"axis": ()}),
    "softmax of some": (fj.softmax, jax.nn.softmax, (X,), {"axis": 1, "where": MASK}),
    "softmax of integers": (fj.softmax, jax.nn.softmax, (LABELS,), {}),
    "log_softmax": (fj.log_softmax, jax.nn.log_softmax, (X,), {"axis": 0}),
    "log_softmax of some": (fj.log_softmax, jax.nn.log_softmax, (X,), {"axis": (1, 2), "where": MASK[:1]}),
    "logsumexp": (fj.logsumexp, jax.nn.logsumexp, (X,), {}),
    "logsumexp of axes": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": (0, -1), "keepdims": True}),
    "logsumexp of some": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": 1, "where": MASK}),
    "logsumexp with factors": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": 1, "b": SHARES, "return_sign": True}),
    "logsumexp and sign": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": 1, "return_sign": True, "where": MASK}),
    "integers": (integer_loss, optax_integer_loss, (X, LABELS), {"axis": 1}),
    "integers, rows": (integer_loss, optax_integer_loss, (X, LABELS), {"axis": 1, "where": MASK[:, 0]}),
    "integers, classes": (integer_loss, optax_integer_loss, (X, LABELS), {"axis": 1, "where": MASK}),
    "distributions": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": 1}),
    "distributions of all": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": None}),
    "distributions, rows": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": 1, "where": MASK[:, 0]}),
    "distributions, classes": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": (1, 2), "where": MASK}),
    "one distribution": (fj.softmax_cross_entropy, optax_loss, (X, SHARES[0, 0]), {}),
    "one-hot integers": (fj.softmax_cross_entropy, optax_loss, (X, np.eye(3, dtype=int)[0]), {}),
}


def first(result):
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize(("ours", "theirs", "args", "options"), PEERS.values(), ids=PEERS)
def test_same_as_jax(ours, theirs, args, options):
    args = [jnp.asarray(arg) for arg in args]
    for found, expected in zip(
        jax.tree.leaves(ours(*args, **options)), jax.tree.leaves(theirs(*args, **options)), strict=True
    ):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("ours", "theirs", "args", "options"), PEERS.values(), ids=PEERS)
def test_gradients_of_jax(ours, theirs, args, options):
    if args[0].dtype.kind == "i":
        return
    args = [jnp.asarray(arg) for arg in args]
    weights = np.random.default_rng(2).random(first(ours(*args, **options)).shape)

    def total(function, *args):
        values = first(function(*args, **options))
        return jnp.where(jnp.isfinite(values), values * weights, 0).sum()

    wanted = [i for i, arg in enumerate(args) if arg.dtype.kind == "f"]
    found, expected = (
        jax.jit(jax.grad(functools.partial(total, function), argnums=wanted))(*args) for function in (ours, theirs)
    )
    for ours, theirs in zip(found, expected, strict=True):
        # JAX itself has NaN in rows of which nothing is selected.
        np.testing.assert_allclose(ours, jnp.nan_to_num(theirs), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", OPERATIONS)
def test_values(name, dtype):
    arguments, exact = operations.case(name, 37, 127, dtype)
    result = operations.call(fastlogits, name, *map(jnp.asarray, arguments))
    assert isinstance(result, jax.Array)
    kind = compute_type(dtype) if name in operations.PER_ROW else dtype
    assert result.dtype == (np.int64 if name == "argmax" else kind)
    assert_close(result, exact, name)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_without_float64(name):
    """JAX's default: labels are int32, sums float32."""
    with jax.enable_x64(False):
        arguments, exact = operations.case("cross_entropy_with_grad", 37, 127, DTYPES[name])
        x, labels = map(jnp.asarray, arguments)
        assert labels.dtype == np.int32
        losses, backward = jax.vjp(functools.partial(integer_loss, labels=labels), x)
        (grad,) = backward(jnp.ones_like(losses))
        assert losses.dtype == grad.dtype == x.dtype
        assert_close(grad, exact)
        assert_close(losses, oracle.cross_entropy(*arguments, reduction="none").loss)
        with pytest.raises((ValueError, RuntimeError), match=r"labels: .*got -5 at \(3,\)"):
            integer_loss(x, labels.at[3].set(-5))


def test_traced_functions_of_fastlogits():
    x = jnp.asarray(X)
    assert jax.jit(lambda x: fastlogits.argmax(x, 1))(x).tolist() == np.argmax(X, 1).tolist()
    warm = jax.jit(lambda x: fastlogits.softmax(x, (0, 1), temperature=0.5))(x)
    np.testing.assert_allclose(warm, fastlogits.softmax(X, (0, 1), temperature=0.5), rtol=1e-14)


def test_backends_and_settings(backend):
    """Both hold where a function is traced; each call asks for them anew."""
    logits, labels = operations.make_logits(37, 127, DTYPES["float32"]), np.arange(37)
    expected = fastlogits.cross_entropy_with_grad(logits, labels, reduction="sum")
    step = jax.jit(jax.value_and_grad(lambda x: integer_loss(x, jnp.asarray(labels)).sum()))
    for threads in (None, 1, 3):
        with fastlogits.settings(num_threads=threads):
            grad = jax.grad(lambda x: integer_loss(x, jnp.asarray(labels)).sum())(jnp.asarray(logits))
            np.testing.assert_array_equal(grad, expected.grad_logits)
    text = step.lower(jnp.asarray(logits)).as_text()
    assert f"backend\\22, \\22{backend}\\22" in text
    np.testing.assert_array_equal(step(jnp.asarray(logits))[1], expected.grad_logits)


def test_errors_arrive_however_late():
    """Asynchronous calls, and calls inside of loops."""
    x, labels = jnp.zeros((256, 5000)), jnp.full(256, 5000)
    losses = jax.jit(integer_loss)
    losses(x, labels - 1)
    with pytest.raises((ValueError, RuntimeError), match=r"labels: expected values in \[0, 5000\), got 5000 at \(0,\)"):
        jax.block_until_ready(losses(x, labels) + 1)
    with pytest.raises((ValueError, RuntimeError), match="labels"):
        jax.block_until_ready(jax.jit(lambda x: jax.lax.map(lambda y: integer_loss(x, y), labels[None]))(x))
    with pytest.raises((ValueError, RuntimeError), match=r"got 5000 at \(0,\)"):
        integer_loss(x, labels, where=jnp.ones(256, bool))
    with pytest.raises((ValueError, RuntimeError), match=r"got 5000 at \(0,\)"):
        integer_loss(x, labels, where=jnp.ones((256, 5000), bool))
    with pytest.raises((ValueError, RuntimeError), match="ids"):
        jax.block_until_ready(jax.jit(fastlogits.selective_log_softmax)(x, labels))


def test_masked_rows_are_not_read():
    x = jnp.asarray(X[..., 0]).at[1].set(jnp.nan)
    labels, where = jnp.array([0, -100, 4, 1]), jnp.array([True, False, True, True])
    loss, grad = jax.value_and_grad(lambda x: integer_loss(x, labels, where=where).sum())(x)
    rest = jnp.array([0, 2, 3])
    assert loss == integer_loss(x[rest], labels[rest]).sum()
    np.testing.assert_array_equal(grad[1], 0)


BAD = {
    "axis": (lambda x: fj.softmax(x, 2), ValueError, "axis"),
    "no class axis": (lambda x: integer_loss(x, jnp.arange(4), None), TypeError, "axis"),
    "where": (lambda x: fj.softmax(x, where=jnp.ones((4, 5))), TypeError, "where: expected bool, got float64"),
    "shape of where": (lambda x: fj.softmax(x, where=jnp.ones(3, bool)), ValueError, r"where: .*\(4, 5\), got \(3,\)"),
    "labels": (lambda x: integer_loss(x, jnp.arange(3)), ValueError, r"labels: .*\(4,\).*got shape \(3,\)"),
    "no integers": (lambda x: integer_loss(x, jnp.arange(4.0)), TypeError, "labels: .*integer.*got float64"),
    "distributions": (lambda x: fj.softmax_cross_entropy(x, x[:, :3]), ValueError, r"labels: .*\(4, 5\), got \(4, 3\)"),
    "complex": (lambda x: fj.logsumexp(x + 0j), TypeError, "a: expected float32.*got complex128"),
    "eight bits": (lambda x: fj.softmax(x.astype(jnp.float8_e4m3fn)), TypeError, "x: .*got float8_e4m3fn"),
    "out": (lambda x: fastlogits.softmax(x, out=x), TypeError, "out: JAX arrays do not change"),
    "out of a gradient": (lambda x: fastlogits.softmax_backward(x, x, out=x), TypeError, "out: JAX arrays"),
    "grad_loss": (
        lambda x: fastlogits.cross_entropy_with_grad(x, jnp.arange(4), grad_loss=x[0]), ValueError, "grad_loss",
    ),
    "of rows": (
        lambda x: fastlogits.cross_entropy_with_grad(x, jnp.arange(4), reduction="none", grad_loss=x[0]),
        ValueError, r"grad_loss: expected shape \(4,\), got \(5,\)",
    ),
    "sample_weight": (
        lambda x: fastlogits.cross_entropy(x, jnp.arange(4), sample_weight=x[0]), ValueError, "sample_weight: .*shape",
    ),
    "traced": (jax.jit(lambda x: fastlogits.topk(x, 2)), RuntimeError, "logits: fastlogits.topk has no gradient"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.asarray(X[..., 0]))
