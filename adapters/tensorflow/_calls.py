"""How a function of NumPy arrays is run on tensors: at once, or as a node of a graph."""

import contextlib
import contextvars

import numpy as np
import tensorflow as tf

from fastlogits import _layout
from fastlogits.tensorflow import _checks
from fastlogits.tensorflow._arrays import array, tensor

# Neither has a public name. Without them a gradient is prepared that perhaps nobody asks for, and TensorFlow's
# own error says which node XLA or an export stumbles over.
try:
    from tensorflow.python.eager.record import could_possibly_record as is_recording
    from tensorflow.python.eager.record import should_record_backprop as is_recorded
except ImportError:

    def is_recording():
        return True

    def is_recorded(tensors):
        return True


try:
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext as is_for_xla
    from tensorflow.python.saved_model.save_context import in_save_context as is_saving
except ImportError:

    def is_for_xla(graph):
        return False

    def is_saving():
        return False


_portable = contextvars.ContextVar("fastlogits_tensorflow_portable", default=False)
NODE = "fastlogits_in_Python.see_fastlogits.tensorflow.portable"


@contextlib.contextmanager
def portable():
    """Trace functions within into TensorFlow's own operators: slower, but XLA and other processes can run them.

    Functions of fastlogits are nodes of a graph that call Python. XLA cannot compile such a node, and a
    SavedModel with one in it cannot be used elsewhere. What is traced under ``jit_compile=True``, or first
    traced by ``tf.saved_model.save``, needs no help; what has been traced before does.

    Examples
    --------
    >>> import tensorflow as tf
    >>> import fastlogits.tensorflow
    >>> with fastlogits.tensorflow.portable():
    ...     function = tf.function(fastlogits.tensorflow.softmax).get_concrete_function(tf.TensorSpec([None, 3]))
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def must_be_portable():
    """Whether what is traced here will run where there is no Python."""
    if tf.executing_eagerly():
        return False
    return _portable.get() or is_saving() or is_for_xla(tf.compat.v1.get_default_graph())


def run(function, tensors, dtypes, shapes):
    """The arrays that `function` returns for the arrays of `tensors`, as tensors of these dtypes and shapes.

    What it returns of its arguments themselves comes back as the tensor it was.
    """
    if not tf.executing_eagerly():
        return _node(function, tensors, dtypes, shapes)
    arrays = [array(t) for t in tensors]
    try:
        results = function(*arrays)
    except IndexError as error:
        raise _checks.bad_label(error) from None
    owners = {id(a): t for a, t in zip(arrays, tensors, strict=True)}
    return [owners.get(id(result)) if id(result) in owners else tensor(result) for result in results]


def _node(function, tensors, dtypes, shapes):
    settings = contextvars.copy_context()

    def in_settings(*arrays):
        try:
            # A copy, since several threads may be in here at once.
            return settings.copy().run(function, *arrays)
        except (IndexError, TypeError) as error:
            # The only error that TensorFlow turns into an InvalidArgumentError.
            raise ValueError(str(error)) from None

    results = tf.numpy_function(in_settings, tensors, dtypes, stateful=False, name=NODE)
    for result, shape in zip(results, shapes, strict=True):
        result.set_shape(shape)
    return results


def as_dtype(values, dtype):
    """`values`, an array or a float, as an ndarray of a dtype of TensorFlow's."""
    return _layout.rounded(np.asarray(values), np.dtype(dtype.as_numpy_dtype))
