from fastlogits.kernels.machine cimport lanes, other_place, place, real
from fastlogits.kernels.records cimport Kept, Task, Tile, Work

cdef inline lanes class_mass(Task* task, other_place* targets, Py_ssize_t at, Py_ssize_t c,
                             Py_ssize_t left) noexcept nogil
cdef void lane_gaps(Task* task, place* z, other_place* targets, Tile tile, Py_ssize_t first, Py_ssize_t count,
                    Work* work) noexcept nogil
cdef void add_far_gaps(Task* task, place* z, other_place* targets, Tile tile, Py_ssize_t first, Py_ssize_t count,
                       Py_ssize_t j, Work* work) noexcept nogil
cdef void bend_classes(Task* task, place* x, Tile tile, Py_ssize_t first, Py_ssize_t count, Work* work) noexcept nogil
cdef void loss_sums(Task* task, place* x, other_place* targets, Tile tile, Kept kept, Work* work) noexcept nogil
cdef inline Tile chunk_of(Tile tile, Py_ssize_t at, Py_ssize_t step) noexcept nogil
cdef void add_classes(Task* task, place* z, other_place* targets, Tile tile, Py_ssize_t first, Py_ssize_t count,
                      Kept kept, Work* work) noexcept nogil
cdef Kept kept_of(Task* task, place* y, Tile tile, Work* work) noexcept nogil
cdef void loss_tile(Task* task, place* x, place* y, other_place* targets, Tile tile, Work* work) noexcept nogil
cdef void tile_tops(Task* task, place* x, other_place* targets, Tile tile, Kept kept, Work* work) noexcept nogil
cdef void lane_tops(Task* task, place* x, other_place* targets, Tile tile, Py_ssize_t first, Work* work) noexcept nogil
cdef void boost_lanes(real* exps, Py_ssize_t at, Py_ssize_t n, Work* work) noexcept nogil
cdef void write_classes(Task* task, place* x, place* y, other_place* targets, Tile tile, Kept kept,
                        Work* work) noexcept nogil
cdef void class_exps(Task* task, place* x, Tile tile, Py_ssize_t c, Work* work) noexcept nogil
cdef void write_class(Task* task, place* x, place* y, other_place* targets, Tile tile, Py_ssize_t c, Kept kept,
                      Work* work) noexcept nogil
cdef void loss_columns(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void loss_short(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
