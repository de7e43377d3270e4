# cython: infer_types=True
"""Plain calls: small packed arrays of our own dtypes, classes last, no options but those read here.

Each takes the arguments of a public function, and returns what that returns, or NotImplemented: then the general way
is taken, which alone knows the rules and has the messages. A small call costs less than its way through Python.
"""

import numpy as np

cimport numpy as cnp
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

from fastlogits.backends cimport _calls

from fastlogits._results import CrossEntropy
from fastlogits.backends.threads import SERIAL_BELOW

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray like, cnp.NPY_ORDER order, cnp.PyArray_Descr* dtype, int subok)
    object PyArray_Scalar(void* data, cnp.dtype dtype, object base)

cdef Py_ssize_t serial_below = SERIAL_BELOW
cdef cnp.dtype float32 = np.dtype(np.float32), float64 = np.dtype(np.float64)
cdef frozenset AXIS = frozenset(["axis"]), OUT = frozenset(["axis", "out"])
cdef frozenset REDUCTION = frozenset(["axis", "reduction"]), BOTH = frozenset(["axis", "reduction", "out"])

cdef enum:
    IGNORE_INDEX = -100

cdef cnp.PyUFuncGenericFunction add_doubles = NULL
cdef void* add_data = NULL


cdef int find_sum() except -1:
    """NumPy's inner loop that adds doubles; NULL where a NumPy to come does without."""
    global add_doubles, add_data
    add = <cnp.ufunc>np.add
    cdef int i
    for i in range(add.ntypes):
        if add.types[3 * i] == add.types[3 * i + 1] == add.types[3 * i + 2] == cnp.NPY_DOUBLE:
            add_doubles, add_data = add.functions[i], add.data[i]
    return 0


find_sum()


# What is plain

cdef bint is_plain(object array) noexcept:
    """Also small: with fewer logits there is one thread, whatever the settings."""
    if not cnp.PyArray_CheckExact(array) or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array):
        return False
    kind = cnp.PyArray_TYPE(<cnp.ndarray>array)
    if kind != cnp.NPY_FLOAT and kind != cnp.NPY_DOUBLE and kind != cnp.NPY_FLOAT16:
        return False
    return cnp.PyArray_NDIM(<cnp.ndarray>array) > 0 and 0 < cnp.PyArray_SIZE(<cnp.ndarray>array) < serial_below


cdef bint is_like(object array, cnp.ndarray x) noexcept:
    return (is_plain(array) and cnp.PyArray_TYPE(<cnp.ndarray>array) == cnp.PyArray_TYPE(x)
            and cnp.PyArray_SAMESHAPE(<cnp.ndarray>array, x))


cdef bint apart(cnp.ndarray one, cnp.ndarray other) noexcept:
    cdef size_t a = <size_t>cnp.PyArray_DATA(one), b = <size_t>cnp.PyArray_DATA(other)
    return a + cnp.PyArray_NBYTES(one) <= b or b + cnp.PyArray_NBYTES(other) <= a


cdef bint may_overwrite(cnp.ndarray out, cnp.ndarray x) noexcept:
    """For two that are alike: in place, or elsewhere."""
    return cnp.PyArray_DATA(out) == cnp.PyArray_DATA(x) or apart(out, x)


cdef bint is_last(object axis, cnp.ndarray x) noexcept:
    return type(axis) is int and (axis == -1 or axis == cnp.PyArray_NDIM(x) - 1)


cdef cnp.ndarray plain_first(tuple args, int arrays, int most, dict options, frozenset known):
    """The first of so many arrays, and perhaps the axis; None if it or the axis is not plain, or an option not known."""
    cdef Py_ssize_t given = len(args)
    if not arrays <= given <= most or not is_plain(args[0]):
        return None
    x = <cnp.ndarray>args[0]
    if given > arrays and not is_last(args[arrays], x):
        return None
    if options:
        for name in options:
            if name not in known or (name == "axis" and (given > arrays or not is_last(options["axis"], x))):
                return None
    return x


cdef cnp.ndarray plain_out(dict options, cnp.ndarray x):
    """Where to write the result; None if that is not plain."""
    out = options.get("out") if options else None
    if out is None:
        return PyArray_NewLikeArray(x, cnp.NPY_CORDER, NULL, False)
    if is_like(out, x) and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>out) and may_overwrite(out, x):
        return out
    return None


