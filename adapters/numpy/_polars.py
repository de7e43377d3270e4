"""What holds an array in polars."""

import functools

import numpy as np
import polars as pl

from fastlogits.numpy._checks import lazy, missing_number, no_array, no_numbers
from fastlogits.numpy._classes import Names, Numbers
from fastlogits.numpy._columns import common_dtype, gathered, of_one_length
from fastlogits.numpy._held import LOGITS, Held


class Labelled(Held):
    """A DataFrame with a column for each class, or a Series of numbers, lists or arrays: the argument `name`.

    The one column of a DataFrame may have lists or arrays.
    """

    def __init__(self, name, held):
        super().__init__(name, held)
        self.column = None
        if isinstance(held, pl.DataFrame):
            if held.width == 1 and (_has_arrays(held.dtypes[0]) or name not in LOGITS):
                self.column = held.to_series()
        elif isinstance(held, pl.Series):
            self.column = held
        else:
            raise lazy(name, held) if hasattr(held, "collect") else no_array(name, held)

    @functools.cached_property
    def array(self):
        if self.column is not None:
            return self._numbers(self.column)
        frame = self.held
        columns = [(name, _numpy_dtype(dtype), dtype) for name, dtype in frame.schema.items()]
        dtype = common_dtype(self.name, columns, logits=self.name in LOGITS)
        for column in frame.iter_columns():
            self._without_missing(column, column.name)
        if len({*frame.dtypes}) == 1:
            return frame.to_numpy()
        return gathered((column.to_numpy() for column in frame.iter_columns()), frame.height, dtype)

    @property
    def shape(self):
        if self.column is None:
            return self.held.shape
        return self.array.shape if _has_arrays(self.column.dtype) else self.column.shape

    def _numbers(self, series):
        self._without_missing(series, None)
        if not _has_arrays(series.dtype):
            if _numpy_dtype(series.dtype) is None:
                raise no_numbers(self.name, self.column.name or None, series.dtype)
            return series.to_numpy()
        if isinstance(series.dtype, pl.Array):
            size = series.dtype.shape[0]
        else:
            lengths = series.list.len().to_numpy()
            size = of_one_length(self.name, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
        inner = self._numbers(series.explode() if size and len(series) else series.explode().clear())
        return inner.reshape(len(series), size, *inner.shape[1:])

    def _without_missing(self, series, column):
        if series.null_count():
            position = int(np.flatnonzero(series.is_null().to_numpy())[0])
            if column is None and len(self.column):
                position //= max(1, len(series) // len(self.column))
            raise missing_number(self, position, column)

    def names(self, axis):
        return self.held.columns if axis == 1 and self.column is None else None

    def labels(self):
        if self.column is None or _has_arrays(self.column.dtype):
            return Numbers(self.array)
        series, dtype = self.column, _numpy_dtype(self.column.dtype)
        if isinstance(series.dtype, pl.Enum):
            return Names(_codes(series), series.dtype.categories.to_list(), declared=True)
        if series.dtype in (pl.String, pl.Categorical):
            text = series.cast(pl.String)
            categories = text.drop_nulls().unique(maintain_order=True)
            return Names(_codes(text.cast(pl.Enum(categories))), categories.to_list())
        if series.dtype == pl.Null:
            return Numbers(np.zeros(len(series), np.intp), np.ones(len(series), bool))
        if dtype is None:
            raise no_numbers(self.name, series.name or None, series.dtype)
        missing = series.is_null() if dtype.kind != "f" else series.is_null() | series.is_nan().fill_null(True)
        filled = series.fill_null(False if dtype.kind == "b" else 0)
        return Numbers(filled.to_numpy(), missing.to_numpy() if missing.any() else None)

    def like(self, values, axes, unnamed):
        if self.column is not None:
            return self._of_rows(values, axes)
        if values.ndim == 1:
            return pl.Series(values)
        names = self.held.columns if 1 in axes and 1 not in unnamed else list(map(str, range(values.shape[1])))
        return pl.DataFrame({name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)})

    def _of_rows(self, values, axes):
        if axes[0] != 0:
            return values
        if values.ndim == 1:
            name = self.column.name if not _has_arrays(self.column.dtype) else ""
            return pl.Series(name, values)
        rows = pl.Series(self.column.name, np.ascontiguousarray(values))
        if isinstance(self.column.dtype, pl.List):
            rows = rows.cast(_listed(rows.dtype, self.column.dtype))
        return rows.to_frame() if isinstance(self.held, pl.DataFrame) else rows

    def rows(self, key):
        if isinstance(key, (slice, int, np.integer)):
            return self.held[key]
        key = np.asarray(key)
        return self.held.filter(pl.Series(key)) if key.dtype == bool else self.held[key]


def _codes(series):
    return series.to_physical().cast(pl.Int64).fill_null(-1).to_numpy().astype(np.intp, copy=False)


def _numpy_dtype(dtype):
    """The dtype of NumPy for numbers of this one; None where it has others."""
    if not (dtype.is_integer() or dtype.is_float() or dtype == pl.Boolean):
        return None
    return pl.Series(dtype=dtype).to_numpy().dtype


def _has_arrays(dtype):
    return isinstance(dtype, (pl.List, pl.Array))


def _listed(dtype, like):
    """The type of arrays with lists where `like` has them."""
    if not isinstance(dtype, pl.Array):
        return dtype
    inner = _listed(dtype.inner, like.inner if _has_arrays(like) else like)
    return pl.List(inner) if isinstance(like, pl.List) else pl.Array(inner, dtype.shape[0])


def frame(columns, index):
    return pl.DataFrame(columns)
