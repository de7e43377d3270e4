# cython: infer_types=True
"""Plain calls: small packed arrays of our own dtypes, classes last, no options but those read here.

Each takes the arguments of a public function, and returns what that returns, or NotImplemented: then the general way
is taken, which alone knows the rules and has the messages. A small call costs less than its way through Python.
"""

import numpy as np

cimport numpy as cnp

from fastlogits.backends.cython cimport _core
from fastlogits.backends.cython._calls cimport answer, data, dtype_of
from fastlogits.backends.cython._core cimport (
    FL_BAD_LABEL, FL_FLOAT32, FL_FLOAT64, FL_INT32, FL_INT64, FL_MEAN, FL_NONE, FL_SUM, fl_loss, fl_loss_of, fl_rows,
    fl_rows_of, operation,
)

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


cdef int computed_in(cnp.ndarray x) noexcept:
    """The dtype of numbers of rows too"""
    return cnp.NPY_DOUBLE if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE else cnp.NPY_FLOAT


cdef cnp.ndarray per_row(cnp.ndarray x, int kind):
    return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(x) - 1, cnp.PyArray_DIMS(x), kind, False)


cdef object returned(cnp.ndarray results):
    """A scalar instead of an array without axes."""
    return results if cnp.PyArray_NDIM(results) else results[()]


cdef int do(operation function, cnp.ndarray x, cnp.ndarray y, cnp.ndarray z) except -1:
    cdef fl_rows call = fl_rows_of(dtype_of(x), data(x), rows_of(x), classes_of(x))
    call.y = data(y)
    call.z = data(z)
    return answer(function(&call))


# softmax, log_softmax, logsumexp, argmax

def softmax(tuple args, dict options):
    return softmax_by(_core.softmax, args, options)


def log_softmax(tuple args, dict options):
    return softmax_by(_core.log_softmax, args, options)


cdef object softmax_by(operation function, tuple args, dict options):
    x = plain_first(args, 1, 2, options, OUT)
    y = None if x is None else plain_out(options, x)
    if y is None:
        return NotImplemented
    do(function, x, None, y)
    return y


def logsumexp(tuple args, dict options):
    x = plain_first(args, 1, 2, options, AXIS)
    return NotImplemented if x is None else reduced(_core.logsumexp, x, computed_in(x))


def argmax(tuple args, dict options):
    x = plain_first(args, 1, 2, options, AXIS)
    return NotImplemented if x is None else reduced(_core.argmax, x, cnp.NPY_INTP)


cdef object reduced(operation function, cnp.ndarray x, int kind):
    results = per_row(x, kind)
    do(function, x, None, results)
    return returned(results)


# The backward functions

def softmax_backward(tuple args, dict options):
    return backward_by(_core.softmax_backward, args, options)


def log_softmax_backward(tuple args, dict options):
    return backward_by(_core.log_softmax_backward, args, options)


cdef object backward_by(operation function, tuple args, dict options):
    grad = plain_first(args, 2, 3, options, OUT)
    if grad is None or not is_like(args[1], grad):
        return NotImplemented
    result = plain_out(options, grad)
    if result is None or not may_overwrite(result, args[1]):
        return NotImplemented
    do(function, grad, args[1], result)
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
    cdef int kind = computed_in(x), code
    if type(reduction) is not str or not are_plain_labels(labels, x):
        return NotImplemented
    if grad is not None and not apart(grad, labels):
        return NotImplemented
    cdef fl_loss call = fl_loss_of(dtype_of(x), data(x), rows_of(x), classes_of(x))
    if reduction == "mean":
        call.reduction = FL_MEAN
    elif reduction == "sum":
        call.reduction = FL_SUM
    elif reduction == "none":
        call.reduction = FL_NONE
    else:
        return NotImplemented
    losses = per_row(x, kind) if call.reduction == FL_NONE else None
    call.losses = data(losses)
    call.loss_dtype = FL_FLOAT64 if kind == cnp.NPY_DOUBLE else FL_FLOAT32
    call.grad = data(grad)
    call.labels = data(labels)
    call.label_dtype = FL_INT64 if cnp.PyArray_TYPE(<cnp.ndarray>labels) == cnp.NPY_INT64 else FL_INT32
    code = _core.cross_entropy(&call)
    if code == FL_BAD_LABEL:  # the general way says which
        return NotImplemented
    answer(code)
    return scalar(call.loss, kind) if losses is None else returned(losses)


cdef bint are_plain_labels(object labels, cnp.ndarray x) noexcept:
    if not cnp.PyArray_CheckExact(labels) or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>labels):
        return False
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>labels), ndim = cnp.PyArray_NDIM(<cnp.ndarray>labels)
    return ((kind == cnp.NPY_INT64 or kind == cnp.NPY_INT32) and ndim == cnp.PyArray_NDIM(x) - 1
            and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(<cnp.ndarray>labels), cnp.PyArray_DIMS(x), ndim))


cdef object scalar(double value, int kind):
    """Of the dtype that is computed in; what is too large becomes inf."""
    cdef float single = <float>value
    if kind == cnp.NPY_DOUBLE:
        return PyArray_Scalar(&value, float64, None)
    return PyArray_Scalar(&single, float32, None)


CALLS = {
    function.__name__: function
    for function in (
        softmax, log_softmax, logsumexp, argmax, softmax_backward, log_softmax_backward, cross_entropy,
        cross_entropy_with_grad,
    )
}
