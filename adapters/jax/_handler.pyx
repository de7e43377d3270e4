"""XLA's typed foreign function interface: to the C core, or to a Python function on NumPy arrays over XLA's own buffers.

The core serves what a plan describes, without the interpreter. What has none, and what the core refuses, goes to Python,
which alone knows all options and all messages.
"""

import atexit

import ml_dtypes
import numpy as np

cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF, PyObject, PyTypeObject
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.math cimport NAN, isfinite, isnan
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastlogits.backends._team cimport help, join, team_pool
from fastlogits.backends.cython cimport _core
from fastlogits.backends.cython._core cimport (
    FL_BFLOAT16, FL_FLOAT16, FL_FLOAT32, FL_FLOAT64, FL_INT32, FL_INT64, FL_NONE, FL_OK, fl_loss, fl_loss_of, fl_rows,
    fl_rows_of,
)

from fastlogits._options import NOTHING

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
    ctypedef struct xla_ffi_array:
        size_t size
        void* data
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
    int __ATOMIC_ACQUIRE, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED
    void load "__atomic_load"(double*, double*, int) nogil
    void store "__atomic_store"(double*, double*, int) nogil

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
    """XLA's handler; `call(text)` gives the function of (*operands, *results) for the attribute of a call."""
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
    if is_served(call):
        return NULL
    __atomic_add_fetch(&inside, 1, __ATOMIC_ACQ_REL)
    if closing:
        error = failure(call, b"the interpreter ends")
    else:
        with gil:
            error = answer(call)
    __atomic_sub_fetch(&inside, 1, __ATOMIC_ACQ_REL)
    return error


cdef xla_team team_of(const xla_ffi_call* call) noexcept nogil:
    cdef xla_team team
    team.pool.invite = xla_invite
    team.call = call
    team.help = help
    return team


cdef xla_ffi_error* answer(xla_ffi_call* call) noexcept:
    cdef xla_ffi_span* text = <xla_ffi_span*>call.attributes.values[0]
    cdef xla_team team = team_of(call)
    cdef int64_t i
    join(&team.pool)
    try:
        function = prepared(PyBytes_FromStringAndSize(text.start, text.length))
        arrays = [array(<xla_ffi_buffer*>call.arguments.values[i], 0) for i in range(call.arguments.size)]
        for i in range(call.results.size):
            arrays.append(array(<xla_ffi_buffer*>call.results.values[i], cnp.NPY_ARRAY_WRITEABLE))
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


# Without the interpreter

# What `_lowering.plan` says of a call
ctypedef struct Plan:
    int64_t operation   # its place among OPERATIONS
    int64_t axis        # from the end
    int64_t threads
    int64_t ignore_index
    double label_smoothing, z_loss, softcap, logit_scale

cdef enum:
    SOFTMAX, LOG_SOFTMAX, SOFTMAX_BACKWARD, LOG_SOFTMAX_BACKWARD, LOGSUMEXP, CROSS_ENTROPY, CROSS_ENTROPY_BACKWARD
    CROSS_ENTROPY_WITH_GRAD, CROSS_ENTROPY_KEPT, DIVISOR
    ROOM = 512          # so many numbers are kept on the stack
    KINDS = 64
    PART = 256          # so many numbers are added up before their sum is added to that of the others

OPERATIONS = (
    "softmax", "log_softmax", "softmax_backward", "log_softmax_backward", "logsumexp", "cross_entropy",
    "cross_entropy_backward", "cross_entropy_with_grad", "cross_entropy_kept", "divisor",
)
cdef int64_t NO_LABEL = NOTHING


cdef bint is_served(xla_ffi_call* call) noexcept nogil:
    cdef xla_ffi_array* given = <xla_ffi_array*>call.attributes.values[1]
    cdef const Plan* plan = <const Plan*>given.data
    cdef xla_team team
    cdef bint served
    if given.size == 0:
        return False
    team = team_of(call)
    join(&team.pool)
    if plan.operation == DIVISOR:
        served = is_served_divisor(call, plan)
    elif plan.operation >= CROSS_ENTROPY:
        served = is_served_loss(call, plan)
    else:
        served = are_served_rows(call, plan)
    join(NULL)
    return served


cdef xla_ffi_buffer* operand(const xla_ffi_call* call, int i) noexcept nogil:
    return <xla_ffi_buffer*>call.arguments.values[i]


cdef xla_ffi_buffer* result_of(const xla_ffi_call* call, int i=0) noexcept nogil:
    return <xla_ffi_buffer*>call.results.values[i]


