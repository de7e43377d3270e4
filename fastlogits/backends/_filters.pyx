"""filter_logits and sample, by the compiled kernels."""

from fastlogits.kernels cimport filters, sampling
from fastlogits.kernels.primitives cimport BUCKETS, RULES, SECTIONS

include "_run.pxi"


cdef Call rules_call(cnp.ndarray x, Py_ssize_t x_stride, cnp.ndarray rules, Py_ssize_t rows, Py_ssize_t classes):
    cdef Call call = new_call(x, x_stride, rows, classes, 1)
    call.rules = <double*>data(rules)
    call.rules_stride = RULES if cnp.PyArray_DIM(rules, 0) > 1 else 0
    call.fields = SECTIONS * max(classes, BUCKETS)
    call.reals = 2 * BLOCK + LINE
    return call


cdef void filter_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    filters.filter_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.rules, c.rules_stride, c.classes,
                        state_of(c), work, c.storage, start, stop)


cdef int filter_of(real* which, Call* call, int threads) except -1:
    return run(<chunk>filter_rows, which, call, call.rows, call.classes, threads)


def filter_logits(cnp.ndarray x, cnp.ndarray y, cnp.ndarray rules, Py_ssize_t rows, Py_ssize_t classes,
                  Py_ssize_t x_stride, Py_ssize_t y_stride, int threads):
    cdef Call call = rules_call(x, x_stride, rules, rows, classes)
    call.y = data(y)
    call.y_stride = y_stride
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        filter_of(<double*>NULL, &call, threads)
    else:
        filter_of(<float*>NULL, &call, threads)


cdef void sample_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    sampling.sample_rows(<real*>c.x, c.x_stride, c.rules, c.rules_stride, c.labels, c.key_0, c.key_1, c.indices,
                         c.losses, c.classes, state_of(c), work, c.storage, start, stop)


cdef int sample_of(real* which, Call* call, int threads) except -1:
    return run(<chunk>sample_rows, which, call, call.rows, call.classes, threads)


def sample(cnp.ndarray x, cnp.ndarray rules, cnp.ndarray numbers, int64_t key_0, int64_t key_1, cnp.ndarray ids,
           cnp.ndarray log_probs, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t x_stride, int threads):
    cdef Call call = rules_call(x, x_stride, rules, rows, classes)
    call.labels = <int64_t*>data(numbers)
    call.key_0 = key_0
    call.key_1 = key_1
    call.indices = <Py_ssize_t*>data(ids)
    call.losses = <double*>data(log_probs)
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        sample_of(<double*>NULL, &call, threads)
    else:
        sample_of(<float*>NULL, &call, threads)
