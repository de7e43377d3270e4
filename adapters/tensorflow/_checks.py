"""What the adapter serves, and the errors for what it does not."""

import tensorflow as tf

FLOATS = (tf.float32, tf.float64, tf.float16, tf.bfloat16)
INTEGERS = (
    tf.int64, tf.int32, tf.int16, tf.int8, tf.uint8, tf.uint16, tf.uint32, tf.uint64,
)  # fmt: skip
NUMBERS = (*FLOATS, *INTEGERS, tf.bool)
COMPOSITE = {
    tf.RaggedTensor: "to_tensor() and sample weights of 0 for the padding",
    tf.SparseTensor: "tf.sparse.to_dense()",
    tf.IndexedSlices: "tf.convert_to_tensor()",
}


def dense(name, value, dtypes=FLOATS):
    """`value` as a tensor whose memory we can read."""
    if not isinstance(value, tf.Tensor):
        for kind, way_out in COMPOSITE.items():
            if isinstance(value, kind):
                raise TypeError(f"{name}: expected a dense tensor, got a {kind.__name__}; use {way_out}")
        value = tf.convert_to_tensor(value)
    if value.dtype not in dtypes:
        expected = ", ".join(dtype.name for dtype in dtypes)
        raise TypeError(f"{name}: expected {expected}, got {value.dtype.name}")
    device = value.device
    if device and ":CPU:" not in device.upper():
        raise TypeError(f"{name}: expected a tensor in the CPU's memory, got one on {device}; copy it there")
    return value


def weights(name, value):
    """Floats in a type that NumPy has."""
    value = dense(name, value, NUMBERS)
    return value if value.dtype in (tf.float32, tf.float64) else tf.cast(value, tf.float32)


def boolean(name, value):
    value = tf.convert_to_tensor(value)
    if value.dtype != tf.bool:
        raise TypeError(f"{name}: expected bool, got {value.dtype.name}")
    return value


def no_out(out):
    if out is not None:
        raise TypeError("out: expected None, since tensors of TensorFlow are not written to")


def in_graph(function):
    return NotImplementedError(f"{function}: runs eagerly; within tf.function, call it through tf.py_function")


def no_gradient(function, name):
    return RuntimeError(f"{name}: fastlogits.{function} has no gradient; pass tf.stop_gradient({name})")


def axes(axis, tensor):
    """The axis or axes, checked as far as the rank is known."""
    rank = tensor.shape.rank
    if rank is not None:
        for each in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
            if not -rank <= each < rank:
                raise ValueError(f"axis: expected one in [{-rank}, {rank}), got {each}")
    return axis


def batch(labels, logits):
    """Shapes of class indices, as far as they are known."""
    expected = logits.shape[:-1]
    if logits.shape.rank == 0 or not labels.shape.is_compatible_with(expected):
        raise ValueError(
            f"labels: expected the shape of logits without the last axis, {logits.shape} without it, "
            f"got {labels.shape}"
        )


def alike(labels, logits):
    if not labels.shape.is_compatible_with(logits.shape):
        raise ValueError(f"labels: expected the shape of logits, {logits.shape}, got {labels.shape}")


def bad_label(error):
    """An IndexError of ours as TensorFlow's own error."""
    return tf.errors.InvalidArgumentError(None, None, str(error))