cdef Py_ssize_t classes_of(cnp.ndarray x) noexcept:
    return cnp.PyArray_DIM(x, cnp.PyArray_NDIM(x) - 1)


cdef Py_ssize_t rows_of(cnp.ndarray x) noexcept:
    return cnp.PyArray_SIZE(x) // classes_of(x)


cdef cnp.ndarray per_row(cnp.ndarray x, int kind):
    return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x) - 1, cnp.PyArray_DIMS(x), kind, False)


cdef object returned(cnp.ndarray results):
    """A scalar instead of an array without axes."""
    return results if cnp.PyArray_NDIM(results) else results[()]


# softmax, log_softmax, logsumexp, argmax

def softmax(tuple args, dict options):
    x = plain_first(args, 1, 2, options, OUT)
    y = None if x is None else plain_out(options, x)
    if y is None:
        return NotImplemented
    classes = classes_of(x)
    _calls.softmax(x, y, rows_of(x), classes, 1, classes, classes, 1.0, 1)
    return y


def log_softmax(tuple args, dict options):
    x = plain_first(args, 1, 2, options, OUT)
    y = None if x is None else plain_out(options, x)
    if y is None:
        return NotImplemented
    classes = classes_of(x)
    _calls.log_softmax(x, y, rows_of(x), classes, 1, classes, classes, 1.0, 1)
    return y


def logsumexp(tuple args, dict options):
    x = plain_first(args, 1, 2, options, AXIS)
    if x is None or cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT16:  # whose results are computed in float32
        return NotImplemented
    classes, lse = classes_of(x), per_row(x, cnp.PyArray_TYPE(x))
    _calls.logsumexp(x, lse, rows_of(x), classes, 1, classes, 1)
    return returned(lse)


def argmax(tuple args, dict options):
    x = plain_first(args, 1, 2, options, AXIS)
    if x is None:
        return NotImplemented
    classes, indices = classes_of(x), per_row(x, cnp.NPY_INTP)
    _calls.argmax(x, indices, rows_of(x), classes, 1, classes, 1)
    return returned(indices)


# The backward functions

cdef cnp.ndarray plain_gradient(tuple args, dict options):
    """Where to write the gradient; None if something is not plain."""
    p = plain_first(args, 2, 3, options, OUT)
    if p is None or not is_like(args[1], p):
        return None
    result = plain_out(options, p)
    return result if result is not None and may_overwrite(result, args[1]) else None


def softmax_backward(tuple args, dict options):
    result = plain_gradient(args, options)
    if result is None:
        return NotImplemented
    classes = classes_of(result)
    _calls.softmax_backward(args[0], args[1], result, rows_of(result), classes, 1, classes, classes, classes, 1)
    return result


def log_softmax_backward(tuple args, dict options):
    result = plain_gradient(args, options)
    if result is None:
        return NotImplemented
    classes = classes_of(result)
    _calls.log_softmax_backward(args[0], args[1], result, rows_of(result), classes, 1, classes, classes, classes, 1)
    return result


# The losses

def cross_entropy(tuple args, dict options):
    x = plain_first(args, 2, 2, options, REDUCTION)
    return NotImplemented if x is None else loss_of(x, args[1], None, reduction_of(options))


def cross_entropy_with_grad(tuple args, dict options):
    x = plain_first(args, 2, 2, options, BOTH)
    grad = None if x is None else plain_out(options, x)
    if grad is None:
        return NotImplemented
    loss = loss_of(x, args[1], grad, reduction_of(options))
    return loss if loss is NotImplemented else tuple.__new__(CrossEntropy, (loss, grad))


cdef object reduction_of(dict options):
    return options.get("reduction", "mean") if options else "mean"


