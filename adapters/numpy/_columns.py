"""What tables have in common: a column for each class, or one column with an array in each row."""

import itertools
import re

import numpy as np

from fastlogits._checks import ragged
from fastlogits.numpy._checks import a_label, no_numbers

# Names of columns that tell rows apart or say what is right; a class seldom has one, and hardly of integers.
LABEL = re.compile(
    r"(true|gold|ground)?_?(labels?|targets?|truth|class|category|y)(_?(true|ids?|index|idx))?"
    r"|(.*_)?(id|ids|index|idx)|row|fold|split|__index_level_\d+__",
    re.IGNORECASE,
)


def common_dtype(name, columns, *, logits):
    """The dtype that holds all columns, given as (name, dtype of NumPy or None, the library's dtype).

    A column of anything but numbers is refused, and among `logits` one of labels.
    """
    columns = list(columns)
    for column, dtype, own in columns:
        if dtype is None or (dtype.kind not in "iufb" and dtype.name != "bfloat16"):
            raise no_numbers(name, column, own)
    floats = any(dtype.kind not in "iub" for _, dtype, _ in columns)
    for column, dtype, own in columns if logits else ():
        # Where all are integers, one letter may be a class among others.
        if dtype.kind in "iub" and LABEL.fullmatch(str(column)) and (floats or len(str(column)) > 1):
            raise a_label(name, column, own)
    dtypes = {dtype for _, dtype, _ in columns}
    return dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes) if dtypes else np.dtype(np.float64)


def gathered(columns, rows, dtype):
    """Columns, each of so many rows, side by side, in memory one after the other."""
    columns = list(columns)
    array = np.empty((len(columns), rows), dtype)
    for place, column in zip(array, columns, strict=True):
        place[...] = column
    return array.T


def of_one_length(name, offsets):
    """How many numbers each row has, given where rows begin in an array, and the last of them ends."""
    lengths = np.diff(offsets)
    if not len(lengths):
        return 0
    other = np.flatnonzero(lengths != lengths[0])
    if other.size:
        raise ragged(name, int(other[0]), int(lengths[other[0]]), int(lengths[0]))
    return int(lengths[0])


def stacked(name, rows):
    """Arrays (or lists) one for each row, as one array: a view of their memory where they follow upon each other."""
    rows = [row if isinstance(row, np.ndarray) else np.asarray(row) for row in rows]
    if not rows:
        return np.empty((0, 0))
    first = rows[0]
    for position, row in enumerate(rows):
        if row.shape != first.shape:
            raise ragged(name, position, _size(row.shape), _size(first.shape))
    step = _step(rows)
    if step is None:
        return np.stack(rows)
    return np.lib.stride_tricks.as_strided(first, (len(rows), *first.shape), (step, *first.strides), writeable=False)


def _step(rows):
    """How many bytes one row of an array lies after the other; None where they are not rows of one array in order."""
    first = rows[0]
    kind = first.dtype, first.strides, id(first.base)
    if first.base is None or any((row.dtype, row.strides, id(row.base)) != kind for row in rows):
        return None
    places = [row.__array_interface__["data"][0] for row in rows]
    steps = {two - one for one, two in itertools.pairwise(places)} or {first.nbytes}
    return steps.pop() if len(steps) == 1 and min(steps) > 0 else None


def _size(shape):
    return shape[0] if len(shape) == 1 else f"shape {shape}"
