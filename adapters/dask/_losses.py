"""Losses of rows in pieces, and their gradient.

With z the transformed logits, m = max z, lse = m + log sum exp(z - m) and s = label_smoothing, the loss of a row is

    hard (lse - z_label) + sum_c mass_c (lse - z_c) + z_loss lse^2

where class indices have hard = (1 - s) w_label and mass_c = s / C w_c, and distributions have hard = 0 and
mass_c = w_c ((1 - s) t_c + s / C).
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from fastlogits import _layout
from fastlogits.dask._blocks import lazily, merged
from fastlogits.dask._pieces import by_rows, probabilities, softmax_gradient, store
from fastlogits.dask._states import row_states


class Formula(NamedTuple):
    """What all blocks of a loss have in common."""

    axis: int
    classes: int
    soft: bool
    ignore_index: int
    options: tuple  # as of `_checks.loss_options`
    each: bool  # whether each row's loss is wanted, and not their sum

    def delivered(self, losses, ndim, kind):
        """`losses` in the dtype `kind`, or their sum as an array."""
        if self.each:
            return _layout.rounded(np.asarray(losses), kind)
        return np.full((1,) * ndim, np.sum(losses), np.float64)

    @property
    def has_masses(self):
        return self.soft or self.options[0] > 0

    @property
    def transforms(self):
        return self.options[2] > 0 or self.options[3] != 1

    def transformed(self, x):
        """z and dz/dx."""
        _, _, softcap, scale = self.options
        if not self.transforms:
            return x, 1.0
        x = x.astype(np.float64)
        if not softcap:
            return scale * x, scale
        x /= softcap
        return scale * softcap * np.tanh(x), scale / np.cosh(x) ** 2

    def hard(self, labels, weight):
        shares = (1 - self.options[0]) * (1.0 if weight is None else weight.take(labels, mode="clip"))
        return np.where(labels == self.ignore_index, 0, shares)

    def masses(self, targets, weight):
        """mass_c, of the targets and weights of these classes."""
        smoothing = self.options[0]
        shares = smoothing / self.classes
        if self.soft:
            shares = shares + (1 - smoothing) * targets.astype(np.float64)
        return shares if weight is None else shares * weight


class Masses(NamedTuple):
    """What a piece has to say about sum_c mass_c (lse - z_c): its m, sum_c mass_c, and half of sum_c mass_c (m - z_c).

    Half, since the differences of the largest numbers are too large. `others` is the mass of all but one maximum: of
    a class that dominates the gradient comes from it, and it would be lost in a difference from `total`.
    """

    peak: np.ndarray
    total: np.ndarray
    half_deficit: np.ndarray
    others: np.ndarray


def loss_states(x, labels, weight, formula):
    """For `lazily`: each block of rows' `RowState`, and `Masses` or None."""
    z = x.replaced(_transformed, formula=formula, dtype=np.dtype(np.float64)) if formula.transforms else x
    if formula.soft:
        states = row_states(z, want=("lse",))
    else:
        states = row_states(z, labels, want=("lse", "nll"), ignore_index=formula.ignore_index)
    if not formula.has_masses:
        return states, None
    targets = labels if formula.soft else None
    masses = lazily(
        _masses, z.all, z.blocks, targets, weight, x.location, formula=formula, dtype=object, chunks=x.one_class
    )
    return states, (merged(_added, masses, x.axes), x.all)


@np.errstate(all="ignore")
def _transformed(x, *, formula):
    return formula.transformed(x)[0]


