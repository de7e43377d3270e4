cimport cython
from fastlogits.kernels cimport primitives, softmax
from fastlogits.kernels.primitives cimport real

@cython.locals(blocks=Py_ssize_t, exps="real*", row=Py_ssize_t, block=Py_ssize_t, at=Py_ssize_t, size=Py_ssize_t,
               item=Py_ssize_t)
cdef void blocks_rows(real* x, Py_ssize_t x_stride, double* peaks, double* sums, double* rests, Py_ssize_t classes,
                      double scale, double* state, real* work, int storage,
                      Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(blocks=Py_ssize_t, row=Py_ssize_t, block=Py_ssize_t, fields=Py_ssize_t, best=Py_ssize_t)
cdef void merged_rows(double* peaks, double* sums, double* rests, double* row_peaks, double* row_rests,
                      Py_ssize_t classes, double scale, double* state,
                      Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(row=Py_ssize_t, block=Py_ssize_t, at=Py_ssize_t, y_at=Py_ssize_t, size=Py_ssize_t,
               kept="real*", kept_at=Py_ssize_t)
cdef void piece_rows(real* x, Py_ssize_t x_stride, real* y, Py_ssize_t y_stride, double* peaks, double* rests,
                     Py_ssize_t classes, double scale, bint log, int keep, double* state, real* work, int storage,
                     Py_ssize_t start, Py_ssize_t stop) noexcept nogil
