from fastlogits.kernels.machine cimport place
from fastlogits.kernels.records cimport Kept, Task, Tile, Work

cdef void lane_peaks(Task* task, place* x, Tile tile, Work* work) noexcept nogil
cdef void lane_stats(Task* task, place* x, Tile tile, Kept kept, Work* work) noexcept nogil
cdef void settle_lanes(Task* task, place* x, Tile tile, Work* work) noexcept nogil
cdef inline bint all_plain(Py_ssize_t n, Work* work) noexcept nogil
cdef double nans_before(Task* task, place* x, Tile tile, Py_ssize_t j) noexcept nogil
cdef void lane_ranks(Task* task, place* x, Tile tile, Work* work) noexcept nogil
cdef void lane_margins(Task* task, place* x, Tile tile, Work* work) noexcept nogil
cdef void stats_tile(Task* task, place* x, Tile tile, Kept kept, Work* work) noexcept nogil
cdef void stats_columns(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void stats_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
