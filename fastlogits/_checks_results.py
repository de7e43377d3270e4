"""What picks rows of results, and what they have not."""

import numpy as np


def unwanted(name, fields):
    return AttributeError(f"RowStats has no {name!r}: it has what was wanted, {', '.join(fields)}")


def rows_key(key, ndim):
    """What picks rows along `ndim` axes, as a tuple without an ellipsis."""
    key = key if isinstance(key, tuple) else (key,)
    if any(each is None for each in key):
        raise IndexError("RowStats: expected rows to be picked by integers, slices, masks or arrays, got None")
    span = sum(np.ndim(each) if str(getattr(each, "dtype", "")) == "bool" else 1 for each in key if each is not ...)
    return tuple(part for each in key for part in ([slice(None)] * (ndim - span) if each is ... else [each]))
