"""The loss in TensorFlow's own operators: what is differentiated where the kernels' gradient is not enough.

Second derivatives and gradients of anything but the logits come from here, on our logsumexp; and all of the
loss where no Python runs (see `_calls.portable`), on TensorFlow's.
"""

import tensorflow as tf


def cross_entropy(logits, labels, weight, sample_weight, normalizer, options, logsumexp=tf.reduce_logsumexp):
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
    lse = logsumexp(z, -1)

    w = tf.ones((), dtype) if weight is None else tf.cast(weight, dtype)
    even = smoothing / tf.cast(classes, dtype)
    if soft:
        losses = _expected(w * ((1 - smoothing) * labels + even), lse, z)
        row_weight = None
    else:
        inside = (labels >= 0) & (labels < classes)
        picked = tf.where(inside, labels, 0)
        flat = tf.reshape(z, [-1, tf.cast(classes, tf.int32)])
        logit = tf.reshape(tf.gather(flat, tf.reshape(picked, [-1]), batch_dims=1), rows)
        losses = (1 - smoothing) * (lse - logit) * tf.where(inside, tf.ones((), dtype), float("nan"))
        row_weight = None if weight is None else tf.gather(w, picked)
        if row_weight is not None:
            losses *= row_weight
        if smoothing:
            losses += _expected(w * even, lse, z)
    if z_loss:
        losses += z_loss * lse**2
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
    z = _wide(logits) / temperature
    z -= tf.reduce_logsumexp(z, axis, keepdims=True)
    return tf.cast(tf.exp(z) if name == "softmax" else z, logits.dtype)


def backward(name, grad, result, axis):
    """Their gradients to the logits, from the results."""
    wide, y = _wide(grad), _wide(result)
    if name == "softmax":
        wide = y * (wide - tf.reduce_sum(wide * y, axis, keepdims=True))
    else:
        wide -= tf.exp(y) * tf.reduce_sum(wide, axis, keepdims=True)
    return tf.cast(wide, result.dtype)


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


def selective_log_softmax(logits, ids, axis, log_softmax=tf.nn.log_softmax):
    """As `fastlogits.selective_log_softmax`."""
    log_probs = log_softmax(last(logits, axis), -1)
    many = tf.expand_dims(ids, -1) if ids.shape.rank < logits.shape.rank else last(ids, axis)
    flat = tf.reshape(log_probs, [-1, tf.shape(log_probs)[-1]])
    picked = tf.gather(flat, tf.reshape(many, [-1, tf.shape(many)[-1]]), batch_dims=1)
    if ids.shape.rank < logits.shape.rank:
        return tf.reshape(picked, tf.shape(ids))
    return tf.experimental.numpy.moveaxis(tf.reshape(picked, tf.shape(many)), -1, axis)


def last(tensor, axis):
    return tensor if axis == -1 else tf.experimental.numpy.moveaxis(tensor, axis, -1)


def _expected(share, lse, z):
    """Sum over the classes of share * (lse - z), where 0 * inf = 0."""
    nll = tf.expand_dims(lse, -1) - z
    nll = tf.where((share == 0) & (z == -float("inf")), tf.zeros((), z.dtype), nll)
    return tf.reduce_sum(share * nll, -1)


def _divisor(valid, row_weight, losses):
    if row_weight is None:
        return tf.size(losses) if valid is None else tf.math.count_nonzero(valid)
    if valid is not None:
        row_weight = tf.where(valid, row_weight, tf.zeros((), row_weight.dtype))
    return tf.reduce_sum(row_weight)
