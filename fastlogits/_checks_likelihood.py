"""The error messages of `loglikelihood`, and its arguments made ready for use."""

import numpy as np

from fastlogits import _checks

# Results take some 30 bytes a document: a larger id is a key or a hash, not a number.
MOST_DOCUMENTS = 2**31


def one_way(**ways):
    """The name and value of the one argument that is given, or (None, None)."""
    given = {name: value for name, value in ways.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{', '.join(given)}: expected one of {', '.join(ways)} at most, got {len(given)}")
    return next(iter(given.items()), (None, None))


def lengths(value, rows):
    lengths = _numbers("lengths", value, rows)
    if (total := int(lengths.sum())) != rows:
        raise ValueError(f"lengths: expected a sum of {rows}, the number of rows, got {total}")
    return lengths


def offsets(value, rows):
    offsets = _numbers("offsets", value, rows)
    if not offsets.size or offsets[0] != 0 or offsets[-1] != rows:
        ends = f"{offsets[0]} and {offsets[-1]}" if offsets.size else "none"
        raise ValueError(f"offsets: expected 0 first and {rows}, the number of rows, last, got {ends}")
    falls = offsets[1:] < offsets[:-1]
    if falls.any():
        place = int(np.argmax(falls)) + 1
        raise ValueError(f"offsets: expected no fall, got {offsets[place]} after {offsets[place - 1]} at ({place},)")
    return offsets


def groups(value, batch_shape, rows):
    groups = _integers("groups", value)
    if groups.shape not in (batch_shape, (rows,)):
        raise ValueError(
            f"groups: expected an id for each row, of shape {batch_shape} or ({rows},), got {groups.shape}"
        )
    return _in_range("groups", groups, MOST_DOCUMENTS - 1).ravel()


def byte_counts(value, shape):
    """As float64, of `shape` or without one."""
    if np.ndim(value) == 0:
        counts = np.asarray(_checks.real("n_bytes", value))
    else:
        counts = _checks.weights("n_bytes", value, shape, np.float64)
    bad = ~(counts >= 0)
    if bad.any():
        raise ValueError(f"n_bytes: expected numbers of at least 0, got {counts[bad][0]}")
    return counts


def _numbers(name, value, most):
    values = _integers(name, value)
    if values.ndim != 1:
        raise ValueError(f"{name}: expected one axis, got shape {values.shape}")
    return _in_range(name, values, most)


def _integers(name, value):
    values = _checks.as_array(name, value)
    if values.dtype.kind not in "iu" and values.size:
        raise TypeError(f"{name}: expected integers, got {values.dtype}")
    return values


def _in_range(name, values, most):
    """A copy as int64, which stays what was checked."""
    values = values.copy()
    bad = (values < 0) | (values > most)
    if bad.any():
        position = tuple(map(int, np.unravel_index(np.argmax(bad), values.shape)))
        raise ValueError(f"{name}: expected values in [0, {most}], got {values[position]} at {position}")
    return values.astype(np.int64, copy=False)
