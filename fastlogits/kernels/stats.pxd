from fastlogits.kernels.records cimport Task, Work

cdef void pick_label(Task* task, Py_ssize_t row) noexcept nogil
cdef void reduce_stats(Task* task, Py_ssize_t row, Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef void sum_block(Task* task, Py_ssize_t row, Work* work, Py_ssize_t block) noexcept nogil
cdef Py_ssize_t lead(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef double merge_moments(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef double second_largest(Task* task, Py_ssize_t row, Py_ssize_t best, Py_ssize_t found, Work* work) noexcept nogil
cdef void finish_stats(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void stats_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_pick(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_write(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
