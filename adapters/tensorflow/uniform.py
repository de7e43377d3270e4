"""The functions of `fastlogits` under their own names and signatures, for tensors, with gradients.

What each one does is documented in `fastlogits`. Eager calls that no tape watches go to the NumPy functions, on
the tensors' memory.
"""

import math

import numpy as np
import tensorflow as tf
from tensorflow.autograph.experimental import do_not_convert

import fastlogits
from fastlogits import CrossEntropy, _checks, _checks_filters
from fastlogits._options import IGNORE_INDEX, LossOptions
from fastlogits._scaling import is_number, number
from fastlogits.dispatch import converted
from fastlogits.tensorflow import _calls, _formula, _gradients
from fastlogits.tensorflow import _checks as _tensor_checks
from fastlogits.tensorflow._arrays import array, tensor


@do_not_convert
def softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None, out=None):
    return _normalized("softmax", logits, axis, (temperature, bias, where), 0.0, out)


@do_not_convert
def log_softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None, out=None):
    return _normalized("log_softmax", logits, axis, (temperature, bias, where), -math.inf, out)


def _normalized(name, logits, axis, options, excluded, out):
    _tensor_checks.no_out(out)
    logits = _floats("logits", logits)
    temperature, bias, where = options
    axis = _axes(axis, logits)
    if bias is not None or not _is_number(temperature):
        if not _differentiable():
            return _numpy(getattr(fastlogits, name), logits, axis, temperature=temperature, bias=bias, where=where)
        z, where = _scaled(logits, axis, *options)
        return tf.cast(_normalized(name, z, axis, (1.0, None, where), excluded, out), logits.dtype)
    scale = number(temperature)
    if where is None:
        return getattr(_gradients, name)(logits, axis, scale)
    if not _differentiable():
        return _numpy(getattr(fastlogits, name), logits, axis, temperature=scale, where=where)
    where = tf.broadcast_to(_tensor_checks.boolean("where", where), tf.shape(logits))
    result = getattr(_gradients, name)(_filled(logits, where, -math.inf), axis, scale)
    return _filled(result, where, excluded)


def _scaled(logits, axis, temperature, bias, where):
    """(logits / temperature + bias in operators that can be differentiated, the classes that take part or None)."""
    z = tf.cast(logits, _wide(logits))
    axes = _checks.axes(axis, z.shape.rank)
    if hasattr(temperature, "scale") and hasattr(temperature, "bias"):
        z = z * _by_class(temperature.scale, z, axes) + _by_class(temperature.bias, z, axes)
    elif _is_number(temperature):
        z = z / number(temperature)
    elif hasattr(temperature, "apply"):
        raise _tensor_checks.no_gradient("apply", "temperature")
    else:
        if tf.executing_eagerly() or not tf.is_tensor(temperature):
            batch = tuple(n for i, n in enumerate(z.shape) if i not in axes)
            _checks_filters.filter_parameter("temperature", np.asarray(temperature), batch)
        temperature = tf.cast(temperature, z.dtype)
        if temperature.shape.rank:
            sizes = tf.shape(z)
            rows = tf.stack([sizes[i] for i in range(z.shape.rank) if i not in axes])
            temperature = tf.broadcast_to(temperature, rows)
            for i in sorted(axes):
                temperature = tf.expand_dims(temperature, i)
        z = z / temperature
    if hasattr(temperature, "scale"):
        z = _filled(z, tf.not_equal(logits, -math.inf), -math.inf)
    if bias is not None:
        bias = _by_class(bias, z, axes)
        there = tf.broadcast_to(bias > -math.inf, tf.shape(z))
        where = there if where is None else there & _tensor_checks.boolean("where", where)
        z = z + _filled(bias, bias > -math.inf, 0)
    return z, where


def _is_number(temperature):
    """Whether it is one for all rows, and no derivative may be asked for."""
    return not tf.is_tensor(temperature) and is_number(temperature)


def _by_class(values, z, axes):
    values = tf.cast(values, z.dtype)
    (axis,) = axes
    return tf.reshape(values, [-1 if i == axis else 1 for i in range(z.shape.rank)])