cdef int dtype_of(const xla_ffi_buffer* buffer) noexcept nogil:
    """The core's number for XLA's; 0 for what it does not know."""
    if buffer.dtype == 11:
        return FL_FLOAT32
    if buffer.dtype == 12:
        return FL_FLOAT64
    if buffer.dtype == 10:
        return FL_FLOAT16
    if buffer.dtype == 16:
        return FL_BFLOAT16
    if buffer.dtype == 4:
        return FL_INT32
    return FL_INT64 if buffer.dtype == 5 else 0


cdef int computed_in(int dtype) noexcept nogil:
    return FL_FLOAT64 if dtype == FL_FLOAT64 else FL_FLOAT32


cdef int64_t product(const int64_t* lengths, int64_t start, int64_t stop) noexcept nogil:
    cdef int64_t total = 1, i
    for i in range(start, stop):
        total *= lengths[i]
    return total


cdef void claim(const xla_ffi_buffer* buffer) noexcept nogil:
    cdef size_t size = 8 if buffer.dtype == 12 else 4 if buffer.dtype == 11 else 2
    size *= product(buffer.dims, 0, buffer.rank)
    if size >= HUGE_FROM:
        ask_for_huge_pages(<uintptr_t>buffer.data, size)


cdef bint are_served_rows(const xla_ffi_call* call, const Plan* plan) noexcept nogil:
    cdef xla_ffi_buffer* x = operand(call, 0)
    cdef xla_ffi_buffer* z = result_of(call)
    cdef int64_t axis = x.rank + plan.axis
    cdef int dtype = dtype_of(x), code
    if plan.operation == LOGSUMEXP and dtype != computed_in(dtype):
        return False
    cdef fl_rows rows = fl_rows_of(dtype, x.data, product(x.dims, 0, axis), x.dims[axis])
    rows.inner = product(x.dims, axis + 1, x.rank)
    rows.x_stride = rows.y_stride = rows.z_stride = rows.classes * rows.inner
    rows.z = z.data
    rows.threads = plan.threads
    if call.arguments.size > 1:
        rows.y = operand(call, 1).data
    claim(z)
    if plan.operation == SOFTMAX:
        code = _core.softmax(&rows)
    elif plan.operation == LOG_SOFTMAX:
        code = _core.log_softmax(&rows)
    elif plan.operation == SOFTMAX_BACKWARD:
        code = _core.softmax_backward(&rows)
    elif plan.operation == LOG_SOFTMAX_BACKWARD:
        code = _core.log_softmax_backward(&rows)
    else:
        code = _core.logsumexp(&rows)
    return code == FL_OK


# A number for each row, or for each class, and where it is kept if it is not where XLA has it
ctypedef struct Numbers:
    void* many
    double few[ROOM]


cdef void* room_for(Numbers* numbers, int64_t count) noexcept nogil:
    numbers.many = NULL
    if count <= ROOM:
        return numbers.few
    numbers.many = malloc(count * sizeof(double))
    return numbers.many


cdef bint is_served_loss(const xla_ffi_call* call, const Plan* plan) noexcept nogil:
    """The operands are x, labels[, weight]; of a gradient [g, ...[, losses[, gradient, expected]]]."""
    cdef bint kept = plan.operation == CROSS_ENTROPY_KEPT
    cdef bint backward = kept or plan.operation == CROSS_ENTROPY_BACKWARD
    cdef int64_t operands = call.arguments.size - 2 * backward - 2 * kept
    cdef xla_ffi_buffer* x = operand(call, backward)
    cdef xla_ffi_buffer* labels = operand(call, backward + 1)
    cdef int64_t axis = x.rank + plan.axis
    cdef int dtype = dtype_of(x)
    cdef fl_loss loss = fl_loss_of(dtype, x.data, product(x.dims, 0, axis), x.dims[axis])
    cdef Numbers weights
    cdef bint served
    loss.inner = product(x.dims, axis + 1, x.rank)
    loss.x_stride = loss.grad_stride = loss.targets_stride = loss.classes * loss.inner
    if labels.rank == x.rank:
        if dtype_of(labels) != dtype:
            return False
        loss.targets = labels.data
    else:
        loss.labels = labels.data
        loss.label_dtype = dtype_of(labels)
        if plan.ignore_index == NO_LABEL and not backward and has_no_label(&loss):
            return False
    loss.threads = plan.threads
    loss.ignore_index = plan.ignore_index
    loss.label_smoothing = plan.label_smoothing
    loss.z_loss = plan.z_loss
    loss.softcap = plan.softcap
    loss.logit_scale = plan.logit_scale
    loss.reduction = FL_NONE
    weights.many = NULL
    if operands > 2 and not has_weights(&loss, operand(call, backward + 2), &weights):
        return False
    if backward:
        loss.grad = result_of(call).data
        served = is_served_gradient(call, &loss, kept)
    else:
        loss.losses = result_of(call).data
        loss.loss_dtype = dtype_of(result_of(call))
        served = are_served_losses(call, &loss, plan.operation == CROSS_ENTROPY_WITH_GRAD)
    free(weights.many)
    return served


