"""From XLA's typed foreign function interface to a Python function on NumPy arrays over XLA's own buffers."""

import atexit

import ml_dtypes
import numpy as np

cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint32_t, uintptr_t

from fastlogits.backends._team cimport help, join, team_pool

cnp.import_array()


cdef extern from "xla_ffi.h" nogil:
    enum:
        XLA_FFI_MAJOR, XLA_FFI_MINOR, XLA_FFI_METADATA, XLA_FFI_INVALID_ARGUMENT
    ctypedef struct xla_ffi_extension:
        int type
    ctypedef struct xla_ffi_version:
        int major, minor
    ctypedef struct xla_ffi_metadata:
        xla_ffi_version version
        uint32_t traits
    ctypedef struct xla_ffi_metadata_extension:
        xla_ffi_metadata* metadata
    ctypedef struct xla_ffi_error
    ctypedef struct xla_ffi_error_create_args:
        size_t struct_size
        void* extensions
        const char* message
        int code
    ctypedef struct xla_ffi_api:
        xla_ffi_version version
        xla_ffi_error* (*error_create)(xla_ffi_error_create_args*) noexcept nogil
    ctypedef struct xla_ffi_buffer:
        int dtype
        void* data
        int64_t rank
        int64_t* dims
    ctypedef struct xla_ffi_span:
        const char* start
        size_t length
    ctypedef struct xla_ffi_values:
        int64_t size
        void** values
    ctypedef struct xla_ffi_call:
        xla_ffi_extension* extensions
        const xla_ffi_api* api
        xla_ffi_values arguments, results
        xla_ffi_values attributes

cdef extern from "xla_team.h" nogil:
    ctypedef struct xla_team:
        team_pool pool
        const xla_ffi_call* call
        void (*help)() noexcept nogil
    void xla_invite(team_pool*, int helpers)

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MADV_HUGEPAGE
    #define MADV_HUGEPAGE MADV_NORMAL
    #endif
    """
    int madvise(void*, size_t, int) nogil
    int MADV_HUGEPAGE

cdef extern from *:
    int __atomic_add_fetch(int*, int, int) nogil
    int __atomic_sub_fetch(int*, int, int) nogil
    int __atomic_load_n(int*, int) nogil
    int __ATOMIC_ACQUIRE, __ATOMIC_ACQ_REL

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from "numpy/arrayobject.h":
    PyTypeObject PyArray_Type
    object PyArray_NewFromDescr(PyTypeObject*, cnp.dtype, int, cnp.npy_intp*, cnp.npy_intp*, void*, int, PyObject*)

cdef enum:
    PAGE = 4096
    # XLA returns large results to the system. 131 MB of fresh pages cost 30 to 48 ms, of huge ones 5 ms.
    HUGE_FROM = 1 << 22

cdef dict DTYPES = {  # XLA's numbers
    1: np.dtype(np.bool_),
    2: np.dtype(np.int8), 3: np.dtype(np.int16), 4: np.dtype(np.int32), 5: np.dtype(np.int64),
    6: np.dtype(np.uint8), 7: np.dtype(np.uint16), 8: np.dtype(np.uint32), 9: np.dtype(np.uint64),
    10: np.dtype(np.float16), 11: np.dtype(np.float32), 12: np.dtype(np.float64), 16: np.dtype(ml_dtypes.bfloat16),
}
cdef object prepared = None


def capsule(call):
    """XLA's handler; `call(text)` gives the function of (*operands, result) for the attribute of a call."""
    global prepared
    prepared = call
    return PyCapsule_New(<void*>handle, NULL, NULL)


# Handlers that wait for the interpreter or are in it, of which no more may come when it ends: JAX then waits for all
# computations to finish, without letting go of it.
cdef int inside = 0
cdef bint closing = False


@atexit.register
def close():
    global closing
    closing = True
    with nogil:
        while __atomic_load_n(&inside, __ATOMIC_ACQUIRE):
            sched_yield()


cdef xla_ffi_error* handle(xla_ffi_call* call) noexcept nogil:
    cdef xla_ffi_metadata* metadata
    cdef xla_ffi_error* error = NULL
    if call.extensions != NULL and call.extensions.type == XLA_FFI_METADATA:
        # A question, asked once: which version is spoken here?
        metadata = (<xla_ffi_metadata_extension*>call.extensions).metadata
        metadata.version.major = XLA_FFI_MAJOR
        metadata.version.minor = min(XLA_FFI_MINOR, call.api.version.minor)
        metadata.traits = 0
        return NULL
    __atomic_add_fetch(&inside, 1, __ATOMIC_ACQ_REL)
    if closing:
        error = failure(call, b"the interpreter ends")
    else:
        with gil:
            error = answer(call)
    __atomic_sub_fetch(&inside, 1, __ATOMIC_ACQ_REL)
    return error


cdef xla_ffi_error* answer(xla_ffi_call* call) noexcept:
    cdef xla_ffi_span* text = <xla_ffi_span*>call.attributes.values[0]
    cdef xla_team team
    cdef int64_t i
    team.pool.invite = xla_invite
    team.call = call
    team.help = help
    join(&team.pool)
    try:
        function = prepared(PyBytes_FromStringAndSize(text.start, text.length))
        arrays = [array(<xla_ffi_buffer*>call.arguments.values[i], 0) for i in range(call.arguments.size)]
        arrays.append(array(<xla_ffi_buffer*>call.results.values[0], cnp.NPY_ARRAY_WRITEABLE))
        function(*arrays)
    except BaseException as error:
        message = str(error).encode()
        return failure(call, message)
    finally:
        join(NULL)
    return NULL


cdef xla_ffi_error* failure(xla_ffi_call* call, const char* message) noexcept nogil:
    cdef xla_ffi_error_create_args arguments
    arguments.struct_size = sizeof(arguments)
    arguments.extensions = NULL
    arguments.message = message
    arguments.code = XLA_FFI_INVALID_ARGUMENT
    return call.api.error_create(&arguments)


cdef cnp.ndarray array(xla_ffi_buffer* buffer, int writeable):
    cdef cnp.dtype dtype = DTYPES[buffer.dtype]
    cdef cnp.npy_intp shape[32]
    cdef cnp.npy_intp size = dtype.itemsize
    cdef int i
    for i in range(buffer.rank):
        shape[i] = buffer.dims[i]
        size *= shape[i]
    if writeable and size >= HUGE_FROM:
        ask_for_huge_pages(<uintptr_t>buffer.data, size)
    Py_INCREF(dtype)
    return PyArray_NewFromDescr(
        &PyArray_Type, dtype, <int>buffer.rank, shape, NULL, buffer.data, cnp.NPY_ARRAY_CARRAY_RO | writeable, NULL
    )


cdef void ask_for_huge_pages(uintptr_t start, size_t size) noexcept nogil:
    cdef uintptr_t first = (start + PAGE - 1) // PAGE * PAGE, last = (start + size) // PAGE * PAGE
    madvise(<void*>first, last - first, MADV_HUGEPAGE)
