from fastlogits.kernels.machine cimport lanes, place, real, stored
from fastlogits.kernels.records cimport Task, Work

cdef inline double label_logit(Task* task, place* x, Py_ssize_t row, Py_ssize_t at, Py_ssize_t step) noexcept nogil
cdef double threshold(Task* task, Py_ssize_t row) noexcept nogil
cdef double picked(Task* task, Py_ssize_t row) noexcept nogil
cdef inline double add_bias(stored* x, Py_ssize_t at, real* bias, Py_ssize_t bias_at, Py_ssize_t n, double scale,
                            real* to, bint careful) noexcept nogil
cdef inline lanes biased(lanes x, lanes bias, lanes rate, bint careful) noexcept nogil
cdef double bias_block(Task* task, Py_ssize_t row, Py_ssize_t block, real* to, bint careful) noexcept nogil
cdef void reduce_biased(Task* task, Py_ssize_t row, Py_ssize_t block, real* to, Work* work) noexcept nogil
cdef void reduce_stats(Task* task, Py_ssize_t row, Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef void rank_block(Task* task, place* x, Py_ssize_t at, Py_ssize_t row, Py_ssize_t block, Work* work) noexcept nogil
cdef Py_ssize_t count_before(place* x, Py_ssize_t at, Py_ssize_t size, Py_ssize_t before, double peak,
                             double limit) noexcept nogil
cdef void sum_block(Task* task, place* x, Py_ssize_t at, Py_ssize_t row, Py_ssize_t block, Work* work) noexcept nogil
cdef double sum_scale(Task* task, Py_ssize_t row) noexcept nogil
cdef Py_ssize_t lead(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef double merge_moments(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef double second_largest(Task* task, place* x, Py_ssize_t at, Py_ssize_t row, Py_ssize_t best, Py_ssize_t found,
                           Work* work) noexcept nogil
cdef void finish_stats(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void finish_row(Task* task, place* x, Py_ssize_t at, Py_ssize_t row, Py_ssize_t best, Work* work) noexcept nogil
cdef void deliver(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void stats_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_write(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
