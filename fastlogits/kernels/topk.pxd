from fastlogits.kernels.machine cimport real
from fastlogits.kernels.records cimport Task, Work

cdef Py_ssize_t count_candidates(Task* task, Py_ssize_t row, Py_ssize_t n, double limit, Work* work) noexcept nogil
cdef double bound(Task* task, Py_ssize_t row, Py_ssize_t n, double peak, Work* work) noexcept nogil
cdef inline bint comes_after(real value, Py_ssize_t index, real other, Py_ssize_t other_index) noexcept nogil
cdef void sift(Task* task, Py_ssize_t at, Py_ssize_t n, real value, Py_ssize_t index) noexcept nogil
cdef void sort_heap(Task* task, Py_ssize_t at, Py_ssize_t n) noexcept nogil
cdef void push(Task* task, Py_ssize_t at, Py_ssize_t n, real value, Py_ssize_t index) noexcept nogil
cdef bint fit_lists(Task* task) noexcept nogil
cdef double limit_of(Task* task, Py_ssize_t row, Work* work) noexcept nogil
cdef Py_ssize_t group_step(Task* task) noexcept nogil
cdef Py_ssize_t select(Task* task, Py_ssize_t row, Py_ssize_t waiting, Work* work) noexcept nogil
cdef bint collect(Task* task, Py_ssize_t row, double limit, Py_ssize_t lane, Work* work) noexcept nogil
cdef void list_waiting(Task* task, Py_ssize_t waiting, Work* work) noexcept nogil
cdef void select_heap(Task* task, Py_ssize_t row, double limit, Work* work) noexcept nogil
