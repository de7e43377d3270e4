"""filter_logits and sample, by the compiled kernels."""

from fastlogits.kernels cimport filters, sampling
from fastlogits.kernels.primitives cimport NEEDED, ROOM, RULES

include "_run.pxi"


ctypedef Py_ssize_t (*some_rows)(real* which, Call* call, double* scratch, Py_ssize_t start,
                                 Py_ssize_t stop) noexcept nogil


cdef void in_scratch(some_rows function, real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """All rows, in the calling thread's own memory; those for which it has no room in more."""
    cdef double* own = state_of(c)
    cdef double* larger
    cdef Py_ssize_t row
    own[ROOM] = <double>filters.room_of(c.classes)
    row = function(which, c, own, start, stop)
    while row < stop:
        larger = <double*>malloc(filters.size_of(<Py_ssize_t>own[NEEDED]) * sizeof(double))
        if larger == NULL:
            c.out_of_memory = True
            return
        larger[ROOM] = own[NEEDED]
        row = function(which, c, larger, row, row + 1)
        free(larger)
        row = function(which, c, own, row, stop)


cdef int run_in_scratch(chunk function, real* which, Call* call, int threads) except -1:
    call.out_of_memory = False
    run(function, which, call, call.rows, call.classes, threads)
    if call.out_of_memory:
        raise MemoryError
    return 0


cdef Call rules_call(cnp.ndarray x, Py_ssize_t x_stride, cnp.ndarray rules, Py_ssize_t rows, Py_ssize_t classes):
    cdef Call call = new_call(x, x_stride, rows, classes, 1)
    call.rules = <double*>data(rules)
    call.rules_stride = RULES if cnp.PyArray_DIM(rules, 0) > 1 else 0
    call.fields = filters.size_of(filters.room_of(classes))
    call.reals = 2 * BLOCK + LINE
    return call


cdef Py_ssize_t some_filtered(real* which, Call* c, double* scratch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    return filters.filter_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.rules, c.rules_stride, c.classes,
                               scratch, work_of(which, c), c.storage, start, stop)


cdef void filter_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    in_scratch(<some_rows>some_filtered, which, c, start, stop)


cdef int filter_of(real* which, Call* call, int threads) except -1:
    return run_in_scratch(<chunk>filter_rows, which, call, threads)


def filter_logits(cnp.ndarray x, cnp.ndarray y, cnp.ndarray rules, Py_ssize_t rows, Py_ssize_t classes,
                  Py_ssize_t x_stride, Py_ssize_t y_stride, int threads):
    cdef Call call = rules_call(x, x_stride, rules, rows, classes)
    call.y = data(y)
    call.y_stride = y_stride
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        filter_of(<double*>NULL, &call, threads)
    else:
        filter_of(<float*>NULL, &call, threads)


cdef Py_ssize_t some_drawn(real* which, Call* c, double* scratch, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    return sampling.sample_rows(<real*>c.x, c.x_stride, c.rules, c.rules_stride, c.labels, c.key_0, c.key_1, c.indices,
                                c.losses, c.classes, scratch, work_of(which, c), c.storage, start, stop)


cdef void sample_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    in_scratch(<some_rows>some_drawn, which, c, start, stop)


cdef int sample_of(real* which, Call* call, int threads) except -1:
    return run_in_scratch(<chunk>sample_rows, which, call, threads)


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
