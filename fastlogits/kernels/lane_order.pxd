from fastlogits.kernels.machine cimport lanes, place, real
from fastlogits.kernels.records cimport Task, Tile, Work

cdef void lane_seconds(place* x, Tile tile, Py_ssize_t count, Work* work) noexcept nogil
cdef void lane_before(Task* task, place* x, Tile tile, Py_ssize_t first, Py_ssize_t count, Work* work) noexcept nogil
cdef inline void lane_counts(place* x, Tile tile, Py_ssize_t count, Work* work, bint ties) noexcept nogil
cdef void lane_top(Task* task, place* x, Tile tile, Work* work) noexcept nogil
cdef bint insert_lanes(place* x, Tile tile, Py_ssize_t classes, Py_ssize_t k, Py_ssize_t j, Work* work) noexcept nogil
cdef void insert_numbers(place* x, Tile tile, Py_ssize_t classes, Py_ssize_t k, Py_ssize_t j, Work* work) noexcept nogil
