cimport cython
from libc cimport math
from libc.stdint cimport int64_t
from fastlogits.kernels cimport lanes, primitives, softmax
from fastlogits.kernels.primitives cimport real

@cython.locals(rate=real, block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, fields=Py_ssize_t, j=Py_ssize_t,
               logits="real*", exps="real*", terms="real*", shift=double, peak=real, mean=real, away=real)
cdef void reduce(real* x, Py_ssize_t at, Py_ssize_t classes, double beta, double* state, Py_ssize_t first,
                 Py_ssize_t last, real* work, int storage) noexcept nogil

@cython.locals(picked="real*", peak=double, gap=double, mean=double, spread=double, block=Py_ssize_t,
               fields=Py_ssize_t, its_sum=double, its_spread=double, below=double, away=double)
cdef void finish(real* x, Py_ssize_t at, int64_t* labels, double* results, Py_ssize_t row, Py_ssize_t rows,
                 Py_ssize_t classes, double beta, double* state, real* work, int storage) noexcept nogil

@cython.locals(blocks=Py_ssize_t, row=Py_ssize_t, at=Py_ssize_t, exps="real*", keep=int)
cdef void moments_rows(real* x, Py_ssize_t x_stride, int64_t* labels, double* results, Py_ssize_t rows,
                       Py_ssize_t classes, double beta, double* state, real* work, int storage, Py_ssize_t start,
                       Py_ssize_t stop) noexcept nogil

@cython.locals(field=Py_ssize_t)
cdef void write_zeros(double* results, Py_ssize_t row, Py_ssize_t rows) noexcept nogil

@cython.locals(peaks="real*", shifts="real*", means="real*", rate=real, mean_at=Py_ssize_t, variance_at=Py_ssize_t,
               j=Py_ssize_t, c=Py_ssize_t, logits="real*", exps="real*", away=real, picked="real*")
cdef void tile(real* x, Py_ssize_t at, Py_ssize_t step, int64_t* labels, double* results, Py_ssize_t row,
               Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t n, double beta, double* state, real* work,
               int storage) noexcept nogil

@cython.locals(tiles=Py_ssize_t, item=Py_ssize_t, outer=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t, at=Py_ssize_t)
cdef void moments_columns(real* x, Py_ssize_t x_stride, int64_t* labels, double* results, Py_ssize_t rows,
                          Py_ssize_t classes, Py_ssize_t inner, double beta, double* state, real* work, int storage,
                          Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(logits="real*", item=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t)
cdef void moments_short(real* x, Py_ssize_t x_stride, int64_t* labels, double* results, Py_ssize_t rows,
                        Py_ssize_t classes, double beta, double* state, real* work, int storage, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil
