cimport cython
from libc.stdint cimport int64_t
from fastlogits.kernels cimport primitives

cdef int64_t product_high(int64_t a, int64_t b) noexcept nogil

cdef int64_t product_low(int64_t a, int64_t b) noexcept nogil

@cython.locals(_=int, word_0=int64_t, word_1=int64_t, word_2=int64_t, word_3=int64_t, next_0=int64_t, next_2=int64_t)
cdef double uniform(int64_t key_0, int64_t key_1, int64_t row) noexcept nogil
