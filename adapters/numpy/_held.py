"""What all that holds an array has in common."""

import numpy as np

from fastlogits.numpy._checks import other_index
from fastlogits.numpy._classes import read

# What the class axis is an axis of.
LOGITS = ("logits", "a", "probs", "log_probs", "sets")
# Arguments that NumPy broadcasts to the logits, or to their rows.
OF_LOGITS = {"b", "where"}
OF_ROWS = {
    "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "min_keep", "rows",
}  # fmt: skip
# Arguments with several classes of each row, not all of them.
OF_SEVERAL = {"ids", "grad"}
# Arguments with an entry for each document.
OF_DOCUMENTS = {"lengths", "offsets", "n_bytes"}


class Held:
    """The argument `name` of a function: here an array of no names, or what a framework serves."""

    def __init__(self, name, held):
        self.name, self.held = name, held

    @property
    def array(self):
        return self.held

    @property
    def shape(self):
        return tuple(self.array.shape)

    @property
    def ndim(self):
        return len(self.shape)

    def axis(self, axis):
        """`axis` with names of axes as numbers."""
        return axis

    def index(self, axis):
        """What places along an axis are called, an Index of pandas; None where they are only counted."""

    def index_of_rows(self, several):
        """The index of a table of what this holds, with `several` numbers a row or one."""
        return self.index(0)

    def names(self, axis):
        """What classes along an axis are called; None where they are only counted."""
        index = self.index(axis)
        return None if index is None else list(index)

    def labels(self):
        """What `read` returns."""
        return read(self.array, self.name)

    def place(self, position):
        """How an error names the place of a label, given how many come before it."""
        if self.ndim > 1 and self.shape[1:] != (1,):
            return str(tuple(map(int, np.unravel_index(position, self.shape))))
        return self.row(position)

    def row(self, position):
        """How an error names a row."""
        index = self.index(0)
        return f"row {position}" + ("" if index is None or index[position] == position else f" ({index[position]!r})")

    def aligned(self, other, axes):
        """`other`, an argument beside this one, whose class axes are `axes`, with its axes in this one's order."""
        for own, its in self._pairs(other, axes):
            one, two = self.index(own), other.index(its)
            if one is None or two is None:
                one, two = (self.names(own), other.names(its)) if own in axes else (None, None)
            if one is not None and two is not None and len(one) == len(two) and not _same(one, two):
                raise other_index(other.name, self.name, one, two)
        return other

    def _pairs(self, other, axes):
        """Which axis of another argument is which of this one's."""
        name, ndim = other.name, other.ndim
        rows = [i for i in range(self.ndim) if i not in axes]
        if name in OF_DOCUMENTS:
            return []
        if name == "weight":
            return [(axes[0], 0)]
        if name in OF_LOGITS:
            return [(i, i - self.ndim + ndim) for i in range(self.ndim) if i - self.ndim + ndim >= 0]
        if ndim == self.ndim:
            return [(i, i) for i in (rows if name in OF_SEVERAL else range(ndim))]
        return list(zip(rows, range(ndim), strict=False))

    def rows(self, key):
        """The rows at `key`, which is as NumPy takes it, in what holds as much as this one."""
        values = self.array[key]
        return self.like(values, tuple(range(np.ndim(values))), ())

    def like(self, values, axes, unnamed):
        """`values` with the names of the axes `axes` of the logits; along those that are `unnamed` without places."""
        return values


def _same(one, two):
    return one.equals(two) if hasattr(one, "equals") else one == two
