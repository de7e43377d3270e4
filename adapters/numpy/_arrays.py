"""Arrays that are no table's: of arrays, subclasses of NumPy's, and what shares its memory by a protocol."""

import functools

import numpy as np

from fastlogits import _checks
from fastlogits.numpy._checks import no_numpy_type, on_a_device
from fastlogits.numpy._columns import stacked
from fastlogits.numpy._held import Held

CPU = 1  # kDLCPU of DLPack


class Labelled(Held):
    """The argument `name`: an array of arrays or names, a subclass of ndarray, or what shares one by a protocol."""

    @functools.cached_property
    def array(self):
        held = self.held
        if isinstance(held, np.ndarray):
            array = _checks.as_array(self.name, held)
            in_rows = array.dtype.kind == "O" and array.ndim == 1 and array.size
            return stacked(self.name, array) if in_rows and isinstance(array[0], (np.ndarray, list)) else array
        if hasattr(held, "__dlpack_device__") and hasattr(held, "__dlpack__"):
            device = held.__dlpack_device__()
            if device[0] != CPU:
                raise on_a_device(self.name, device)
            try:
                return np.from_dlpack(held)
            except (BufferError, RuntimeError):  # of a type that DLPack or NumPy does not know
                pass
        try:
            return _checks.as_array(self.name, held)
        except RuntimeError as error:
            raise no_numpy_type(self.name, held, error) from None

    def like(self, values, axes, unnamed):
        if type(self.held) is np.ndarray:
            return values
        if isinstance(self.held, np.ndarray):
            wrapped = self.held.__array_wrap__(values)
            return wrapped if np.shape(wrapped) == values.shape else values
        if hasattr(self.held, "__array_namespace__"):
            return self.held.__array_namespace__().asarray(values)
        return values
