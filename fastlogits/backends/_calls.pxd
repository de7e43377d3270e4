# What the callers of the compiled text share.
cimport numpy as cnp

include "task.pxi"

# The beginning of a thread's scratch memory, see records.pxd
cdef struct Memory:
    double* blocks
    void* row

ctypedef void (*kernel)(Task* task, Memory* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

# The kernels of an operation for each way; what it lacks is NULL.
cdef struct Ways:
    kernel rows
    kernel short
    kernel columns
    kernel pick
    kernel reduce
    kernel settle
    kernel write

cdef class Unit:
    cdef Ways softmax, logsumexp, argmax, gradient, loss, count, blocks, merged, piece, moments, stats
    cdef size_t work
    cdef int itemsize
    cdef bint halves

cdef Unit unit_of(cnp.ndarray array)
cdef int way_of(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, int threads) noexcept nogil
cdef Task new_task(cnp.ndarray x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner) noexcept
cdef void* data(object array) noexcept
cdef int run(kernel function, Unit unit, Task* task, Py_ssize_t items, Py_ssize_t logits, int threads) except -1
cdef int run_way(Ways* ways, int way, Unit unit, Task* task, int threads) except -1
