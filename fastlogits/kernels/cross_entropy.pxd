cimport cython
from libc cimport math
from libc.stdint cimport int64_t
from fastlogits.kernels cimport primitives, softmax
from fastlogits.kernels.primitives cimport real

# spread: classes other than the label have a mass; bent: the transformed logits are no positive multiple of the given
# ones, be it by a softcap or by a negative scale.
cdef struct Options:
    Py_ssize_t classes, x_stride, grad_stride, targets_stride
    int64_t ignore_index
    double smoothing, z_loss, softcap, scale, grad_scale
    int storage
    bint soft, weighted, sampled, upstream, spread, bent, negative, with_grad
    int keep

@cython.locals(bad=Py_ssize_t, valid=Py_ssize_t, row=Py_ssize_t, kept=bint, inside=bint, label=int64_t,
               term=double, added=double, lost=double)
cdef Py_ssize_t count_labels(int64_t* labels, real* weight, double* sample_weight, Py_ssize_t rows, Options* options,
                             double* total) noexcept nogil

@cython.locals(j=Py_ssize_t, logits="real*", z="real*", cap=real, sign=real)
cdef real* transform(real* x, Py_ssize_t at, Py_ssize_t size, Options* options, real* work) noexcept nogil

@cython.locals(j=Py_ssize_t, logits="real*", cap=real)
cdef void multiply_slope(real* x, Py_ssize_t at, real* values, Py_ssize_t size, Options* options,
                         real* work) noexcept nogil

@cython.locals(j=Py_ssize_t, mass="real*", weights="real*", probs="real*", even=real, kept=real)
cdef real* class_mass(real* targets, Py_ssize_t at, Py_ssize_t start, Py_ssize_t size, real* weight, Options* options,
                      real* work) noexcept nogil

@cython.locals(j=Py_ssize_t, place=Py_ssize_t, z="real*", slope="real*")
cdef void pick(real* x, Py_ssize_t at, Py_ssize_t apart, Py_ssize_t step, int64_t* labels, Py_ssize_t row, Py_ssize_t n,
               Options* options, double* state, real* work) noexcept nogil

cdef bint ignored(int64_t* labels, Py_ssize_t row, Options* options) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, fields=Py_ssize_t, c=Py_ssize_t, logits="real*",
               mass="real*", gaps="real*", shift=double, peak=real)
cdef void reduce(real* x, Py_ssize_t at, real* kept, Py_ssize_t kept_at, int keep, real* targets,
                 Py_ssize_t targets_at, real* weight, Options* options, double* state, Py_ssize_t first,
                 Py_ssize_t last, real* work) noexcept nogil

@cython.locals(again=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, _=Py_ssize_t,
               fields=Py_ssize_t, logits="real*", exps="real*", mass=double, gap=double, shift=double,
               block_mass=double, block_peak=double)
cdef void settle(real* x, Py_ssize_t at, real* kept, Py_ssize_t kept_at, int keep, Options* options, double* state,
                 real* work) noexcept nogil

@cython.locals(j=Py_ssize_t, label=int64_t, hard=double, row_scale=double, scale=double, z_loss=double, peak=double,
               log_norm=double, lse=double, loss=double)
cdef void finish(int64_t* labels, Py_ssize_t row, real* weight, double* sample_weight, double* grad_loss,
                 double* losses, Py_ssize_t n, Options* options, double* state) noexcept nogil

@cython.locals(j=Py_ssize_t, peak=double, rest=double, hard=double, distance=double, norm=double, common=double,
               exp_label=double, others=double, target=double, counter=double)
cdef void gradients(Py_ssize_t n, double scale, double z_loss, double grad_scale, double* state) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, c=Py_ssize_t, logits="real*",
               exps="real*", grads="real*", mass="real*", ratio=double, counter=real, factor=real)
cdef void write(real* x, Py_ssize_t at, real* kept, Py_ssize_t kept_at, int keep, real* grad, Py_ssize_t grad_at,
                Py_ssize_t label, real* targets, Py_ssize_t targets_at, real* weight, Options* options, double* state,
                Py_ssize_t first, Py_ssize_t last, real* work) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, j=Py_ssize_t, zeros="real*")
cdef void write_zeros(real* grad, Py_ssize_t at, Py_ssize_t n, Options* options, real* work) noexcept nogil

@cython.locals(blocks=Py_ssize_t, group=Py_ssize_t, uneven=bint, together=bint, kept_stride=Py_ssize_t,
               row=Py_ssize_t, n=Py_ssize_t, at=Py_ssize_t, grad_at=Py_ssize_t, targets_at=Py_ssize_t, kept="real*",
               kept_at=Py_ssize_t, keep=int)
cdef void rows(real* x, real* grad, int64_t* labels, real* targets, real* weight, double* sample_weight,
               double* grad_loss, double* losses, Options* options, double* state, real* work,
               Py_ssize_t start, Py_ssize_t stop) noexcept nogil

@cython.locals(classes=Py_ssize_t, readable=bint, logits="real*", apart=Py_ssize_t, peaks="double*", rests="double*",
               gaps="double*", masses="double*", exps="real*", even=double, j=Py_ssize_t, mass="real*",
               mass_apart=Py_ssize_t)
cdef void group_sums(real* x, Py_ssize_t at, real* kept, Py_ssize_t kept_at, Py_ssize_t kept_stride, int keep,
                     real* targets, Py_ssize_t targets_at, Py_ssize_t n, Options* options, double* state,
                     real* work) noexcept nogil

@cython.locals(classes=Py_ssize_t, even=double, counters="double*", factors="double*", exps="real*", grads="real*",
               apart=Py_ssize_t, mass="real*", mass_apart=Py_ssize_t, j=Py_ssize_t)
cdef void group_write(real* kept, Py_ssize_t kept_at, Py_ssize_t kept_stride, real* grad, Py_ssize_t grad_at,
                      int64_t* labels, Py_ssize_t row, real* targets, Py_ssize_t targets_at, Py_ssize_t n,
                      Options* options, double* state, real* work) noexcept nogil