def _wide(tensor):
    """What numbers of rows have: float32 for half types."""
    return tf.float32 if tensor.dtype.size == 2 else tensor.dtype


@do_not_convert
def logsumexp(a, axis=-1, *, b=None, keepdims=False, return_sign=False, where=None):
    a = _floats("a", a)
    axis = _axes(axis, a)
    if not _differentiable():
        options = {"b": b, "keepdims": keepdims, "return_sign": return_sign, "where": where}
        return _numpy(fastlogits.logsumexp, a, axis, **options)
    if where is not None:
        where = _tensor_checks.boolean("where", where)
    if b is None:
        if where is not None:
            a = _filled(a, tf.broadcast_to(where, tf.shape(a)), -math.inf)
        values = _gradients.logsumexp(a, axis, keepdims, _wide(a))
        sign = tf.where(tf.math.is_nan(values), values, tf.cast(values > -math.inf, values.dtype))
    else:
        b = _floats("b", b)
        values, sign = _weighted_logsumexp(a, b if where is None else _filled(b, where, 0), axis, keepdims)
        if not return_sign:
            values = _filled(values, sign >= 0, math.nan)
    return (values, tf.stop_gradient(sign)) if return_sign else values


def _weighted_logsumexp(a, b, axis, keepdims):
    dtype = tf.as_dtype(np.result_type(a.dtype.as_numpy_dtype, b.dtype.as_numpy_dtype))
    wide = dtype = dtype if dtype.size > 2 else tf.float32
    _tensor_checks.common_shape(a=a, b=b)
    shape = tf.broadcast_dynamic_shape(tf.shape(a), tf.shape(b))
    a, b = (tf.broadcast_to(tf.cast(x, wide), shape) for x in (a, b))
    there = (a > -math.inf) | tf.math.is_nan(a)
    something = tf.reduce_any(there & (b != 0), axis, keepdims=True)
    a = _filled(_filled(a, b != 0, -math.inf), something, 0)
    b = _filled(b, something, 1)
    m = tf.stop_gradient(tf.reduce_max(a, axis, keepdims=True))
    m = _filled(m, tf.math.is_finite(m), 0)
    total = tf.reduce_sum(b * tf.exp(a - m), axis, keepdims=True)
    values, sign = tf.math.log(tf.abs(total)) + m, tf.sign(total)
    results = [tf.cast(_filled(x, something, n), dtype) for x, n in ((values, -math.inf), (sign, 0))]
    return results if keepdims else [_formula.squeeze(result, axis) for result in results]


@do_not_convert
def argmax(logits, axis=-1):
    axis = _checks.one_axis(axis)
    logits = _tensor_checks.dense("logits", logits, _tensor_checks.NUMBERS)
    shape = _gradients.changed(logits.shape, {_tensor_checks.axes(axis, logits): None})
    if not tf.executing_eagerly() and _calls.must_be_plain():
        return _formula.argmax(logits, axis)
    return _calls.run(lambda x: (np.asarray(fastlogits.argmax(x, axis)),), [logits], [tf.int64], [shape])[0]


@do_not_convert
def softmax_backward(grad_probs, probs, axis=-1, *, out=None):
    tensors = _floats("grad_probs", grad_probs), _floats("probs", probs)
    _tensor_checks.no_out(out)
    return _gradients.softmax_backward(*tensors, _axes(axis, tensors[1]))


@do_not_convert
def log_softmax_backward(grad_log_probs, log_probs, axis=-1, *, out=None):
    tensors = _floats("grad_log_probs", grad_log_probs), _floats("log_probs", log_probs)
    _tensor_checks.no_out(out)
    return _gradients.log_softmax_backward(*tensors, _axes(axis, tensors[1]))


@do_not_convert
def selective_log_softmax(logits, ids, axis=-1, *, temperature=1.0, bias=None, where=None):
    logits, ids, axis = _with_ids(logits, ids, axis)
    if not (_is_number(temperature) and number(temperature) == 1 and bias is None and where is None):
        if not _differentiable():
            options = {"temperature": temperature, "bias": bias, "where": where}
            return _numpy(fastlogits.selective_log_softmax, logits, ids, axis, **options)
        logits, where = _scaled(logits, axis, temperature, bias, where)
        if where is not None:
            where = tf.broadcast_to(_tensor_checks.boolean("where", where), tf.shape(logits))
            logits = _filled(logits, where, -math.inf)
    return _gradients.selective_log_softmax(logits, ids, axis, _wide(logits))


