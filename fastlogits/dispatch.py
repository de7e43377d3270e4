"""Which adapter serves an array. Never imports a framework: a tensor at hand means that it is loaded."""

import functools
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from fastlogits import _checks, config

# JAX defines its concrete arrays in jaxlib. fastlogits.numpy serves what holds an array and names its axes.
FRAMEWORKS = {
    "torch": "torch", "tensorflow": "tensorflow", "jax": "jax", "jaxlib": "jax", "dask": "dask", "xarray": "numpy",
}  # fmt: skip


def adapter(array):
    """The uniform functions for the library that `array` belongs to; None where NumPy serves it.

    `fastlogits.<framework>` speaks its framework's language; its attribute `uniform` (a module or any
    namespace) offers the functions of `fastlogits` under the same names and signatures. What it does not define, its
    `by_memory(function, *args, **kwargs)` computes with the NumPy function `function`, on the arrays' own memory.
    """
    for cls in type(array).__mro__:
        framework = FRAMEWORKS.get(cls.__module__.partition(".")[0])
        if framework in sys.modules:
            break
    else:
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


Function = TypeVar("Function", bound=Callable[..., Any])


def by_array(function: Function) -> Function:
    """Let the adapter of the first argument's library answer in place of `function`, or the backend by itself."""
    first, name = function.__code__.co_varnames[0], function.__name__

    @functools.wraps(function)
    def dispatched(*args, **kwargs):
        array = args[0] if args else kwargs.get(first)
        if type(array) is not np.ndarray:
            uniform = adapter(array)
            if uniform is not None:
                own = getattr(uniform, name, None)
                return own(*args, **kwargs) if own else uniform.by_memory(function, *args, **kwargs)
        elif (plain := config.plain_call(name)) is not None:
            result = plain(args, kwargs)
            if result is not NotImplemented:
                return result
        return function(*args, **kwargs)

    return cast(Function, dispatched)


def converted(result, convert, kinds=(np.ndarray, np.generic)):
    """`result` with `convert` applied to every array and NumPy scalar in it, inside tuples and RowStats too."""
    if isinstance(result, kinds):
        return convert(result)
    if isinstance(result, tuple):
        values = [converted(value, convert, kinds) for value in result]
        return result._make(values) if hasattr(result, "_make") else tuple(values)
    if isinstance(result, types.SimpleNamespace):
        return type(result)(**{name: converted(value, convert, kinds) for name, value in vars(result).items()})
    return result
