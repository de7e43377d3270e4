"""Every error message of the package. A check returns the value made ready for use, or raises."""

import math
import operator
import os

import numpy as np

INSTRUCTION_SETS = ("auto", "generic", "v2", "v3", "v4")
FLOATS = "float32, float64, float16 or bfloat16"
INT64_MAX = 2**63 - 1
# More are of no use, and a system need not have them to give.
MOST_THREADS = max(256, os.cpu_count() or 1)
# 1 / temperature, and x / softcap, must neither overflow nor vanish in float32; nor the kernels' 87 * temperature.
SCALE_RANGE = (1e-36, 1e36)


# Arrays


def as_array(name, values):
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array, got a masked one; pass its .data, and where=~mask")
    # xarray's arrays have the method in memory too.
    if hasattr(values, "__dask_graph__") and values.__dask_graph__() is not None:
        raise TypeError(f"{name}: expected an array in memory, got a lazy one; pass {name}.compute()")
    try:
        return np.asarray(values)
    except ValueError:
        if isinstance(values, (list, tuple)):
            one_length(name, values)
        raise


def one_length(name, rows):
    """Refuses lists in lists that make no array."""
    lengths = [len(row) if hasattr(row, "__len__") else None for row in rows]
    for position, length in enumerate(lengths):
        if length != lengths[0]:
            raise ragged(name, position, length, lengths[0])
    for row in rows:
        if isinstance(row, (list, tuple)):
            one_length(name, row)


def ragged(name, position, length, expected):
    return ValueError(
        f"{name}: expected rows of one length, got {length} at row {position}, after {expected}; pad them with -inf"
    )


def promoted(name, dtype):
    """The dtype that stands in for one that is not supported itself."""
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    raise TypeError(f"{name}: expected {FLOATS} (integers and bool become float64), got {dtype}")


def no_adapter(array, framework):
    return TypeError(
        f"{type(array).__module__}.{type(array).__qualname__}: served by fastlogits.{framework}, "
        "which is not installed; convert it to a NumPy array to go without"
    )


def axis(value):
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(map(one_axis, value))
    return one_axis(value)


def one_axis(value):
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"axis: expected an integer, got {value!r}") from None


def axes(value, ndim):
    """Axes as a tuple of indices in [0, ndim), in ascending order."""
    values = range(ndim) if value is None else value if isinstance(value, tuple) else (value,)
    for each in values:
        if not -ndim <= each < ndim:
            raise np.exceptions.AxisError(each, ndim)
    distinct = {each % ndim for each in values}
    if len(distinct) != len(values):
        raise ValueError(f"axis: repeated axis in {value}")
    return tuple(sorted(distinct))


def some_classes(shape, axis):
    if not shape[axes(axis, len(shape))[0]]:
        raise ValueError(f"logits: expected at least one class, got shape {shape} and axis {axis}")


def alike(name, array, other_name, other):
    same_shape(name, array, other_name, other)
    same_dtype(name, array, other_name, other)


def same_shape(name, array, other_name, other):
    if array.shape != other.shape:
        raise ValueError(f"{name}: expected the shape of {other_name}, {other.shape}, got {array.shape}")


def same_dtype(name, array, other_name, other):
    if array.dtype != other.dtype:
        raise TypeError(f"{name}: expected the dtype of {other_name}, {other.dtype}, got {array.dtype}")


def where(value, shape):
    value = as_array("where", value)
    if value.dtype != bool:
        raise TypeError(f"where: expected bool, got {value.dtype}")
    try:
        return np.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(f"where: expected a shape that broadcasts to {shape}, got {value.shape}") from None


def no_common_shape(**shapes):
    (name, shape), (other, other_shape) = shapes.items()
    return ValueError(f"{other}: expected a shape that broadcasts with that of {name}, {shape}, got {other_shape}")


