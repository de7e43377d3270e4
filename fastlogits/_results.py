"""What functions of a family of several results return."""

from __future__ import annotations

import importlib
import numbers
import operator
import re
from collections.abc import Iterator, KeysView
from typing import Any, Generic, NamedTuple

import numpy as np

from fastlogits import _checks_results, dispatch
from fastlogits._typing import Array


class CrossEntropy(NamedTuple, Generic[Array]):
    """What `cross_entropy_with_grad` returns."""

    loss: Any
    grad_logits: Array


# Fields of `RowStats` that have several numbers a row, along the class axis.
SEVERAL = ("topk_ids", "topk_log_probs")
SHOWN = {"threshold": 6, "edgeitems": 2, "precision": 4, "separator": ", ", "max_line_width": 2**31}


class RowStats:
    """What `row_stats` returns: the fields that were wanted, as attributes, and no others.

    ``len(stats)`` is the number of rows along their first axis. ``stats["nll"]`` is a field, and ``stats[:10]``,
    ``stats[mask]`` or what else picks rows of an array is the `RowStats` of these. ``vars(stats)`` is a dict of the
    fields, and so is ``dict(**stats)``. That of dask arrays is a dask collection: ``stats.compute()``.

    Examples
    --------
    >>> import fastlogits
    >>> stats = fastlogits.row_stats([[0.0, 4.0, 2.0], [1.0, 0.0, 0.0]], want=["argmax", "margin"])
    >>> stats
    RowStats of 2 rows
      argmax  int64    [1, 0]
      margin  float64  [2., 1.]
    >>> stats[stats.margin > 1].argmax
    array([1])
    """

    __slots__ = ("__dict__", "__weakref__", "_axis")

    def __init__(self, axis: int | None = None, /, **fields: Any) -> None:
        # Of the classes in fields that have several numbers a row.
        self._axis = max((len(_shape(values)) for values in fields.values()), default=1) - 1 if axis is None else axis
        vars(self).update(fields)

    def __getattr__(self, name: str) -> Any:
        raise _checks_results.unwanted(name, vars(self))

    def keys(self) -> KeysView[str]:
        """The names of the fields."""
        return vars(self).keys()

    def _asdict(self) -> dict[str, Any]:
        """The fields by name, in a dict of their own."""
        return dict(vars(self))

    @property
    def _shape(self):
        """Of the rows."""
        name, values = next(iter(vars(self).items()), ("", ()))
        shape = [*_shape(values)]
        if self._holds_classes(name, values):
            del shape[self._axis]
        return tuple(shape)

    def _holds_classes(self, name, values):
        """Whether a field has the class axis as an axis of its own: a column of lists has it within."""
        return name in SEVERAL and len(_shape(values)) > self._axis

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("RowStats of one row has no len()")
        return self._shape[0]

    def __iter__(self) -> Iterator[RowStats]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return vars(self)[key]
        key = _checks_results.rows_key(key, len(self._shape))
        return self._mapped(
            lambda name, values: _picked(values, key, self._axis if self._holds_classes(name, values) else len(key)),
            self._axis - sum(isinstance(each, numbers.Integral) for each in key[: self._axis]),
        )

    def _mapped(self, function, axis=None):
        """The same of function(name, values) of each field."""
        fields = {name: function(name, values) for name, values in vars(self).items()}
        return type(self)(self._axis if axis is None else axis, **fields)

    def to_frame(self, library: str | None = None) -> Any:
        """A table with a column for each field, of the `topk` fields one for each place, as ``topk_ids_0``.

        Parameters
        ----------
        library : {"pandas", "polars", "pyarrow"}, optional
            Whose table, by default that of the fields; of pandas for arrays.

        Returns
        -------
        DataFrame or Table
            With the index of the fields, where they have one. Rows along several axes follow upon each other as
            ``ravel()`` has them.

        Examples
        --------
        >>> import fastlogits
        >>> stats = fastlogits.row_stats([[0.0, 4.0, 2.0], [1.0, 0.0, 0.0]], want=["topk_ids", "margin"], top_k=2)
        >>> print(stats.to_frame())
           topk_ids_0  topk_ids_1  margin
        0           1           2     2.0
        1           0           1     1.0
        """
        return importlib.import_module("fastlogits.numpy").frame(self, library)

    def __repr__(self) -> str:
        shape = self._shape
        rows = " x ".join(map(str, shape)) + (" rows" if shape != (1,) else " row") if shape else "one row"
        found = [(name, *_described(values)) for name, values in vars(self).items()]
        widths = [max((len(each[i]) for each in found), default=0) for i in (0, 1)]
        lines = [f"  {name:{widths[0]}}  {kind:{widths[1]}}  {text}".rstrip() for name, kind, text in found]
        return "\n".join([f"RowStats of {rows}", *lines])


def _shape(values):
    return tuple(values.shape) if hasattr(values, "shape") else (len(values),)


def _picked(values, key, axis):
    """`values` at `key`, a tuple that counts the axes without the class axis, which is `axis`."""
    take = getattr(dispatch.adapter(values), "take_rows", operator.getitem)
    key = (*key[:axis], slice(None), *key[axis:]) if axis < len(key) else key
    return take(values, key if len(key) != 1 else key[0])


def _described(values):
    """(dtype, numbers) of an array; what is not in memory is not computed for it."""
    if not dispatch.is_lazy(values):
        try:
            array = np.asarray(values)
        except (TypeError, NotImplementedError):  # traced, or of a type that NumPy does not know
            pass
        else:
            return str(array.dtype), re.sub(r"\s*\n\s*", " ", np.array2string(array, **SHOWN))
    return str(getattr(values, "dtype", "")), f"{type(values).__module__}.{type(values).__name__} {_shape(values)}"
