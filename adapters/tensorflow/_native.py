"""TensorFlow's own operators for what the C core serves, in the place of calls of Python."""

import functools
import importlib.util

import numpy as np
import tensorflow as tf

from fastlogits import _memory, config
from fastlogits._options import IGNORE_INDEX
from fastlogits.tensorflow._calls import HINT as NODE

DTYPES = (tf.float32, tf.float64, tf.float16, tf.bfloat16)
ROWS = ("softmax", "log_softmax")
REDUCTIONS = ("none", "sum", "mean")
NARROW = {tf.int8: tf.int32, tf.uint8: tf.int32, tf.int16: tf.int32, tf.uint16: tf.int32, tf.uint32: tf.int64}
LABELS = (tf.int32, tf.int64, *NARROW)

OPERATORS = ("FastlogitsRows", "FastlogitsRowsGrad", "FastlogitsLoss", "FastlogitsLossGrad")


def _load():
    """The operators, if they can be had; else None."""
    specification = importlib.util.find_spec("fastlogits.tensorflow._ops")
    if specification is None:  # installed without a C compiler
        return None
    try:
        operators = tf.load_op_library(specification.origin)
        module = importlib.import_module("fastlogits.tensorflow._ops")
    except (ImportError, tf.errors.OpError):
        return None
    _memory.CACHES.append(module.empty_cache)
    for name in OPERATORS:  # what is differentiated is the function that they are within
        tf.no_gradient(name)
    return operators


_loaded = _load()


@functools.cache
def operators():
    """Those that are loaded, if they give the right numbers, as another version of TensorFlow might not; else None.

    Not at import, since TensorFlow takes no settings of threads any more when it has computed something.
    """
    if _loaded is None:
        return None
    x, each = np.float32([[0.0, 1.0], [2.0, -1.0]]), np.float32([1.0, 2.0])
    plan = _plan(axis=-1, with_grad=True, ignore_index=IGNORE_INDEX, given=(False, True, False))
    with tf.init_scope(), tf.device("CPU"):
        logits, labels = tf.constant(x), tf.constant([0, 1])
        loss, grad, _ = _loaded.fastlogits_loss(logits, labels, [tf.constant(each)], Loss=tf.float64, plan=plan)
        probs = _loaded.fastlogits_rows(logits, plan=plan)
    exact = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    mean = (exact - np.eye(2)) * each[:, None] / 2
    pairs = (loss, -np.log(exact[[0, 1], [0, 1]]) * each), (grad, mean), (probs, exact)
    return _loaded if all(np.allclose(ours, theirs, rtol=1e-5) for ours, theirs in pairs) else None


def _is_in_force():
    return config.reaches_core() and operators() is not None


config.ROUTES["tensorflow"] = _is_in_force


@functools.cache
def _plan(axis, function=0, threads=0, with_grad=False, reduction="none", ignore_index=0, told=False,
          given=(False, False, False), numbers=(0.0, 0.0, 0.0, 1.0)):  # fmt: skip
    """What an operator is made with, see `plan` of _ops.c: an attribute of TensorFlow's has no double, but its bits."""
    bits = sum(there << i for i, there in enumerate(given))
    integers = function, axis, threads, with_grad, REDUCTIONS.index(reduction), int(ignore_index), told, bits
    return [*map(int, integers), *np.float64(numbers).view(np.int64).tolist()]


def serves(logits):
    """Whether there is an operator for these, and the backend in force is the one that it has."""
    return _loaded is not None and logits.dtype in DTYPES and logits.shape.rank is not None and _is_in_force()


def serves_rows(axis, x):
    return isinstance(axis, int) and serves(x)


def serves_loss(axis, logits, labels, weight, sample_weight, normalizer):
    """Whether the shapes, as far as they are known, and the dtypes are those of an operator."""
    if not serves(logits):
        return False
    rows = logits.shape.as_list()
    classes = [rows.pop(axis)]
    if labels.shape.rank == logits.shape.rank:
        good = labels.dtype == logits.dtype and labels.shape.is_compatible_with(logits.shape)
    else:
        good = labels.dtype in LABELS and labels.shape.is_compatible_with(rows)
    expected = (weight, classes), (sample_weight, rows), (normalizer, [])
    return good and all(other is None or other.shape.is_compatible_with(shape) for other, shape in expected)


def _shaped(tensor, shape):
    """What a graph knows of the shape before it runs."""
    if not tf.executing_eagerly():  # 4 us where there is nothing to say
        tensor.set_shape(shape)
    return tensor


def rows(name, x, axis, threads):
    y = _loaded.fastlogits_rows(x, plan=_plan(axis, ROWS.index(name), threads), name=NODE)
    return _shaped(y, x.shape)


def rows_grad(name, grad, result, axis, threads):
    x = _loaded.fastlogits_rows_grad(grad, result, plan=_plan(axis, ROWS.index(name), threads), name=NODE)
    return _shaped(x, result.shape)


def loss(tensors, options, dtype, with_grad, threads, shape):
    """(loss, gradient or nothing, the number for which it is the gradient)"""
    logits, labels, others, plan = _loss_arguments(tensors, options, with_grad, threads)
    value, grad, expected = _loaded.fastlogits_loss(
        logits, labels, others, Loss=dtype, plan=plan, label_name=options.label_name, name=NODE
    )
    return _shaped(value, shape), grad, expected


def loss_grad(upstream, grad, expected, tensors, options, threads):
    logits, labels, others, plan = _loss_arguments(tensors, options, True, threads)
    found = _loaded.fastlogits_loss_grad(
        upstream, grad, expected, logits, labels, others, plan=plan, label_name=options.label_name, name=NODE
    )
    return _shaped(found, logits.shape)


def _loss_arguments(tensors, options, with_grad, threads):
    logits, labels, *others = tensors
    given = tuple(other is not None for other in others)
    numbers = options.label_smoothing, options.z_loss, options.softcap or 0.0, options.logit_scale
    named = options.named_index is not None
    plan = _plan(options.axis, 0, threads, with_grad, options.reduction, options.ignore_index, named, given, numbers)
    if labels.dtype in NARROW:
        labels = tf.cast(labels, NARROW[labels.dtype])
    return logits, labels, [other for other in others if other is not None], plan
