"""From the arguments of a function to the arrays that they hold, and back with the names of the logits' axes."""

import functools
import importlib
import inspect

import numpy as np

import fastlogits
from fastlogits import _checks, dispatch

# Library -> the module here that knows it, which offers `Labelled`.
LIBRARIES = {"xarray": "_xarray"}
# What the class axis is an axis of.
LOGITS = ("logits", "a", "probs", "log_probs")
# Functions whose results of the logits' shape have the same classes in the same places.
SAME_CLASSES = {
    "bits_per_byte", "cross_entropy_with_grad", "filter_logits", "log_softmax", "log_softmax_backward",
    "selective_log_softmax_backward", "softmax", "softmax_backward",
}  # fmt: skip
# Arguments that make documents of rows, in which the logits' axes end.
DOCUMENTS = ("lengths", "offsets", "groups")


def by_memory(function, *args, **kwargs):
    """function(*args, **kwargs) of the arrays that the arguments hold, with the names of the logits' axes."""
    signature = inspect.signature(function)
    arguments = signature.bind(*args, **kwargs).arguments
    held = {name: holder(name, value) for name, value in arguments.items() if library(value)}
    main = next((name for name in LOGITS if name in held), next(iter(held)))
    logits = held.pop(main)
    if "axis" in signature.parameters:
        arguments["axis"] = logits.axis(arguments.get("axis", signature.parameters["axis"].default))
    axes = _checks.axes(_checks.axis(arguments.get("axis", -1)), logits.ndim)
    arrays = {main: logits.array} | {name: logits.match(name, each, axes) for name, each in held.items()}
    result = dispatch.by_array(function)(**arguments | arrays)
    name, out = function.__name__, arguments.get("out")
    if any(arguments.get(each) is not None for each in DOCUMENTS):
        return result
    if not hasattr(fastlogits, name) and name not in SAME_CLASSES:  # measures of many rows together
        return result
    attach = functools.partial(labelled, logits, axes, name in SAME_CLASSES, out)
    return dispatch.converted(result, attach, (np.ndarray, np.generic, *map(type, arrays.values())))


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
    module = importlib.import_module(f"fastlogits.numpy.{LIBRARIES[library(value)]}")
    return module.Labelled(name, value)
