from fastlogits.kernels.machine cimport lanes, place, real
from fastlogits.kernels.records cimport Lists, Task, Tile, Work

cdef void lane_seconds(place* x, Tile tile, Py_ssize_t count, Work* work) noexcept nogil
cdef void lane_before(Task* task, place* x, Tile tile, Py_ssize_t first, Py_ssize_t count, Work* work) noexcept nogil
cdef inline void lane_counts(place* x, Tile tile, Py_ssize_t count, Work* work, bint ties) noexcept nogil
cdef void lane_top(Task* task, place* x, Tile tile, Work* work) noexcept nogil
cdef void write_list(Task* task, Py_ssize_t row, Py_ssize_t lane, Lists lists) noexcept nogil
cdef inline bint insert_lanes(place* x, Tile tile, Py_ssize_t count, Lists lists, bint numbered) noexcept nogil
cdef void insert_numbers(place* x, Tile tile, Py_ssize_t count, Lists lists) noexcept nogil