cdef bint has_weights(fl_loss* loss, const xla_ffi_buffer* weight, Numbers* numbers) noexcept nogil:
    """Whether the weights of classes are such as the core takes, once they are in what is computed in."""
    cdef int given = dtype_of(weight), taken = computed_in(loss.dtype)
    cdef void* room = weight.data
    cdef int64_t i
    if weight.rank != 1 or not is_weight(weight):
        return False
    if given != taken:
        room = room_for(numbers, loss.classes)
        if room == NULL:
            return False
        for i in range(loss.classes):
            if taken == FL_FLOAT32:
                (<float*>room)[i] = <float>weight_at(weight, i)
            else:
                (<double*>room)[i] = weight_at(weight, i)
    loss.weight = room
    return True


cdef bint is_weight(const xla_ffi_buffer* weight) noexcept nogil:
    cdef int dtype = dtype_of(weight)
    return dtype == FL_FLOAT32 or dtype == FL_FLOAT64 or dtype == FL_BFLOAT16


cdef double weight_at(const xla_ffi_buffer* weight, int64_t i) noexcept nogil:
    cdef uint32_t bits
    cdef float single
    if dtype_of(weight) == FL_FLOAT64:
        return (<const double*>weight.data)[i]
    if dtype_of(weight) == FL_FLOAT32:
        return (<const float*>weight.data)[i]
    bits = <uint32_t>(<const uint16_t*>weight.data)[i] << 16
    memcpy(&single, &bits, sizeof(single))
    return single


cdef bint has_no_label(const fl_loss* loss) noexcept nogil:
    """Whether a label may be the number by which nothing is ignored, which is negative: an error, as all of them."""
    cdef const int64_t* labels = <const int64_t*>loss.labels
    cdef int64_t signs = 0, i
    if loss.label_dtype == FL_INT64:
        for i in range(loss.outer * loss.inner):
            signs |= labels[i]
    return signs < 0


# What arrived at all losses of a kind is guessed to arrive again, if it did so twice: their gradient is then there after
# one sweep, and computed anew where something else arrives. Two kinds at one place only guess worse.
cdef double last[KINDS]
cdef double usual[KINDS]    # 0 or NaN: nothing is guessed


cdef int64_t kind_of(const fl_loss* loss) noexcept nogil:
    cdef uint64_t mixed = <uint64_t>loss.outer * 31 + <uint64_t>loss.inner * 7 + <uint64_t>loss.classes
    mixed = mixed * 31 + <uint64_t>loss.dtype
    return <int64_t>((mixed * <uint64_t>0x9E3779B97F4A7C15) >> 58)


cdef double guess_of(const fl_loss* loss) noexcept nogil:
    cdef double guess
    load(&usual[kind_of(loss)], &guess, __ATOMIC_RELAXED)
    return guess if guess != 0 else NAN


cdef void learn(const fl_loss* loss, double given) noexcept nogil:
    cdef int64_t kind = kind_of(loss)
    cdef double before
    load(&last[kind], &before, __ATOMIC_RELAXED)
    store(&last[kind], &given, __ATOMIC_RELAXED)
    if before != given:
        before = NAN
    store(&usual[kind], &before, __ATOMIC_RELAXED)


cdef bint are_served_losses(const xla_ffi_call* call, fl_loss* loss, bint with_grad) noexcept nogil:
    cdef double guess
    if with_grad:
        guess = guess_of(loss)
        memcpy(result_of(call, 2).data, &guess, sizeof(guess))
        if not isnan(guess):
            claim(result_of(call, 1))
            loss.grad = result_of(call, 1).data
            loss.upstream = guess
    return _core.cross_entropy(loss) == FL_OK