@np.errstate(all="ignore")
def _masses(z, targets, weight, location, *, formula):
    weight = _doubles(weight, location[formula.axis])
    shape = np.delete(z.shape, formula.axis)
    masses = Masses(np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape), np.zeros(shape))
    for block, t, peak, total, half_deficit, others in by_rows((formula.axis,), z, targets, *masses):
        z = block.astype(np.float64)
        shares = np.broadcast_to(formula.masses(t, weight), z.shape)
        peak[...] = z.max(-1, keepdims=True, initial=-np.inf)
        total[...] = shares.sum(-1, keepdims=True)
        gaps = np.where(z == peak, 0, peak / 2 - z / 2)
        half_deficit[...] = np.where(shares == 0, 0, shares * gaps).sum(-1, keepdims=True)
        if z.shape[-1]:
            shares = shares.copy()
            np.put_along_axis(shares, z.argmax(-1, keepdims=True), 0, -1)
        others[...] = shares.sum(-1, keepdims=True)
    return masses


def _doubles(weight, span=slice(None)):
    return None if weight is None else weight[span].astype(np.float64)


@np.errstate(all="ignore")
def _added(*pieces):
    peaks, totals, half_deficits, others = map(np.stack, zip(*pieces, strict=True))
    peak = peaks.max(0)
    gaps = np.where(peak == peaks, 0, peak / 2 - peaks / 2)
    half_deficit = (half_deficits + np.where(totals == 0, 0, totals * gaps)).sum(0)
    best = np.arange(len(peaks)).reshape(-1, *(1,) * peak.ndim) == peaks.argmax(0)
    return Masses(peak, totals.sum(0), half_deficit, np.where(best, others, totals).sum(0))


@np.errstate(all="ignore")
def losses(state, masses, labels, weight, sample_weight, *, formula, kind):
    """The loss of each row, or their sum, from what is known of the rows."""
    stats = dataclasses.replace(state, dtype=np.dtype(np.float64)).results()
    result = np.zeros(stats.lse.shape)
    if not formula.soft:
        shares = formula.hard(labels, _doubles(weight))
        result += np.where(shares == 0, 0, shares * stats.nll)
    if masses is not None:
        result += masses.total * state.log_sum + 2 * masses.half_deficit
    if formula.options[1]:
        result += formula.options[1] * stats.lse * stats.lse
    if sample_weight is not None:
        result *= sample_weight
    if not formula.soft:
        result = np.where(labels == formula.ignore_index, 0, result)
    return formula.delivered(result, result.ndim, kind)


@np.errstate(all="ignore")
def gradient(x, state, masses, labels, weight, sample_weight, arriving, location, *, formula, kind):
    """The gradient to a piece of the logits, of what arrives at the losses or at their sum."""
    x = _layout.floats(x, "logits")
    span, z_loss = location[formula.axis], formula.options[1]
    peak, log_sum = state.parts["peak"], state.log_sum
    if formula.soft:
        targets, place, hard = labels, np.full(peak.shape, -1), np.zeros(peak.shape)
        ignored = np.zeros(peak.shape, bool)
    else:
        targets, place, hard = None, labels.astype(np.int64) - span.start, formula.hard(labels, _doubles(weight))
        ignored = labels == formula.ignore_index
    total = hard if masses is None else hard + masses.total
    others = np.zeros(peak.shape) if masses is None else masses.others
    factor = np.broadcast_to(arriving, peak.shape) * (1.0 if sample_weight is None else sample_weight)
    rows = place, peak, log_sum, hard, total, others, factor, ignored
    weight = _doubles(weight, span)
    probs, result = probabilities(_transformed(x, formula=formula) if formula.transforms else x, state, kind)
    for out, p, z, t, place, peak, log_sum, hard, total, others, factor, ignored in by_rows(
        (formula.axis,), result, probs, x, targets, *rows
    ):
        z, slope = formula.transformed(z)
        if np.ndim(slope) == 0:
            factor, slope = factor * slope, None
        shares = formula.masses(t, weight) if formula.has_masses else None
        softmax_gradient(p, z, peak, log_sum, total, place, hard, shares, others, z_loss, factor)
        if slope is not None:
            p *= slope.astype(p.dtype)
        if ignored.any():
            p[ignored[..., 0]] = 0
        store(out, p)
    return result
