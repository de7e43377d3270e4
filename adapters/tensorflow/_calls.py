"""How a function of NumPy arrays is run on tensors: at once, or as a node of a graph."""

import contextlib
import contextvars
import functools

import numpy as np
import tensorflow as tf

from fastlogits import _layout, config
from fastlogits.tensorflow import _checks
from fastlogits.tensorflow._arrays import array, tensor

# None of these has a public name. Without the first ones a gradient is prepared that perhaps nobody asks for, a
# training step of 32 x 10 logits takes 340 us, not 260, and forward mode gives None; without the others TensorFlow's
# own error says which node XLA or an export stumbles over.
try:
    from tensorflow.python.eager.forwardprop_util import pack_tangents
    from tensorflow.python.eager.record import could_possibly_record as is_recording
    from tensorflow.python.eager.record import record_operation
    from tensorflow.python.eager.record import should_record_backprop as is_recorded
except ImportError:
    record_operation = None

    def is_recording():
        return True

    def is_recorded(tensors):
        return True

    def pack_tangents(tensors):
        return None, []


try:
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext as is_for_xla
    from tensorflow.python.saved_model.save_context import in_save_context as is_saving
except ImportError:

    def is_for_xla(graph):
        return False

    def is_saving():
        return False


_portable = contextvars.ContextVar("fastlogits_tensorflow_portable", default=False)
HINT = "see_fastlogits.tensorflow.portable"  # for errors, which have the names of nodes
NODE = f"fastlogits_in_Python.{HINT}"


@contextlib.contextmanager
def portable():
    """Trace functions within into TensorFlow's own operators: slower, but XLA and other processes can run them.

    In a graph, functions of fastlogits are nodes of its own, or nodes that call Python. XLA can compile neither; a
    SavedModel can be used where ``fastlogits.tensorflow`` is imported with the former in it, and nowhere else with the
    latter. What is traced under ``jit_compile=True`` or by ``tf.saved_model.save`` needs no help; what was traced
    before, such as a signature, does. In operators of TensorFlow nothing reports a label out of range: the loss of
    such a row is NaN.

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


def must_be_plain(*tensors):
    """Whether what is called here must consist of operators: for another place, or for forward mode."""
    if tf.executing_eagerly():
        return is_recording() and _has_tangents(tensors)
    graph = tf.compat.v1.get_default_graph()
    return _portable.get() or is_saving() or is_for_xla(graph) or _has_tangents(tensors)


def is_tracked(tensor):
    """Whether a derivative along the eager `tensor` may be asked for."""
    return is_recorded([tensor]) or _has_tangents([tensor])


def _has_tangents(tensors):
    return len(pack_tangents([t for t in tensors if t is not None])[1]) > 0


def recorded(function, tensors):
    """As `tf.custom_gradient(function)(*tensors)`."""
    if record_operation is None or not tf.executing_eagerly():
        return tf.custom_gradient(function)(*tensors)
    value, gradients = function(*tensors)
    record_operation("fastlogits", [value], tensors, gradients)
    return value


def run(function, values, dtypes, shapes):
    """What `function` returns for the arrays of the tensors among `values`, with tensors for its arrays.

    What it returns of its arguments themselves comes back as the tensor it was. In a graph its results have
    these dtypes and shapes; None is empty there, and a number is a tensor.
    """
    if not tf.executing_eagerly():
        return _node(function, values, dtypes, shapes)
    arguments = [array(value) if isinstance(value, tf.Tensor) else value for value in values]
    try:
        results = _within_threads(function, *arguments)
    except IndexError as error:
        raise _checks.bad_label(error) from None
    return [_as_argument(result, arguments, values) for result in results]


def _as_argument(result, arguments, values):
    if type(result) is not np.ndarray:
        return result
    for argument, value in zip(arguments, values, strict=True):
        if result is argument:
            return value
    return tensor(result)


def _node(function, values, dtypes, shapes):
    # Numbers and None come from a forward pass that was eager.
    tensors = [tf.constant([]) if value is None else tf.convert_to_tensor(value, _dtype(value)) for value in values]
    settings = contextvars.copy_context()

    def in_settings(*arrays):
        try:
            # A copy, since several threads may be in here at once.
            results = settings.copy().run(_within_threads, function, *arrays)
        except (IndexError, TypeError) as error:
            # The only error that TensorFlow turns into an InvalidArgumentError.
            raise ValueError(str(error)) from None
        filled = zip(results, dtypes, strict=True)
        return [np.empty(0, dtype.as_numpy_dtype) if result is None else result for result, dtype in filled]

    results = tf.numpy_function(in_settings, tensors, dtypes, stateful=False, name=NODE)
    for result, shape in zip(results, shapes, strict=True):
        result.set_shape(shape)
    return results


def _dtype(value):
    return tf.float64 if isinstance(value, float) else None


def threads():
    """On how many threads an operator may share its work; 0: as many as there are by default."""
    chosen = config.chosen().get("num_threads") or config.environment_threads() or 0
    most = _threads_of_tensorflow()
    return min(chosen, most) if chosen and most else chosen or most


def _within_threads(function, *arrays):
    """On no more threads than TensorFlow may use for one operation."""
    most = _threads_of_tensorflow()
    if most and most < config.threads(config.SERIAL_BELOW):
        with config.settings(num_threads=most):
            return function(*arrays)
    return function(*arrays)


@functools.cache
def _threads_of_tensorflow():
    # It cannot change any more once there are tensors.
    return tf.config.threading.get_intra_op_parallelism_threads()


def as_dtype(values, dtype):
    """`values`, an array or a float, as an ndarray of a dtype of TensorFlow's."""
    return _layout.rounded(np.asarray(values), np.dtype(dtype.as_numpy_dtype))
