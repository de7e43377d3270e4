"""The moments of rows at an inverse temperature, by the compiled kernels."""

from fastlogits.kernels cimport moments as text, softmax
from fastlogits.kernels.primitives cimport DISCARD

include "_run.pxi"


cdef void moments_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    text.moments_rows(<real*>c.x, c.x_stride, c.labels, <double*>c.y, c.rows, c.classes, c.scale, state, work,
                      c.storage, start, stop)


cdef void moments_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row, n
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        if c.labels[n] >= 0:
            text.reduce(<real*>c.x, n * c.x_stride, c.labels[n], c.classes, c.scale, row_state(c, row),
                        piece_first(c, item), piece_last(c, item), work, c.storage)


cdef void moments_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t row, n
    for row in range(start, stop):
        n = c.first_row + row
        if c.labels[n] < 0:
            text.write_zeros(<double*>c.y, n, c.rows)
        else:
            softmax.settle(<real*>c.x, n * c.x_stride, c.classes, c.scale, work, 0, DISCARD, row_state(c, row), work,
                           c.storage)
            text.finish(<real*>c.x, n * c.x_stride, c.labels[n], <double*>c.y, n, c.rows, c.classes,
                        c.scale, row_state(c, row), work, c.storage)


cdef void moments_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    text.moments_columns(<real*>c.x, c.x_stride, c.labels, <double*>c.y, c.rows * c.inner, c.classes, c.inner,
                         c.scale, state, work, c.storage, start, stop)


cdef void moments_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    text.moments_short(<real*>c.x, c.x_stride, c.labels, <double*>c.y, c.rows, c.classes, c.scale, state, work,
                       c.storage, start, stop)


cdef int moments_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>moments_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>moments_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>moments_rows, NULL, <chunk>moments_reduce, <chunk>moments_settle,
                    NULL, which, call, threads)


def moments(cnp.ndarray x, cnp.ndarray labels, cnp.ndarray results, Py_ssize_t outer, Py_ssize_t classes,
            Py_ssize_t inner, Py_ssize_t x_stride, double beta, int threads):
    cdef Call call = new_call(x, x_stride, outer, classes, inner)
    call.labels = <int64_t*>data(labels)
    call.y = data(results)
    call.scale = beta
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        moments_of(<double*>NULL, &call, threads)
    else:
        moments_of(<float*>NULL, &call, threads)
