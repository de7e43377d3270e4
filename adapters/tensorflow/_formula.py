"""The loss in TensorFlow's own operators: what is differentiated where the kernels' gradient is not enough.

Second derivatives and gradients of anything but the logits come from here, on our logsumexp; and all of the
loss where no Python runs (see `_calls.portable`), on log1p of the sum over all but one maximum.
"""

import math

import tensorflow as tf

from fastlogits import formula
from fastlogits.formula import Operations, Targets


def cross_entropy(tensors, options, dtype, logsumexp=None):
    """As `fastlogits.cross_entropy`; a label out of range, which nothing can report here, gives NaN."""
    logits, labels, weight, sample_weight, normalizer = tensors
    soft = labels.dtype.is_floating
    z = last(logits, options.axis)
    labels = last(labels, options.axis) if soft else tf.cast(labels, tf.int64)
    kind = labels.dtype if soft and labels.dtype.size > z.dtype.size else z.dtype
    kind = tf.float32 if kind.size == 2 else kind
    weight, sample_weight, normalizer = (
        None if values is None else tf.cast(values, kind) for values in (weight, sample_weight, normalizer)
    )
    if weight is not None:
        weight = tf.reshape(weight, [-1])  # of one axis, even where that is not known before
    targets = Targets(tf.cast(labels, kind) if soft else labels, soft, weight, sample_weight)
    value = formula.cross_entropy(_operations(kind, logsumexp), tf.cast(z, kind), targets, options, normalizer)
    return tf.cast(value, dtype)


def _operations(dtype, logsumexp=None):
    # Sizes may be known when the graph runs, and not before: they are tensors.
    return Operations(
        where=_where,
        exp=tf.exp,
        log1p=tf.math.log1p,
        tanh=tf.tanh,
        max=lambda x, axis: tf.reduce_max(x, axis, keepdims=True),
        sum=_sum,
        total=tf.reduce_sum,
        count=lambda x: tf.cast(tf.math.count_nonzero(x), dtype),
        sizes=lambda x: (tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), dtype), tf.cast(tf.shape(x)[-1], dtype)),
        at=_at,
        constant=tf.stop_gradient,
        logsumexp=logsumexp,
    )


def _where(condition, x, y):
    dtype = x.dtype if tf.is_tensor(x) else y.dtype
    return tf.where(condition, tf.cast(x, dtype), tf.cast(y, dtype))


def _at(values, labels):
    classes = tf.shape(values, tf.int64)[-1]
    inside = (labels >= 0) & (labels < classes)
    labels = tf.where(inside, labels, 0)
    if values.shape.rank == 1:
        return tf.gather(values, labels)
    rows = tf.reshape(values, [-1, tf.cast(classes, tf.int32)])
    picked = tf.reshape(tf.gather(rows, tf.reshape(labels, [-1]), batch_dims=1), tf.shape(labels))
    return _where(inside, picked, math.nan)


def normalized(name, logits, axis, temperature):
    """`softmax` and `log_softmax` along any axes."""
    z = _wide(logits) / temperature
    _, half_gaps, log_sum = formula.normalized(_operations(z.dtype), z, axis)
    log_probs = -2 * half_gaps - log_sum
    return tf.cast(tf.exp(log_probs) if name == "softmax" else log_probs, logits.dtype)


def backward(name, grad, result, axis):
    """Their gradients to the logits, from the results."""
    wide, y = _wide(grad), _wide(result)
    if name == "softmax":
        wide = _softmax_backward(wide, y, axis)
    else:
        wide = _log_softmax_backward(wide, tf.exp(y), axis)
    return tf.cast(wide, result.dtype)


def _softmax_backward(grad, probs, axis):
    """probs (g - sum g probs), the same for g - c: c is the gradient of a class that dominates, or 0."""
    leads = _dominating(probs, axis) & tf.math.is_finite(grad)
    lead = tf.stop_gradient(_sum(tf.where(leads, grad, tf.zeros((), grad.dtype)), axis))
    relative = grad - lead
    # Adds 0; and the derivative to `probs` that the formula has where they need not sum to 1.
    correction = lead * _sum(probs - tf.stop_gradient(probs), axis)
    return probs * (relative - _sum(relative * probs, axis) - correction)


def _log_softmax_backward(grad, probs, axis):
    """g - probs sum g; at a class that dominates, g (the others' probs) - probs (the others' g)."""
    own, zero = _dominating(probs, axis), tf.zeros((), grad.dtype)
    other_grads = _sum(tf.where(own, zero, grad), axis)
    other_probs = _sum(tf.where(own, zero, probs), axis)
    # 1 - probs, in value and derivative
    other_probs = tf.stop_gradient(other_probs) - (probs - tf.stop_gradient(probs))
    plain = grad - probs * _sum(grad, axis)
    return tf.where(own, grad * other_probs - probs * other_grads, plain)


def _dominating(probs, axis):
    """Where one class has most of a row whose probabilities add up to 1, as far as they are rounded."""
    return (probs > 0.75) & (abs(_sum(probs, axis) - 1) < 0.01)


def _sum(values, axis):
    return tf.reduce_sum(values, axis, keepdims=True)


def _wide(tensor):
    return tf.cast(tensor, tf.float32) if tensor.dtype.size == 2 else tensor


def logsumexp(logits, axis, keepdims=False):
    """As TensorFlow's, with the gradient 0 where there is nothing but -inf."""
    nothing = tf.reduce_all(logits == -float("inf"), axis, keepdims=True)
    zero = tf.zeros((), logits.dtype)
    lse = tf.reduce_logsumexp(tf.where(nothing, zero, logits), axis, keepdims=True)
    lse = tf.where(nothing, tf.constant(-float("inf"), logits.dtype), lse)
    return lse if keepdims else squeeze(lse, axis)


def squeeze(values, axis):
    return tf.reshape(values, []) if axis is None else tf.squeeze(values, axis)


def argmax(logits, axis):
    """The first of equals, and the first NaN where there is one."""
    if not logits.dtype.is_floating:
        return tf.argmax(tf.cast(logits, tf.int64), axis)
    nan = tf.cast(tf.math.is_nan(logits), tf.int32)
    return tf.where(tf.reduce_max(nan, axis) > 0, tf.argmax(nan, axis), tf.argmax(logits, axis))


def selective_log_softmax(logits, ids, axis, log_softmax=None):
    """As `fastlogits.selective_log_softmax`."""
    z = last(logits, axis)
    log_probs = normalized("log_softmax", z, -1, 1.0) if log_softmax is None else log_softmax(z, -1)
    many = tf.expand_dims(ids, -1) if ids.shape.rank < logits.shape.rank else last(ids, axis)
    flat = tf.reshape(log_probs, [-1, tf.shape(log_probs)[-1]])
    picked = tf.gather(flat, tf.reshape(many, [-1, tf.shape(many)[-1]]), batch_dims=1)
    if ids.shape.rank < logits.shape.rank:
        return tf.reshape(picked, tf.shape(ids))
    return tf.experimental.numpy.moveaxis(tf.reshape(picked, tf.shape(many)), -1, axis)


def last(tensor, axis):
    return tensor if axis == -1 else tf.experimental.numpy.moveaxis(tensor, axis, -1)
