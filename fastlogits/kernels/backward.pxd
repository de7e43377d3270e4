cimport cython
from fastlogits.kernels cimport primitives, softmax
from fastlogits.kernels.primitives cimport real

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, fields=Py_ssize_t, grads="real*",
               probs="real*")
cdef void reduce(real* g, Py_ssize_t g_at, real* p, Py_ssize_t p_at, Py_ssize_t classes, bint log, double* state,
                 Py_ssize_t first, Py_ssize_t last, real* work, int storage) noexcept nogil

@cython.locals(block=Py_ssize_t, total=double, lost=double, term=double)
cdef void settle(Py_ssize_t classes, double* state) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, grads="real*", probs="real*",
               result="real*", total="double*", beyond=bint)
cdef void write(real* g, Py_ssize_t g_at, real* p, Py_ssize_t p_at, real* out, Py_ssize_t out_at, Py_ssize_t classes,
                bint log, double* state, Py_ssize_t first, Py_ssize_t last, real* work, int storage) noexcept nogil

@cython.locals(n=Py_ssize_t)
cdef Py_ssize_t group_of(Py_ssize_t classes) noexcept nogil

@cython.locals(grads="real*", probs="real*", result="real*", sums="double*", readable=bint,
               g_apart=Py_ssize_t, p_apart=Py_ssize_t, apart=Py_ssize_t)
cdef void group_backward(real* g, Py_ssize_t g_at, Py_ssize_t g_stride, real* p, Py_ssize_t p_at, Py_ssize_t p_stride,
                         real* out, Py_ssize_t out_at, Py_ssize_t out_stride, Py_ssize_t classes, Py_ssize_t n,
                         bint log, double* state, real* work, int storage) noexcept nogil

@cython.locals(row=Py_ssize_t, n=Py_ssize_t, group=Py_ssize_t, blocks=Py_ssize_t, g_at=Py_ssize_t, p_at=Py_ssize_t,
               out_at=Py_ssize_t)
cdef void backward_rows(real* g, Py_ssize_t g_stride, real* p, Py_ssize_t p_stride, real* out, Py_ssize_t out_stride,
                        Py_ssize_t classes, bint log, double* state, real* work, int storage, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil
