from fastlogits.kernels.machine cimport real
from fastlogits.kernels.records cimport Survivors, Task, Work

cdef (Py_ssize_t, double) reach(double* mass, Py_ssize_t n, double target) noexcept nogil
cdef Py_ssize_t find_top(Task* task, Py_ssize_t at, double temperature, double peak, Survivors survivors,
                         Work* work) noexcept nogil
cdef double others(Task* task, Py_ssize_t at, Py_ssize_t block, Py_ssize_t top, double temperature, double peak,
                   Survivors survivors, Work* work) noexcept nogil
cdef Py_ssize_t draw(Task* task, Py_ssize_t row, double temperature, double drawn, Survivors survivors,
                     Work* work) noexcept nogil
cdef Py_ssize_t draw_survivor(Task* task, Py_ssize_t row, Py_ssize_t n, double drawn,
                              Survivors survivors) noexcept nogil
cdef void sample_rows(Task* task, Work* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
