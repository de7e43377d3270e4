from libc.stdint cimport int64_t

cdef inline int64_t product_high(int64_t a, int64_t b) noexcept nogil
cdef inline int64_t product_low(int64_t a, int64_t b) noexcept nogil
cdef inline double uniform(int64_t key_0, int64_t key_1, int64_t row) noexcept nogil
