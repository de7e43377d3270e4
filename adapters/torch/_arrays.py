"""Between tensors and NumPy arrays without copies, and the memory that gradients are written to."""

import numpy as np
import torch

from fastlogits import _memory

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


def numbers(values):
    """As `tensor`, in the dtype of the array, NumPy scalar or number."""
    values = np.asarray(values)
    return tensor(values, torch.bfloat16 if values.dtype.kind == "V" else None)


def empty_like(tensor):
    """An ndarray to write a gradient of the contiguous `tensor` to; None where any new one does as well."""
    if tensor.numel() * tensor.element_size() < _memory.KEPT_FROM or not tensor.is_contiguous():
        return None
    return _memory.empty(tuple(tensor.shape), numpy_dtype(tensor.dtype))
