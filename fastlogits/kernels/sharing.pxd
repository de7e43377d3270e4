from fastlogits.kernels.records cimport Task, Work

cdef Py_ssize_t pieces_of(Task* task) noexcept nogil
cdef (Py_ssize_t, Py_ssize_t, Py_ssize_t) piece_at(Task* task, Py_ssize_t item) noexcept nogil
cdef double* numbers_of(Task* task, Work* work, Py_ssize_t row) noexcept nogil
cdef void park(Task* task, Work* work, Py_ssize_t row) noexcept nogil
cdef void resume(Task* task, Work* work, Py_ssize_t row) noexcept nogil
cdef double blocks_total(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef void softmax_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void softmax_settle(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void softmax_write(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void logsumexp_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void logsumexp_settle(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void argmax_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void argmax_settle(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void gradient_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void gradient_settle(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void gradient_write(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void loss_pick(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void loss_reduce(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void loss_settle(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
cdef void loss_write(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
