"""Logits with their labels as rows, checked once, for what runs over them several times."""

import functools
import math
from typing import NamedTuple

import numpy as np

from fastlogits import _checks, _checks_calibration, _layout, config
from fastlogits.cross_entropy import int64

FIRST_ROWS = 8  # along each axis, which tell probabilities from logits


class LabelledRows(NamedTuple):
    """Row r has the label labels[r], -1 where it is left out, and counts weight[r] times."""

    x: np.ndarray
    layout: _layout.Layout
    outer: int
    stride: int | None  # None: not to be walked, read by blocks
    labels: np.ndarray
    weight: np.ndarray | None
    total: float  # of the weights

    @property
    def inner(self):
        return self.layout.inner

    @property
    def size(self):
        return self.outer * self.layout.classes * self.layout.inner

    def packed(self):
        """The same in memory that can be walked, a copy where that cannot."""
        x, stride = self.layout.bring(self.x)
        return self._replace(x=x, stride=stride)

    def every(self, step):
        """Every step-th row, where rows follow upon each other in memory."""
        weight = None if self.weight is None else self.weight[::step].copy()
        labels = self.labels[::step].copy()
        total = np.count_nonzero(labels >= 0) if weight is None else float(weight.sum())
        return self._replace(
            outer=-(-self.outer // step), stride=self.stride * step, labels=labels, weight=weight, total=total
        )

    def empty(self):
        """Where `moments` puts its results."""
        return np.empty((5, len(self.labels)))

    def moments(self, beta, results):
        """Each row's rest, gap, mean, variance and square at the inverse temperature beta: kernels/moments.py."""
        classes, threads = self.layout.classes, config.threads(self.size)
        for rows, outer, inner, (x,), strides in self._parts():
            own = results if len(self.labels) == outer * inner else np.empty((5, outer * inner))
            config.backend().moments(x, self.labels[rows], own, outer, classes, inner, *strides, beta, threads)
            if own is not results:
                results[:, rows] = own

    def _parts(self):
        """As `Layout.parts`."""
        if not self.size:
            return ()
        if self.stride is None:
            return self.layout.parts((self.x,), (None,))
        return [(slice(None), self.outer, self.inner, (self.x,), (self.stride,))]

    @property
    def counted(self):
        """Which rows count: all, by an index that copies nothing, or a mask."""
        if self.weight is None and self.total == len(self.labels):
            return slice(None)
        return self.labels >= 0

    def correct(self):
        """Whether the first of the largest logits is the label, of the rows that count."""
        indices = np.empty(len(self.labels), np.intp)
        for rows, outer, inner, (x,), strides in self._parts():
            threads = config.threads(self.size)
            config.backend().argmax(x, indices[rows], outer, self.layout.classes, inner, *strides, threads)
        return (indices == self.labels)[self.counted]

    def scores(self, temperature):
        """The `Scores` of the rows that count."""
        beta = inverse(temperature)
        results = self.empty()
        self.moments(beta, results)
        rest, gap, _, _, square = results[:, self.counted]
        # `beta` only stands for the infinite one of temperature 0.
        return Scores(rest, gap, square, beta if temperature else math.inf)


class Scores:
    """One number a row, in float64: the largest probability, and two losses, each made when it is asked for."""

    def __init__(self, rest, gap, square, beta):
        self.rest, self.gap, self.square, self.beta = rest, gap, square, beta

    @functools.cached_property
    @np.errstate(all="ignore")
    def confidence(self):
        confidence = 1 + self.rest
        return np.divide(1, confidence, out=confidence)

    @functools.cached_property
    @np.errstate(all="ignore")
    def nll(self):
        nll = np.log1p(self.rest)
        nll += np.where(self.gap > 0, math.inf, self.gap) if self.beta == math.inf else self.gap * self.beta
        return nll

    @functools.cached_property
    @np.errstate(all="ignore")
    def brier(self):
        brier = np.negative(self.nll)
        np.expm1(brier, out=brier)
        np.square(brier, out=brier)
        brier += self.square
        return brier


def binned(place, values, bins):
    """The sum of the values in each bin, within a few eps: of some rows one after the other, of those in pairs."""
    rows = max(64, bins)
    parts = -(-len(place) // rows)
    part = np.arange(parts).repeat(rows)[: len(place)]
    sums = np.bincount(part + parts * place, values, parts * bins)
    return np.add.reduce(sums.reshape(bins, parts), axis=1)


def inverse(temperature):
    """1 / temperature, within the range of the kernels; the temperatures 0 and inf are limits."""
    lowest, highest = _checks.SCALE_RANGE
    if temperature in (0, math.inf):
        return lowest if temperature else highest
    return 1.0 / _checks.scale("temperature", temperature)


def some_rows(x, layout):
    """The first rows, classes last."""
    rows = np.moveaxis(x, layout.axes[0], -1)
    return rows[(slice(FIRST_ROWS),) * (rows.ndim - 1)].astype(np.float64)


def labelled_rows(logits, labels, axis, ignore_index, sample_weight=None):
    """`LabelledRows` of a caller's arguments; rows that count for nothing are left out.

    Scores of shape (N,) are those of the second of two classes, whose first has the score 0.
    """
    x = _layout.floats(logits, "logits")
    if x.ndim == 1 and np.shape(labels) == x.shape:
        x, axis = np.stack([np.zeros_like(x), x], axis=-1), -1
    layout = _layout.of(x, _checks.one_axis(axis))
    _checks_calibration.warn_of_probabilities(some_rows(x, layout))
    labels = _checks.class_indices(labels, layout.batch_shape)
    ignore_index = _checks.ignore_index(ignore_index)
    indices = layout.flatten(int64(labels, ignore_index))
    first_bad, total = -1, 0.0
    if layout.rows:
        first_bad, total = config.backend().count_labels(indices, None, None, layout.classes, ignore_index)
    if first_bad >= 0:
        raise _checks.bad_label(labels, layout.classes, ignore_index)
    weight = None
    if sample_weight is None and total == len(indices):
        return LabelledRows(x, layout, layout.outer, layout.stride, indices, weight, total)
    kept = indices != ignore_index
    if sample_weight is not None:
        weight = layout.flatten(_checks_calibration.row_weights("sample_weight", sample_weight, layout.batch_shape))
        kept &= weight > 0
        weight = np.where(kept, weight, 0.0)
        total = float(np.add.reduce(weight))
    return LabelledRows(x, layout, layout.outer, layout.stride, np.where(kept, indices, -1), weight, total)
