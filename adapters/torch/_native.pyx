# cython: infer_types=True
"""Calls of the C core on torch's tensors, which DLPack's exchange shows and makes: what evaluating through NumPy costs
is spared, 5 to 10 us a call.

Each function returns None for what is not plain: another layout, dtype or device, a label that is no class, an option
that is out of its range, a result so large that kept memory pays. Then the general way is taken, which alone knows the rules and has the messages.
"""

import torch

from cpython.exc cimport PyErr_Clear
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from libc.math cimport NAN, isfinite
from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from fastlogits.backends.cython cimport _core
from fastlogits.backends.cython._calls cimport answer
from fastlogits.backends.cython._core cimport (
    FL_BAD_ARGUMENT, FL_BAD_LABEL, FL_BFLOAT16, FL_FLOAT16, FL_FLOAT32, FL_FLOAT64, FL_INT32, FL_INT64, FL_MEAN, FL_NONE,
    FL_NORMALIZED, FL_SUM, fl_loss, fl_loss_of, fl_rows, fl_rows_of, operation,
)

from fastlogits import _checks, _memory, config
from fastlogits.backends.threads import SERIAL_BELOW


cdef extern from "dlpack.h" nogil:
    enum:
        DL_CPU, DL_INT, DL_FLOAT, DL_BFLOAT
    ctypedef struct dl_version:
        uint32_t major, minor
    ctypedef struct dl_device:
        int32_t type, id
    ctypedef struct dl_type:
        uint8_t code, bits
        uint16_t lanes
    ctypedef struct dl_tensor:
        void* data
        dl_device device
        int32_t ndim
        dl_type dtype
        int64_t* shape
        int64_t* strides
        uint64_t byte_offset
    ctypedef struct dl_managed:
        dl_tensor tensor
    ctypedef struct dl_exchange:
        dl_version version
        int (*allocate)(dl_tensor*, dl_managed**, void*, void (*)(void*, const char*, const char*) noexcept) noexcept
        int (*to_python)(dl_managed*, void**) noexcept
        int (*from_python)(void*, dl_tensor*) noexcept


cdef extern from *:
    """
    static PyObject *owned(void *object) { return (PyObject *)object; }
    """
    object owned(void*)  # by who calls, as all objects that C returns


cdef extern from "conversions.h":
    bint convert(const void* x, int from_dtype, void* y, int to, int64_t n) noexcept


cdef object Tensor = torch.Tensor, Parameter = torch.nn.Parameter
cdef object FLOAT32 = torch.float32, FLOAT64 = torch.float64, BFLOAT16 = torch.bfloat16, FLOAT16 = torch.float16
cdef object is_grad_enabled = torch.is_grad_enabled, is_autocast_enabled = torch.is_autocast_enabled
cdef dict REDUCTIONS = {"mean": FL_MEAN, "sum": FL_SUM, "none": FL_NONE}
cdef Py_ssize_t serial_below = SERIAL_BELOW, kept_from = _memory.KEPT_FROM
cdef double least_scale, largest_scale
least_scale, largest_scale = _checks.SCALE_RANGE
cdef const dl_exchange* exchange = NULL


def begin():
    """Look for what this torch exchanges tensors by; ImportError if it does not, or by a version to come."""
    global exchange
    capsule = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    if not PyCapsule_IsValid(capsule, "dlpack_exchange_api"):
        raise ImportError("torch does not exchange tensors in C")
    found = <const dl_exchange*>PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
    if found.version.major != 1 or found.allocate == NULL or found.to_python == NULL or found.from_python == NULL:
        raise ImportError("torch exchanges tensors in C otherwise")
    exchange = found


cdef bint look(object tensor, dl_tensor* view) except -1:
    """Whether it is plain, and lies in this process's memory in the order of its axes without gaps."""
    kind = type(tensor)
    if (kind is not Tensor and kind is not Parameter) or tensor.is_neg():
        return False
    if exchange.from_python(<void*>tensor, view):
        PyErr_Clear()
        return False
    if view.device.type != DL_CPU or view.dtype.lanes != 1:
        return False
    cdef int64_t step = 1
    for i in reversed(range(view.ndim)):
        if view.shape[i] != 1 and view.strides != NULL and view.strides[i] != step:
            return False
        step *= view.shape[i]
    return step > 0


