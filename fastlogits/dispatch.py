"""Which adapter serves an array. Never imports a framework: a tensor at hand means that it is loaded."""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from fastlogits import _checks, config

# JAX defines its concrete arrays in jaxlib. fastlogits.numpy serves what holds an array.
FRAMEWORKS = {
    "torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "jaxlib": "jax", "dask": "dask",
    "pandas": "numpy", "polars": "numpy", "pyarrow": "numpy", "xarray": "numpy",
}  # fmt: skip
# What a NumPy function takes itself.
PLAIN = {np.float32, np.float64, list, tuple, bool, int, float, str, type(None)}


def adapter(array):
    """The uniform functions for the library that `array` belongs to; None where NumPy serves it.

    `fastlogits.<framework>` speaks its framework's language; its attribute `uniform` (a module or any
    namespace) offers the functions of `fastlogits` under the same names and signatures. What it does not define, its
    `by_memory(function, *args, **kwargs)` computes with the NumPy function `function`, on the arrays' own memory.
    """
    framework = _framework(array)
    if framework is None:
        return None
    name = f"fastlogits.{framework}"
    loaded = sys.modules.get(name)
    if hasattr(loaded, "uniform"):
        # torch.compile traces this, and would break its graph at an import; not there while another thread imports it.
        return loaded.uniform
    try:
        return importlib.import_module(name).uniform
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        # Converting in silence would return another library's array, cut autograd or compute a lazy graph.
        raise _checks.no_adapter(array, framework) from None


def _framework(array):
    """The adapter's name."""
    for cls in type(array).__mro__:
        framework = FRAMEWORKS.get(cls.__module__.partition(".")[0])
        if framework in sys.modules:
            return framework
    return "numpy" if _is_array(array) else None


def _is_array(value):
    """Whether it is an array of a kind that nobody here knows by name."""
    kind = type(value)
    if issubclass(kind, (np.ndarray, np.generic)):
        return kind is not np.ndarray and not issubclass(kind, np.generic)
    return hasattr(kind, "__dlpack__") or hasattr(kind, "__array_namespace__")


def is_held(value):
    """Whether `value` is an array, or labels, that fastlogits.numpy finds in what holds it."""
    if type(value) is np.ndarray:
        return value.dtype.kind in "OUST"
    return type(value) not in PLAIN and _framework(value) == "numpy"


def is_lazy(value):
    """Whether it is a collection of dask, or holds one; xarray's arrays have the method in memory too."""
    return hasattr(value, "__dask_graph__") and value.__dask_graph__() is not None


Function = TypeVar("Function", bound=Callable[..., Any])


def by_array(function: Function) -> Function:
    """Let the adapter of the first argument's library answer in place of `function`, or the backend by itself.

    What holds an array, whichever argument it is, and names of classes end here: `function` and the adapters of
    frameworks see arrays and class indices, and never `classes`.
    """
    first, name = function.__code__.co_varnames[0], function.__name__

    @functools.wraps(function)
    def dispatched(*args, **kwargs):
        array = args[0] if args else kwargs.get(first)
        if type(array) is np.ndarray and (plain := config.plain_call(name)) is not None:
            result = plain(args, kwargs)
            if result is not NotImplemented:
                return result
        if kwargs.get("classes", "") is None:  # tf.function passes what it was not given, too
            del kwargs["classes"]
        if (
            "classes" in kwargs
            or any(map(is_held, args))
            or any(is_held(kwargs[each]) for each in kwargs if each != "out")
        ):
            return _home().by_memory(function, *args, **kwargs)
        return by_library(function, array, args, kwargs)

    return cast(Function, dispatched)


def by_library(function, array, args, kwargs):
    """function(*args, **kwargs) by the adapter of the library that `array` belongs to, or the backend by itself."""
    uniform = None if type(array) is np.ndarray else adapter(array)
    if uniform is None:
        return function(*args, **kwargs)
    own = getattr(uniform, function.__name__, None)
    return own(*args, **kwargs) if own else uniform.by_memory(function, *args, **kwargs)


def _home():
    """The adapter of what holds arrays, and of labels by name."""
    return importlib.import_module("fastlogits.numpy")


def converted(result, convert, kinds=(np.ndarray, np.generic)):
    """`result` with `convert` applied to every array and NumPy scalar in it, inside tuples and RowStats too."""
    if isinstance(result, kinds):
        return convert(result)
    if isinstance(result, tuple):
        values = [converted(value, convert, kinds) for value in result]
        return result._make(values) if hasattr(result, "_make") else tuple(values)
    if hasattr(type(result), "_mapped"):  # RowStats
        return result._mapped(lambda _, value: converted(value, convert, kinds))
    return result
