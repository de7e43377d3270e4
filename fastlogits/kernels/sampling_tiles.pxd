from fastlogits.kernels.records cimport Task, Work

cdef void lane_masses(Py_ssize_t classes, Py_ssize_t n, Work* work) noexcept nogil
cdef void draw_lanes(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void sample_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
