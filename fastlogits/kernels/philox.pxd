from libc.stdint cimport int64_t

from fastlogits.kernels.records cimport Task, Work

cdef inline int64_t high_word(int64_t product, int64_t word) noexcept nogil
cdef inline int64_t low_word(int64_t product) noexcept nogil
cdef inline double uniform_of(int64_t word_0, int64_t word_1) noexcept nogil
cdef double uniform(int64_t key_0, int64_t key_1, int64_t row) noexcept nogil
cdef void lane_uniforms(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
