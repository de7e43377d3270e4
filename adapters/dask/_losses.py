"""Losses of rows in pieces, and their gradient, of the masses that `fastlogits.formula` has.

Of class indices, the mass that the label's own class has beside what smoothing gives it, `hard`, is kept apart.
"""

from typing import NamedTuple

import numpy as np

from fastlogits import _layout, formula
from fastlogits._options import LossOptions
from fastlogits.dask._blocks import lazily, merged
from fastlogits.dask._pieces import by_rows, probabilities, softmax_gradient, store
from fastlogits.dask._states import row_states
from fastlogits.formula import NUMPY, Targets


class Loss(NamedTuple):
    """What all blocks of a loss have in common."""

    options: LossOptions
    classes: int
    soft: bool

    def delivered(self, losses, ndim, kind):
        """`losses` in the dtype `kind`, or their sum as an array."""
        if self.options.reduction == "none":
            return _layout.rounded(np.asarray(losses), kind)
        return np.full((1,) * ndim, np.sum(losses), np.float64)

    @property
    def has_masses(self):
        return self.soft or self.options.label_smoothing > 0

    @property
    def transforms(self):
        return self.options.softcap is not None or self.options.logit_scale != 1

    def transformed(self, x):
        """z and dz/dx."""
        if not self.transforms:
            return x, 1.0
        x = x.astype(np.float64)
        return formula.transformed(NUMPY, x, self.options), formula.slope(x, self.options)

    def hard(self, labels, weight):
        shares = (1 - self.options.label_smoothing) * (1.0 if weight is None else NUMPY.at(weight, labels))
        return np.where(labels == self.options.ignore_index, 0, shares)

    def masses(self, targets, weight):
        """mass_c, of the targets and weights of these classes."""
        distributions = targets.astype(np.float64) if self.soft else None
        return formula.masses_of(distributions, weight, self.classes, self.options)


class Masses(NamedTuple):
    """What a piece has to say about sum_c mass_c (lse - z_c): its m and `formula.moments`.

    `others` is the mass of all but one maximum: of a class that dominates the gradient comes from it, and it would be
    lost in a difference from `total`.
    """

    peak: np.ndarray
    total: np.ndarray
    half_gap: np.ndarray
    others: np.ndarray


def loss_states(x, labels, weight, loss):
    """For `lazily`: each block of rows' `RowState`, and `Masses` or None."""
    z = x.replaced(_transformed, loss=loss, dtype=np.dtype(np.float64)) if loss.transforms else x
    if loss.soft:
        states = row_states(z, want=("lse",))
    else:
        states = row_states(z, labels, want=("lse", "nll"), ignore_index=int(loss.options.ignore_index))
    if not loss.has_masses:
        return states, None
    targets = labels if loss.soft else None
    masses = lazily(_masses, z.all, z.blocks, targets, weight, x.location, loss=loss, dtype=object, chunks=x.one_class)
    return states, (merged(_added, masses, x.axes), x.all)


@np.errstate(all="ignore")
def _transformed(x, *, loss):
    return loss.transformed(x)[0]


@np.errstate(all="ignore")
def _masses(z, targets, weight, location, *, loss):
    axis = loss.options.axis
    weight = _doubles(weight, location[axis])
    shape = np.delete(z.shape, axis)
    masses = Masses(np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape), np.zeros(shape))
    for block, t, peak, total, half_gap, others in by_rows((axis,), z, targets, *masses):
        z = block.astype(np.float64)
        shares = np.broadcast_to(loss.masses(t, weight), z.shape)
        peak[...] = NUMPY.max(z, -1)
        half_gaps = np.where(z == peak, 0, peak / 2 - z / 2)
        total[...], half_gap[...] = formula.moments(NUMPY, shares, half_gaps)
        if z.shape[-1]:
            shares = shares.copy()
            np.put_along_axis(shares, z.argmax(-1, keepdims=True), 0, -1)
        others[...] = shares.sum(-1, keepdims=True)
    return masses


def _doubles(weight, span=slice(None)):
    return None if weight is None else weight[span].astype(np.float64)


@np.errstate(all="ignore")
def _added(*pieces):
    peaks, totals, half_gaps, others = map(np.stack, zip(*pieces, strict=True))
    peak = peaks.max(0)
    gaps = np.where(peak == peaks, 0, peak / 2 - peaks / 2)
    half_gap = (half_gaps + np.where(totals == 0, 0, totals * gaps)).sum(0)
    best = np.arange(len(peaks)).reshape(-1, *(1,) * peak.ndim) == peaks.argmax(0)
    return Masses(peak, totals.sum(0), half_gap, np.where(best, others, totals).sum(0))


@np.errstate(all="ignore")
def losses(state, masses, labels, weight, sample_weight, *, loss, kind):
    """The loss of each row, or their sum, from what is known of the rows."""
    state.results()  # which checks the labels
    peak = state.parts["peak"]
    mass, half_gap = (0.0, 0.0) if masses is None else (masses.total, masses.half_gap)
    if not loss.soft:
        hard = loss.hard(labels, _doubles(weight))
        mass = mass + hard
        half_gap = half_gap + formula.weighed(NUMPY, hard, peak / 2 - state.parts["label_logit"] / 2)
    result = formula.of_rows(peak, state.log_sum, mass, half_gap, loss.options)
    targets = Targets(labels, loss.soft, sample_weight=sample_weight)
    result = formula.weighted(NUMPY, result, targets, loss.options)
    return loss.delivered(result, result.ndim, kind)


@np.errstate(all="ignore")
def gradient(x, state, masses, labels, weight, sample_weight, arriving, location, *, loss, kind):
    """The gradient to a piece of the logits, of what arrives at the losses or at their sum."""
    x = _layout.floats(x, "logits")
    span, z_loss = location[loss.options.axis], loss.options.z_loss
    peak, log_sum = state.parts["peak"], state.log_sum
    if loss.soft:
        targets, place, hard = labels, np.full(peak.shape, -1), np.zeros(peak.shape)
        ignored = np.zeros(peak.shape, bool)
    else:
        targets, place, hard = None, labels.astype(np.int64) - span.start, loss.hard(labels, _doubles(weight))
        ignored = labels == loss.options.ignore_index
    total = hard if masses is None else hard + masses.total
    others = np.zeros(peak.shape) if masses is None else masses.others
    factor = np.broadcast_to(arriving, peak.shape) * (1.0 if sample_weight is None else sample_weight)
    rows = place, peak, log_sum, hard, total, others, factor, ignored
    weight = _doubles(weight, span)
    probs, result = probabilities(_transformed(x, loss=loss) if loss.transforms else x, state, kind)
    for out, p, z, t, place, peak, log_sum, hard, total, others, factor, ignored in by_rows(
        (loss.options.axis,), result, probs, x, targets, *rows
    ):
        z, slope = loss.transformed(z)
        if np.ndim(slope) == 0:
            factor, slope = factor * slope, None
        shares = loss.masses(t, weight) if loss.has_masses else None
        softmax_gradient(p, z, peak, log_sum, total, place, hard, shares, others, z_loss, factor)
        if slope is not None:
            p *= slope.astype(p.dtype)
        if ignored.any():
            p[ignored[..., 0]] = 0
        store(out, p)
    return result
