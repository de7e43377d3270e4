from fastlogits.kernels.records cimport Task, Work

cdef Py_ssize_t gather(Task* task, Py_ssize_t row, double limit, double* memory, Py_ssize_t values,
                       Work* work) noexcept nogil
cdef void deal(double* memory, Py_ssize_t n, Py_ssize_t classes, Py_ssize_t values, Py_ssize_t dealt,
               int place) noexcept nogil
cdef void select_sorted(Task* task, Py_ssize_t row, double limit, Work* work) noexcept nogil
