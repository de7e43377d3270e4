from fastlogits.kernels.machine cimport lanes, place, real

cdef double group_maxima(place* x, Py_ssize_t at, Py_ssize_t n, real* groups, Py_ssize_t to,
                         bint or_nan) noexcept nogil
cdef inline double grouped(place* x, Py_ssize_t at, Py_ssize_t n, real* groups, Py_ssize_t to,
                           bint or_nan) noexcept nogil
cdef Py_ssize_t how_many_above(place* x, Py_ssize_t at, Py_ssize_t n, double limit) noexcept nogil
cdef Py_ssize_t how_many_equal(place* x, Py_ssize_t at, Py_ssize_t n, double value) noexcept nogil
