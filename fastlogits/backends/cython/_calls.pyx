"""The operations of a backend on NumPy arrays, by the C core."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from machine cimport stored

from fastlogits.backends.cython cimport _core
from fastlogits.backends.cython._core cimport (
    BLOCK, FL_BAD_ARGUMENT, FL_BFLOAT16, FL_FLOAT16, FL_FLOAT32, FL_FLOAT64, FL_NO_MEMORY, FL_OK, Crew, Task, Unit,
    fl_loss, fl_loss_of, fl_rows, fl_rows_of, operation, run, unit_of,
)

cnp.import_array()


cdef int dtype_of(cnp.ndarray array) noexcept:
    cdef int kind = cnp.PyArray_TYPE(array)
    if kind == cnp.NPY_FLOAT:
        return FL_FLOAT32
    if kind == cnp.NPY_DOUBLE:
        return FL_FLOAT64
    return FL_FLOAT16 if kind == cnp.NPY_FLOAT16 else FL_BFLOAT16


cdef void* data(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef int answer(int code) except -1:
    """What the core has returned, as Python knows it."""
    if code == FL_OK:
        return 0
    if code == FL_NO_MEMORY:
        raise MemoryError
    if code == FL_BAD_ARGUMENT:
        raise SystemError("the C core has refused a call")
    return -1  # interrupted, by an exception that is set


cdef Crew crew_of(int threads) noexcept:
    cdef Crew crew
    crew.threads = threads
    crew.listen = True
    return crew


cdef Task new_task(cnp.ndarray x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes,
                   Py_ssize_t inner) noexcept:
    return _core.new_task(data(x), x_stride, outer, classes, inner)


# softmax, log_softmax, logsumexp, argmax

cdef fl_rows call_of(cnp.ndarray x, cnp.ndarray results, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                     Py_ssize_t x_stride, int threads) noexcept:
    cdef fl_rows call = fl_rows_of(dtype_of(x), data(x), outer, classes)
    call.z = data(results)
    call.inner = inner
    call.x_stride = x_stride
    call.threads = threads
    call.listen = True
    return call


cdef int do(operation function, fl_rows* call) except -1:
    with nogil:
        code = function(call)
    return answer(code)


def softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
            Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads, scales=None):
    normalize(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, scales, False)


def log_softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads, scales=None):
    normalize(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, scales, True)


cdef int normalize(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                   Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads, object scales,
                   bint log) except -1:
    cdef fl_rows call = call_of(x, y, outer, classes, inner, x_stride, threads)
    cdef double* each = <double*>data(scales)
    call.z_stride = y_stride
    call.scale = scale
    with nogil:
        code = _core.softmax_of(&call, log, each)
    return answer(code)


def logsumexp(cnp.ndarray x, cnp.ndarray lse, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
              Py_ssize_t x_stride, int threads):
    cdef fl_rows call = call_of(x, lse, outer, classes, inner, x_stride, threads)
    do(_core.logsumexp, &call)


def argmax(cnp.ndarray x, cnp.ndarray indices, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
           Py_ssize_t x_stride, int threads):
    cdef fl_rows call = call_of(x, indices, outer, classes, inner, x_stride, threads)
    do(_core.argmax, &call)


# Rows that are at hand in pieces

def softmax_blocks(cnp.ndarray x, cnp.ndarray peaks, cnp.ndarray sums, cnp.ndarray rests, Py_ssize_t rows,
                   Py_ssize_t classes, Py_ssize_t x_stride, double scale, int threads):
    cdef Task task = new_task(x, x_stride, rows, classes, 1)
    cdef Unit* unit = unit_of(dtype_of(x))
    cdef Crew crew = crew_of(threads)
    task.peaks = <double*>data(peaks)
    task.sums = <double*>data(sums)
    task.rests = <double*>data(rests)
    task.scale = scale
    with nogil:
        code = run(unit.blocks.rows, unit, &task, rows, classes, crew)
    answer(code)


def softmax_merged(cnp.ndarray peaks, cnp.ndarray sums, cnp.ndarray rests, cnp.ndarray row_peaks,
                   cnp.ndarray row_rests, Py_ssize_t classes, double scale):
    cdef Task task = new_task(peaks, 0, row_peaks.shape[0], classes, 1)
    cdef Unit* unit = unit_of(dtype_of(peaks))
    cdef Crew crew = crew_of(1)
    task.peaks = <double*>data(peaks)
    task.sums = <double*>data(sums)
    task.rests = <double*>data(rests)
    task.row_peaks = <double*>data(row_peaks)
    task.row_rests = <double*>data(row_rests)
    task.scale = scale
    with nogil:
        code = run(unit.merged.rows, unit, &task, task.rows, BLOCK, crew)
    answer(code)


def softmax_piece(cnp.ndarray x, cnp.ndarray y, cnp.ndarray peaks, cnp.ndarray rests, Py_ssize_t rows,
                  Py_ssize_t classes, Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, bint log, int threads):
    cdef Task task = new_task(x, x_stride, rows, classes, 1)
    cdef Unit* unit = unit_of(dtype_of(x))
    cdef Crew crew = crew_of(threads)
    task.y = <stored*>data(y)
    task.y_stride = y_stride
    task.row_peaks = <double*>data(peaks)
    task.row_rests = <double*>data(rests)
    task.scale = scale
    task.log = log
    with nogil:
        code = run(unit.piece.rows, unit, &task, rows, classes, crew)
    answer(code)


# Gradients of softmax and log-softmax

def softmax_backward(cnp.ndarray g, cnp.ndarray p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                     Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t p_stride, Py_ssize_t out_stride, int threads):
    cdef fl_rows call = call_of(g, out, outer, classes, inner, g_stride, threads)
    call.y = data(p)
    call.y_stride = p_stride
    call.z_stride = out_stride
    do(_core.softmax_backward, &call)


def log_softmax_backward(cnp.ndarray g, cnp.ndarray log_p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                         Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t log_p_stride, Py_ssize_t out_stride,
                         int threads):
    cdef fl_rows call = call_of(g, out, outer, classes, inner, g_stride, threads)
    call.y = data(log_p)
    call.y_stride = log_p_stride
    call.z_stride = out_stride
    do(_core.log_softmax_backward, &call)


# The loss

def cross_entropy(arrays, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, strides, options,
                  double grad_scale, int threads):
    # Records by position, as the tuples that they are: by name they cost 1 us more.
    x, targets, grad, labels, sample_weight, grad_loss, losses, weight = <tuple>arrays
    _, ignore_index, smoothing, z_loss, softcap, logit_scale, _, _, _ = <tuple>options
    cdef fl_loss call = fl_loss_of(dtype_of(x), data(x), outer, classes)
    call.x_stride, call.targets_stride, call.grad_stride = strides
    call.inner = inner
    call.targets = data(targets)
    call.grad = data(grad)
    call.sample_weight = <double*>data(sample_weight)
    call.grad_loss = <double*>data(grad_loss)
    call.weight = data(weight)
    call.ignore_index = ignore_index
    call.label_smoothing = smoothing
    call.z_loss = z_loss
    call.softcap = 0.0 if softcap is None else softcap
    call.logit_scale = logit_scale
    call.threads = threads
    call.listen = True
    cdef int64_t* indices = <int64_t*>data(labels)
    cdef double* each = <double*>data(losses)
    with nogil:
        code = _core.losses_of_rows(&call, indices, grad_scale, each)
    answer(code)


def count_labels(cnp.ndarray labels, weight, sample_weight, Py_ssize_t classes, int64_t ignore_index):
    """The first row with a label that is no class, or -1; what a mean divides by."""
    cdef int dtype = FL_FLOAT32 if weight is None else dtype_of(weight)
    cdef fl_loss call = fl_loss_of(dtype, NULL, cnp.PyArray_SIZE(labels), classes)
    cdef int64_t* indices = <int64_t*>data(labels)
    cdef double total
    call.weight = data(weight)
    call.sample_weight = <double*>data(sample_weight)
    call.ignore_index = ignore_index
    with nogil:
        bad = _core.count_labels(&call, indices, &total)
    return bad, total
