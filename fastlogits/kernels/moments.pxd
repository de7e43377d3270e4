from fastlogits.kernels.machine cimport lanes, place
from fastlogits.kernels.records cimport Kept, Sweep, Task, Tile, Work

cdef void reduce_moments(Task* task, Py_ssize_t row, Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef (double, double) spread_of(Task* task, Py_ssize_t row, Py_ssize_t start, Py_ssize_t size, double peak, double mean,
                                Work* work) noexcept nogil
cdef void settle_moments(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void finish_moments(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void no_moments(Task* task, Py_ssize_t row) noexcept nogil
cdef Kept block_kept(Task* task, Work* work) noexcept nogil
cdef void moments_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void moments_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void moments_settle(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef inline Sweep lane_sweep(Task* task, Py_ssize_t j, Py_ssize_t left, Work* work) noexcept nogil
cdef inline lanes lane_exp(place* x, Py_ssize_t at, Py_ssize_t left, Sweep sweep, Kept kept,
                           Py_ssize_t kept_at) noexcept nogil
cdef void lane_means(Task* task, place* x, Tile tile, Py_ssize_t count, Kept kept, Work* work) noexcept nogil
cdef void tile_means(Task* task, place* x, Tile tile, Kept kept, Work* work) noexcept nogil
cdef void lane_spreads(Task* task, place* x, Tile tile, Py_ssize_t count, Kept kept, Work* work) noexcept nogil
cdef void moments_tile(Task* task, place* x, Tile tile, Kept kept, Work* work) noexcept nogil
cdef void moments_columns(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void moments_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
