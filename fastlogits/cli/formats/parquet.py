"""Parquet: columns of numbers, or of lists that are all of one length, nested for more axes.

Columns of numbers, of one type, may also be the classes of an array: all that a table has, or those that a pattern as
FILE:logit_* names.
"""

import fnmatch
import math

import numpy as np

from fastlogits.cli.failures import Failure, kept, library, named
from fastlogits.cli.formats import NUMBERS, choose

HOLDS = NUMBERS
SEVERAL = True
ROWS = True
FOLDER = False
NEEDS = ("pyarrow", "pyarrow.parquet", "pyarrow.compute")

READ_AHEAD = 1 << 20
BATCH = 1 << 22
ROW_GROUP = 1 << 24


class Column:
    """Columns read from the first row to the last: within a row group nothing can be found otherwise.

    One of numbers or lists, or, if `wide`, one of numbers for each class.
    """

    chunks = None
    ordered = True
    fortran = False

    def __init__(self, path, file, names, wide):
        self.path, self.file, self.names, self.wide = path, file, names, wide
        self.compute = library("pyarrow.compute", path)
        inner, self.dtype = self._row()
        self.shape = (file.metadata.num_rows, *inner, *([len(names)] if wide else []))
        self.row, self.left, self.batches = -1, None, None

    def _row(self):
        """The shape and dtype of a row of a column, from the types where they tell, else from the first row."""
        kind, shape = self.file.schema_arrow.field(self.names[0]).type, []
        lists = hasattr(kind, "value_type")
        batch = next(self.file.iter_batches(1, columns=self.names), None) if lists else None
        values = None if batch is None else batch.column(0)
        while hasattr(kind, "value_type"):
            fixed = hasattr(kind, "list_size")
            shape.append(kind.list_size if fixed else len(values[0]) if values and values[0].is_valid else 0)
            kind = kind.value_type
            values = values.flatten() if values else None
        return shape, np.dtype(kind.to_pandas_dtype())

    def read(self, region, buffer=None):
        rows, *rest = region
        with named(self.path):
            if rows.start != self.row:
                self._seek(rows.start)
            parts = [np.empty((0, *self.shape[1:]), self.dtype), *self._parts(rows.stop)]
        return np.concatenate(parts)[(slice(None), *rest)]

    def _seek(self, row):
        """Begin at the row group with this row, and skip what comes before it."""
        groups = [self.file.metadata.row_group(i).num_rows for i in range(self.file.metadata.num_row_groups)]
        group = self.row = 0
        while group < len(groups) and self.row + groups[group] <= row:
            self.row += groups[group]
            group += 1
        row_bytes = max(1, self.dtype.itemsize * math.prod(self.shape[1:]))
        size = max(1, BATCH // row_bytes)
        self.batches = self.file.iter_batches(size, list(range(group, len(groups))), columns=self.names)
        self.left = ()
        for _ in self._stretches(row):
            pass

    def _parts(self, stop):
        for row, values in self._stretches(stop):
            yield self._numbers(values, row)

    def _stretches(self, stop):
        """(first row, values) from where the last call stopped up to the row `stop`."""
        while self.row < stop:
            if not len(self.left):
                self.left = next(self.batches)
            batch, row = self.left.slice(0, stop - self.row), self.row
            self.left = self.left.slice(len(batch))
            self.row += len(batch)
            yield row, batch

    def _numbers(self, batch, first):
        """The values of a batch as an array; `first` is its first row's number."""
        found = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns = [self._column(name, found[name], first) for name in self.names]
        return np.stack(columns, -1) if self.wide else columns[0]

    def _column(self, name, values, first):
        rows, lengths = len(values), () if self.wide else self.shape[1:]
        where = first, rows, name
        for n in lengths:
            got = self.compute.list_value_length(values).to_numpy(zero_copy_only=False)
            self._refuse(got != n, where, f"is missing or not of length {n}")
            values = values.flatten()
        self._refuse(values.is_null().to_numpy(zero_copy_only=False), where, "has a missing number")
        return values.to_numpy(zero_copy_only=False).reshape(rows, *lengths)

    def _refuse(self, bad, where, what):
        if bad.any():
            first, rows, name = where
            raise Failure(self.path, f"row {first + int(np.argmax(bad)) * rows // len(bad)} of column {name} {what}")

    def close(self):
        self.file.close()


def open_array(path, key):
    arrow, parquet = library("pyarrow", path), library("pyarrow.parquet", path)
    with kept(parquet.ParquetFile, path, buffer_size=READ_AHEAD, pre_buffer=False) as file:
        schema = file.schema_arrow
        if len(set(schema.names)) < len(schema.names):
            raise Failure(path, "has several columns of one name")
        kinds = {field.name: field.type for field in schema if _is_numbers(field.type, arrow.types)}
        classes = _classes(path, kinds, key)
        return Column(path, file, classes or [_chosen(path, kinds, key)], wide=bool(classes))


def _classes(path, kinds, key):
    """The columns that are the classes of an array; none where one column is meant, or it is not clear which."""
    names = list(kinds) if key is None else fnmatch.filter(kinds, key)
    if (key is None and len(kinds) < 2) or key in kinds or not names:
        return []
    if len({kinds[name] for name in names}) == 1 and not hasattr(kinds[names[0]], "value_type"):
        return names
    if key is None:
        return []
    raise Failure(path, f"expected columns of numbers of one type at {key!r}: {names[0]} is {kinds[names[0]]}, ...")


def _chosen(path, kinds, key):
    lists = [name for name, kind in kinds.items() if hasattr(kind, "value_type")]
    # A column of numbers is a class at most: nobody is advised to take the softmax of its rows.
    return choose(path, list(kinds), key, example=lists[0] if lists else f"{next(iter(kinds), '')[:1]}*")


def _is_numbers(kind, types):
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def assemble(path, arrays):
    arrow, parquet = library("pyarrow", path), library("pyarrow.parquet", path)
    row_bytes = sum(a.dtype.itemsize * math.prod(a.shape[1:]) for a in arrays.values())
    (rows,) = {array.shape[0] for array in arrays.values()}
    step = max(1, ROW_GROUP // max(1, row_bytes))
    schema = arrow.schema([(n, _kind(arrow, a.dtype, a.shape[1:])) for n, a in arrays.items()])
    # Numbers such as probabilities hardly repeat: a dictionary of them would be built in vain.
    with named(path), parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            columns = [_column(arrow, array, slice(start, stop)) for array in arrays.values()]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema), row_group_size=step)


def _kind(arrow, dtype, inner):
    kind = arrow.from_numpy_dtype(dtype)
    for n in reversed(inner):
        kind = arrow.list_(kind, n)
    return kind


def _column(arrow, array, rows):
    region = (rows, *(slice(0, n) for n in array.shape[1:]))
    values = arrow.array(array.read(region).ravel())
    for n in reversed(array.shape[1:]):
        values = arrow.FixedSizeListArray.from_arrays(values, n)
    return values
