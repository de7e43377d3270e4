from fastlogits.kernels.records cimport Task, Work

cdef void blocks_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void merged_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void piece_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
