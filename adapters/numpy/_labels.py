"""From the arguments of a function to the arrays that they hold, and back with the names of the logits' axes."""

import functools
import importlib
import inspect
import math

import numpy as np

import fastlogits
from fastlogits import _checks, dispatch
from fastlogits.numpy._classes import Classes, Numbers, indices
from fastlogits.numpy._held import LOGITS, Held

# Library -> the module here that knows it, which offers `Labelled`.
LIBRARIES = {"pandas": "_pandas", "polars": "_polars", "pyarrow": "_arrow", "xarray": "_xarray"}
# Functions whose results of the logits' shape have the same classes in the same places.
SAME_CLASSES = {
    "bits_per_byte", "cross_entropy_with_grad", "filter_logits", "log_softmax", "log_softmax_backward",
    "prediction_sets", "selective_log_softmax_backward", "softmax", "softmax_backward",
}  # fmt: skip
# Functions elsewhere than in `fastlogits` that have results for each row.
OF_ROWS = {"scores", "set_sizes"}
# Arguments that make documents of rows, in which the logits' axes end.
DOCUMENTS = ("lengths", "offsets", "groups")
# Arguments that say which class, and may do so by name.
WHICH_CLASS = ("labels", "ids")


def by_memory(function, *args, **kwargs):
    """function(*args, **kwargs) of the arrays that the arguments hold, with the names of the logits' axes."""
    parameters = _signature(function).parameters
    arguments = _bound(function, args, kwargs)
    given = arguments.pop("classes", None)
    held = {
        name: holder(name, value)
        for name, value in arguments.items()
        if value is not None and name != "out" and (name in WHICH_CLASS or dispatch.is_held(value))
    }
    main = next((name for name in LOGITS if name in held), None)
    if main is None:
        main = next((name for name in LOGITS if name in arguments), next(iter(parameters)))
        held[main] = holder(main, arguments[main])
    logits = held.pop(main)
    if "axis" in parameters:
        arguments["axis"] = logits.axis(arguments.get("axis", parameters["axis"].default))
        axes = _checks.axes(_checks.axis(arguments["axis"]), logits.ndim)
    else:
        axes = ()
    classes = Classes.of(*_classes(logits, axes), given) if held.keys() & {*WHICH_CLASS} else None
    ignoring = {"ignore_index": arguments.get("ignore_index"), "ignorable": "ignore_index" in parameters}
    arrays = {main: logits.array}
    for name, other in held.items():
        other = logits.aligned(other, axes)
        if name in WHICH_CLASS:
            arrays[name] = class_indices(other, logits, axes, classes, **ignoring)
        else:
            arrays[name] = other.array
    arguments |= arrays
    result = dispatch.by_library(function, arguments[next(iter(parameters))], (), arguments)
    name, out = function.__name__, arguments.get("out")
    if any(arguments.get(each) is not None for each in DOCUMENTS):
        return result
    if not hasattr(fastlogits, name) and name not in SAME_CLASSES | OF_ROWS:  # measures of many rows together
        return result
    attach = functools.partial(labelled, logits, axes, name in SAME_CLASSES, out)
    return dispatch.converted(result, attach, (np.ndarray, np.generic, *map(type, arrays.values())))


def _bound(function, args, kwargs):
    try:
        return _signature(function).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{function.__name__}() {error}") from None


@functools.lru_cache
def _signature(function):
    return inspect.signature(function)


def _classes(logits, axes):
    """How many classes there are, and their names."""
    return math.prod(logits.shape[i] for i in axes), logits.names(axes[0]) if len(axes) == 1 else None


def class_indices(held, logits, axes, classes, **ignoring):
    """What the labels (or ids) `held` mean beside the logits; a distribution over the classes as it is."""
    labels = held.labels()
    numbers = isinstance(labels, Numbers)
    shape = tuple(labels.values.shape if numbers else labels.codes.shape)
    if numbers and shape == logits.shape and getattr(labels.values.dtype, "kind", "f") not in "iub":
        return labels.values
    if held.name == "labels" and len(axes) == 1 and len(shape) == logits.ndim and shape[axes[0]] == 1:
        labels = labels.rows(axes[0])
    return indices(labels, classes, held, **ignoring)


def labelled(logits, axes, same_classes, out, values):
    """A result with the names of the axes that it has in common with the logits."""
    if values is out or not values.ndim:
        return values
    if values.ndim == logits.ndim:
        return logits.like(values, tuple(range(logits.ndim)), () if same_classes else axes)
    rows = tuple(i for i in range(logits.ndim) if i not in axes)
    return logits.like(values, rows[: values.ndim], ())  # the last of them may have been summed over


def library(value):
    """The one of `LIBRARIES` that `value` belongs to, or None."""
    names = (cls.__module__.partition(".")[0] for cls in type(value).__mro__)
    return next((name for name in names if name in LIBRARIES), None)


def holder(name, value):
    known = library(value)
    if known:
        return importlib.import_module(f"fastlogits.numpy.{LIBRARIES[known]}").Labelled(name, value)
    if dispatch.is_held(value):
        return importlib.import_module("fastlogits.numpy._arrays").Labelled(name, value)
    return Held(name, _checks.as_array(name, value) if isinstance(value, (list, tuple)) else value)


def take_rows(values, key):
    """`values[key]` by NumPy's rules, for what has others."""
    parts = key if isinstance(key, tuple) else (key,)
    parts = tuple(holder("key", each).array if dispatch.is_held(each) else each for each in parts)
    return holder("stats", values).rows(parts if isinstance(key, tuple) else parts[0])
