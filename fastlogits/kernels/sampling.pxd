cimport cython
from libc cimport math
from libc.stdint cimport int64_t
from fastlogits.kernels cimport filters, philox, primitives, softmax
from fastlogits.kernels.primitives cimport real

@cython.locals(i=Py_ssize_t, reached=Py_ssize_t)
cdef Py_ssize_t reach(double* mass, Py_ssize_t n, double target, double* left) noexcept nogil

@cython.locals(peaks="double*", span=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, z="real*")
cdef Py_ssize_t find_top(real* x, Py_ssize_t at, Py_ssize_t classes, double temperature, double peak, double* scratch,
                         real* work, int storage) noexcept nogil

@cython.locals(start=Py_ssize_t, size=Py_ssize_t)
cdef Py_ssize_t others(real* x, Py_ssize_t at, Py_ssize_t block, Py_ssize_t top, Py_ssize_t classes,
                       double temperature, double* wide, real* work, int storage) noexcept nogil

@cython.locals(divisor=double, peak=double, top=Py_ssize_t, wide="double*", sums="double*", left="double*",
               mass="double*", blocks=Py_ssize_t, block=Py_ssize_t, size=Py_ssize_t, j=Py_ssize_t, rest=double,
               target=double)
cdef Py_ssize_t draw(real* x, Py_ssize_t at, double temperature, double uniform, double* log_prob, Py_ssize_t classes,
                     double* scratch, real* work, int storage) noexcept nogil

@cython.locals(survivors="double*", mass="double*", ids="double*", sums="double*", left="double*", top=Py_ssize_t,
               top_mass=double, blocks=Py_ssize_t, block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, rest=double,
               chosen=Py_ssize_t, target=double)
cdef Py_ssize_t draw_survivor(Py_ssize_t n, double uniform, double* log_prob, double* scratch) noexcept nogil

@cython.locals(row=Py_ssize_t, at=Py_ssize_t, rules_at=Py_ssize_t, temperature=double, uniform=double,
               log_prob="double*", n=Py_ssize_t)
cdef Py_ssize_t sample_rows(real* x, Py_ssize_t x_stride, double* rules, Py_ssize_t rules_stride, int64_t* numbers,
                      int64_t key_0, int64_t key_1, Py_ssize_t* ids, double* log_probs, Py_ssize_t classes,
                      double* scratch, real* work, int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
