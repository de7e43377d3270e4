cimport cython
from fastlogits.kernels cimport primitives, softmax
from fastlogits.kernels.primitives cimport real

# sort_at: where `state` has room for `select` of radix.py; 0 where it is not needed.
# group_step: GROUPS, or 0 where the groups' maxima are not kept.
cdef struct Options:
    Py_ssize_t classes, x_stride, group_step, top_k, sort_at
    int storage
    bint labelled, swept, sums, moment, located, second, ranked, ordered

@cython.locals(block=Py_ssize_t, n=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, j=Py_ssize_t, peak=double,
               logits="real*", everything=bint)
cdef Py_ssize_t gather(real* x, Py_ssize_t at, real limit, double* values, double* indices, Options* options,
                       double* state, real* work) noexcept nogil

@cython.locals(i=Py_ssize_t, digit=Py_ssize_t, to=Py_ssize_t, first=double, count=double)
cdef void deal(double* values, double* indices, Py_ssize_t n, Py_ssize_t place, double* dealt_values,
               double* dealt_indices, double* counts, real* work) noexcept nogil

@cython.locals(n=Py_ssize_t, i=Py_ssize_t, place=Py_ssize_t, entries=Py_ssize_t, counts="double*", values="double*",
               indices="double*", dealt_values="double*", dealt_indices="double*", spare="double*")
cdef void select(real* x, Py_ssize_t at, real limit, real* top_values, Py_ssize_t* top_indices, Py_ssize_t first,
                 Options* options, double* state, real* work) noexcept nogil

cdef Py_ssize_t room(Py_ssize_t classes) noexcept nogil
