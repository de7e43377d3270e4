from fastlogits.kernels.records cimport Survivors

cdef inline double distance(double key, double high, double unit, double rate) noexcept nogil
cdef inline Py_ssize_t bucket(double key, double high, double unit, double rate, Py_ssize_t last) noexcept nogil
cdef inline double unit_of(double span) noexcept nogil
cdef (double, double, double) select_key(double* key, double* mass, Py_ssize_t n, double total, double rest,
                                     Survivors survivors) noexcept nogil
cdef double nth(double* key, Py_ssize_t n, Py_ssize_t count, Survivors survivors) noexcept nogil
cdef Py_ssize_t count_at(double* key, Py_ssize_t n, double threshold) noexcept nogil
cdef Py_ssize_t keep(double* key, Py_ssize_t n, double threshold, Py_ssize_t first, Py_ssize_t last, int ties,
                     Py_ssize_t min_keep, Survivors survivors) noexcept nogil
