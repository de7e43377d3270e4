from fastlogits.kernels.machine cimport place, real
from fastlogits.kernels.records cimport Blocks, Kept, Task, Work

cdef Py_ssize_t group_of(Py_ssize_t classes) noexcept nogil
cdef bint in_scratch(Py_ssize_t classes, int keep) noexcept nogil
cdef Kept kept_in(Task* task, Work* work, Py_ssize_t row) noexcept nogil
cdef void read_scales(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef inline double scale_at(double scale, Py_ssize_t j, Work* work) noexcept nogil
cdef void group_sums(place* x, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, double scale,
                     Kept kept, Work* work) noexcept nogil
cdef void group_peaks(place* x, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n,
                      Work* work) noexcept nogil
cdef void group_rests(place* x, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, double scale,
                      Kept kept, Work* work) noexcept nogil
cdef inline void group_exps(place* x, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, double scale,
                            Kept kept, Work* work) noexcept nogil
cdef inline double norm(Work* work, Py_ssize_t j) noexcept nogil
cdef void scale_row(real* exps, Py_ssize_t at, Py_ssize_t n, double factor, stored* y, Py_ssize_t y_at,
                    bint past) noexcept nogil
cdef void shift_row(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, double peak,
                    double log_sum) noexcept nogil
cdef void shift_far_row(Task* task, Py_ssize_t row, Py_ssize_t first, Py_ssize_t n, double peak,
                        double log_sum) noexcept nogil
cdef void reduce_blocks(Task* task, Py_ssize_t row, Kept kept, Work* work, Py_ssize_t first,
                        Py_ssize_t last) noexcept nogil
cdef double block_sum(place* x, Py_ssize_t at, Py_ssize_t size, double peak, double scale, Kept kept,
                      Py_ssize_t start) noexcept nogil
cdef Py_ssize_t merge(Py_ssize_t n, double scale, Blocks blocks, Work* work) noexcept nogil
cdef void settle_row(Task* task, Py_ssize_t row, Kept kept, Work* work) noexcept nogil
cdef void settle_sums(Task* task, Py_ssize_t row, place* x, Py_ssize_t at, double scale, Kept kept,
                      Work* work) noexcept nogil
cdef inline double rescale(double peak_of_row, double peak, double scale) noexcept nogil
cdef void write_blocks(Task* task, Py_ssize_t row, Kept kept, Work* work, Py_ssize_t first,
                       Py_ssize_t last) noexcept nogil
cdef void softmax_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void group_write(Task* task, Py_ssize_t row, Py_ssize_t n, Kept kept, Work* work) noexcept nogil
cdef void logsumexp_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void reduce_argmax(Task* task, Py_ssize_t row, Work* work, Py_ssize_t first, Py_ssize_t last) noexcept nogil
cdef void settle_argmax(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void argmax_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
