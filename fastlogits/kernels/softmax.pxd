cimport cython
from libc cimport math
from fastlogits.kernels cimport primitives
from fastlogits.kernels.primitives cimport real

cdef Py_ssize_t blocks_of(Py_ssize_t classes) noexcept nogil

cdef Py_ssize_t padded(Py_ssize_t classes) noexcept nogil

cdef Py_ssize_t group_of(Py_ssize_t classes) noexcept nogil

cdef bint in_scratch(Py_ssize_t classes, int keep) noexcept nogil

cdef real* scratch(Py_ssize_t classes, real* work) noexcept nogil

@cython.locals(peak=double)
cdef double block_peak(real* logits, Py_ssize_t size, double* state, Py_ssize_t fields) noexcept nogil

@cython.locals(exps="real*")
cdef void block_sum(real* logits, Py_ssize_t size, double shift, double scale, real* kept, Py_ssize_t kept_at,
                    int keep, double* state, Py_ssize_t fields) noexcept nogil

@cython.locals(blocks=Py_ssize_t, block=Py_ssize_t, fields=Py_ssize_t, best=Py_ssize_t, peak=double, own=double,
               rest=double, its_peak=double, its_sum=double, ratio=double, term=double, lost=double)
cdef Py_ssize_t merge(Py_ssize_t classes, double scale, double* state) noexcept nogil

@cython.locals(j=Py_ssize_t, others="real*")
cdef double without_maximum(real* exps, Py_ssize_t size, real* work) noexcept nogil

cdef double norm(double* state, Py_ssize_t j) noexcept nogil

@cython.locals(peak=double)
cdef double rescale(double peak_of_row, Py_ssize_t block, double scale, double* state) noexcept nogil

@cython.locals(peak=double, shift=double)
cdef void block_exps(real* logits, Py_ssize_t size, Py_ssize_t block, double scale, real* exps,
                     double* state) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, fields=Py_ssize_t, logits="real*", shift=double)
cdef void reduce(real* x, Py_ssize_t at, Py_ssize_t classes, double scale, real* kept, Py_ssize_t kept_at, int keep,
                 double* state, Py_ssize_t first, Py_ssize_t last, real* work, int storage) noexcept nogil

@cython.locals(again=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, logits="real*", exps="real*")
cdef void settle(real* x, Py_ssize_t at, Py_ssize_t classes, double scale, real* kept, Py_ssize_t kept_at, int keep,
                 double* state, real* work, int storage) noexcept nogil

@cython.locals(apart=Py_ssize_t, logits="real*", exps="real*", peaks="double*", rests="double*")
cdef void sums(real* x, Py_ssize_t at, Py_ssize_t x_stride, Py_ssize_t classes, double scale, real* kept,
               Py_ssize_t kept_at, Py_ssize_t kept_stride, int keep, Py_ssize_t n, double* state, real* work,
               int storage) noexcept nogil

@cython.locals(j=Py_ssize_t)
cdef real* some_rows(real* x, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, real* tile,
                     Py_ssize_t apart, int storage) noexcept nogil

@cython.locals(peaks="double*", rests="double*", j=Py_ssize_t)
cdef void take_out_maxima(real* exps, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, double* state,
                          real* work) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, logits="real*", exps="real*",
               probs="real*", inverse=double, factor=real)
cdef void softmax_write(real* x, Py_ssize_t at, real* kept, Py_ssize_t kept_at, int keep, real* y, Py_ssize_t y_at,
                        Py_ssize_t classes, double scale, double* state, Py_ssize_t first, Py_ssize_t last,
                        real* work, int storage) noexcept nogil

@cython.locals(blocks=Py_ssize_t, group=Py_ssize_t, row=Py_ssize_t, n=Py_ssize_t, at=Py_ssize_t, j=Py_ssize_t,
               kept="real*", kept_at=Py_ssize_t, kept_stride=Py_ssize_t, apart_from_y=bint, how=int, exps="real*",
               probs="real*", apart=Py_ssize_t)
cdef void softmax_rows(real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t classes, double scale,
                       int keep, double* state, real* work, int storage,
                       Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(j=Py_ssize_t)
cdef void store_rows(real* y, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, real* values,
                     Py_ssize_t apart, int storage) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, logits="real*", log_probs="real*")
cdef void log_softmax_write(real* x, Py_ssize_t at, real* y, Py_ssize_t y_at, Py_ssize_t classes, double scale,
                            double* state, Py_ssize_t first, Py_ssize_t last, real* work, int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, peaks="real*", log_sums="real*", rate=real)
cdef void shift_rows(real* logits, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, double scale, double* state,
                     real* log_probs, Py_ssize_t apart, real* work) noexcept nogil

@cython.locals(buffer="real*", x_apart=Py_ssize_t, apart=Py_ssize_t, logits="real*", log_probs="real*")
cdef void group_log_softmax(real* x, Py_ssize_t at, Py_ssize_t x_stride, real* y, Py_ssize_t y_at, Py_ssize_t y_stride,
                            Py_ssize_t classes, Py_ssize_t n, double scale, double* state, real* work,
                            int storage) noexcept nogil

@cython.locals(group=Py_ssize_t, row=Py_ssize_t, n=Py_ssize_t, at=Py_ssize_t, y_at=Py_ssize_t, tile="real*",
               tiled=bint)
cdef void log_softmax_rows(real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t classes,
                           double scale, int keep, double* state, real* work, int storage,
                           Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(block=Py_ssize_t, size=Py_ssize_t, i=Py_ssize_t, logits="real*", result=double)
cdef double log_norm(real* x, Py_ssize_t at, Py_ssize_t classes, double* state, Py_ssize_t j, real* work,
                     int storage) noexcept nogil

@cython.locals(group=Py_ssize_t, row=Py_ssize_t, n=Py_ssize_t, at=Py_ssize_t, j=Py_ssize_t, tile="real*",
               keep=int)
cdef void logsumexp_rows(real* x, Py_ssize_t x_stride, real* lse, Py_ssize_t classes, double* state, real* work,
                         int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, fields=Py_ssize_t, logits="real*")
cdef void argmax_reduce(real* x, Py_ssize_t at, Py_ssize_t classes, double* state, Py_ssize_t first, Py_ssize_t last,
                        real* work, int storage) noexcept nogil

@cython.locals(best=double, peak=double, block=Py_ssize_t, found=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t,
               logits="real*")
cdef Py_ssize_t argmax_of(real* x, Py_ssize_t at, Py_ssize_t classes, double* state, real* work,
                          int storage) noexcept nogil

@cython.locals(row=Py_ssize_t)
cdef void argmax_rows(real* x, Py_ssize_t x_stride, Py_ssize_t* indices, Py_ssize_t classes, double* state,
                      real* work, int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
