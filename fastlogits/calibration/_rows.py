"""Logits with their labels as rows, checked once, for what runs over them several times."""

import math
from typing import NamedTuple

import numpy as np

from fastlogits import _checks, _checks_calibration, _layout, config
from fastlogits.cross_entropy import int64


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
        return self.labels >= 0

    def correct(self):
        """Whether the first of the largest logits is the label, of the rows that count."""
        indices = np.empty(len(self.labels), np.intp)
        for rows, outer, inner, (x,), strides in self._parts():
            threads = config.threads(self.size)
            config.backend().argmax(x, indices[rows], outer, self.layout.classes, inner, *strides, threads)
        return (indices == self.labels)[self.counted]

    @np.errstate(all="ignore")
    def scores(self, temperature):
        """The `Scores` of the rows that count."""
        beta = inverse(temperature)
        results = self.empty()
        self.moments(beta, results)
        rest, gap, _, _, square = results[:, self.counted]
        # `beta` only stands for the infinite one of temperature 0.
        nll = np.log1p(rest) + np.where(gap > 0, gap * (beta if temperature else math.inf), gap)
        return Scores(1 / (1 + rest), nll, np.expm1(-nll) ** 2 + square)


class Scores(NamedTuple):
    """One number a row, in float64: the largest probability, and two losses."""

    confidence: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


def binned(place, values, bins):
    """The sum of the values in each bin, within a few eps: of some rows one after the other, of those in pairs."""
    rows = max(64, bins)
    part = np.arange(len(place)) // rows
    parts = -(-len(place) // rows)
    sums = np.bincount(part + parts * place, values, parts * bins)
    return np.add.reduce(sums.reshape(bins, parts), axis=1)


def inverse(temperature):
    """1 / temperature, within the range of the kernels; the temperatures 0 and inf are limits."""
    lowest, highest = _checks.SCALE_RANGE
    if temperature in (0, math.inf):
        return lowest if temperature else highest
    return 1.0 / _checks.scale("temperature", temperature)


def labelled_rows(logits, labels, axis, ignore_index, sample_weight=None):
    """`LabelledRows` of a caller's arguments; rows that count for nothing are left out."""
    x = _layout.floats(logits, "logits")
    layout = _layout.of(x, _checks.one_axis(axis))
    labels = _checks.class_indices(labels, layout.batch_shape)
    ignore_index = _checks.ignore_index(ignore_index)
    indices = layout.flatten(int64(labels, ignore_index))
    first_bad, total = -1, 0.0
    if layout.rows:
        first_bad, total = config.backend().count_labels(indices, None, None, layout.classes, ignore_index)
    if first_bad >= 0:
        raise _checks.bad_label(labels, layout.classes, ignore_index)
    kept = indices != ignore_index
    weight = None
    if sample_weight is not None:
        weight = layout.flatten(_checks_calibration.row_weights("sample_weight", sample_weight, layout.batch_shape))
        kept &= weight > 0
        weight = np.where(kept, weight, 0.0)
        total = float(np.add.reduce(weight))
    return LabelledRows(x, layout, layout.outer, layout.stride, np.where(kept, indices, -1), weight, total)
