"""fastlogits.jax under the transformations of JAX: derivatives, vmap, scan, checkpoints."""

import numpy as np
import pytest
from conftest import need
from jax_cases import FUNCTIONS, LABELS, SHARES, X, each_function, integer_loss, jax, jnp

import fastlogits

check_grads = need("jax.test_util").check_grads
pytestmark = pytest.mark.usefixtures("x64")


@each_function
def test_derivatives_forward_and_reverse(function):
    check_grads(jax.jit(function), (jnp.asarray(X),), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "logsumexp", "integers"])
def test_hessian(name):
    def total(x):
        return (FUNCTIONS[name](x) ** 2).sum()

    x = jnp.asarray(X)
    forward_reverse = jax.jit(jax.hessian(total))(x)
    np.testing.assert_allclose(jax.jit(jax.jacrev(jax.jacrev(total)))(x), forward_reverse, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("axis", [0, 2])
@each_function
def test_vmap(function, axis):
    batch = np.stack([X, 2 * X, X - 1], axis)
    separate = [np.take(batch, i, axis) for i in range(3)]
    mapped = jax.jit(jax.vmap(function, in_axes=axis))(jnp.asarray(batch))
    alone = jax.jit(function)
    np.testing.assert_allclose(mapped, [alone(jnp.asarray(x)) for x in separate], rtol=1e-13)

    def total(x):
        return (function(x) ** 2).sum()

    gradient = jax.jit(jax.grad(total))
    exact = np.stack([gradient(jnp.asarray(x)) for x in separate])
    inside = jax.jit(jax.vmap(jax.grad(total), in_axes=axis))(jnp.asarray(batch))
    np.testing.assert_allclose(inside, exact, rtol=1e-12, atol=1e-15)
    outside = jax.jit(jax.grad(lambda x: jax.vmap(total, in_axes=axis)(x).sum()))(jnp.asarray(batch))
    np.testing.assert_allclose(np.moveaxis(outside, axis, 0), exact, rtol=1e-12, atol=1e-15)


def test_vmap_of_labels_and_weights_alone():
    x, labels = jnp.asarray(X[..., 0]), jnp.asarray(LABELS.T)
    mapped = jax.vmap(integer_loss, in_axes=(None, 0))(x, labels)
    np.testing.assert_array_equal(mapped, [integer_loss(x, each) for each in labels])
    weights = jnp.asarray(SHARES[:, :, 0])

    def loss(weight):
        return fastlogits.cross_entropy(x, labels[0], weight=weight, label_smoothing=0.2)

    np.testing.assert_allclose(jax.vmap(loss)(weights), [loss(weight) for weight in weights], rtol=1e-14)
    pairs = jax.vmap(jax.vmap(loss))(jnp.stack([weights, weights[::-1]]))
    np.testing.assert_allclose(pairs[1], jax.vmap(loss)(weights)[::-1], rtol=1e-14)


@each_function
def test_scan_and_checkpoint(function):
    def total(x):
        return (function(x) ** 2).sum()

    def step(x, _):
        value, grad = jax.value_and_grad(jax.checkpoint(total))(x)
        return x - 0.1 * grad, value

    _, values = jax.jit(lambda x: jax.lax.scan(step, x, length=3))(jnp.asarray(X))
    x, plain = jnp.asarray(X), jax.jit(jax.value_and_grad(total))
    for value in values:
        expected, grad = plain(x)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        x = x - 0.1 * grad


@each_function
def test_without_jit(function):
    """`jax.disable_jit`, with which people debug, changes nothing."""
    x = jnp.asarray(X)

    def everything(x):
        total, grad = jax.value_and_grad(lambda x: function(x).sum())(x)
        tangent = jax.jvp(function, (x,), (2 * x,))[1]
        rows = jax.vmap(function)(jnp.stack([x, -x]))
        scanned = jax.lax.scan(lambda total, x: (total + function(x).sum(), None), 0.0, jnp.stack([x, -x]))[0]
        return total, grad, tangent, rows, scanned, jax.jit(function)(x)

    expected = everything(x)
    with jax.disable_jit():
        given = everything(x)
    for ours, exact in zip(given, expected, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-12, atol=1e-14)
