"""Between tensors and NumPy arrays without copies."""

import math

import numpy as np
import tensorflow as tf

from fastlogits import _memory

# Below this size a copy (5 us) costs less than aligned memory and its handing over (6 us).
SHARED_FROM = 1 << 16


def array(tensor):
    """The memory of an eager CPU tensor as an ndarray, which must not be written to."""
    if tensor.dtype is tf.bfloat16:
        return np.asarray(tf.bitcast(tensor, tf.uint16)).view(tf.bfloat16.as_numpy_dtype)
    return np.asarray(tensor)


def tensor(array):
    """`array` as an eager tensor: its very memory where it is large and TensorFlow takes it."""
    if array.nbytes < SHARED_FROM or not _shareable(array):
        return tf.constant(array)
    if array.dtype == tf.bfloat16.as_numpy_dtype:
        return tf.bitcast(tf.experimental.dlpack.from_dlpack(array.view(np.uint16).__dlpack__()), tf.bfloat16)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _shareable(array):
    flags = array.flags
    return flags.c_contiguous and flags.writeable and not array.ctypes.data % _memory.ALIGNMENT


def empty(shape, dtype):
    """An ndarray whose memory `tensor` shares; None where any new array does as well."""
    return _memory.empty(shape, dtype) if math.prod(shape) * dtype.itemsize >= SHARED_FROM else None
