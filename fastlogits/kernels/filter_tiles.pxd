from fastlogits.kernels.records cimport Task, Work

cdef void read_rules(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void load_tile(Task* task, Py_ssize_t outer, Py_ssize_t first, Py_ssize_t n, Work* work) noexcept nogil
cdef void tile_peaks(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void min_p_tile(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void typical_tile(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef double reach_out(Py_ssize_t n, Py_ssize_t j, Work* work) noexcept nogil
cdef void keep_nearest(Py_ssize_t classes, Py_ssize_t n, Py_ssize_t j, Work* work) noexcept nogil
cdef void filter_tile(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef (Py_ssize_t, Py_ssize_t, Py_ssize_t) few_at(Task* task, Py_ssize_t item) noexcept nogil
cdef void filter_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void store_tile(Task* task, Py_ssize_t outer, Py_ssize_t first, Py_ssize_t n, Work* work) noexcept nogil
