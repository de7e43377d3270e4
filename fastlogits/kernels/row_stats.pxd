cimport cython
from libc cimport math
from libc.stdint cimport int64_t
from fastlogits.kernels cimport primitives, softmax, topk
from fastlogits.kernels.primitives cimport real
from fastlogits.kernels.radix cimport Options

@cython.locals(logit="real*")
cdef void pick(real* x, Py_ssize_t at, int64_t* labels, Py_ssize_t row, double* label_logits, Options* options,
               real* work) noexcept nogil

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, fields=Py_ssize_t, all_groups="real*",
               logits="real*", groups="real*", moment="double*", peak=real, limit=real, shift=double,
               total=double, above=Py_ssize_t)
cdef void reduce(real* x, Py_ssize_t at, double threshold, Options* options, double* state, Py_ssize_t first,
                 Py_ssize_t last, real* work) noexcept nogil

@cython.locals(block=Py_ssize_t, best=Py_ssize_t, peak=double, its_peak=double)
cdef Py_ssize_t lead(Py_ssize_t blocks, double* state) noexcept nogil

@cython.locals(again=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, logits="real*", exps="real*")
cdef void settle(real* x, Py_ssize_t at, Options* options, double* state, real* work) noexcept nogil

@cython.locals(block=Py_ssize_t, fields=Py_ssize_t, total=double, lost=double, gap=double, moment=double, term=double)
cdef double merge_moments(Py_ssize_t blocks, double* state) noexcept nogil

@cython.locals(block=Py_ssize_t, after="real*", second=double, its_peak=double)
cdef double second_largest(real* logits, Py_ssize_t size, Py_ssize_t place, Py_ssize_t best, Py_ssize_t blocks,
                           double* state) noexcept nogil

@cython.locals(blocks=Py_ssize_t, best=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, place=Py_ssize_t,
               block=Py_ssize_t, logits="real*", peak=double, above=double)
cdef void finish(real* x, Py_ssize_t at, Py_ssize_t row, double* peaks, double* rests, double* moments,
                 Py_ssize_t* argmax, double* seconds, Py_ssize_t* aboves, real* top_values, Py_ssize_t* top_ids,
                 Options* options, double* state, real* work) noexcept nogil

@cython.locals(blocks=Py_ssize_t, row=Py_ssize_t, at=Py_ssize_t, threshold=double)
cdef void rows(real* x, int64_t* labels, double* thresholds, double* label_logits, double* peaks, double* rests,
               double* moments, Py_ssize_t* argmax, double* seconds, Py_ssize_t* aboves, real* top_values,
               Py_ssize_t* top_ids, Options* options, double* state, real* work,
               Py_ssize_t start, Py_ssize_t stop) noexcept nogil
