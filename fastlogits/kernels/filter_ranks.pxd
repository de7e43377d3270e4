from fastlogits.kernels.records cimport Work

cdef int some_lane(double* x, Py_ssize_t n, double low, double high) noexcept nogil
cdef void largest_lanes(Py_ssize_t classes, Py_ssize_t n, Py_ssize_t count, Work* work) noexcept nogil
cdef void sort_lanes(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef inline void order_lanes(Py_ssize_t n, Py_ssize_t at, Py_ssize_t other, Work* work) noexcept nogil
cdef void count_ranked(Py_ssize_t classes, Py_ssize_t n, double* ranks, Work* work) noexcept nogil
cdef void cut(Py_ssize_t n, double* counts, Py_ssize_t rule, double off, Work* work) noexcept nogil
cdef void ranked_totals(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void ranked_top_p(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void count_probable(Py_ssize_t classes, Py_ssize_t n, double* cutoffs, double* counts, Work* work) noexcept nogil
cdef void ranked_cutoff(Py_ssize_t classes, Py_ssize_t n, Py_ssize_t rule, Work* work) noexcept nogil
cdef void eta_cutoffs(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void drop_unranked(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void count_beside(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void drop_smaller(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void ranked_filters(Py_ssize_t classes, Py_ssize_t n, bint early, bint late, Work* work) noexcept nogil
cdef void top_k_tile(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