@do_not_convert
def selective_log_softmax_backward(grad, logits, ids, axis=-1, *, out=None):
    _tensor_checks.no_out(out)
    return _gradients.selective_log_softmax_backward(_floats("grad", grad), *_with_ids(logits, ids, axis))


def _with_ids(logits, ids, axis):
    logits = _floats("logits", logits)
    return logits, _tensor_checks.dense("ids", ids, _tensor_checks.INTEGERS), _axes(_checks.one_axis(axis), logits)


@do_not_convert
def cross_entropy(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
):  # fmt: skip
    options = LossOptions(axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction).checked()
    tensors = _loss_tensors(logits, labels, weight, sample_weight, normalizer, options)
    return _gradients.cross_entropy(tensors, options, _wide(tensors[0]))


@do_not_convert
def cross_entropy_with_grad(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
    grad_loss=None, out=None,
):  # fmt: skip
    _tensor_checks.no_out(out)
    options = LossOptions(axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction).checked()
    tensors = _loss_tensors(logits, labels, weight, sample_weight, normalizer, options)
    grad_loss = tf.convert_to_tensor(1.0 if grad_loss is None else grad_loss)
    return CrossEntropy(*_gradients.cross_entropy_with_grad(tensors, grad_loss, options, _wide(tensors[0])))


def _loss_tensors(logits, labels, weight, sample_weight, normalizer, options):
    """The five in the form that `_gradients` takes."""
    logits = _floats("logits", logits)
    labels = _tensor_checks.dense("labels", labels, _tensor_checks.NUMBERS)
    weights = [
        None if value is None else _tensor_checks.weights(name, value)
        for name, value in (("weight", weight), ("sample_weight", sample_weight))
    ]
    if normalizer is not None:
        if not tf.is_symbolic_tensor(normalizer) or options.reduction != "mean":
            _checks.normalizer(normalizer, options.reduction)
        normalizer = tf.cast(normalizer, tf.float64)
    _axes(options.axis, logits)
    options.check_labels(labels.dtype.is_floating)
    return [logits, labels, *weights, normalizer]


@do_not_convert
def by_memory(function, *args, **kwargs):
    """`function` of fastlogits, which has no gradient here, on the memory of the tensors among its arguments."""
    if not tf.executing_eagerly():
        raise _tensor_checks.in_graph(function.__name__)
    names = function.__code__.co_varnames
    for name, value in (*zip(names, args, strict=False), *kwargs.items()):
        if tf.is_tensor(value) and _calls.is_tracked(tf.convert_to_tensor(value)):
            raise _tensor_checks.no_gradient(function.__name__, name)
    return _numpy(function, *args, **kwargs)


def _numpy(function, *args, **kwargs):
    args = [_memory(arg) for arg in args]
    kwargs = {key: _memory(value) for key, value in kwargs.items()}
    try:
        return converted(function(*args, **kwargs), lambda result: tensor(np.asarray(result)))
    except IndexError as error:
        raise _tensor_checks.bad_label(error) from None


def _memory(value):
    if not tf.is_tensor(value):
        return value
    return array(_tensor_checks.dense("tensor", value, _tensor_checks.NUMBERS))


def _differentiable():
    """Whether the call may have to be differentiated, or is traced."""
    return not tf.executing_eagerly() or _calls.is_recording()


def _axes(axis, tensor):
    return _tensor_checks.axes(_checks.axis(axis), tensor)


def _floats(name, values):
    values = _tensor_checks.dense(name, values, _tensor_checks.NUMBERS)
    return values if values.dtype.is_floating else tf.cast(values, tf.float64)


def _filled(values, where, number):
    """`values` where `where` is true, elsewhere the number."""
    return tf.where(where, values, tf.constant(number, values.dtype))
