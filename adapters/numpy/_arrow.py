"""What holds an array in Arrow, by pyarrow."""

import functools

import numpy as np
import pyarrow as pa

from fastlogits.numpy._checks import missing_number, no_array, no_numbers
from fastlogits.numpy._classes import Names, Numbers
from fastlogits.numpy._columns import common_dtype, gathered, of_one_length
from fastlogits.numpy._held import LOGITS, Held


class Labelled(Held):
    """The argument `name`: a Table or RecordBatch with a column for each class, an array of lists or numbers, a Tensor.

    The one column of a table may have lists.
    """

    def __init__(self, name, held):
        super().__init__(name, held)
        self.column = None
        if isinstance(held, (pa.Table, pa.RecordBatch)):
            if held.num_columns == 1 and (_has_arrays(held.schema.types[0]) or name not in LOGITS):
                self.column = _whole(held.column(0))
        elif isinstance(held, (pa.Array, pa.ChunkedArray)):
            self.column = _whole(held)
        elif not isinstance(held, pa.Tensor):
            raise no_array(name, held)

    @functools.cached_property
    def array(self):
        if self.column is not None:
            return self._numbers(self.column)
        if isinstance(self.held, pa.Tensor):
            return self.held.to_numpy()
        columns = [(field.name, _numpy_dtype(field.type), field.type) for field in self.held.schema]
        dtype = common_dtype(self.name, columns, logits=self.name in LOGITS)
        numbers = (
            self._numbers(_whole(column), name)
            for column, name in zip(self.held.columns, self.held.schema.names, strict=True)
        )
        return gathered(numbers, self.held.num_rows, dtype)

    @property
    def shape(self):
        if self.column is None:
            return self.held.shape
        return self.array.shape if _has_arrays(self.column.type) else (len(self.column),)

    def _numbers(self, array, column=None, depth=0):
        """A column as an array of NumPy: what lies in lists is as deep as these."""
        if isinstance(array.type, pa.FixedShapeTensorType):
            self._without_missing(array, column)
            return array.to_numpy_ndarray()
        if isinstance(array, pa.ExtensionArray):
            return self._numbers(array.storage, column)
        if _has_arrays(array.type):
            self._without_missing(array, column)
            if pa.types.is_fixed_size_list(array.type):
                size = array.type.list_size
                inner = array.flatten()
            else:
                starts, values = _starts(array)
                size = of_one_length(self.name, starts)
                inner = values
            inner = self._numbers(inner, column)
            return inner.reshape(len(array), size, *inner.shape[1:])
        if _numpy_dtype(array.type) is None:
            raise no_numbers(self.name, column, array.type)
        self._without_missing(array, column)
        return array.to_numpy(zero_copy_only=False)

    def _without_missing(self, array, column):
        if array.null_count:
            position = int(np.flatnonzero(array.is_null())[0])
            if self.column is not None and array is not self.column and len(self.column):
                position //= max(1, len(array) // len(self.column))
            raise missing_number(self, position, column)

    def names(self, axis):
        in_columns = self.column is None and not isinstance(self.held, pa.Tensor)
        return self.held.schema.names if in_columns and axis == 1 else None

    def axis(self, axis):
        if isinstance(axis, str) and isinstance(self.held, pa.Tensor) and axis in self.held.dim_names:
            return self.held.dim_names.index(axis)
        return axis

    def labels(self):
        if self.column is None or _has_arrays(self.column.type):
            return Numbers(self.array)
        array, dtype = self.column, _numpy_dtype(self.column.type)
        if pa.types.is_null(array.type):
            return Numbers(np.zeros(len(array), np.intp), np.ones(len(array), bool))
        if dtype is None:
            declared = pa.types.is_dictionary(array.type) and array.type.ordered
            if not pa.types.is_dictionary(array.type):
                if not _is_text(array.type):
                    raise no_numbers(self.name, None, array.type)
                array = array.dictionary_encode()
            codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.intp)
            return Names(codes, array.dictionary.to_pylist(), declared)
        missing = array.is_null(nan_is_null=dtype.kind == "f").to_numpy(zero_copy_only=False)
        if array.null_count:
            array = array.fill_null(False if dtype.kind == "b" else 0)
        return Numbers(array.to_numpy(zero_copy_only=False), missing if missing.any() else None)

    def like(self, values, axes, unnamed):
        if isinstance(self.held, pa.Tensor):
            names = [self.held.dim_names[i] for i in axes] if self.held.dim_names else None
            return pa.Tensor.from_numpy(values, names)
        if self.column is not None:
            return self._of_rows(values, axes)
        if values.ndim == 1:
            return pa.chunked_array([pa.array(values)]) if isinstance(self.held, pa.Table) else pa.array(values)
        names = self.held.schema.names if 1 in axes and 1 not in unnamed else map(str, range(values.shape[1]))
        columns = [pa.array(np.ascontiguousarray(values[:, i])) for i in range(values.shape[1])]
        return type(self.held).from_arrays(columns, names=list(names))

    def _of_rows(self, values, axes):
        if axes[0] != 0:
            return values
        if values.ndim > 1 and isinstance(self.column.type, pa.FixedShapeTensorType):
            found = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
        else:
            found = _lists(np.ascontiguousarray(values), self.column.type)
        if isinstance(self.held, (pa.Table, pa.ChunkedArray)):
            found = pa.chunked_array([found])
        if isinstance(self.held, (pa.Table, pa.RecordBatch)) and values.ndim > 1:
            return type(self.held).from_arrays([found], names=self.held.schema.names)
        return found

    def rows(self, key):
        held = self.held
        if isinstance(held, pa.Tensor):
            return super().rows(key)
        if isinstance(key, slice):
            return held[key]
        if isinstance(key, (int, np.integer)):
            return held[int(key)] if self.column is not None else held.slice(key, 1)
        key = np.asarray(key)
        return held.filter(pa.array(key)) if key.dtype == bool else held.take(pa.array(key))


def _whole(array):
    """An array in one piece; its own memory where it is one."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    return array.chunk(0) if array.num_chunks == 1 else array.unify_dictionaries().combine_chunks()


def _numpy_dtype(arrow):
    if pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_boolean(arrow):
        return np.dtype(arrow.to_pandas_dtype())
    return None


def _has_arrays(arrow):
    return (
        pa.types.is_list(arrow)
        or pa.types.is_large_list(arrow)
        or pa.types.is_fixed_size_list(arrow)
        or pa.types.is_list_view(arrow)
        or pa.types.is_large_list_view(arrow)
        or isinstance(arrow, pa.FixedShapeTensorType)
    )


def _is_text(arrow):
    return pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow)


def _starts(array):
    """Where the lists of an array begin in its values, and the last of them ends; the values from the first on."""
    if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
        return np.concatenate([[0], np.cumsum(array.value_lengths())]), array.flatten()
    offsets = array.offsets.to_numpy()
    first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    return offsets, array.values.slice(first, last - first)


def _lists(values, arrow):
    """A packed array as lists of the kinds of `arrow`, and of a fixed size where there are more of them."""
    if values.ndim == 1:
        return pa.array(values)
    rows, size = values.shape[:2]
    kind = arrow if arrow is not None and _has_arrays(arrow) else None
    inner = _lists(values.reshape(rows * size, *values.shape[2:]), kind.value_type if kind is not None else None)
    if kind is None or pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(inner, size)
    large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
    offsets = np.arange(rows + 1, dtype=np.int64 if large else np.int32) * size
    return (pa.LargeListArray if large else pa.ListArray).from_arrays(pa.array(offsets), inner)


def frame(columns, index):
    return pa.table(columns)