cdef void* data(const dl_tensor* tensor) noexcept:
    return <char*>tensor.data + tensor.byte_offset


cdef int dtype_of(dl_type dtype) noexcept:
    """By the numbers of fastlogits.h; 0 for others."""
    if dtype.code == DL_BFLOAT:
        return FL_BFLOAT16 if dtype.bits == 16 else 0
    if dtype.code == DL_INT:
        return FL_INT64 if dtype.bits == 64 else FL_INT32 if dtype.bits == 32 else 0
    if dtype.code != DL_FLOAT:
        return 0
    return FL_FLOAT32 if dtype.bits == 32 else FL_FLOAT64 if dtype.bits == 64 else FL_FLOAT16 if dtype.bits == 16 else 0


cdef bint is_floating(int dtype) noexcept:
    return FL_FLOAT32 <= dtype <= FL_BFLOAT16


cdef bint same_shape(const dl_tensor* one, const dl_tensor* other, int without) noexcept:
    """Whether `other` has the axes of `one`, but for the axis `without` if there is one."""
    cdef int i, n = 0
    if other.ndim != one.ndim - (without >= 0):
        return False
    for i in range(one.ndim):
        if i != without:
            if other.shape[n] != one.shape[i]:
                return False
            n += 1
    return True


cdef struct Layout:
    int64_t outer, classes, inner
    int axis


cdef bint layout_of(const dl_tensor* x, object axis, Layout* layout) except -1:
    cdef int64_t number
    cdef int i
    if type(axis) is not int:  # several
        return False
    number = axis
    if not -x.ndim <= number < x.ndim:
        return False
    layout.axis = <int>(number + x.ndim if number < 0 else number)
    layout.outer = layout.inner = 1
    layout.classes = x.shape[layout.axis]
    for i in range(x.ndim):
        if i < layout.axis:
            layout.outer *= x.shape[i]
        elif i > layout.axis:
            layout.inner *= x.shape[i]
    return True


cdef void set_error(void* context, const char* kind, const char* message) noexcept:
    pass


cdef object made(dl_tensor* like, void** where):
    """A new tensor, and in `where` its memory."""
    cdef dl_managed* managed
    cdef void* tensor
    if exchange.allocate(like, &managed, NULL, set_error):
        raise MemoryError
    where[0] = data(&managed.tensor)
    if exchange.to_python(managed, &tensor):
        raise MemoryError
    return owned(tensor)


cdef int threads_for(Py_ssize_t logits) except -1:
    return 1 if logits < serial_below else config.threads(logits)


