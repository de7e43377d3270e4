"""The ways to run the kernels. A backend is a module with the functions of `fastlogits.backends.numpy`."""

import importlib

NAMES = ("cython", "numba", "numpy")  # in order of preference

REMEDIES = {
    "cython": "install a wheel of fastlogits, or build it from source with a C compiler",
    "numba": "pip install numba",
}


def load(name):
    """The backend called `name`; "auto" is the first that loads."""
    if name != "auto":
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ImportError as error:
            remedy = REMEDIES.get(name, "reinstall fastlogits")
            raise ImportError(f"backend {name!r} cannot be loaded ({error}); to have it: {remedy}") from error
    for candidate in NAMES[:-1]:
        try:
            return importlib.import_module(f"{__name__}.{candidate}")
        except ImportError:
            continue
    return importlib.import_module(f"{__name__}.{NAMES[-1]}")
