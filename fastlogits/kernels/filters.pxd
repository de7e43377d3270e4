from fastlogits.kernels.machine cimport stored
from fastlogits.kernels.records cimport Survivors, Task, Work

cdef Survivors survivors_of(Work* work) noexcept nogil
cdef void scaled_logits(Task* task, Py_ssize_t at, Py_ssize_t n, double temperature, Work* work) noexcept nogil
cdef double span_peaks(Task* task, Py_ssize_t at, double temperature, Survivors survivors) noexcept nogil
cdef double row_mass(Task* task, Py_ssize_t at, double temperature, double peak, Survivors survivors,
                     Work* work) noexcept nogil
cdef double row_mean(Task* task, Py_ssize_t at, double temperature, double peak, double total, Survivors survivors,
                     Work* work) noexcept nogil
cdef double least_mass(Py_ssize_t classes, double rest, double total, Survivors survivors) noexcept nogil
cdef Py_ssize_t gather_survivors(Task* task, Py_ssize_t at, double temperature, double bound, Survivors survivors,
                       Work* work) noexcept nogil
cdef Py_ssize_t peaks_of_lanes(Task* task, Py_ssize_t at, double temperature, Survivors survivors,
                               Work* work) noexcept nogil
cdef Py_ssize_t keep_top_p(Py_ssize_t n, double top_p, double total, Py_ssize_t min_keep,
                           Survivors survivors) noexcept nogil
cdef Py_ssize_t keep_probable(Py_ssize_t n, double cutoff, double total, int ties, Py_ssize_t min_keep,
                              Survivors survivors) noexcept nogil
cdef double mean(Py_ssize_t n, double peak, double total, Survivors survivors) noexcept nogil
cdef Py_ssize_t keep_typical(Py_ssize_t n, double typical_p, double peak, double center, double total,
                             Py_ssize_t min_keep, Survivors survivors) noexcept nogil
cdef double eta_cutoff(double eta, double center, double total) noexcept nogil
cdef double first_bound(Task* task, Py_ssize_t at, double* rules, double peak, double total, double center,
                        Survivors survivors, Work* work) noexcept nogil
cdef Py_ssize_t filter_row(Task* task, Py_ssize_t at, double* rules, Survivors survivors, Work* work) noexcept nogil
cdef bint unfiltered(double* rules, Py_ssize_t classes) noexcept nogil
cdef void fill(stored* y, Py_ssize_t at, Py_ssize_t n, double value) noexcept nogil
cdef void divide_row(Task* task, Py_ssize_t row, double temperature, Survivors survivors, Work* work) noexcept nogil
cdef void filter_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
