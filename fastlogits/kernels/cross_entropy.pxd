from fastlogits.kernels.machine cimport lanes, place, real, stored
from fastlogits.kernels.records cimport Kept, Task, Work

cdef inline lanes masses_of(Task* task, Py_ssize_t at, Py_ssize_t c, Py_ssize_t left) noexcept nogil
cdef (double, double) gap_sum(Task* task, place* z, Py_ssize_t at, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n,
                              double peak) noexcept nogil
cdef inline (double, double) gap_of_parts(Task* task, place* z, Py_ssize_t at, Py_ssize_t row, Py_ssize_t first,
                                          Py_ssize_t n, double peak, double part) noexcept nogil
cdef void look_at_top(Task* task, Py_ssize_t row, Py_ssize_t top, Py_ssize_t first, Py_ssize_t n, Py_ssize_t j,
                      Work* work) noexcept nogil
cdef double mass_sum(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef inline void boost_exps(real* exps, Py_ssize_t at, Py_ssize_t n, double boost) noexcept nogil
cdef void write_gradient(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, real* exps, Py_ssize_t at,
                         double factor, double counter) noexcept nogil
cdef void write_target(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, Py_ssize_t j,
                       Work* work) noexcept nogil
cdef void write_top(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, Py_ssize_t j,
                    Work* work) noexcept nogil
cdef void write_zeros(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n) noexcept nogil
cdef void group_loss(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void group_tops(Task* task, Py_ssize_t row, Py_ssize_t n, Kept kept, Work* work) noexcept nogil
cdef void bent_sums(Task* task, place* z, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t row, Py_ssize_t n, Kept kept,
                    Work* work) noexcept nogil
cdef void reduce_loss(Task* task, Py_ssize_t row, Kept kept, Work* work, Py_ssize_t first,
                      Py_ssize_t last) noexcept nogil
cdef void reduce_block(Task* task, place* z, Py_ssize_t at, Py_ssize_t row, Py_ssize_t block, Py_ssize_t size,
                       Kept kept, Work* work) noexcept nogil
cdef void settle_loss(Task* task, Py_ssize_t row, Kept kept, Work* work) noexcept nogil
cdef void settle_top(Task* task, Py_ssize_t row, Py_ssize_t block, Kept kept, Work* work) noexcept nogil
cdef void block_exps(Task* task, Py_ssize_t row, Py_ssize_t start, Py_ssize_t size, double peak,
                     Work* work) noexcept nogil
cdef void write_loss(Task* task, Py_ssize_t row, Kept kept, Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef void loss_row(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void loss_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
