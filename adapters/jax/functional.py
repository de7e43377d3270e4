"""jax.nn's softmaxes and optax's losses, on the kernels of fastlogits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np

from fastlogits import _checks
from fastlogits._options import MASKED, NOTHING, LossOptions
from fastlogits.jax import _checks as _jax_checks
from fastlogits.jax import _kernels

if TYPE_CHECKING:
    from jax.typing import ArrayLike

    from fastlogits._typing import Axis


def softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    """As `jax.nn.softmax`.

    Parameters
    ----------
    x : Array of float32, float64, bfloat16 or float16
        Integers become JAX's default float.
    axis : int, tuple of ints or None, default -1
        The class axis or axes; None takes them all.
    where : Array of bool, optional
        Classes that take part; broadcasts to `x`. The others get probability 0, and gradient 0.

    Returns
    -------
    Array
        Of the shape and dtype of `x`; rows of which `where` selects nothing are 0.

    Examples
    --------
    >>> import jax.numpy as jnp, fastlogits.jax
    >>> fastlogits.jax.softmax(jnp.zeros(2))
    Array([0.5, 0.5], dtype=float32)
    """
    return normalized(_kernels.softmax, _jax_checks.floats("x", x), axis, where, 0)


def log_softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    """As `jax.nn.log_softmax`; parameters as of `softmax`. Classes that `where` leaves out get -inf."""
    return normalized(_kernels.log_softmax, _jax_checks.floats("x", x), axis, where, -jnp.inf)


def normalized(kernel, x, axis, where, excluded):
    if where is not None:
        where = _jax_checks.where(where, x.shape)
        x = jnp.where(where, x, -jnp.inf)
    rows, class_axis, back = merged(x, axis)
    result = back(kernel(rows, class_axis))
    return result if where is None else jnp.where(where, result, excluded)


def merged(x, axis):
    """(array, axis, back): `x` with its axes `axis` as a single one, and a function that takes such an array back."""
    axes = _checks.axes(_checks.axis(axis), x.ndim)
    if len(axes) == 1:
        return x, axes[0], lambda y: y
    others = [i for i in range(x.ndim) if i not in axes]
    first = sum(i < axes[0] for i in others) if axes else x.ndim
    if axes != tuple(range(first, first + len(axes))):
        first = len(others)
    order = [*others[:first], *axes, *others[first:]]
    turned = x.transpose(order)
    shape = turned.shape[:first], turned.shape[first : first + len(axes)], turned.shape[first + len(axes) :]
    rows = turned.reshape(*shape[0], math.prod(shape[1]), *shape[2])
    return rows, first, lambda y: y.reshape(turned.shape).transpose(np.argsort(order))


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: Literal[False] = False,
    where: ArrayLike | None = None,
) -> jax.Array: ...


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    *,
    return_sign: Literal[True],
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]: ...


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """As `jax.nn.logsumexp` (and `jax.scipy.special.logsumexp`), of real numbers.

    Parameters
    ----------
    a : Array of float32, float64, bfloat16 or float16
        Integers become JAX's default float.
    axis : int, tuple of ints or None, default None
        What to sum over; None takes all axes.
    b : Array, optional
        Factors of the exponentials, of any sign. With them, this is JAX's own function.
    keepdims : bool, default False
        Whether the summed axes stay, with length 1.
    return_sign : bool, default False
        Whether to return the pair (log of the absolute value, sign).
    where : Array of bool, optional
        Elements that take part; broadcasts to `a`.

    Returns
    -------
    Array, or pair of Arrays
        Of the dtype of `a`.

    Notes
    -----
    Where there is nothing but -inf, the gradient is 0; that of JAX's own function is NaN.
    """
    a = _jax_checks.floats("a", a)
    if where is not None:
        where = _jax_checks.where(where, a.shape)
    if b is not None:
        return _weighted_logsumexp(a, axis, _jax_checks.floats("b", b), keepdims, return_sign, where)
    if where is not None:
        a = jnp.where(where, a, -jnp.inf)
    rows, class_axis, _ = merged(a, axis)
    values = _kernels.logsumexp(rows, class_axis)
    if keepdims:
        axes = _checks.axes(_checks.axis(axis), a.ndim)
        values = values.reshape([1 if i in axes else n for i, n in enumerate(a.shape)])
    if not return_sign:
        return values
    sign = jnp.where(jnp.isnan(values), values, (values > -jnp.inf).astype(values.dtype))
    return values, jax.lax.stop_gradient(sign)


def _weighted_logsumexp(a, axis, b, keepdims, return_sign, where):
    """JAX's own, with the gradient 0 where there is nothing to sum."""
    a, b = _jax_checks.broadcast(a=a, b=b)
    there = ~jnp.isneginf(a) & (b != 0)
    nothing = ~(there if where is None else there & where).any(axis, keepdims=True)
    a, b = jnp.where(nothing, 0, a), jnp.where(nothing, 1, b)
    where = None if where is None else where | nothing
    values, sign = jax.nn.logsumexp(a, axis, b, keepdims, True, where)
    nothing = nothing.reshape(values.shape)
    values, sign = jnp.where(nothing, -jnp.inf, values), jnp.where(nothing, 0, sign)
    return (values, sign) if return_sign else jnp.where(sign < 0, jnp.nan, values)


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """As `optax.softmax_cross_entropy`, of which it keeps the name, the order of arguments and the defaults.

    Parameters
    ----------
    logits : Array of float32, float64, bfloat16 or float16
        Unnormalised log-probabilities.
    labels : Array
        Distributions over the classes; broadcasts with `logits`. Taken as they are, whatever their sum.
    axis : int, tuple of ints or None, default -1
        The class axis or axes.
    where : Array of bool, optional
        Classes that take part, in the shape of `logits`, or rows, in the shape of the result.

    Returns
    -------
    Array
        A loss for each row, in the dtype that `logits` and `labels` promote to; 0 where nothing takes part.

    Notes
    -----
    As in `optax.safe_softmax_cross_entropy`, 0 * log(0) is 0. Differentiable in `labels` too.
    """
    logits = _jax_checks.floats("logits", logits)
    labels = jnp.asarray(labels)
    labels = labels.astype(logits.dtype) if labels.dtype.kind in "biu" else _jax_checks.floats("labels", labels)
    logits, labels = _jax_checks.broadcast(logits=logits, labels=labels)
    if where is not None:
        where = _mask(where, logits, axis)
        logits, labels = jnp.where(where, logits, -jnp.inf), jnp.where(where, labels, 0)
    rows, class_axis, _ = merged(logits, axis)
    losses = _kernels.cross_entropy(rows, merged(labels, axis)[0], LossOptions(class_axis, NOTHING))
    losses = losses.astype(jnp.promote_types(logits.dtype, labels.dtype))
    return losses if where is None else jnp.where(where.any(axis), losses, 0)


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """As `optax.softmax_cross_entropy_with_integer_labels`, but a label out of range is an error.

    Parameters
    ----------
    logits : Array of float32, float64, bfloat16 or float16
        Unnormalised log-probabilities.
    labels : Array of integers
        Class indices in [0, C), of the shape of `logits` without `axis`. With several class axes, indices into them
        as one, in the order in which `axis` names them.
    axis : int or tuple of ints, default -1
        The class axis or axes.
    where : Array of bool, optional
        Rows that take part, in the shape of `labels`; what the others hold is not read. Or classes, in the shape of
        `logits`; the label's own logit counts, whether it is among them or not.

    Returns
    -------
    Array
        A loss for each row, of the dtype of `logits`; 0 where nothing takes part.

    Raises
    ------
    jax.errors.JaxRuntimeError
        When the result is asked for, if a label of a row that takes part is outside [0, C). The first is named.

    Notes
    -----
    The logits are overwritten by the gradient where they were donated to the jitted function, or are an intermediate
    result that nothing else needs; else it is computed in one sweep with the losses, as far as what arrives is known.

    Examples
    --------
    >>> import jax.numpy as jnp, fastlogits.jax
    >>> logits, labels = jnp.array([[1000.0, 1000.0], [1000.0, 0.0]]), jnp.array([0, 1])
    >>> fastlogits.jax.softmax_cross_entropy_with_integer_labels(logits, labels)
    Array([6.9314718e-01, 1.0000000e+03], dtype=float32)
    """
    logits, labels = _jax_checks.floats("logits", logits), _jax_checks.labels(labels)
    if where is not None:
        where = jnp.asarray(where)
        by_class = where.ndim == logits.ndim
    if isinstance(axis, tuple):
        batch = [i for i in range(logits.ndim) if i not in _checks.axes(_checks.axis(axis), logits.ndim)]
        order = [*batch, *(i % logits.ndim for i in axis)]
        shape = *(logits.shape[i] for i in batch), math.prod(logits.shape[i] for i in axis)
        if where is not None and by_class:
            where = jnp.broadcast_to(where, logits.shape).transpose(order).reshape(shape)
        logits, axis = logits.transpose(order).reshape(shape), -1
    (class_axis,) = _checks.axes(_checks.one_axis(axis), logits.ndim)
    _checks.labels_are_targets(labels, logits, logits.shape[:class_axis] + logits.shape[class_axis + 1 :])
    if where is None:
        losses = _kernels.cross_entropy(logits, labels, LossOptions(class_axis, NOTHING))
    elif by_class:
        losses = _losses_among(logits, labels, class_axis, _jax_checks.where(where, logits.shape))
    else:
        losses = _losses_of_rows(logits, labels, class_axis, _jax_checks.where(where, labels.shape))
    return losses.astype(logits.dtype)


def _losses_of_rows(logits, labels, axis, where):
    labels = jnp.maximum(labels.astype(int), MASKED + 1)
    return _kernels.cross_entropy(logits, jnp.where(where, labels, MASKED), LossOptions(axis, MASKED))


def _losses_among(logits, labels, axis, where):
    takes_part = jnp.broadcast_to(where, logits.shape).any(axis)
    logits = logits.astype(_kernels.wide(logits.dtype))
    lse = _kernels.logsumexp(jnp.where(where, logits, -jnp.inf), axis)
    labels = _kernels.labels_in_range(jnp.where(takes_part, labels, 0), logits.shape[axis])
    picked = jnp.take_along_axis(logits, jnp.expand_dims(labels, axis), axis).squeeze(axis)
    return jnp.where(takes_part, lse - picked, 0)


def _mask(where, logits, axis):
    """`where` in the shape of `logits`, of which it may lack the class axes."""
    where = jnp.asarray(where)
    if where.ndim != logits.ndim and axis is not None:
        where = jnp.expand_dims(where, axis)
    return jnp.broadcast_to(_jax_checks.where(where, logits.shape), logits.shape)
