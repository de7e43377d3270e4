from fastlogits.kernels.machine cimport lanes, place, real
from fastlogits.kernels.records cimport Task, Work

cdef inline lanes mass_lanes(Task* task, place* targets, Py_ssize_t at, lanes weight, Py_ssize_t left) noexcept nogil
cdef void read_labels(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void bend(Task* task, place* x, Py_ssize_t at, Py_ssize_t n, real* z, Py_ssize_t to) noexcept nogil
cdef inline lanes bent_slope(Task* task, lanes v, lanes x) noexcept nogil
cdef void pick(Task* task, place* x, Py_ssize_t at, Py_ssize_t apart, Py_ssize_t step, Py_ssize_t n,
               Work* work) noexcept nogil
cdef void pick_bent(Task* task, double logit, Py_ssize_t j, Work* work) noexcept nogil
cdef double cap_slope(Task* task, double logit) noexcept nogil
cdef inline double gap_part() noexcept nogil
cdef void finish(Task* task, Py_ssize_t row, Py_ssize_t n, Work* work) noexcept nogil
cdef void gradient_factors(Py_ssize_t n, double scale, double z_loss, double grad_scale, Work* work) noexcept nogil
cdef inline double norm_of(double peak, double rest) noexcept nogil
cdef void boost_factors(Py_ssize_t n, double scale, double z_loss, Work* work) noexcept nogil
cdef inline bint may_dominate(Task* task) noexcept nogil
cdef inline bint nearly_even(double mass, double own, double rest) noexcept nogil
cdef void top_gradients(Py_ssize_t n, double scale, double z_loss, Work* work) noexcept nogil
cdef void log_norms(Py_ssize_t n, Work* work) noexcept nogil
cdef void count_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
