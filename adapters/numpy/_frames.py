"""Tables of results."""

import importlib

import numpy as np

from fastlogits import dispatch
from fastlogits._results import SEVERAL
from fastlogits.numpy._checks import lazy_fields, no_library, no_table
from fastlogits.numpy._labels import LIBRARIES, holder, library

TABLES = ("pandas", "polars", "pyarrow")


def frame(stats, wanted=None):
    """What `RowStats.to_frame` returns."""
    fields = vars(stats)
    own = {library(values) for values in fields.values()}
    chosen = wanted or next((name for name in TABLES if name in own), "pandas")
    if chosen not in TABLES:
        raise no_table(chosen, TABLES)
    if any(map(dispatch.is_lazy, fields.values())):
        raise lazy_fields()
    columns, index = {}, None
    for name, values in fields.items():
        held = holder("logits", values) if dispatch.is_held(values) else None
        array = np.asarray(values) if held is None else held.array
        if name in SEVERAL:
            places = np.moveaxis(array, stats._axis, -1).reshape(-1, array.shape[stats._axis])
            columns |= {f"{name}_{i}": np.ascontiguousarray(places[:, i]) for i in range(places.shape[1])}
        else:
            columns[name] = np.ascontiguousarray(array).reshape(-1)
        if index is None and held is not None:
            index = held.index_of_rows(name in SEVERAL)
    try:
        module = importlib.import_module(f"fastlogits.numpy.{LIBRARIES[chosen]}")
    except ModuleNotFoundError:
        raise no_library(chosen) from None
    return module.frame(columns, index)
