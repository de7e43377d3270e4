"""The operations: their kernels, and the formulas of their derivatives."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from fastlogits import config, formula
from fastlogits.formula import Operations, Targets
from fastlogits.jax import _lowering
from fastlogits.jax._primitives import like, linear_pair, one_per_row, operation, operation_with_gradient


def wide(dtype):
    """What is computed in: float32 for half types."""
    return jnp.promote_types(dtype, jnp.float32)


def widest(dtype):
    """What losses are kept and added in: float64 where JAX has it."""
    return jnp.promote_types(dtype, jnp.result_type(float))


def _in_wide(formula):
    """`formula`, computed in float32 where its first operand is half, and rounded once."""

    @functools.wraps(formula)
    def rounded(first, *others, **params):
        operands = [x.astype(wide(x.dtype)) if x.dtype.kind in "fV" else x for x in (first, *others)]
        return formula(*operands, **params).astype(first.dtype)

    return rounded


def _settings():
    """What is set in this context, in a form that a primitive can hold."""
    return tuple(config.chosen().items())


# softmax


def _dominating(probs, axis):
    """Where one class has most of a row whose probabilities add up to 1, as far as they are rounded."""
    return (probs > 0.75) & (abs(probs.sum(axis, keepdims=True) - 1) < 0.01)


def _centred(g, probs, axis):
    """g - sum g probs, the same for g - c: c is that of a class that dominates, beside which little is left, or 0."""
    lead = lax.stop_gradient(jnp.where(_dominating(probs, axis) & jnp.isfinite(g), g, 0).sum(axis, keepdims=True))
    relative = g - lead
    # Adds 0; and the derivative to `probs` that the formula has where they need not sum to 1.
    correction = lead * (probs - lax.stop_gradient(probs)).sum(axis, keepdims=True)
    return relative - (relative * probs).sum(axis, keepdims=True) - correction


@_in_wide
def _softmax_backward(g, probs, axis, settings):
    return probs * _centred(g, probs, axis)


SOFTMAX_JVP, SOFTMAX_VJP = linear_pair(
    "softmax", (_softmax_backward, _softmax_backward), (like(0), like(0)), _lowering.by_kernel("softmax_backward")
)
SOFTMAX = operation("softmax", like(0), lambda operands, probs: (probs,), SOFTMAX_JVP)


def softmax(x, axis):
    return SOFTMAX.bind(x, axis=axis - x.ndim, settings=_settings())


def softmax_backward(g, probs, axis):
    return SOFTMAX_VJP.bind(g, probs, axis=axis - probs.ndim, settings=_settings())


# log_softmax


@_in_wide
def _log_softmax_forward(tangent, log_probs, axis, settings):
    return _centred(tangent, jnp.exp(log_probs), axis)


@_in_wide
def _log_softmax_backward(g, log_probs, axis, settings):
    """g - probs sum g; at a class that dominates, g (the others' probs) - probs (the others' g)"""
    probs = jnp.exp(log_probs)
    own = _dominating(probs, axis)
    other_grads = jnp.where(own, 0, g).sum(axis, keepdims=True)
    other_probs = jnp.where(own, 0, probs).sum(axis, keepdims=True)
    # 1 - probs, in value and derivative
    other_probs = lax.stop_gradient(other_probs) - (probs - lax.stop_gradient(probs))
    plain = g - probs * g.sum(axis, keepdims=True)
    return jnp.where(own, g * other_probs - probs * other_grads, plain)


LOG_SOFTMAX_JVP, LOG_SOFTMAX_VJP = linear_pair(
    "log_softmax",
    (_log_softmax_forward, _log_softmax_backward),
    (like(0), like(0)),
    _lowering.by_kernel("log_softmax_backward"),
)
LOG_SOFTMAX = operation("log_softmax", like(0), lambda operands, log_probs: (log_probs,), LOG_SOFTMAX_JVP)


def log_softmax(x, axis):
    return LOG_SOFTMAX.bind(x, axis=axis - x.ndim, settings=_settings())


def log_softmax_backward(g, log_probs, axis):
    return LOG_SOFTMAX_VJP.bind(g, log_probs, axis=axis - log_probs.ndim, settings=_settings())


# logsumexp


def _slope(x, axis, settings):
    """The derivative of the logsumexp: the probabilities, or 0 where there is nothing but -inf."""
    nothing = jnp.isneginf(x).all(axis, keepdims=True)
    return jnp.where(nothing, 0, SOFTMAX.bind(jnp.where(nothing, 0, x), axis=axis, settings=settings))


def _logsumexp_forward(tangent, x, axis, settings):
    return (_slope(x, axis, settings) * tangent).sum(axis)


def _logsumexp_backward(g, x, axis, settings):
    return _slope(x, axis, settings) * jnp.expand_dims(g, axis)


def _lse_type(x, axis, settings):
    return one_per_row(x, axis, x.dtype)


LOGSUMEXP_JVP, _ = linear_pair(
    "logsumexp",
    (_logsumexp_forward, _logsumexp_backward),
    (lambda tangent, x, **params: _lse_type(x, **params), like(1)),
    _lowering.by_formula(_logsumexp_backward),
)
LOGSUMEXP = operation("logsumexp", _lse_type, lambda operands, lse: operands, LOGSUMEXP_JVP)


def logsumexp(x, axis):
    return LOGSUMEXP.bind(x, axis=axis - x.ndim, settings=_settings())


# cross_entropy, a loss for each row


def _operations(settings):
    """OPERATIONS, and the logarithm on the kernel."""

    def lse(x, axis, keepdims):
        return jnp.expand_dims(LOGSUMEXP.bind(x, axis=axis, settings=settings), axis)

    return OPERATIONS._replace(logsumexp=lse)


def _at(values, labels):
    values = jnp.broadcast_to(values, (*labels.shape, values.shape[-1]))
    return jnp.take_along_axis(values, labels[..., None], -1)[..., 0]


OPERATIONS = Operations(
    where=jnp.where,
    exp=jnp.exp,
    log1p=jnp.log1p,
    tanh=jnp.tanh,
    max=lambda x, axis: x.max(axis, keepdims=True, initial=-jnp.inf),
    sum=lambda x, axis: x.sum(axis, keepdims=True),
    total=jnp.sum,
    count=jnp.count_nonzero,
    sizes=lambda x: (math.prod(x.shape[:-1]), x.shape[-1]),
    at=_at,
    constant=lax.stop_gradient,
)


def _losses(x, labels, weight=None, *, options, settings):
    ops = _operations(settings)
    soft = labels.ndim == x.ndim
    z = jnp.moveaxis(x.astype(_loss_dtype(x, labels)), options.axis, -1)
    if weight is not None:  # with axes of `vmap` in front
        weight = weight.astype(z.dtype)
        weight = weight.reshape(*weight.shape[:-1], *(1 for _ in range(x.ndim - weight.ndim)), weight.shape[-1])
    targets = Targets(jnp.moveaxis(labels, options.axis, -1) if soft else labels, soft, weight)
    return formula.weighted(ops, formula.row_losses(ops, z, targets, options), targets, options)


def _loss_dtype(x, labels):
    dtype = jnp.promote_types(x.dtype, labels.dtype) if labels.ndim == x.ndim else x.dtype
    return widest(dtype)


def _loss_type(x, labels, *others, options, settings):
    return one_per_row(x, options.axis, _loss_dtype(x, labels))


def _losses_forward(tangent, x, *others, **params):
    *others, losses, grad, expected = others
    return jax.jvp(lambda x: _losses(x, *others, **params), (x,), (tangent,))[1]


def _losses_backward(g, x, *others, **params):
    *others, losses, grad, expected = others
    (grad,) = jax.vjp(lambda x: _losses(x, *others, **params), x)[1](g)
    return grad


CROSS_ENTROPY_JVP, _ = linear_pair(
    "cross_entropy",
    (_losses_forward, _losses_backward),
    (lambda tangent, *operands, **params: _loss_type(*operands, **params), like(1)),
    _lowering.by_kept_gradient("cross_entropy"),
)
CROSS_ENTROPY = operation_with_gradient("cross_entropy", _loss_type, CROSS_ENTROPY_JVP, formula=_losses)


def cross_entropy(x, labels, options, *weight):
    """A loss for each row, in JAX's default float, or that of `x` if it is wider."""
    options = options._replace(axis=options.axis - x.ndim, reduction="none")
    return CROSS_ENTROPY.bind(x, labels, *weight, options=options, settings=_settings())


