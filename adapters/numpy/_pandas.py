"""What holds an array in pandas."""

import functools

import numpy as np
import pandas as pd

from fastlogits.numpy._checks import missing_number, no_array, no_numbers
from fastlogits.numpy._classes import Names, Numbers
from fastlogits.numpy._columns import common_dtype, gathered, stacked
from fastlogits.numpy._held import LOGITS, Held


class Labelled(Held):
    """A DataFrame with a column for each class, or a Series, or what a Series is made of: the argument `name`.

    A Series may have an array in each row, and so may the one column of a DataFrame.
    """

    def __init__(self, name, held):
        super().__init__(name, held)
        self.column = None  # of a DataFrame that is nothing but a column
        if isinstance(held, pd.DataFrame):
            if len(held.columns) == 1 and (_has_arrays(held.iloc[:, 0]) or name not in LOGITS):
                self.column = held.iloc[:, 0]
        elif isinstance(held, pd.Series):
            self.column = held
        elif isinstance(held, (pd.Index, pd.api.extensions.ExtensionArray)):
            self.column = pd.Series(held)
        else:
            raise no_array(name, held)

    @functools.cached_property
    def array(self):
        if self.column is None:
            return self._of_columns()
        if _has_arrays(self.column):
            return self._of_arrays()
        dtype = common_dtype(self.name, [(None, _numpy_dtype(self.column.dtype), self.column.dtype)], logits=False)
        return self._numbers(self.column, None, dtype)

    @property
    def shape(self):
        if self.column is None:
            return self.held.shape
        return self.array.shape if _has_arrays(self.column) else self.column.shape

    def _of_columns(self):
        frame = self.held
        kinds = {dtype: _numpy_dtype(dtype) for dtype in frame.dtypes.unique()}
        columns = [(name, kinds[dtype], dtype) for name, dtype in frame.dtypes.items()]
        dtype = common_dtype(self.name, columns, logits=self.name in LOGITS)
        if all(isinstance(each, np.dtype) for each in kinds):
            return frame.to_numpy(dtype)
        series = (frame.iloc[:, i] for i in range(len(columns)))
        numbers = (self._numbers(each, column, dtype) for each, (column, _, _) in zip(series, columns, strict=True))
        return gathered(numbers, len(frame), dtype)

    def _numbers(self, series, column, dtype):
        if isinstance(series.dtype, np.dtype):
            return series.to_numpy()
        if series.dtype.kind != "f" or not isinstance(series.dtype, pd.SparseDtype):
            missing = series.isna().to_numpy()
            if missing.any():
                raise missing_number(self, int(missing.argmax()), column)
        return series.to_numpy(dtype)

    def _of_arrays(self):
        if isinstance(self.column.dtype, pd.ArrowDtype):
            return self._arrow.array
        missing = self.column.isna().to_numpy()
        if missing.any():
            raise missing_number(self, int(missing.argmax()))
        try:
            return stacked(self.name, self.column)
        except TypeError:
            raise no_numbers(self.name, self.column.name, self.column.dtype) from None

    @functools.cached_property
    def _arrow(self):
        from fastlogits.numpy import _arrow

        return _arrow.Labelled(self.name, self.column.array.__arrow_array__())

    def index(self, axis):
        if axis > 1 or (axis and (self.column is not None)):
            return None
        if axis:
            return self.held.columns
        return self.held.index if isinstance(self.held, (pd.DataFrame, pd.Series)) else None

    def names(self, axis):
        index = self.index(axis)
        return None if index is None or index.equals(pd.RangeIndex(len(index))) else list(index)

    def labels(self):
        if self.column is None or _has_arrays(self.column):
            return Numbers(self.array)
        series, dtype = self.column, _numpy_dtype(self.column.dtype)
        if isinstance(series.dtype, pd.CategoricalDtype):
            return Names(series.cat.codes.to_numpy().astype(np.intp), list(series.cat.categories), declared=True)
        if dtype is None or dtype.kind == "O":
            codes, categories = pd.factorize(series)
            if not all(isinstance(each, (str, int, float, bool, np.generic)) for each in categories):
                raise no_numbers(self.name, series.name, series.dtype)
            return Names(codes, list(categories))
        missing = series.isna().to_numpy()
        if not missing.any():
            return Numbers(series.to_numpy(dtype))
        filled = {} if isinstance(series.dtype, np.dtype) else {"na_value": 0}
        return Numbers(series.to_numpy(dtype, **filled), missing)

    def like(self, values, axes, unnamed):
        if self.column is not None and _has_arrays(self.column):
            return self._of_rows(values, axes)
        along = [None if i in unnamed else self.index(i) for i in axes]
        if values.ndim == 1:
            name = self.column.name if self.column is not None and not unnamed else None
            return pd.Series(values, along[0], name=name, copy=False)
        return pd.DataFrame(values, *along, copy=False)

    def _of_rows(self, values, axes):
        if axes[0] != 0:
            return values
        if values.ndim == 1:
            return pd.Series(values, self.index(0), copy=False)
        if isinstance(self.column.dtype, pd.ArrowDtype):
            found = self._arrow.like(values, axes, ())
            rows = pd.Series(found, self.index(0), pd.ArrowDtype(found.type), copy=False)
        else:
            rows = pd.Series(list(values), self.index(0), object, copy=False)
        rows.name = self.column.name
        return rows.to_frame() if isinstance(self.held, pd.DataFrame) else rows

    def rows(self, key):
        return self.held.iloc[key]


def _numpy_dtype(dtype):
    """The dtype of NumPy for numbers of this one; None where it has others."""
    if isinstance(dtype, np.dtype):
        return dtype
    if isinstance(dtype, pd.SparseDtype):
        return dtype.subtype
    if not pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        return None
    found = getattr(dtype, "numpy_dtype", None)
    return found if isinstance(found, np.dtype) else None


def _has_arrays(series):
    """Whether each row of a Series is an array or a list, judged by the first that there is."""
    dtype = series.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return "list" in str(dtype) or "tensor" in str(dtype)
    if dtype != np.dtype(object):
        return False
    first = next((row for row in series if row is not None and row is not pd.NA), None)
    return isinstance(first, (np.ndarray, list, tuple))


def frame(columns, index):
    return pd.DataFrame(columns, index, copy=False)
