# What the callers of the compiled text share.
cimport numpy as cnp

from fastlogits.backends._team cimport part_of_job

include "task.pxi"

# The beginning of a thread's scratch memory, see records.pxd
cdef struct Memory:
    double* blocks
    void* row
    double* survivors
    Py_ssize_t room
    Py_ssize_t needed
    Py_ssize_t reached

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
    cdef Ways softmax, logsumexp, argmax, gradient, loss, count, blocks, merged, piece, moments, stats, filter, sample
    cdef size_t work
    cdef int itemsize
    cdef bint halves

# A share of the work: `parts` parts of the items from `start` on
cdef struct Job:
    kernel function
    Task* task
    size_t work
    Py_ssize_t row_fields, start, size, parts
    Py_ssize_t room     # for the survivors of the filters
    bint out_of_memory

cdef Unit unit_of(cnp.ndarray array)
cdef int way_of(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, int threads) noexcept nogil
cdef Task new_task(cnp.ndarray x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner) noexcept
cdef void* data(object array) noexcept
cdef int run(kernel function, Unit unit, Task* task, Py_ssize_t items, Py_ssize_t logits, int threads) except -1
cdef int run_way(Ways* ways, int way, Unit unit, Task* task, int threads) except -1
cdef Job new_job(kernel function, Unit unit, Task* task) noexcept
cdef int run_job(part_of_job part, Job* job, Py_ssize_t items, Py_ssize_t logits, int threads, size_t size) except -1
cdef Py_ssize_t room_of(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t field_of(Py_ssize_t room) noexcept nogil
cdef Py_ssize_t few_lanes(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t few_items(Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner) noexcept nogil

# The operations that plain calls take, too: see _plain.pyx
cpdef softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
              Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads)
cpdef log_softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                  Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads)
cpdef logsumexp(cnp.ndarray x, cnp.ndarray lse, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                Py_ssize_t x_stride, int threads)
cpdef argmax(cnp.ndarray x, cnp.ndarray indices, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
             Py_ssize_t x_stride, int threads)
cpdef softmax_backward(cnp.ndarray g, cnp.ndarray p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                       Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t p_stride, Py_ssize_t out_stride, int threads)
cpdef log_softmax_backward(cnp.ndarray g, cnp.ndarray log_p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                           Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t log_p_stride, Py_ssize_t out_stride,
                           int threads)
cdef int loss_of(cnp.ndarray x, Task* task, double logit_scale, double grad_scale, int threads) except -1
cdef Py_ssize_t counted(cnp.ndarray labels, weight, sample_weight, Py_ssize_t classes, int64_t ignore_index,
                        double* total) except -2
