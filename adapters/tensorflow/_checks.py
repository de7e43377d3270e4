"""What the adapter serves, and the errors for what it does not."""

import operator

import tensorflow as tf

from fastlogits import _checks

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


def common_shape(**tensors):
    """An error if the two shapes, as far as they are known, do not broadcast against each other."""
    try:
        tf.broadcast_static_shape(*(tensor.shape for tensor in tensors.values()))
    except ValueError:
        raise _checks.no_common_shape(**{name: tuple(tensor.shape) for name, tensor in tensors.items()}) from None


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


def batch(name, labels, logits_name, logits, axis=-1):
    """Class indices, as far as the shapes are known."""
    if logits.shape.rank is None:
        return
    sizes = logits.shape.as_list()
    if sizes:
        del sizes[axes(axis, logits)]
    if not logits.shape.rank or not labels.shape.is_compatible_with(sizes):
        raise ValueError(
            f"{name}: expected shape {tuple(sizes)}, that of {logits_name} without its class axis, got {labels.shape}"
        )


def alike(name, labels, logits_name, logits):
    if not labels.shape.is_compatible_with(logits.shape):
        raise ValueError(
            f"{name} and {logits_name} must have the same shape: expected {logits.shape}, got {labels.shape}"
        )


def keras_backend(name):
    return ImportError(
        f"fastlogits.tensorflow.keras: serves Keras on TensorFlow, but it runs on {name}; "
        "set KERAS_BACKEND=tensorflow before keras is imported"
    )


def keras_arguments(from_logits, axis):
    if not from_logits:
        raise ValueError(
            "from_logits: expected True: remove the softmax from the end of the model and pass its logits. "
            "A loss of probabilities is less exact and slower; keras.losses has it"
        )
    if isinstance(axis, bool):
        raise ValueError(f"axis: expected an integer, got {axis}")
    return operator.index(axis)


def predictions(value, dtype):
    """Logits as Keras takes them: integers too."""
    value = dense("y_pred", value, NUMBERS)
    operation = None if tf.executing_eagerly() else getattr(value, "op", None)
    # By the first Keras itself recognises its softmax and sigmoid; by the second, TensorFlow's softmax in a graph.
    if hasattr(value, "_keras_logits") or getattr(operation, "type", None) == "Softmax":
        raise ValueError(
            "y_pred: expected logits, got the result of a softmax or sigmoid: remove that activation from the end "
            "of the model, or its probabilities would go through another softmax"
        )
    return value if value.dtype.is_floating else tf.cast(value, dtype)


def class_indices(value):
    """Integers, which may come as floats of a type that holds them all."""
    value = dense("y_true", value, NUMBERS)
    if value.dtype in (tf.float16, tf.bfloat16):
        raise TypeError(f"y_true: expected integers, got {value.dtype.name}, which has lost those above 2048 or 256")
    return tf.cast(value, tf.int64) if value.dtype.is_floating or value.dtype == tf.bool else value


def bad_label(error):
    """An IndexError of ours as TensorFlow's own error."""
    return tf.errors.InvalidArgumentError(None, None, str(error))
