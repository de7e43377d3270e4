from fastlogits.kernels.machine cimport place
from fastlogits.kernels.records cimport Task, Work

cdef inline double label_logit(Task* task, place* x, Py_ssize_t row, Py_ssize_t at, Py_ssize_t step) noexcept nogil
cdef double threshold(Task* task, Py_ssize_t row) noexcept nogil
cdef Py_ssize_t count_before(Task* task, Py_ssize_t row, Py_ssize_t start, Py_ssize_t size, double peak) noexcept nogil
cdef void reduce_stats(Task* task, Py_ssize_t row, Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef void sum_block(Task* task, Py_ssize_t row, Work* work, Py_ssize_t block) noexcept nogil
cdef Py_ssize_t lead(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef double merge_moments(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef double second_largest(Task* task, Py_ssize_t row, Py_ssize_t best, Py_ssize_t found, Work* work) noexcept nogil
cdef void finish_stats(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void deliver(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void stats_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_write(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