cdef object loss_of(cnp.ndarray x, labels, cnp.ndarray grad, reduction):
    """The loss, and the gradient in `grad` unless that is None; NotImplemented before anything is written."""
    cdef int kind = cnp.PyArray_TYPE(x)
    cdef double total
    cdef bint by_row = False, mean = False
    if type(reduction) is not str or not are_plain_labels(labels, x):
        return NotImplemented
    if reduction == "mean":
        mean = True
    elif reduction == "none" and kind != cnp.NPY_FLOAT16:
        by_row = True
    elif reduction != "sum":
        return NotImplemented
    if grad is not None and not apart(grad, labels):
        return NotImplemented
    indices = own_labels(labels)
    classes = classes_of(x)
    # The general way says which label is bad.
    if _calls.counted(indices, None, None, classes, IGNORE_INDEX, &total) >= 0:
        return NotImplemented
    divisor = total if mean else 1.0
    losses = per_row(x, cnp.NPY_DOUBLE)
    cdef _calls.Task task = _calls.new_task(x, classes, rows_of(x), classes, 1)
    task.y = <_calls.stored*>_calls.data(grad)
    task.y_stride = classes
    task.labels = <int64_t*>_calls.data(indices)
    task.losses = <double*>_calls.data(losses)
    task.loss.ignore_index = IGNORE_INDEX
    _calls.loss_of(x, &task, 1.0, 1.0 / divisor if divisor else 0.0, 1)
    if by_row:
        return rounded(losses, kind)
    total = sum_of(losses)
    return scalar(total / divisor if divisor else total * INFINITY, kind)


cdef bint are_plain_labels(object labels, cnp.ndarray x) noexcept:
    if not cnp.PyArray_CheckExact(labels) or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>labels):
        return False
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>labels), ndim = cnp.PyArray_NDIM(<cnp.ndarray>labels)
    return ((kind == cnp.NPY_INT64 or kind == cnp.NPY_INT32) and ndim == cnp.PyArray_NDIM(x) - 1
            and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(<cnp.ndarray>labels), cnp.PyArray_DIMS(x), ndim))


cdef cnp.ndarray own_labels(cnp.ndarray labels):
    """A copy: what is checked must be what is used, whoever else writes to `labels` meanwhile."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(labels), i
    indices = <cnp.ndarray>cnp.PyArray_EMPTY(cnp.PyArray_NDIM(labels), cnp.PyArray_DIMS(labels), cnp.NPY_INT64, False)
    cdef int64_t* own = <int64_t*>cnp.PyArray_DATA(indices)
    cdef int32_t* narrow = <int32_t*>cnp.PyArray_DATA(labels)
    if cnp.PyArray_TYPE(labels) == cnp.NPY_INT64:
        memcpy(own, cnp.PyArray_DATA(labels), n * sizeof(int64_t))
    else:
        for i in range(n):
            own[i] = narrow[i]
    return indices


cdef double sum_of(cnp.ndarray values) except? -1:
    """`np.add.reduce`, to the bit: its inner loop, without the 1 us that its preparation takes."""
    cdef double total = 0.0
    cdef char* places[3]
    cdef cnp.npy_intp steps[3]
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(values)
    places[0] = places[2] = <char*>&total
    places[1] = <char*>cnp.PyArray_DATA(values)
    steps[0] = steps[2] = 0
    steps[1] = sizeof(double)
    if add_doubles == NULL:
        return np.add.reduce(values, axis=None)
    add_doubles(places, &n, steps, add_data)
    return total


cdef object scalar(double value, int kind):
    """Of the dtype that is computed in; what is too large becomes inf."""
    cdef float single = <float>value
    if kind == cnp.NPY_DOUBLE:
        return PyArray_Scalar(&value, float64, None)
    return PyArray_Scalar(&single, float32, None)


cdef object rounded(cnp.ndarray losses, int kind):
    """Losses by row in the dtype of the logits."""
    if kind == cnp.NPY_DOUBLE:
        return returned(losses)
    singles = <cnp.ndarray>cnp.PyArray_EMPTY(cnp.PyArray_NDIM(losses), cnp.PyArray_DIMS(losses), kind, False)
    cdef float* single = <float*>cnp.PyArray_DATA(singles)
    cdef double* each = <double*>cnp.PyArray_DATA(losses)
    cdef Py_ssize_t i
    for i in range(cnp.PyArray_SIZE(losses)):
        single[i] = <float>each[i]
    return returned(singles)


CALLS = {
    function.__name__: function
    for function in (
        softmax, log_softmax, logsumexp, argmax, softmax_backward, log_softmax_backward, cross_entropy,
        cross_entropy_with_grad,
    )
}
