"""The functions of `fastlogits` under their own names and signatures, for JAX arrays, traced ones included.

What each one does is documented in `fastlogits`. An `out` is refused: JAX arrays do not change.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

import fastlogits
from fastlogits import CrossEntropy, _checks, _checks_filters, formula
from fastlogits._options import IGNORE_INDEX, LossOptions
from fastlogits._scaling import is_number, number
from fastlogits.dispatch import converted
from fastlogits.formula import Targets
from fastlogits.jax import _checks as _jax_checks
from fastlogits.jax import _kernels, functional


def softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None, out=None):
    return _normalized(_kernels.softmax, logits, axis, (temperature, bias, where), 0, out)


def log_softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None, out=None):
    return _normalized(_kernels.log_softmax, logits, axis, (temperature, bias, where), -jnp.inf, out)


def _normalized(kernel, logits, axis, options, excluded, out):
    _jax_checks.no_out(out)
    logits = _jax_checks.floats("logits", logits)
    z, where = _scaled(logits, axis, *options)
    return functional.normalized(kernel, z, axis, where, excluded).astype(logits.dtype)


def _scaled(logits, axis, temperature, bias, where):
    """(logits / temperature + bias, the classes that take part or None)."""
    if bias is None and _is_number(temperature) and number(temperature) == 1:
        return logits, where
    z = logits.astype(_kernels.wide(logits.dtype))
    axes = _checks.axes(_checks.axis(axis), logits.ndim)
    if hasattr(temperature, "scale") and hasattr(temperature, "bias"):
        z = z * _by_class(temperature.scale, z, axes) + _by_class(temperature.bias, z, axes)
        z = jnp.where(jnp.isneginf(logits), -jnp.inf, z)
    elif _is_number(temperature):
        z = z / number(temperature)
    elif hasattr(temperature, "apply"):
        _jax_checks.concrete("apply", "logits", logits)
        z = jnp.asarray(temperature.apply(np.asarray(z), axis))
    else:
        batch = tuple(n for i, n in enumerate(z.shape) if i not in axes)
        if not isinstance(temperature, jax.core.Tracer):
            _checks_filters.filter_parameter("temperature", np.asarray(temperature), batch)
        temperature = jnp.asarray(temperature, z.dtype)
        if temperature.ndim:
            temperature = jnp.expand_dims(jnp.broadcast_to(temperature, batch), axes)
        z = z / temperature
    if bias is not None:
        bias = _by_class(bias, z, axes)
        where = bias > -jnp.inf if where is None else where & (bias > -jnp.inf)
        z = z + jnp.where(bias > -jnp.inf, bias, 0)
    return z, where


def _is_number(temperature):
    """Whether it is one for all rows, and no derivative may be asked for."""
    return not isinstance(temperature, jax.Array) and is_number(temperature)


def _by_class(values, z, axes):
    values = jnp.asarray(values, z.dtype)
    (axis,) = axes
    return values.reshape([-1 if i == axis else 1 for i in range(z.ndim)])


def logsumexp(a, axis=-1, *, b=None, keepdims=False, return_sign=False, where=None):
    a = _wide(_jax_checks.floats("a", a))
    b = None if b is None else _wide(_jax_checks.floats("b", b))
    return functional.logsumexp(a, axis, b, keepdims, return_sign, where)


def _wide(values):
    return values.astype(_kernels.wide(values.dtype))


def argmax(logits, axis=-1):
    if isinstance(logits, jax.core.Tracer):
        axis = _checks.one_axis(axis)
        _checks.some_classes(logits.shape, axis)
        return jnp.argmax(logits, axis)
    return by_memory(fastlogits.argmax, logits, axis)


def softmax_backward(grad_probs, probs, axis=-1, *, out=None):
    return _backward(_kernels.softmax_backward, ("grad_probs", grad_probs), ("probs", probs), axis, out)


def log_softmax_backward(grad_log_probs, log_probs, axis=-1, *, out=None):
    named_grad, named_result = ("grad_log_probs", grad_log_probs), ("log_probs", log_probs)
    return _backward(_kernels.log_softmax_backward, named_grad, named_result, axis, out)


def _backward(kernel, named_grad, named_result, axis, out):
    _jax_checks.no_out(out)
    g, p = _jax_checks.floats(*named_grad), _jax_checks.floats(*named_result)
    _checks.alike(named_grad[0], g, named_result[0], p)
    p, class_axis, back = functional.merged(p, axis)
    return back(kernel(functional.merged(g, axis)[0], p, class_axis))


def selective_log_softmax(logits, ids, axis=-1, *, temperature=1.0, bias=None, where=None):
    logits, ids, axis = _with_ids(logits, ids, axis)
    logits, where = _scaled(_wide(logits), axis, temperature, bias, where)
    if where is not None:
        logits = jnp.where(_jax_checks.where(where, logits.shape), logits, -jnp.inf)
    return _kernels.selective_log_softmax(logits, ids, axis)


def selective_log_softmax_backward(grad, logits, ids, axis=-1, *, out=None):
    _jax_checks.no_out(out)
    logits, ids, axis = _with_ids(logits, ids, axis)
    grad = _jax_checks.floats("grad", grad)
    _checks.same_shape("grad", grad, "ids", ids)
    if grad.dtype != _kernels.wide(logits.dtype):
        _checks.same_dtype("grad", grad, "logits", logits)
    return _kernels.selective_log_softmax_backward(grad.astype(logits.dtype), logits, ids, axis)


def _with_ids(logits, ids, axis):
    logits = _jax_checks.floats("logits", logits)
    (axis,) = _checks.axes(_checks.one_axis(axis), logits.ndim)
    ids = jnp.asarray(ids)
    _checks.form_of_ids(ids, logits.shape, axis)
    return logits, ids, axis


def cross_entropy(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
):  # fmt: skip
    logits = _jax_checks.floats("logits", logits)
    options = LossOptions(axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction).checked()
    loss_of = _loss(logits, labels, weight, sample_weight, options, normalizer)
    return loss_of(logits).astype(_kernels.wide(logits.dtype))


def cross_entropy_with_grad(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
    grad_loss=None, out=None,
):  # fmt: skip
    _jax_checks.no_out(out)
    logits = _jax_checks.floats("logits", logits)
    options = LossOptions(axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction).checked()
    loss_of = _loss(logits, labels, weight, sample_weight, options, normalizer)
    loss, backward = jax.vjp(loss_of, logits)
    (grad,) = backward(_jax_checks.grad_loss(1 if grad_loss is None else grad_loss, loss, reduction))
    return CrossEntropy(loss.astype(_kernels.wide(logits.dtype)), grad)


def _loss(logits, labels, weight, sample_weight, options, normalizer):
    """The function from logits to the loss, which is not rounded to their type yet."""
    (axis,) = _checks.axes(options.axis, logits.ndim)
    options = options._replace(axis=axis)
    batch_shape = logits.shape[:axis] + logits.shape[axis + 1 :]
    labels = jnp.asarray(labels)
    soft = _checks.labels_are_targets(labels, logits, batch_shape)
    options.check_labels(soft)
    if soft:
        labels = _jax_checks.floats("labels", labels)
    if normalizer is not None:
        normalizer = _jax_checks.normalizer(normalizer, options.reduction)
    dtype = _kernels.widest(logits.dtype)
    weights = []
    if weight is not None:
        weight = jnp.asarray(weight)
        kept = weight.dtype if weight.dtype in (jnp.float32, jnp.float64, jnp.bfloat16) else dtype
        weights = [_jax_checks.weights("weight", weight, logits.shape[axis : axis + 1], kept)]
    if sample_weight is not None:
        sample_weight = _jax_checks.weights("sample_weight", sample_weight, batch_shape, dtype)
    targets = Targets(jnp.moveaxis(labels, axis, -1) if soft else labels, soft, *weights or [None], sample_weight)

    def loss_of(logits):
        losses = _kernels.cross_entropy(logits, labels, options, *weights)  # 0 of rows that are ignored
        if sample_weight is not None:
            losses = formula.weighted(_kernels.OPERATIONS, losses, targets, options)
        if options.reduction == "mean" and normalizer is sample_weight is None and not soft:
            return losses.sum() / _kernels.divisor(labels, options, *weights)
        return formula.reduced_weighted(_kernels.OPERATIONS, losses, targets, options, normalizer)

    return loss_of


def by_memory(function, *args, out=None, **kwargs):
    """`function` of fastlogits, which JAX does not trace, on the memory of the arrays among its arguments."""
    _jax_checks.no_out(out)
    names = inspect.unwrap(function).__code__.co_varnames
    args = [_memory(function, name, value) for name, value in zip(names, args, strict=False)]
    kwargs = {name: _memory(function, name, value) for name, value in kwargs.items()}
    return converted(function(*args, **kwargs), jnp.asarray)


def _memory(function, name, value):
    if not isinstance(value, jax.Array):
        return value
    _jax_checks.concrete(function.__name__, name, value)
    return np.asarray(value)