cdef object rows_of(operation function, object x, object y, object axis):
    """The operation on `x`, and on `y` unless that is None."""
    cdef dl_tensor view, other
    cdef Layout layout
    cdef void* where
    if not look(x, &view):
        if y is None or x.numel() * x.element_size() >= kept_from:
            return None
        x = x.contiguous()  # what arrives from a sum is one number, seen from everywhere
        if not look(x, &view):
            return None
    if not layout_of(&view, axis, &layout):
        return None
    cdef int dtype = dtype_of(view.dtype)
    logits = layout.outer * layout.classes * layout.inner
    if not is_floating(dtype) or logits * (view.dtype.bits // 8) >= kept_from:
        return None
    if y is not None and not (look(y, &other) and dtype_of(other.dtype) == dtype and same_shape(&view, &other, -1)):
        return None
    cdef fl_rows call = fl_rows_of(dtype, data(&view), layout.outer, layout.classes)
    call.inner = layout.inner
    call.x_stride = call.y_stride = call.z_stride = layout.classes * layout.inner
    call.y = NULL if y is None else data(&other)
    call.threads = threads_for(logits)
    call.listen = True
    result = made(&view, &where)
    call.z = where
    with nogil:
        code = function(&call)
    answer(code)
    return result


def softmax(x, axis, attach=None):
    return attached(rows_of(_core.softmax, x, None, axis), x, axis, attach)


def log_softmax(x, axis, attach=None):
    return attached(rows_of(_core.log_softmax, x, None, axis), x, axis, attach)


cdef object attached(object result, object x, object axis, object attach):
    """The result, `attach`ed to autograd where `x` needs a gradient."""
    if attach is None or result is None or not tracks(x) or not is_grad_enabled():
        return result
    return attach(x, (result, (axis, 1.0)))


def softmax_backward(grad, probs, axis):
    return rows_of(_core.softmax_backward, grad, probs, axis)


def log_softmax_backward(grad, log_probs, axis):
    return rows_of(_core.log_softmax_backward, grad, log_probs, axis)


cdef double number(object value) noexcept:
    """NaN for what is none, or not plain."""
    kind = type(value)
    if kind is float:
        return <double>value
    return <double><int64_t>value if kind is int and -1e15 < value < 1e15 else NAN


cdef bint take(object options, fl_loss* call) except -1:
    """Whether they are plain, and in their ranges."""
    cdef int too_large = 0
    _, ignore_index, smoothing, z_loss, softcap, logit_scale, reduction, normalizer, _ = <tuple>options
    if not isinstance(ignore_index, int):
        return False
    call.ignore_index = PyLong_AsLongLongAndOverflow(ignore_index, &too_large)
    call.label_smoothing, call.z_loss, call.logit_scale = number(smoothing), number(z_loss), number(logit_scale)
    call.softcap = 0.0 if softcap is None else number(softcap)
    call.reduction = REDUCTIONS.get(reduction, -1) if type(reduction) is str else -1
    if normalizer is not None and call.reduction == FL_MEAN:
        call.reduction = FL_NORMALIZED
        call.normalizer = number(normalizer)
    elif normalizer is not None:
        return False
    return (call.reduction >= 0 and not too_large and call.ignore_index > INT64_MIN
            and 0.0 <= call.label_smoothing <= 1.0 and isfinite(call.z_loss) and isfinite(call.logit_scale)
            and (softcap is None or least_scale <= call.softcap <= largest_scale)
            and 0.0 <= call.normalizer and isfinite(call.normalizer))


cdef class Memory:
    cdef void* data

    def __cinit__(self, size_t size):
        self.data = malloc(size)
        if self.data == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.data)


cdef object numbers(object tensor, dl_tensor* view, int wanted, const void** where):
    """What keeps in `where` the numbers of a tensor, packed and of the dtype `wanted`; None if that is not plain."""
    cdef int64_t n = 1
    cdef int i
    if not isinstance(tensor, Tensor):
        return None
    if not look(tensor, view):
        tensor = tensor.contiguous()  # what arrives from a sum is one number, seen from everywhere
        if not look(tensor, view):
            return None
    if dtype_of(view.dtype) == wanted:
        where[0] = data(view)
        return tensor
    if dtype_of(view.dtype) == FL_FLOAT16:
        return numbers(tensor.float(), view, wanted, where)
    for i in range(view.ndim):
        n *= view.shape[i]
    kept = Memory(n * (8 if wanted == FL_FLOAT64 else 4))
    where[0] = kept.data
    return kept if convert(data(view), dtype_of(view.dtype), kept.data, wanted, n) else None


