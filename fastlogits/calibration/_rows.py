"""Logits with their labels as rows, checked once, for what runs over them several times."""

from typing import NamedTuple

import numpy as np

from fastlogits import _checks, _layout, config
from fastlogits.cross_entropy import int64


class LabelledRows(NamedTuple):
    """Row r has the label labels[r], -1 where it is left out, and counts weight[r] times."""

    x: np.ndarray
    layout: _layout.Layout
    outer: int
    stride: int
    labels: np.ndarray
    weight: np.ndarray | None
    total: float  # of the weights

    @property
    def inner(self):
        return self.layout.inner

    @property
    def size(self):
        return self.outer * self.layout.classes * self.layout.inner

    def every(self, step):
        """Every step-th row, where rows follow upon each other in memory."""
        weight = None if self.weight is None else self.weight[::step].copy()
        labels = self.labels[::step].copy()
        total = np.count_nonzero(labels >= 0) if weight is None else float(weight.sum())
        return self._replace(
            outer=-(-self.outer // step), stride=self.stride * step, labels=labels, weight=weight, total=total
        )

    def moments(self, beta, results):
        """Each row's log_norm, gap, mean and variance at the inverse temperature beta, see kernels/moments.py."""
        layout = self.layout
        config.backend().moments(
            self.x, self.labels, results, self.outer, layout.classes, layout.inner, self.stride, beta,
            config.threads(self.size),
        )  # fmt: skip


def labelled_rows(logits, labels, axis, sample_weight, ignore_index):
    """`LabelledRows` of a caller's arguments; rows that count for nothing are left out."""
    x = _layout.floats(logits, "logits")
    layout = _layout.of(x, _checks.one_axis(axis))
    labels = _checks.class_indices(labels, layout.batch_shape)
    ignore_index = _checks.ignore_index(ignore_index, default=None, soft=False)
    indices = layout.flatten(int64(labels, ignore_index))
    first_bad, total = -1, 0.0
    if layout.rows:
        first_bad, total = config.backend().count_labels(indices, None, None, layout.classes, ignore_index)
    if first_bad >= 0:
        raise _checks.bad_label(labels, layout.classes, ignore_index)
    kept = indices != ignore_index
    weight = None
    if sample_weight is not None:
        weight = layout.flatten(_checks.row_weights("sample_weight", sample_weight, layout.batch_shape))
        kept &= weight > 0
        weight = np.where(kept, weight, 0.0)
        total = float(np.add.reduce(weight))
    if not total > 0:
        raise _checks.no_rows(layout.batch_shape)
    x, stride = layout.bring(x)
    return LabelledRows(x, layout, layout.outer, stride, np.where(kept, indices, -1), weight, total)
