cimport cython
from libc.stdint cimport int64_t
from fastlogits.kernels cimport cross_entropy, lanes, primitives
from fastlogits.kernels.cross_entropy cimport Options
from fastlogits.kernels.primitives cimport real

@cython.locals(c=Py_ssize_t, j=Py_ssize_t, chunk="real*", z="real*")
cdef real* some_classes(real* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t count, Py_ssize_t n, Options* options,
                        real* work) noexcept nogil

@cython.locals(classes=Py_ssize_t, apart=Py_ssize_t, c=Py_ssize_t, count=Py_ssize_t, peaks="real*", logits="real*",
               exps="real*")
cdef void tile_sums(real* x, Py_ssize_t at, Py_ssize_t step, real* grad, Py_ssize_t grad_at, Py_ssize_t row,
                    int64_t* labels, real* targets, Py_ssize_t targets_at, real* weight, Py_ssize_t n,
                    Options* options, double* state, real* work) noexcept nogil

@cython.locals(j=Py_ssize_t)
cdef void start_gaps(Py_ssize_t n, double* state) noexcept nogil

@cython.locals(mass="real*")
cdef void add_gaps(real* logits, Py_ssize_t apart, real* targets, Py_ssize_t targets_at, Py_ssize_t step, real* weight,
                   Py_ssize_t first, Py_ssize_t count, Py_ssize_t n, Options* options, double* state,
                   real* work) noexcept nogil

@cython.locals(c=Py_ssize_t, j=Py_ssize_t, masses="real*", mass="real*", probs="real*", class_weight=real, even=real,
               kept=real)
cdef real* some_masses(real* targets, Py_ssize_t at, Py_ssize_t step, real* weight, Py_ssize_t first, Py_ssize_t count,
                       Py_ssize_t n, Options* options, real* work) noexcept nogil

cdef Py_ssize_t masses_apart(Py_ssize_t step, Py_ssize_t n, Options* options) noexcept nogil

cdef bint plain(Options* options) noexcept nogil

@cython.locals(j=Py_ssize_t, c=Py_ssize_t, i=Py_ssize_t, count=Py_ssize_t, apart=Py_ssize_t, mass_apart=Py_ssize_t,
               factors="real*", counters="real*", shifts="real*", grads="real*", logits="real*", exps="real*",
               mass="real*", values="real*")
cdef void tile(real* x, Py_ssize_t at, Py_ssize_t step, real* grad, Py_ssize_t grad_at, Py_ssize_t row,
               int64_t* labels, real* targets, Py_ssize_t targets_at, real* weight, double* sample_weight,
               double* grad_loss, double* losses, Py_ssize_t n, Options* options, double* state,
               real* work) noexcept nogil

@cython.locals(j=Py_ssize_t, peaks="real*")
cdef void settle(Py_ssize_t n, double* state, real* work) noexcept nogil

@cython.locals(j=Py_ssize_t, at=Py_ssize_t, value="real*")
cdef void write_labels(real* grad, Py_ssize_t grad_at, Py_ssize_t step, Py_ssize_t row, int64_t* labels,
                       Py_ssize_t n, Options* options, double* state, real* work) noexcept nogil

@cython.locals(tiles=Py_ssize_t, item=Py_ssize_t, outer=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t)
cdef void columns(real* x, real* grad, int64_t* labels, real* targets, real* weight, double* sample_weight,
                  double* grad_loss, double* losses, Py_ssize_t inner, Options* options, double* state, real* work,
                  Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(item=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t, logits="real*", probs="real*")
cdef void short_rows(real* x, real* grad, int64_t* labels, real* targets, real* weight, double* sample_weight,
                double* grad_loss, double* losses, Py_ssize_t count, Options* options, Options* in_tile,
                double* state, real* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
