"""The ways to run the kernels. A backend is a module with the functions of `fastlogits.backends.numpy`."""

import functools
import importlib
import warnings

import numpy as np

NAMES = ("cython", "numba", "numpy")  # in order of preference

REMEDIES = {
    "cython": "install a wheel of fastlogits, or build it from source with a C compiler",
    "numba": "pip install numba",
}


def load(name):
    """The backend called `name`; "auto" is the first that works."""
    if name == "auto":
        return _first()
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except Exception as error:
        remedy = REMEDIES.get(name, "reinstall fastlogits")
        raise ImportError(f"backend {name!r} cannot be loaded ({error}); to have it: {remedy}") from error


@functools.cache
def _first():
    for name in NAMES[:-1]:
        try:
            module = importlib.import_module(f"{__name__}.{name}")
            # What loads may fail when it compiles: this compiles least.
            module.count_labels(np.zeros(1, np.int64), None, None, 1, -1)
            return module
        except ImportError:  # not installed
            continue
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            warnings.warn(f"backend {name!r} is passed over, since it fails: {fault}", RuntimeWarning, stacklevel=2)
    return importlib.import_module(f"{__name__}.{NAMES[-1]}")
