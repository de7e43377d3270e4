from fastlogits.kernels.machine cimport real

cdef double real_exps(real* z, Py_ssize_t n, double peak, double* mass) noexcept nogil
cdef double exps_of(double* z, Py_ssize_t n, double peak, double* mass) noexcept nogil
cdef double total_of(double* x, Py_ssize_t n) noexcept nogil
cdef double total_from(double* key, double* x, Py_ssize_t n, double limit, double* part) noexcept nogil
cdef double largest_of(double* x, Py_ssize_t n, double sign) noexcept nogil
cdef Py_ssize_t count_from(double* x, Py_ssize_t n, double limit) noexcept nogil
cdef Py_ssize_t place_of(double* x, Py_ssize_t n, double value) noexcept nogil
