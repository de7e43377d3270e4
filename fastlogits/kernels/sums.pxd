from fastlogits.kernels.machine cimport lanes, place, real
from fastlogits.kernels.records cimport Sweep

cdef inline lanes load_some(place* x, Py_ssize_t at, Py_ssize_t left) noexcept nogil
cdef inline void save_some(place* y, Py_ssize_t at, Py_ssize_t left, lanes v) noexcept nogil
cdef double maximum(place* x, Py_ssize_t at, Py_ssize_t n) noexcept nogil
cdef double minimum(place* x, Py_ssize_t at, Py_ssize_t n) noexcept nogil
cdef inline double extreme(place* x, Py_ssize_t at, Py_ssize_t n, double sign) noexcept nogil
cdef inline Sweep sweep_from(double peak, double scale, Py_ssize_t ahead, int keep, int moment) noexcept nogil
cdef inline (lanes, lanes) exp_run(place* x, Py_ssize_t at, Py_ssize_t n, Sweep sweep, real* out,
                                   Py_ssize_t out_at) noexcept nogil
cdef inline lanes moment_of(lanes d, lanes e, Sweep sweep) noexcept nogil
cdef inline (double, double) exp_sum(place* x, Py_ssize_t at, Py_ssize_t n, Sweep sweep, real* out,
                                     Py_ssize_t out_at) noexcept nogil
cdef double rest_of(real* exps, Py_ssize_t at, Py_ssize_t n) noexcept nogil
cdef inline lanes product(place* x, Py_ssize_t x_at, place* y, Py_ssize_t y_at, Py_ssize_t left,
                          bint times) noexcept nogil
cdef inline lanes sum_run(place* x, Py_ssize_t x_at, place* y, Py_ssize_t y_at, Py_ssize_t n, bint times) noexcept nogil
cdef inline double sum_of(place* x, Py_ssize_t x_at, place* y, Py_ssize_t y_at, Py_ssize_t n, bint times) noexcept nogil
cdef inline lanes lost_by(lanes total, lanes v) noexcept nogil
cdef inline double narrow_sum(place* x, Py_ssize_t x_at, place* y, Py_ssize_t y_at, Py_ssize_t n,
                              bint times) noexcept nogil
cdef double total(place* x, Py_ssize_t at, Py_ssize_t n) noexcept nogil
cdef double dot(place* x, Py_ssize_t x_at, place* y, Py_ssize_t y_at, Py_ssize_t n) noexcept nogil
cdef double maximum_or_nan(place* x, Py_ssize_t at, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t find(place* x, Py_ssize_t at, Py_ssize_t n, double value) noexcept nogil
cdef Py_ssize_t next_above(place* x, Py_ssize_t at, Py_ssize_t first, Py_ssize_t n, double limit) noexcept nogil
