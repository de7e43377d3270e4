from fastlogits.kernels.machine cimport lanes
from fastlogits.kernels.records cimport Task, Work

cdef Py_ssize_t gradient_group(Py_ssize_t classes) noexcept nogil
cdef void gradient_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void group_gradient(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void group_slopes(Task* task, Py_ssize_t row, Py_ssize_t n, Py_ssize_t ahead, double* totals) noexcept nogil
cdef inline double limit(Task* task) noexcept nogil
cdef double largest_prob(Task* task, Py_ssize_t row, Py_ssize_t n) noexcept nogil
cdef void find_dominated(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void reduce_gradient(Task* task, Py_ssize_t row, Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef void settle_gradient(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef Py_ssize_t dominating(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n) noexcept nogil
cdef void look_again(Task* task, Py_ssize_t row, Py_ssize_t j, Work* work) noexcept nogil
cdef inline bint nearly_lost(double own, double prob, bint log, double total) noexcept nogil
cdef void settle_again(Task* task, double own, double prob, double grads, double probs, Py_ssize_t top, Py_ssize_t j,
                       Work* work) noexcept nogil
cdef (double, double) others_of(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t last,
                                double lead) noexcept nogil
cdef void write_slopes(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, Py_ssize_t j, Py_ssize_t ahead,
                       Work* work) noexcept nogil
cdef void put_top(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, Py_ssize_t j, Work* work) noexcept nogil
cdef void led_slopes(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, double lead,
                     double total) noexcept nogil
cdef (double, Py_ssize_t) row_total(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n) noexcept nogil
cdef inline (double, Py_ssize_t) some_total(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n,
                                            bint times) noexcept nogil
cdef void short_totals(Task* task, Py_ssize_t row, Py_ssize_t n, double* totals) noexcept nogil
cdef inline void some_totals(Task* task, Py_ssize_t row, Py_ssize_t n, double* totals, bint times) noexcept nogil
cdef inline lanes row_part(Task* task, Py_ssize_t row, bint times) noexcept nogil
cdef void row_slopes(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, double total,
                     Py_ssize_t ahead) noexcept nogil
cdef inline void slopes(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, lanes total, Py_ssize_t ahead,
                        bint log) noexcept nogil
cdef inline void end_slopes(Task* task, Py_ssize_t g_at, Py_ssize_t p_at, Py_ssize_t at, Py_ssize_t n, lanes total,
                            bint log) noexcept nogil
cdef inline lanes slope(lanes g, lanes p, lanes total, bint log) noexcept nogil
