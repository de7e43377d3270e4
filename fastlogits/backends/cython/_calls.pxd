# What the callers of the core share.
cimport numpy as cnp

from fastlogits.backends.cython._core cimport Crew, Task, fl_rows

cdef int dtype_of(cnp.ndarray array) noexcept
cdef void* data(object array) noexcept
cdef int answer(int code) except -1
cdef Crew crew_of(int threads) noexcept
cdef Task new_task(cnp.ndarray x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner) noexcept
