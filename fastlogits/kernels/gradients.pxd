from fastlogits.kernels.machine cimport lanes
from fastlogits.kernels.records cimport Task, Work

cdef Py_ssize_t gradient_group(Py_ssize_t classes) noexcept nogil
cdef void gradient_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef double row_total(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n) noexcept nogil
cdef void short_totals(Task* task, Py_ssize_t row, Py_ssize_t n, double* totals) noexcept nogil
cdef inline void some_totals(Task* task, Py_ssize_t row, Py_ssize_t n, double* totals, bint times) noexcept nogil
cdef inline lanes row_part(Task* task, Py_ssize_t row, bint times) noexcept nogil
cdef void short_slopes(Task* task, Py_ssize_t row, Py_ssize_t n, double* totals) noexcept nogil
cdef inline void some_slopes(Task* task, Py_ssize_t row, Py_ssize_t n, double* totals, bint log) noexcept nogil
cdef void row_slopes(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, double total,
                     Py_ssize_t ahead) noexcept nogil
cdef inline void slopes(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, lanes total, Py_ssize_t ahead,
                        bint log) noexcept nogil
cdef inline void end_slopes(Task* task, Py_ssize_t g_at, Py_ssize_t p_at, Py_ssize_t at, Py_ssize_t n, lanes total,
                            bint log) noexcept nogil
cdef inline lanes slope(lanes g, lanes p, lanes total, bint log) noexcept nogil