def out(value, shape, dtype, *, over, apart):
    """`value` may be one of the arrays `over` (the very same elements), and must not touch those `apart`."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"out: expected an ndarray, got {type(value).__name__}")
    if value.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {value.shape}")
    if value.dtype != dtype:
        raise TypeError(f"out: expected {dtype}, got {value.dtype}")
    if not value.flags.writeable:
        raise ValueError("out: expected a writeable array, got a read-only one")
    if _overlaps_itself(value):
        raise ValueError(f"out: expected separate elements, got overlapping ones (strides {value.strides})")
    for name, array in over.items():
        if (
            value is not array
            and np.may_share_memory(value, array)
            and not _same_elements(value, array)
            and np.shares_memory(value, array)
        ):
            raise ValueError(f"out: expected {name} itself or other memory, got a different view of {name}")
    for name, array in apart.items():
        if isinstance(array, np.ndarray) and np.shares_memory(value, array):
            raise ValueError(f"out: expected memory apart from {name}, got memory that it shares")


def _overlaps_itself(array):
    # Sufficient for every view that slicing, transposing and broadcasting can make.
    if array.flags.c_contiguous or array.flags.f_contiguous:
        return False
    span = array.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < span:
            return True
        span += stride * (n - 1)
    return False


def _same_elements(one, other):
    return (
        one.__array_interface__["data"][0] == other.__array_interface__["data"][0]
        and one.shape == other.shape
        and one.dtype == other.dtype
        and all(s == t for s, t, n in zip(one.strides, other.strides, one.shape, strict=True) if n > 1)
    )


# Numbers


def real(name, value):
    if type(value) is float:
        return value
    if isinstance(value, (str, bytes)) or np.ndim(value) or np.iscomplexobj(value) or value is None:
        raise TypeError(f"{name}: expected a real number, got {value!r}")
    return float(value)


def finite(name, value):
    number = value if type(value) is float else real(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return number


def scale(name, value):
    number = real(name, value)
    low, high = SCALE_RANGE
    if not low <= number <= high:
        raise ValueError(f"{name}: expected a number above 0 (from {low} to {high}), got {value}")
    return number


def fraction(name, value):
    number = value if type(value) is float else real(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {value}")
    return number


def count(name, value, most=math.inf):
    """A number, or its text, from 1 to `most`."""
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= most:
        limits = "of at least 1" if most == math.inf else f"from 1 to {most}"
        raise ValueError(f"{name}: expected an integer {limits}, got {value!r}")
    return number


def thread_count(name, value):
    return count(name, value, MOST_THREADS)


def one_of(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


# Cross-entropy


def labels_are_targets(labels, logits, batch_shape, name="labels"):
    """Whether `labels` are a distribution, not class indices."""
    if labels.shape == batch_shape and (labels.dtype.kind in "iu" or labels.size == 0):
        return False
    if labels.shape == logits.shape and labels.dtype.kind not in "biu":
        return True
    if labels.shape not in (batch_shape, logits.shape):
        raise ValueError(
            f"{name}: expected class indices of shape {batch_shape} or a distribution of shape "
            f"{logits.shape}, got shape {labels.shape}"
        )
    expected = "integer class indices" if labels.shape == batch_shape else "a floating-point distribution"
    raise TypeError(f"{name}: expected {expected} for shape {labels.shape}, got {labels.dtype}{_names(labels)}")


def _names(labels):
    return "; name the classes with classes=[...]" if labels.dtype.kind in "OSTU" else ""


def bad_label(labels, classes, ignore_index, name="labels"):
    labels = np.asarray(labels)
    bad = (labels < 0) | (labels >= classes)
    allowed = f"values in [0, {classes})"
    if ignore_index is not None:
        bad &= labels != ignore_index
        allowed += f" or ignore_index={int(ignore_index)}"
    position = tuple(map(int, np.unravel_index(np.argmax(bad), labels.shape)))
    return IndexError(f"{name}: expected {allowed}, got {labels[position]} at {position}")


def ignore_index(value, *, labelled=True):
    number = operator.index(value)
    if not -INT64_MAX <= number <= INT64_MAX:
        raise ValueError(f"ignore_index: expected a 64-bit integer, got {value}")
    if not labelled and number != -100:
        raise ValueError(f"ignore_index: has no effect without labels, got {number}")
    return number


def ignored_distribution(name):
    return ValueError(f"ignore_index: applies to class indices, but {name} holds a distribution")


def class_bias(values, shape, axes):
    """A number of each class, none of them NaN or +inf."""
    if len(axes) != 1:
        raise ValueError(f"bias: expected one class axis beside it, got {axes}")
    values = weights("bias", values, (shape[axes[0]],), np.float64)
    if not (values < np.inf).all():
        raise ValueError("bias: expected numbers, or -inf for a class that is left out, got NaN or inf")
    return values


def class_indices(labels, batch_shape):
    labels = as_array("labels", labels)
    if labels.shape != batch_shape:
        raise ValueError(f"labels: expected class indices of shape {batch_shape}, got shape {labels.shape}")
    if labels.dtype.kind not in "iu" and labels.size:
        raise TypeError(f"labels: expected integer class indices, got {labels.dtype}{_names(labels)}")
    return labels


def weights(name, values, shape, dtype):
    values = as_array(name, values)
    form_of_weights(name, values, shape)
    return values if values.dtype == dtype and values.flags.aligned else np.require(values, dtype, "A")


def form_of_weights(name, values, shape):
    if (values.dtype.kind not in "biuf" and values.dtype.name != "bfloat16") or values.itemsize > 8:
        raise TypeError(f"{name}: expected float32 or float64, got {values.dtype}")
    if values.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {values.shape}")


def grad_loss(value, batch_shape, reduction):
    """(number, None), or (1.0, array) where each row has its own."""
    if type(value) is float:
        return value, None
    if np.ndim(value) == 0:
        return real("grad_loss", value), None
    if reduction != "none":
        raise ValueError(f"grad_loss: expected a number beside {reduction!r}, got shape {np.shape(value)}")
    return 1.0, weights("grad_loss", value, batch_shape, np.float64)


def normalizer(value, reduction):
    """The number; 0 where no label of the step counts, which makes the loss and its gradient 0."""
    if reduction != "mean":
        raise ValueError(f'normalizer: only reduction="mean" divides, got {reduction!r}')
    number = finite("normalizer", value)
    if number < 0:
        raise ValueError(f"normalizer: expected a number of at least 0, got {value}")
    return number


# Row statistics


def fields(want, parts, labelled, ranked):
    """The wanted fields as a tuple; by default all that the arguments allow.

    `parts` has all fields, and what each is made of; `labelled` and `ranked` say whether there are labels and a top_k.
    """
    given = {name for name, there in (("labels", labelled), ("top_k", ranked)) if there}
    argument = {"label_logit": "labels", "top_ids": "top_k"}
    needs = {name: {argument[part] for part in made_of if part in argument} for name, made_of in parts.items()}
    if want is None:
        return tuple(name for name in parts if needs[name] <= given)
    for name in want:
        if name not in parts:
            raise ValueError(f"want: expected some of {', '.join(parts)}, got {name!r}")
        for lacking in needs[name] - given:
            raise ValueError(f"{lacking}: expected, since {name!r} is wanted, got None")
    want = tuple(dict.fromkeys(want))
    for idle in given.difference(*map(needs.get, want)):
        raise ValueError(f"{idle}: has no effect where only {', '.join(want)} are wanted")
    return want


def top_k(name, value, classes=math.inf):
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if not 0 <= number <= classes:
        raise ValueError(f"{name}: expected an integer from 0 to the number of classes, {classes}, got {value}")
    return number


def same_questions(state, other, *more):
    for name in ("want", "top_k", "axis", "dtype", "ignore_index", *more):
        if getattr(state, name) != getattr(other, name):
            raise ValueError(f"states: expected one {name}, got {getattr(state, name)} and {getattr(other, name)}")
    if state.parts.keys() != other.parts.keys():
        raise ValueError("states: expected label_logits, ties and a temperature alike in all of them")


def neighbours(state, other):
    same_questions(state, other)
    if state.stop_class != other.first_class:
        raise ValueError(
            "states: expected pieces of the class axis that follow upon each other, "
            f"got one up to {state.stop_class} and the next from {other.first_class} on"
        )
    if state.parts["peak"].shape != other.parts["peak"].shape or not np.array_equal(
        state.parts.get("label", 0), other.parts.get("label", 0)
    ):
        raise ValueError("states: expected pieces of the same rows, with the same labels")
    if not np.array_equal(state.scale, other.scale):
        raise ValueError("states: expected one temperature for all pieces of a row, got others")
    if state.parts.keys() & {"ahead", "above"} and "threshold" not in state.parts:
        raise ValueError("states: the rank of a label across pieces needs label_logits, see RowState.of")


def piece(shape, batch_shape, axis):
    if len(shape) != len(batch_shape) + 1 or shape[:axis] + shape[axis + 1 :] != batch_shape:
        expected = ", ".join(map(str, (*batch_shape[:axis], "...", *batch_shape[axis:])))
        raise ValueError(f"logits: expected a piece of the state's rows, of shape ({expected}), got {shape}")


# Selected classes


def class_ids(ids, shape, axis, name="ids"):
    """`ids`, one a row of logits of `shape` or several along `axis`, as a copy, which stays what was checked."""
    ids = as_array(name, ids).copy()
    form_of_ids(ids, shape, axis, name)
    bad = (ids < 0) | (ids >= shape[axis])
    if bad.any():
        position = tuple(map(int, np.unravel_index(np.argmax(bad), ids.shape)))
        raise IndexError(f"{name}: expected values in [0, {shape[axis]}), got {ids[position]} at {position}")
    return ids


def form_of_ids(ids, shape, axis, name="ids"):
    """Shape and dtype alone, which are known even where the values are not."""
    batch_shape = shape[:axis] + shape[axis + 1 :]
    several = ids.ndim == len(shape) and ids.shape[:axis] + ids.shape[axis + 1 :] == batch_shape
    if ids.shape != batch_shape and not several:
        along = ", ".join(map(str, (*shape[:axis], "K", *shape[axis + 1 :])))
        raise ValueError(f"{name}: expected shape {batch_shape}, or ({along}) with K of them a row, got {ids.shape}")
    if ids.dtype.kind not in "iu" and ids.size:
        raise TypeError(f"{name}: expected integers, got {ids.dtype}")


# Backends


def instruction_set(value):
    if value not in INSTRUCTION_SETS:
        raise ValueError(f"FASTLOGITS_ISA: expected one of {', '.join(INSTRUCTION_SETS)}, got {value!r}")
    return value


def missing_instruction_set(name, built):
    has = f"only {', '.join(built)} can be used" if built else "none were built"
    return ImportError(
        f"there are no compiled kernels for instruction set {name!r} that run on this processor ({has}); "
        "set FASTLOGITS_ISA=auto, or build fastlogits here from source"
    )


def not_cached(reason):
    return RuntimeWarning(
        f"Numba's cache: {reason}; each process compiles what it calls. NUMBA_CACHE_DIR names another folder"
    )
