"""tf.nn's names, on the kernels of fastlogits."""

import operator

import tensorflow as tf
from tensorflow.autograph.experimental import do_not_convert

from fastlogits._options import NOTHING, LossOptions
from fastlogits.tensorflow import _checks, _gradients


@do_not_convert
def sparse_softmax_cross_entropy_with_logits(labels, logits, name=None):
    """As `tf.nn.sparse_softmax_cross_entropy_with_logits`: the same numbers, several times faster on a CPU.

    Second derivatives and `tf.function` work; for XLA and SavedModels see `fastlogits.tensorflow.portable`.

    Parameters
    ----------
    labels : Tensor of any integer dtype, shape (...)
        Class indices.
    logits : Tensor of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities.
    name : str, optional
        Scope of the operation in a graph.

    Returns
    -------
    Tensor of shape (...)
        Of the dtype of `logits`.

    Raises
    ------
    tf.errors.InvalidArgumentError
        If a label is not in [0, C); the first is named.

    Examples
    --------
    >>> import tensorflow as tf, fastlogits.tensorflow
    >>> fastlogits.tensorflow.sparse_softmax_cross_entropy_with_logits([0], [[1000.0, 1000.0]]).numpy()
    array([0.6931472], dtype=float32)
    """
    logits = _checks.dense("logits", logits)
    labels = _checks.dense("labels", labels, _checks.INTEGERS)
    _checks.batch("labels", labels, "logits", logits)
    options = LossOptions(-1, NOTHING, reduction="none")
    with tf.name_scope(name or "sparse_softmax_cross_entropy_with_logits"):
        return _gradients.cross_entropy([logits, labels, None, None, None], options, logits.dtype)


@do_not_convert
def softmax_cross_entropy_with_logits(labels, logits, axis=-1, name=None):
    """As `tf.nn.softmax_cross_entropy_with_logits`, but right for labels of any sum.

    Parameters
    ----------
    labels, logits : Tensor of float32, float64, float16 or bfloat16, of the same shape
        Distributions over `axis`, and unnormalised log-probabilities; both get gradients. Integer labels
        become floats.
    axis : int, default -1
        The class axis.
    name : str, optional
        Scope of the operation in a graph.

    Returns
    -------
    Tensor
        Of the dtype of `logits` and its shape without `axis`.
    """
    logits = _checks.dense("logits", logits)
    labels = _checks.dense("labels", labels, _checks.NUMBERS)
    if not labels.dtype.is_floating:
        labels = tf.cast(labels, logits.dtype)
    _checks.alike("labels", labels, "logits", logits)
    axis = _checks.axes(operator.index(axis), logits)
    options = LossOptions(axis, NOTHING, reduction="none")
    with tf.name_scope(name or "softmax_cross_entropy_with_logits"):
        return _gradients.cross_entropy([logits, labels, None, None, None], options, logits.dtype)


@do_not_convert
def softmax(logits, axis=None, name=None):
    """As `tf.nn.softmax`."""
    logits = _checks.dense("logits", logits)
    with tf.name_scope(name or "softmax"):
        return _gradients.softmax(logits, _checks.axes(-1 if axis is None else operator.index(axis), logits))


@do_not_convert
def log_softmax(logits, axis=None, name=None):
    """As `tf.nn.log_softmax`."""
    logits = _checks.dense("logits", logits)
    with tf.name_scope(name or "log_softmax"):
        return _gradients.log_softmax(logits, _checks.axes(-1 if axis is None else operator.index(axis), logits))


@do_not_convert
def reduce_logsumexp(input_tensor, axis=None, keepdims=False, name=None):
    """As `tf.reduce_logsumexp`. Where there is nothing but -inf, the gradient is 0, not NaN."""
    input_tensor = _checks.dense("input_tensor", input_tensor)
    if axis is not None:
        axis = tuple(map(operator.index, axis)) if hasattr(axis, "__len__") else operator.index(axis)
    with tf.name_scope(name or "reduce_logsumexp"):
        return _gradients.logsumexp(input_tensor, _checks.axes(axis, input_tensor), keepdims)
