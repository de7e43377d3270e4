from fastlogits.kernels.machine cimport lanes, place, real, stored
from fastlogits.kernels.records cimport Kept, Sweep, Task, Work

cdef void to_lanes(place* x, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n,
                   real* lanes) noexcept nogil
cdef void to_rows(real* lanes, Py_ssize_t classes, Py_ssize_t n, place* y, Py_ssize_t at,
                  Py_ssize_t stride) noexcept nogil
cdef void start_peaks(Py_ssize_t n, Work* work) noexcept nogil
cdef void lane_maxima(place* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n,
                      Work* work) noexcept nogil
cdef void start_sums(Py_ssize_t n, Work* work) noexcept nogil
cdef void lane_scales(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef inline lanes exp_rates(double scale, Py_ssize_t j, Py_ssize_t left, Work* work) noexcept nogil
cdef inline lanes exp_floors(double scale, Py_ssize_t j, Py_ssize_t left, Work* work) noexcept nogil
cdef inline lanes lane_times(double scale, Py_ssize_t j, Py_ssize_t left, Work* work) noexcept nogil
cdef void lane_exps(place* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, double scale, Kept kept,
                    Work* work) noexcept nogil
cdef inline (lanes, lanes) vector_exps(place* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t left,
                                       Sweep sweep, Kept kept) noexcept nogil
cdef void finish_sums(Py_ssize_t n, Work* work) noexcept nogil
cdef void lane_scale(Kept kept, Py_ssize_t classes, Py_ssize_t n, real* factors, place* y, Py_ssize_t at,
                     Py_ssize_t step, bint past) noexcept nogil
cdef inline void scaled_some(real* exps, Py_ssize_t exps_at, real* factors, Py_ssize_t first, Py_ssize_t last,
                             place* y, Py_ssize_t y_at) noexcept nogil
cdef inline lanes scaled(lanes e, lanes by) noexcept nogil
cdef void lane_argmax(place* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, Py_ssize_t first,
                      Work* work) noexcept nogil
