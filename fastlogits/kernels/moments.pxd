cimport cython
from libc.stdint cimport int64_t
from fastlogits.kernels cimport lanes, primitives, softmax
from fastlogits.kernels.primitives cimport real

@cython.locals(rate=real, block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, fields=Py_ssize_t, j=Py_ssize_t,
               logits="real*", exps="real*", terms="real*", shift=double, peak=real, mean=real, away=real)
cdef void reduce(real* x, Py_ssize_t at, Py_ssize_t label, Py_ssize_t classes, double beta, double* state,
                 Py_ssize_t first, Py_ssize_t last, real* work, int storage) noexcept nogil

@cython.locals(picked="real*", peak=double, norm=double, gap=double, square=double, spread=double, factor=double,
               block=Py_ssize_t, fields=Py_ssize_t, its_sum=double, below=double, away=double)
cdef void finish(real* x, Py_ssize_t at, Py_ssize_t label, double* results, Py_ssize_t row, Py_ssize_t rows,
                 Py_ssize_t classes, double beta, double* state, real* work, int storage) noexcept nogil

@cython.locals(blocks=Py_ssize_t, row=Py_ssize_t, at=Py_ssize_t, exps="real*", keep=int)
cdef void moments_rows(real* x, Py_ssize_t x_stride, int64_t* labels, double* results, Py_ssize_t rows,
                       Py_ssize_t classes, double beta, double* state, real* work, int storage, Py_ssize_t start,
                       Py_ssize_t stop) noexcept nogil

@cython.locals(field=Py_ssize_t)
cdef void write_zeros(double* results, Py_ssize_t row, Py_ssize_t rows) noexcept nogil

@cython.locals(peaks="real*", shifts="real*", sums="real*", squares="real*", means="real*", exps="real*", kept="real*",
               rate=real, nothing=real, mean_at=Py_ssize_t, variance_at=Py_ssize_t, square_at=Py_ssize_t,
               j=Py_ssize_t, c=Py_ssize_t, logits="real*", away=real, norm=double, picked="real*")
cdef void tile(real* x, Py_ssize_t at, Py_ssize_t step, int64_t* labels, double* results, Py_ssize_t row,
               Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t n, double beta, bint keep, double* state, real* work,
               int storage) noexcept nogil

@cython.locals(exps="real*")
cdef real* exps_of(real* logits, real* shifts, Py_ssize_t n, double beta, real* kept, Py_ssize_t c, bint keep,
                   real* work) noexcept nogil

@cython.locals(j=Py_ssize_t)
cdef void start_sums(real* sums, double* results, Py_ssize_t at, double* state, Py_ssize_t lost,
                     Py_ssize_t n) noexcept nogil

@cython.locals(j=Py_ssize_t)
cdef void add_sums(real* sums, double* results, Py_ssize_t at, double* state, Py_ssize_t lost, Py_ssize_t n,
                   Py_ssize_t c, Py_ssize_t classes) noexcept nogil

@cython.locals(tiles=Py_ssize_t, item=Py_ssize_t, outer=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t, at=Py_ssize_t)
cdef void moments_columns(real* x, Py_ssize_t x_stride, int64_t* labels, double* results, Py_ssize_t rows,
                          Py_ssize_t classes, Py_ssize_t inner, double beta, double* state, real* work, int storage,
                          Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(logits="real*", item=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t)
cdef void moments_short(real* x, Py_ssize_t x_stride, int64_t* labels, double* results, Py_ssize_t rows,
                        Py_ssize_t classes, double beta, double* state, real* work, int storage, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil
