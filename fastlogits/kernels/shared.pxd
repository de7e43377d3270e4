from fastlogits.kernels.machine cimport real
from fastlogits.kernels.records cimport Blocks, Task, Work

cdef inline Py_ssize_t blocks_of(Py_ssize_t classes) noexcept nogil
cdef inline double row_scale(Task* task, Py_ssize_t row) noexcept nogil
cdef inline Py_ssize_t padded(Py_ssize_t classes) noexcept nogil
cdef Py_ssize_t row_fields(Py_ssize_t classes) noexcept nogil
cdef double* row_memory(Task* task, Work* work, Py_ssize_t row) noexcept nogil
cdef Blocks row_blocks(Task* task, Work* work, Py_ssize_t row) noexcept nogil
cdef real* row_kept(Task* task, Work* work, Py_ssize_t row) noexcept nogil
