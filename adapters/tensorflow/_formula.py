"""The loss in TensorFlow's own operators: what is differentiated where the kernels' gradient is not enough.

Second derivatives and gradients of anything but the logits come from here, on our logsumexp; and all of the
loss where no Python runs (see `_calls.portable`), on log1p of the sum over all but one maximum.
"""

import tensorflow as tf


def cross_entropy(logits, labels, weight, sample_weight, normalizer, options, logsumexp=None):
    """As `fastlogits.cross_entropy`; a label out of range, which nothing can report here, gives NaN."""
    smoothing, z_loss, softcap, logit_scale = options.numbers
    soft = labels.dtype.is_floating
    z = last(logits, options.axis)
    if soft:
        labels = last(labels, options.axis)
        dtype = z.dtype if z.dtype.size > labels.dtype.size else labels.dtype
        dtype = tf.float32 if dtype.size == 2 else dtype
        labels = tf.cast(labels, dtype)
    else:
        dtype = tf.float32 if z.dtype.size == 2 else z.dtype
    z = tf.cast(z, dtype)
    classes = tf.shape(z, tf.int64)[-1]
    rows = tf.shape(z)[:-1]
    valid = None
    if not soft:
        labels = tf.cast(labels, tf.int64)
        valid = labels != options.ignore_index
        # What is ignored must not reach a derivative, not even as 0 * NaN.
        z = tf.where(tf.expand_dims(valid, -1), z, tf.zeros((), dtype))
    if softcap:
        z = softcap * tf.tanh(z / softcap)
    z = tf.cast(logit_scale, dtype) * z
    pivot, below, log_s = _normalized(z, -1, logsumexp)

    w = tf.ones((), dtype) if weight is None else tf.cast(weight, dtype)
    even = smoothing / tf.cast(classes, dtype)
    if soft:
        losses = _expected(w * ((1 - smoothing) * labels + even), log_s, below)
        row_weight = None
    else:
        inside = (labels >= 0) & (labels < classes)
        picked = tf.where(inside, labels, 0)
        flat = tf.reshape(below, [-1, tf.cast(classes, tf.int32)])
        difference = tf.reshape(tf.gather(flat, tf.reshape(picked, [-1]), batch_dims=1), rows)
        losses = (1 - smoothing) * (log_s - difference) * tf.where(inside, tf.ones((), dtype), float("nan"))
        row_weight = None if weight is None else tf.gather(w, picked)
        if row_weight is not None:
            losses *= row_weight
        if smoothing:
            losses += _expected(w * even, log_s, below)
    if z_loss:
        lse = pivot + log_s
        losses += z_loss * lse * lse
    if sample_weight is not None:
        sample_weight = tf.cast(sample_weight, dtype)
        losses *= sample_weight
        row_weight = sample_weight if row_weight is None else row_weight * sample_weight
    if valid is not None:
        losses = tf.where(valid, losses, tf.zeros((), dtype))
    if options.reduction == "none":
        return tf.cast(losses, options.dtype)
    total = tf.reduce_sum(losses)
    if options.reduction == "mean":
        if normalizer is None:
            total /= tf.cast(_divisor(valid, row_weight, losses), dtype)
        else:
            total = tf.math.divide_no_nan(total, tf.cast(normalizer, dtype))
    return tf.cast(total, options.dtype)


def normalized(name, logits, axis, temperature):
    """`softmax` and `log_softmax` along any axes."""
    _, below, log_s = _normalized(_wide(logits) / temperature, axis, keepdims=True)
    log_probs = below - log_s
    return tf.cast(tf.exp(log_probs) if name == "softmax" else log_probs, logits.dtype)


def _normalized(z, axis, logsumexp=None, keepdims=False):
    """(m, z - m, log sum exp(z - m)), from which a class that dominates gets a gradient that does not cancel.

    Such a class is m itself, with a difference of constant 0: its gradient is then minus the sum of the others'. m is
    constant where none dominates.
    """
    zero, one = tf.zeros((), z.dtype), tf.ones((), z.dtype)
    peak = tf.reduce_max(z, axis, keepdims=True)
    dominated = tf.reduce_sum(tf.stop_gradient(tf.exp(z - peak)), axis, keepdims=True) < 2
    own = dominated & (z == peak)
    pivot = tf.where(dominated, peak, tf.stop_gradient(peak))
    below = tf.where(own, zero, z - pivot)
    if logsumexp is None:
        others = tf.reduce_sum(tf.where(own, zero, tf.exp(below)), axis, keepdims=True)
        log_s = tf.math.log1p(others - tf.where(dominated, zero, one))
    else:
        log_s = logsumexp(below, axis, keepdims=True)
    return (pivot, below, log_s) if keepdims else (tf.squeeze(pivot, axis), below, tf.squeeze(log_s, axis))


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


def _expected(share, log_s, below):
    """Sum over the classes of share * (log_s - below), where 0 * inf = 0."""
    nll = tf.expand_dims(log_s, -1) - below
    nll = tf.where((share == 0) & (nll == float("inf")), tf.zeros((), nll.dtype), nll)
    return tf.reduce_sum(share * nll, -1)


def _divisor(valid, row_weight, losses):
    if row_weight is None:
        return tf.size(losses) if valid is None else tf.math.count_nonzero(valid)
    if valid is not None:
        row_weight = tf.where(valid, row_weight, tf.zeros((), row_weight.dtype))
    return tf.reduce_sum(row_weight)