# What a mean divides by


def _divisor(labels, weight=None, *, options, settings):
    rows = tuple(range(-options.axis, 0))
    valid = labels != options.ignore_index
    if weight is None:
        return valid.sum(rows, dtype=jnp.result_type(float))
    weight = weight.astype(float)
    weight = weight.reshape(*weight.shape[:-1], *(1 for _ in range(labels.ndim - weight.ndim + 1)), weight.shape[-1])
    return jnp.where(valid, _at(weight, jnp.where(valid, labels, 0)), 0).sum(rows)


def _divisor_type(labels, *weight, options, settings):
    return one_per_row(labels, tuple(range(-options.axis, 0)), jnp.result_type(float))


DIVISOR = operation("divisor", _divisor_type, None, None, formula=_divisor)


def divisor(labels, options, *weight):
    """How many labels count, or the sum of their weights, in JAX's default float."""
    # All axes but those that `vmap` puts in front.
    return DIVISOR.bind(labels, *weight, options=options._replace(axis=labels.ndim), settings=_settings())


# selective_log_softmax


def _selected(x, ids, axis, settings):
    z = x.astype(wide(x.dtype))
    many = ids if ids.ndim == x.ndim else jnp.expand_dims(ids, axis)
    ops = _operations(settings)
    _, half_gaps, log_sum = formula.normalized(ops, z, axis)
    return (-2 * jnp.take_along_axis(half_gaps, many, axis) - log_sum).reshape(ids.shape).astype(x.dtype)


def _selected_forward(tangent, x, ids, log_probs, **params):
    return jax.jvp(lambda x: _selected(x, ids, **params), (x,), (tangent,))[1]


def _selected_backward(g, x, ids, log_probs, **params):
    return jax.vjp(lambda x: _selected(x, ids, **params), x)[1](g)[0]


def _selected_type(x, ids, *others, **params):
    return ids.update(dtype=x.dtype)


SELECTED_JVP, SELECTED_VJP = linear_pair(
    "selective_log_softmax",
    (_selected_forward, _selected_backward),
    (lambda tangent, *operands, **params: _selected_type(*operands), like(1)),
    _lowering.by_kernel("selective_log_softmax_backward", overwrites=1),
)
SELECTED = operation(
    "selective_log_softmax", _selected_type, lambda operands, log_probs: (*operands, log_probs), SELECTED_JVP
)


def selective_log_softmax(x, ids, axis):
    return SELECTED.bind(x, ids, axis=axis - x.ndim, settings=_settings())


def selective_log_softmax_backward(g, x, ids, axis):
    return SELECTED_VJP.bind(g, x, ids, g, axis=axis - x.ndim, settings=_settings())


# Labels that no kernel sees

LABELS_IN_RANGE = operation("labels_in_range", like(0), None, None)


def labels_in_range(labels, classes):
    """`labels`; it is an error if one of them is outside [0, classes)."""
    return LABELS_IN_RANGE.bind(labels, classes=classes, settings=())
