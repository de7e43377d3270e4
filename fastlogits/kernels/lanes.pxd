cimport cython
from fastlogits.kernels cimport primitives
from fastlogits.kernels.primitives cimport real

@cython.locals(c=Py_ssize_t)
cdef real* some_classes(real* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t count, Py_ssize_t n, real* chunk,
                        int storage) noexcept nogil

@cython.locals(apart=Py_ssize_t, c=Py_ssize_t, count=Py_ssize_t, chunk="real*", peaks="real*", logits="real*",
               exps="real*")
cdef void tile_sums(real* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t classes, Py_ssize_t n, double scale,
                    real* kept, Py_ssize_t kept_at, Py_ssize_t kept_step, bint keep, double* state, real* work,
                    int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, peaks="real*", lowest=real)
cdef real* start_peaks(Py_ssize_t n, real* work) noexcept nogil

@cython.locals(j=Py_ssize_t, peaks="real*", shifts="real*")
cdef void start_sums(Py_ssize_t n, double* state, real* work) noexcept nogil

cdef void add_exps(real* logits, Py_ssize_t step, Py_ssize_t count, Py_ssize_t n, double scale, real* kept,
                   Py_ssize_t kept_step, bint keep, double* state, real* work) noexcept nogil

@cython.locals(j=Py_ssize_t)
cdef void finish_sums(Py_ssize_t n, double* state) noexcept nogil

@cython.locals(j=Py_ssize_t, c=Py_ssize_t, shifts="real*", factors="real*", logits="real*", exps="real*", probs="real*")
cdef void softmax_tile(real* x, Py_ssize_t at, Py_ssize_t step, real* y, Py_ssize_t y_at, Py_ssize_t y_step,
                       Py_ssize_t classes, Py_ssize_t n, double scale, bint keep, double* state, real* work,
                       int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, c=Py_ssize_t, peaks="real*", log_sums="real*", rate=real, logits="real*",
               log_probs="real*")
cdef void log_softmax_tile(real* x, Py_ssize_t at, Py_ssize_t step, real* y, Py_ssize_t y_at, Py_ssize_t y_step,
                           Py_ssize_t classes, Py_ssize_t n, double scale, double* state, real* work,
                           int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, c=Py_ssize_t, peaks="real*", out="real*", logits="real*")
cdef void logsumexp_tile(real* x, Py_ssize_t at, Py_ssize_t step, real* lse, Py_ssize_t row, Py_ssize_t classes,
                         Py_ssize_t n, double* state, real* work, int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, c=Py_ssize_t, count=Py_ssize_t, readable=bint, g_apart=Py_ssize_t, p_apart=Py_ssize_t,
               apart=Py_ssize_t, chunk="real*", other_chunk="real*", totals="real*", rests="double*", lost="double*",
               grads="real*", probs="real*", result="real*")
cdef void backward_tile(real* g, Py_ssize_t g_at, Py_ssize_t g_step, real* p, Py_ssize_t p_at, Py_ssize_t p_step,
                        real* out, Py_ssize_t out_at, Py_ssize_t out_step, Py_ssize_t classes, Py_ssize_t n,
                        bint log, double* state, real* work, int storage) noexcept nogil

@cython.locals(c=Py_ssize_t)
cdef void store_classes(real* y, Py_ssize_t at, Py_ssize_t step, Py_ssize_t count, Py_ssize_t n, real* values,
                        Py_ssize_t apart, int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, rows="real*")
cdef void gather(real* x, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, real* tile, real* work,
                 int storage) noexcept nogil

@cython.locals(j=Py_ssize_t, rows="real*")
cdef void scatter(real* tile, real* y, Py_ssize_t at, Py_ssize_t stride, Py_ssize_t classes, Py_ssize_t n, real* work,
                  int storage) noexcept nogil

@cython.locals(tiles=Py_ssize_t, item=Py_ssize_t, outer=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t, at=Py_ssize_t,
               y_at=Py_ssize_t)
cdef void softmax_columns(real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t classes,
                          Py_ssize_t inner, double scale, bint log, bint keep, double* state, real* work, int storage,
                          Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(item=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t, tile="real*")
cdef void softmax_short(real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, Py_ssize_t rows,
                        Py_ssize_t classes, double scale, bint log, double* state, real* work, int storage,
                        Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(tiles=Py_ssize_t, item=Py_ssize_t, outer=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t)
cdef void logsumexp_columns(real* x, Py_ssize_t x_stride, real* lse, Py_ssize_t classes, Py_ssize_t inner,
                            double* state, real* work, int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(item=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t, tile="real*")
cdef void logsumexp_short(real* x, Py_ssize_t x_stride, real* lse, Py_ssize_t rows, Py_ssize_t classes, double* state,
                          real* work, int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(tiles=Py_ssize_t, item=Py_ssize_t, outer=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t)
cdef void backward_columns(real* g, Py_ssize_t g_stride, real* p, Py_ssize_t p_stride, real* out,
                           Py_ssize_t out_stride, Py_ssize_t classes, Py_ssize_t inner, bint log, double* state,
                           real* work, int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(j=Py_ssize_t, c=Py_ssize_t, count=Py_ssize_t, apart=Py_ssize_t, chunk="real*", best="real*",
               logits="real*")
cdef void argmax_tile(real* x, Py_ssize_t at, Py_ssize_t step, Py_ssize_t* indices, Py_ssize_t row,
                      Py_ssize_t classes, Py_ssize_t n, real* work, int storage) noexcept nogil

@cython.locals(tiles=Py_ssize_t, item=Py_ssize_t, outer=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t)
cdef void argmax_columns(real* x, Py_ssize_t x_stride, Py_ssize_t* indices, Py_ssize_t classes, Py_ssize_t inner,
                         real* work, int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(item=Py_ssize_t, first=Py_ssize_t, n=Py_ssize_t, tile="real*")
cdef void argmax_short(real* x, Py_ssize_t x_stride, Py_ssize_t* indices, Py_ssize_t rows, Py_ssize_t classes,
                       real* work, int storage, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
