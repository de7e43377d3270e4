from fastlogits.kernels.machine cimport place
from fastlogits.kernels.records cimport Kept, Task, Work

cdef void tile_sums(place* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, double scale, Kept kept,
                    Work* work) noexcept nogil
cdef void softmax_tile(Task* task, place* x, Py_ssize_t at, place* y, Py_ssize_t y_at, Py_ssize_t step, Py_ssize_t n,
                       Work* work) noexcept nogil
cdef void lane_log_sums(Py_ssize_t n, Work* work) noexcept nogil
cdef void lane_shift(Task* task, place* x, Py_ssize_t at, place* y, Py_ssize_t y_at, Py_ssize_t step, Py_ssize_t n,
                     Work* work) noexcept nogil
cdef void lane_shift_far(Task* task, place* x, Py_ssize_t at, place* y, Py_ssize_t y_at, Py_ssize_t step, Py_ssize_t n,
                         Work* work) noexcept nogil
cdef inline void shifted_some(place* x, Py_ssize_t x_at, place* y, Py_ssize_t to, Py_ssize_t first, Py_ssize_t last,
                              double scale, Work* work) noexcept nogil
cdef void logsumexp_tile(Task* task, place* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t row, Py_ssize_t n,
                         Work* work) noexcept nogil
cdef void argmax_tile(Task* task, place* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t row, Py_ssize_t n,
                      Work* work) noexcept nogil
cdef (Py_ssize_t, Py_ssize_t, Py_ssize_t) tile_at(Task* task, Py_ssize_t item) noexcept nogil
cdef void softmax_columns(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void softmax_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void logsumexp_columns(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void logsumexp_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void argmax_columns(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void argmax_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
