from fastlogits.kernels.machine cimport lanes, place, real
from fastlogits.kernels.records cimport Task, Work

cdef void read_labels(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void bend(Task* task, place* x, Py_ssize_t at, Py_ssize_t n, real* z, Py_ssize_t to) noexcept nogil
cdef inline lanes bent_slope(Task* task, lanes v, lanes x) noexcept nogil
cdef void pick(Task* task, place* x, Py_ssize_t at, Py_ssize_t apart, Py_ssize_t step, Py_ssize_t n,
               Work* work) noexcept nogil
cdef void pick_bent(Task* task, double logit, Py_ssize_t j, Work* work) noexcept nogil
cdef void finish(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void gradient_factors(Py_ssize_t n, double scale, double z_loss, double grad_scale, Work* work) noexcept nogil
cdef void log_norms(Py_ssize_t n, Work* work) noexcept nogil
cdef void count_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
