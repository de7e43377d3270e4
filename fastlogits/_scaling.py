"""Logits as a temperature, a bias and a mask make them, the same for all functions that take these.

z = logits / temperature + bias, and -inf where the mask is false, whatever stands there. A temperature alone is the
kernels' own affair: they multiply differences of logits by its inverse, so that nothing is rounded on the way. A bias
of each class goes with statistics of rows into the kernels. Everything else is formed block after block, in the dtype
that is computed in, and the kernels find it in cache.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastlogits import _checks, _checks_filters, _layout


class Scaling(NamedTuple):
    """What is done to the rows of an array, in the form that the kernels take."""

    scale: float = 1.0  # 0: each row has its own
    scales: np.ndarray | None = None  # of each row, in row order
    bias: np.ndarray | None = None  # of each class, -inf for one that is left out
    where: np.ndarray | None = None  # of each logit

    @classmethod
    def of(cls, x, layout, temperature=1.0, bias=None, where=None):
        """(x, layout, scaling) of a caller's arguments: what a fit with `apply` makes of `x` takes its place."""
        if has_apply(temperature):
            x = applied(temperature, x, layout.axis)
            layout = _layout.of(x, layout.axis)
            temperature = 1.0
        scale, scales = inverse(temperature, layout)
        if bias is None and where is None:
            return x, layout, PLAIN if scale == 1.0 else cls(scale, scales)
        dtype = _layout.COMPUTE[x.dtype]
        axis = layout.axes[0]
        if bias is not None:
            bias = _layout.rounded(_checks.class_bias(bias, layout.shape, layout.axes), dtype)
        if where is not None:
            where = _checks.where(where, layout.shape)
            if by_class(where, axis):
                row = tuple(slice(None) if i == axis else 0 for i in range(where.ndim))
                first = where[row] if where.size else False
                zero = np.zeros(layout.shape[axis], dtype)
                bias = np.where(first, zero if bias is None else bias, dtype.type(-np.inf))
                where = None
        return x, layout, cls(scale, scales, bias, where)

    @property
    def is_plain(self):
        return self is PLAIN

    @property
    def shifts(self):
        """Whether more is done than to multiply."""
        return self.bias is not None or self.where is not None

    def rest(self, layout):
        """What the kernels' results are still to be multiplied by: a number, or those of rows in the batch's shape."""
        if self.shifts:
            return 1.0
        return self.scale if self.scales is None else layout.unflatten(self.scales)

    def taken(self, layout):
        """Which logits are not left out; what broadcasts to them."""
        taken = np.bool_(True) if self.where is None else self.where
        if self.bias is not None:
            shape = [1] * len(layout.shape)
            shape[layout.axes[0]] = layout.classes
            taken = taken & (self.bias > -np.inf).reshape(shape)
        return taken

    def at(self, x, layout, ids, axis):
        """The logits of some classes of each row, as the kernels see them."""
        z = np.take_along_axis(x, ids, axis)
        if not self.shifts:
            return z
        z = z.astype(_layout.COMPUTE[x.dtype])
        scale = self.scale if self.scales is None else np.expand_dims(layout.unflatten(self.scales), axis)
        with np.errstate(all="ignore"):
            z *= np.asarray(scale, z.dtype)
            if self.bias is not None:
                bias = self.bias[ids]
                z = np.where(bias > -np.inf, z + bias, bias)
        if self.where is not None:
            z[~np.take_along_axis(self.where, ids, axis)] = -np.inf
        return z

    def rows(self, rows):
        """What the kernels take of these rows."""
        return {"scale": self.scale, "scales": None if self.scales is None else self.scales[rows], "bias": self.bias}

    def blocks(self, x, layout, y=None):
        """(rows, z) of some rows at a time, z a packed array of them that goes to `y` with the next step."""
        dtype = _layout.COMPUTE[x.dtype]
        x = layout.by_rows(x)
        y = None if y is None else layout.by_rows(y)
        where = None if self.where is None else layout.by_rows(self.where)
        start, batch = 0, x.shape[: len(layout.batch_shape)]
        for place in _layout.row_blocks(batch, max(1, _layout.BLOCK // max(1, layout.classes))):
            part = x[place]
            stop = start + math.prod(part.shape[: len(batch)])
            z = np.empty((stop - start, layout.classes), dtype)
            by_rows = z.reshape(part.shape)
            by_rows[...] = part
            self.apply(z, slice(start, stop))
            if where is not None:
                np.copyto(by_rows, -np.inf, where=~where[place])
            yield slice(start, stop), z
            if y is not None:
                y[place] = _layout.rounded(by_rows, y.dtype)
            start = stop

    @np.errstate(all="ignore")
    def apply(self, z, rows):
        """To these rows, in place; what `where` leaves out stays."""
        if self.is_plain:
            return
        z *= z.dtype.type(self.scale) if self.scales is None else self.scales[rows, None].astype(z.dtype)
        if self.bias is not None:
            z += self.bias
            z[:, np.isneginf(self.bias)] = -np.inf


PLAIN = Scaling()


def inverse(temperature, layout):
    """(1 / temperature, None), or (0, that of each row in row order)."""
    if is_number(temperature):
        return 1.0 / number(temperature), None
    values = _checks_filters.filter_parameter("temperature", temperature, layout.batch_shape)
    return 0.0, layout.flatten(np.broadcast_to(1.0 / values, layout.batch_shape))


def has_apply(temperature):
    """Whether it is a fit that makes logits of logits."""
    return hasattr(temperature, "apply") and not hasattr(temperature, "temperature")


def is_fit(temperature):
    """Whether it is what a fit found, of either kind."""
    return hasattr(temperature, "apply") or hasattr(temperature, "temperature")


def is_number(temperature):
    """Whether it is one for all rows, as such or in a fit."""
    if type(temperature) in (float, int) or hasattr(temperature, "temperature"):
        return True
    return not hasattr(temperature, "apply") and np.ndim(temperature) == 0


def number(temperature):
    """This one, checked. The optimum of a fit may be the limit 0 or inf."""
    if hasattr(temperature, "temperature"):
        lowest, highest = _checks.SCALE_RANGE
        return min(max(temperature.temperature, lowest), highest)
    return _checks.scale("temperature", temperature)


def applied(fit, x, axis):
    """What a fit makes of logits, in a dtype that the kernels take: half types are not rounded in between."""
    z = _layout.floats(fit.apply(x.astype(_layout.COMPUTE[x.dtype], copy=False), axis), "temperature")
    _checks.same_shape("temperature.apply(logits)", z, "logits", x)
    return z


def by_class(where, axis):
    """Whether all rows have the same mask, as the strides of what was broadcast show."""
    others = (i for i in range(where.ndim) if i != axis)
    return all(where.shape[i] == 1 or where.strides[i] == 0 for i in others)
