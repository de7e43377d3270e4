"""fastlogits for what holds an array: from there to the NumPy functions, and back with the names of its axes.

Frames of pandas and polars, tables, lists and tensors of Arrow, arrays of xarray, what has `__dlpack__` or
`__array_namespace__`, and subclasses of ndarray; labels by number or by name. docs/inputs.md says what is served, what
is copied and what is refused.

A DataArray of xarray comes back as a DataArray, a Variable as a Variable: with the dimensions, coordinates and name of
the logits where the result has their shape, and without the class axis where it has one number a row. `topk` and the
like have the class dimension without its coordinates. What has no dimensions is a NumPy scalar; documents of lengths,
offsets or groups are no dimension, and have NumPy arrays. `axis` may be the name of a dimension. Arrays beside the
logits are matched by the names of their dimensions, whatever their order; coordinates that differ are refused. What
holds a dask array is served lazily, by `fastlogits.dask`.

Examples
--------
>>> import xarray as xr
>>> import fastlogits
>>> logits = xr.DataArray([[0.0, 0.0]], dims=["pixel", "class"], coords={"class": ["sea", "land"]})
>>> fastlogits.softmax(logits, "class").sel({"class": "land"}).item()
0.5
"""

import sys

from fastlogits.numpy._frames import frame
from fastlogits.numpy._labels import by_memory, take_rows

__all__ = ["by_memory", "frame", "take_rows"]

uniform = sys.modules[__name__]
