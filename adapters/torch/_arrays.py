"""Between tensors and NumPy arrays without copies, and the memory that gradients are written to."""

import sys

import numpy as np
import torch

# A fresh 131 MB gradient costs 42 ms of page faults from torch.empty, 12 ms from np.empty (which asks for
# huge pages) and nothing where the last one is free again; below this size malloc reuses memory by itself.
KEPT_FROM = 1 << 22
_kept = []

NUMPY = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
}


def numpy_dtype(dtype):
    """The dtype of NumPy, or of ml_dtypes, for one of torch."""
    if dtype not in NUMPY:
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError("bfloat16 tensors need the package ml_dtypes: pip install ml_dtypes") from None
        NUMPY[torch.bfloat16] = np.dtype(ml_dtypes.bfloat16)
    return NUMPY[dtype]


def array(tensor):
    """The memory of a dense CPU tensor as an ndarray."""
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().view(torch.uint16).numpy().view(numpy_dtype(torch.bfloat16))
    return tensor.numpy(force=True)  # that is, whether it requires grad or not


def tensor(array, dtype):
    """The memory of `array`, or the scalar `array`, as a tensor; `dtype` is torch's name of what it holds."""
    if dtype is torch.bfloat16:
        return torch.from_numpy(np.asarray(array).view(np.uint16)).view(dtype)
    return torch.from_numpy(array if type(array) is np.ndarray else np.asarray(array))


def empty_like(tensor):
    """An ndarray to write a gradient of the contiguous `tensor` to; None where any new one does as well."""
    nbytes = tensor.numel() * tensor.element_size()
    if nbytes < KEPT_FROM or not tensor.is_contiguous():
        return None
    return _memory(nbytes)[:nbytes].view(numpy_dtype(tensor.dtype)).reshape(tensor.shape)


def _memory(nbytes):
    """The kept memory where no tensor holds it any more and it suffices, else new memory."""
    try:
        memory = _kept.pop()
    except IndexError:
        memory = None
    # Popped, so no other thread has it; the two references are `memory` and getrefcount's own argument.
    if memory is None or sys.getrefcount(memory) > 2 or memory.nbytes < nbytes:
        memory = None
        memory = np.empty(nbytes, np.uint8)
    _kept[:] = [memory]
    return memory


def empty_cache():
    """Return the memory kept from the last large gradient to the system."""
    _kept.clear()
