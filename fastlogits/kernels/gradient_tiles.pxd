from fastlogits.kernels.machine cimport place
from fastlogits.kernels.records cimport Task, Tile, Work

cdef inline void lane_totals(place* g, place* p, Tile tile, Py_ssize_t first, Py_ssize_t count, Work* work,
                             bint times) noexcept nogil
cdef void gradient_tile(Task* task, place* g, place* p, place* z, Tile tile, Work* work) noexcept nogil
cdef void look_at_tile(Task* task, place* g, place* p, Tile tile, Work* work) noexcept nogil
cdef void look_at_lanes(Task* task, place* g, place* p, Tile tile, Py_ssize_t first, Work* work) noexcept nogil
cdef void led_slopes_of_tile(Task* task, place* g, place* p, place* z, Tile tile, Work* work) noexcept nogil
cdef inline void lane_slopes(Task* task, place* g, place* p, place* z, Tile tile, Work* work, bint log) noexcept nogil
cdef void slopes_some(Task* task, place* g, place* p, place* z, Tile tile, Py_ssize_t first, Work* work) noexcept nogil
cdef void gradient_columns(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void gradient_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
