cimport cython
from fastlogits.kernels cimport primitives, radix, softmax
from fastlogits.kernels.primitives cimport real
from fastlogits.kernels.radix cimport Options

cdef Py_ssize_t SHORT_CLASSES, SHORT_K, HEAP_K

@cython.locals(block=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, count=Py_ssize_t, logits="real*")
cdef Py_ssize_t count_above(real* x, Py_ssize_t at, real* maxima, Py_ssize_t n, real limit, Options* options,
                            real* work) noexcept nogil

@cython.locals(_=int, k=Py_ssize_t, count=Py_ssize_t, inside=Py_ssize_t, near=double, far=double, middle=double)
cdef double bound(real* x, Py_ssize_t at, real* maxima, Py_ssize_t n, double peak, Options* options,
                  real* work) noexcept nogil

cdef bint comes_after(real value, Py_ssize_t index, real other, Py_ssize_t other_index) noexcept nogil

@cython.locals(place=Py_ssize_t, child=Py_ssize_t)
cdef void sift(real* values, Py_ssize_t* indices, Py_ssize_t at, Py_ssize_t n, real value,
               Py_ssize_t index) noexcept nogil

@cython.locals(place=Py_ssize_t)
cdef void push(real* values, Py_ssize_t* indices, Py_ssize_t at, Py_ssize_t n, real value,
               Py_ssize_t index) noexcept nogil

@cython.locals(last=Py_ssize_t, value=real, index=Py_ssize_t)
cdef void sort(real* values, Py_ssize_t* indices, Py_ssize_t at, Py_ssize_t n) noexcept nogil

@cython.locals(j=Py_ssize_t, n=Py_ssize_t, logits="real*", left="real*", largest=real)
cdef bint one_by_one(real* x, Py_ssize_t at, real* values, Py_ssize_t* indices, Py_ssize_t first, Options* options,
                     real* work) noexcept nogil

@cython.locals(blocks=Py_ssize_t, block=Py_ssize_t, n=Py_ssize_t, fields=Py_ssize_t, peak=double, maxima="real*")
cdef double limit_of(real* x, Py_ssize_t at, Options* options, double* state, real* work) noexcept nogil

@cython.locals(k=Py_ssize_t, block=Py_ssize_t, n=Py_ssize_t, start=Py_ssize_t, size=Py_ssize_t, j=Py_ssize_t,
               values="real*", logits="real*", limit=real, peak=double, unbounded=bint)
cdef void select(real* x, Py_ssize_t at, real* top_values, Py_ssize_t* indices, Py_ssize_t row, Options* options,
                 double* state, real* work) noexcept nogil