def loss(tensors, options, dtype, arriving=None):
    """(the loss in `dtype`, its gradient where the number, or the tensor of one a row, `arriving` arrives at it)

    What is not asked for, by None, is None.
    """
    cdef dl_tensor x, labels, view, like
    cdef Layout layout
    cdef int64_t[64] shape
    cdef void* where = NULL
    cdef const void* read = NULL
    logits, target, weight, sample_weight = tensors
    if not look(logits, &x) or not look(target, &labels) or not layout_of(&x, options[0], &layout) or x.ndim > 64:
        return None
    cdef int kind = dtype_of(x.dtype), label_kind = dtype_of(labels.dtype)
    cdef bint soft = label_kind == kind
    size = layout.outer * layout.classes * layout.inner
    if not is_floating(kind) or not (soft or label_kind == FL_INT64 or label_kind == FL_INT32):
        return None
    if not same_shape(&x, &labels, -1 if soft else layout.axis) or (
        arriving is not None and size * (x.dtype.bits // 8) >= kept_from
    ):
        return None

    cdef fl_loss call = fl_loss_of(kind, data(&x), layout.outer, layout.classes)
    if not take(options, &call) or (soft and call.ignore_index >= 0):
        return None
    call.inner = layout.inner
    call.x_stride = call.grad_stride = call.targets_stride = layout.classes * layout.inner
    if soft:
        call.targets = data(&labels)
    else:
        call.labels = data(&labels)
        call.label_dtype = label_kind
    if weight is not None:
        weight = numbers(weight, &view, FL_FLOAT64 if kind == FL_FLOAT64 else FL_FLOAT32, &read)
        if weight is None or view.ndim != 1 or view.shape[0] != layout.classes:
            return None
        call.weight = read
    if sample_weight is not None:
        sample_weight = numbers(sample_weight, &view, FL_FLOAT64, &read)
        if sample_weight is None or not same_shape(&x, &view, layout.axis):
            return None
        call.sample_weight = <const double*>read
    call.threads = threads_for(size)
    call.listen = True

    grad = None
    if type(arriving) is float:
        call.upstream = arriving
    elif arriving is not None:
        arriving = numbers(arriving, &view, FL_FLOAT64, &read)
        if arriving is None or call.reduction != FL_NONE or not same_shape(&x, &view, layout.axis):
            return None
        call.grad_loss = <const double*>read
    if arriving is not None:
        grad = made(&x, &where)
        call.grad = where

    # The losses are numbers for rows, or the one number that they are reduced to.
    cdef Memory singles = None
    cdef int64_t n = 1
    value = None
    if dtype is not None:
        like = x
        like.strides = NULL
        like.byte_offset = 0
        like.dtype.code, like.dtype.bits = DL_FLOAT, 64 if dtype is FLOAT64 else 32
        like.shape = shape
        like.ndim = 0
        if call.reduction == FL_NONE:
            like.ndim = x.ndim - 1
            n = layout.outer * layout.inner
            for i in range(like.ndim):
                shape[i] = x.shape[i + (i >= layout.axis)]
        if dtype is BFLOAT16:
            like.dtype.code, like.dtype.bits = DL_BFLOAT, 16
        value = made(&like, &where)
        call.losses = where
        if dtype is BFLOAT16:
            singles = Memory(n * sizeof(float))
            call.losses = singles.data
        call.loss_dtype = FL_FLOAT64 if dtype is FLOAT64 else FL_FLOAT32
    with nogil:
        code = _core.cross_entropy(&call)
    if code == FL_BAD_LABEL or code == FL_BAD_ARGUMENT:
        return None
    answer(code)
    if dtype is None:
        return None, grad
    if call.reduction != FL_NONE:
        if dtype is FLOAT64:
            (<double*>call.losses)[0] = call.loss
        else:
            (<float*>call.losses)[0] = <float>call.loss
    if dtype is BFLOAT16:
        convert(singles.data, FL_FLOAT32, where, FL_BFLOAT16, n)
    elif dtype is not FLOAT32 and dtype is not FLOAT64:
        value = value.to(dtype)
    return value, grad


cdef bint tracks(object tensor) except -1:
    return tensor is not None and tensor.requires_grad


def cross_entropy(tensors, options, dtype, attach):
    """The loss in `dtype`, by default that of torch, `attach`ed to autograd where logits need a gradient.

    None also where another tensor does.
    """
    logits, target, weight, sample_weight = tensors
    if tracks(target) or tracks(weight) or tracks(sample_weight):
        return None
    own_dtype = logits.dtype
    if dtype is None:
        dtype = own_dtype
        if dtype is not FLOAT32 and dtype is not FLOAT64 and is_autocast_enabled("cpu"):
            dtype = FLOAT32
    cdef bint tracked = tracks(logits) and is_grad_enabled()
    # What else is early: see _autograd.cross_entropy
    early = tracked and options[6] != "none" and own_dtype is not FLOAT16
    found = loss(tensors, options, dtype, 1.0 if early else None)
    if found is None or not tracked:
        return found and found[0]
    return attach(logits, (tensors, found, (options, dtype, False), False))
