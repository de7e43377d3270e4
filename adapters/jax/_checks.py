"""What the adapter serves, and the errors for what it does not."""

import jax
import jax.numpy as jnp
import numpy as np

from fastlogits import _checks

FLOATS = ("float32", "float64", "bfloat16", "float16")


def floats(name, values):
    """`values` as a JAX array of a supported dtype; integers become JAX's default float."""
    array = jnp.asarray(values)
    if array.dtype.kind in "biu":
        return array.astype(float)
    if array.dtype.name not in FLOATS:
        _checks.promoted(name, array.dtype)
    return array


def labels(values, name="labels"):
    array = jnp.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer class indices, got {array.dtype}")
    return array


def where(value, shape):
    array = jnp.asarray(value)
    if array.dtype != bool:
        raise TypeError(f"where: expected bool, got {array.dtype}")
    try:
        np.broadcast_shapes(array.shape, shape)
    except ValueError:
        raise ValueError(f"where: expected a shape that broadcasts to {shape}, got {array.shape}") from None
    return array


def broadcast(**arrays):
    """The arrays, broadcast against each other."""
    shapes = {name: array.shape for name, array in arrays.items()}
    try:
        shape = np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise _checks.no_common_shape(**shapes) from None
    return [jnp.broadcast_to(array, shape) for array in arrays.values()]


def weights(name, values, shape, dtype):
    array = jnp.asarray(values)
    if array.dtype.kind not in "biuf" and array.dtype != jnp.bfloat16:
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return array.astype(dtype)


def grad_loss(value, loss, reduction):
    array = jnp.asarray(value)
    if array.ndim and reduction != "none":
        raise ValueError(f"grad_loss: expected a number beside {reduction!r}, got shape {array.shape}")
    if array.ndim and array.shape != loss.shape:
        raise ValueError(f"grad_loss: expected shape {loss.shape}, got {array.shape}")
    return jnp.broadcast_to(array, loss.shape).astype(loss.dtype)


def normalizer(value, reduction):
    """A number, or a traced one, which nothing is known of."""
    traced = isinstance(value, jax.core.Tracer) and not value.ndim
    number = _checks.normalizer(1.0 if traced else value, reduction)
    return value if traced else number


def no_out(out):
    if out is not None:
        raise TypeError("out: JAX arrays do not change; leave it out, or donate the argument to jax.jit")


def concrete(function, name, array):
    if isinstance(array, jax.core.Tracer):
        raise RuntimeError(f"{name}: fastlogits.{function} has no gradient; pass values, outside of jit, grad and vmap")
    platforms = {device.platform for device in array.devices()}
    if platforms != {"cpu"}:
        raise TypeError(f"{name}: expected an array on the CPU, got one on {', '.join(sorted(platforms))}")


def not_on_cpu(name, platforms):
    return TypeError(f"{name}: expected arrays on the CPU, got a computation for {', '.join(platforms)}")