cdef bint is_served_gradient(const xla_ffi_call* call, fl_loss* loss, bint kept) noexcept nogil:
    """Of a gradient that was kept, the result lies in its place."""
    cdef const xla_ffi_buffer* g = operand(call, 0)
    cdef int64_t rows = loss.outer * loss.inner, i
    cdef const float* singles = <const float*>g.data
    cdef double expected = NAN, given = one_number(loss, g)
    cdef Numbers numbers
    cdef double* each
    cdef bint served
    if kept:
        memcpy(&expected, operand(call, <int>call.arguments.size - 1).data, sizeof(expected))
        learn(loss, given)
        if given == expected:
            return True
    claim(result_of(call))
    if not isnan(given):
        loss.upstream = given
        return _core.cross_entropy(loss) == FL_OK
    if dtype_of(g) == FL_FLOAT64:
        loss.grad_loss = <const double*>g.data
        return _core.cross_entropy(loss) == FL_OK
    each = <double*>room_for(&numbers, rows)
    if each == NULL:
        return False
    for i in range(rows):
        each[i] = singles[i]
    loss.grad_loss = each
    served = _core.cross_entropy(loss) == FL_OK
    free(numbers.many)
    return served


cdef double one_number(const fl_loss* loss, const xla_ffi_buffer* g) noexcept nogil:
    """The number that arrives at all rows that count; NaN if there is none, or it is not finite."""
    cdef const double* doubles = <const double*>g.data if dtype_of(g) == FL_FLOAT64 else NULL
    cdef const float* singles = <const float*>g.data
    cdef double number, found = NAN
    cdef int64_t rows = loss.outer * loss.inner, i
    if rows and is_one_pattern(g, rows):
        found = doubles[0] if doubles != NULL else singles[0]
        return found if isfinite(found) else NAN
    for i in range(rows):
        number = doubles[i] if doubles != NULL else singles[i]
        if number != found and not is_ignored(loss, i):
            if not isnan(found) or not isfinite(number):
                return NAN
            found = number
    return found


cdef bint is_one_pattern(const xla_ffi_buffer* g, int64_t rows) noexcept nogil:
    cdef const uint64_t* longs = <const uint64_t*>g.data
    cdef const uint32_t* ints = <const uint32_t*>g.data
    cdef uint64_t long_gap = 0
    cdef uint32_t gap = 0
    cdef int64_t i
    if dtype_of(g) == FL_FLOAT64:
        for i in range(rows):
            long_gap |= longs[i] ^ longs[0]
    else:
        for i in range(rows):
            gap |= ints[i] ^ ints[0]
    return not gap and not long_gap


cdef bint is_ignored(const fl_loss* loss, int64_t row) noexcept nogil:
    if loss.labels == NULL:
        return False
    if loss.label_dtype == FL_INT64:
        return (<const int64_t*>loss.labels)[row] == loss.ignore_index
    return (<const int32_t*>loss.labels)[row] == loss.ignore_index


cdef bint is_served_divisor(const xla_ffi_call* call, const Plan* plan) noexcept nogil:
    """The operands are labels[, weight]; the last `plan.axis` axes of the labels are rows of one loss."""
    cdef const xla_ffi_buffer* labels = operand(call, 0)
    cdef const xla_ffi_buffer* weight = operand(call, 1) if call.arguments.size > 1 else NULL
    cdef const xla_ffi_buffer* z = result_of(call)
    cdef int64_t first = labels.rank - plan.axis, batch = product(labels.dims, 0, first), i
    cdef int64_t rows = product(labels.dims, first, labels.rank)
    cdef double total
    if dtype_of(labels) != FL_INT32 and dtype_of(labels) != FL_INT64:
        return False
    if weight != NULL and (not is_weight(weight) or weight.rank != 1 and weight.rank != first + 1):
        return False
    for i in range(batch):
        total = total_weight(labels, weight, i, rows, plan.ignore_index)
        if dtype_of(z) == FL_FLOAT64:
            (<double*>z.data)[i] = total
        else:
            (<float*>z.data)[i] = <float>total
    return True


cdef double total_weight(
    const xla_ffi_buffer* labels, const xla_ffi_buffer* weight, int64_t number, int64_t rows, int64_t ignored
) noexcept nogil:
    """Labels that are no classes, which the losses refuse, weigh nothing."""
    cdef const int64_t* longs = <const int64_t*>labels.data + number * rows if dtype_of(labels) == FL_INT64 else NULL
    cdef const int32_t* ints = <const int32_t*>labels.data + number * rows
    cdef double total = 0, part = 0
    cdef int64_t i, label, classes, first, count = 0
    if weight == NULL:
        if longs != NULL:
            for i in range(rows):
                count += longs[i] != ignored
        else:
            for i in range(rows):
                count += ints[i] != ignored
        return <double>count
    classes = weight.dims[weight.rank - 1]
    first = 0 if weight.rank == 1 else number * classes
    for i in range(rows):
        if i % PART == 0:
            total += part
            part = 0
        label = longs[i] if longs != NULL else ints[i]
        if label != ignored and 0 <= label < classes:
            part += weight_at(weight, first + label)
    return total + part
