"""The losses in array operations, for whatever library hands in a dozen: NumPy's backend, torch, TensorFlow, JAX, dask.

With z the transformed logits (softcap, logit_scale), m = max z, log s = log sum exp(z - m) and lse = m + log s, the
loss of a row is

    sum_c mass_c (log s + m - z_c) + z_loss lse^2

times its sample weight, where mass_c = weight_c ((1 - label_smoothing) t_c + label_smoothing / C) and t is the
distribution that the labels are: of class indices, 1 at the label. Classes lie along the last axis, labels have been
checked, and all arrays are of the dtype that is computed in. Differences of logits are of their halves, since those of
the largest numbers are too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastlogits._options import NOTHING


class Operations(NamedTuple):
    """What a library hands in, beside the operators of its arrays. An axis that is reduced stays, with length 1."""

    where: Callable[..., Any]  # (condition, x, y), of which one may be a number
    exp: Callable[..., Any]
    log1p: Callable[..., Any]
    tanh: Callable[..., Any]
    max: Callable[..., Any]  # (x, axis), -inf of no classes
    sum: Callable[..., Any]  # (x, axis)
    total: Callable[..., Any]  # the sum of all elements
    count: Callable[..., Any]  # how many elements of a boolean array are true
    sizes: Callable[..., Any]  # (rows, classes)
    at: Callable[..., Any]  # (values, labels): of each row the value at its label; `values` may be one row for all
    constant: Callable[..., Any]  # the same without a derivative
    logsumexp: Callable[..., Any] | None = None  # (x, axis, True), whose derivative is a kernel


class Targets(NamedTuple):
    """What a loss asks of rows: class indices, or distributions where the labels are `soft`."""

    labels: Any
    soft: bool
    weight: Any = None  # of each class
    sample_weight: Any = None

    def counted(self, ops, options):
        """(which rows count, the same with a class in the place of labels that do not); None: all."""
        if self.soft or options.ignore_index == NOTHING:
            return None, self
        valid = self.labels != options.ignore_index
        return valid, self._replace(labels=ops.where(valid, self.labels, 0))


def cross_entropy(ops, logits, targets, options, normalizer=None):
    """`fastlogits.cross_entropy`."""
    return reduced(ops, row_losses(ops, logits, targets, options), targets, options, normalizer)


def row_losses(ops, logits, targets, options):
    """The loss of each row, before its sample weight."""
    valid, targets = targets.counted(ops, options)
    if valid is not None:
        # What is ignored must not reach a derivative, not even as 0 * NaN.
        logits = ops.where(valid[..., None], logits, 0)
    peak, half_gaps, log_sum = normalized(ops, transformed(ops, logits, options))
    mass, half_gap = expected(ops, half_gaps, targets, options)
    return of_rows(peak, log_sum, mass, half_gap, options)[..., 0]


def transformed(ops, x, options):
    """z = logit_scale softcap tanh(x / softcap)"""
    if options.softcap is not None:
        x = options.softcap * ops.tanh(x / options.softcap)
    return options.logit_scale * x


def normalized(ops, z, axis=-1):
    """(m, half of m - z, log sum exp(z - m)), from which a class that dominates gets a gradient that does not cancel.

    Such a class is m itself, with a difference of constant 0: its gradient is then minus the sum of the others'. m is
    constant where none dominates.
    """
    peak = ops.max(z, axis)
    dominated = ops.sum(ops.constant(ops.exp(z - peak)), axis) < 2
    others = ~(dominated & (z == peak))
    peak = ops.where(dominated, peak, ops.constant(peak))
    half_gaps = ops.where(others, peak / 2 - z / 2, 0)
    if ops.logsumexp is not None:
        return peak, half_gaps, ops.logsumexp(-2 * half_gaps, axis, True)
    rest = ops.sum(ops.where(others, ops.exp(-2 * half_gaps), 0), axis)
    return peak, half_gaps, ops.log1p(ops.where(dominated, rest, rest - 1))


def expected(ops, half_gaps, targets, options):
    """`moments` of the masses that the labels give."""
    _, classes = ops.sizes(half_gaps)
    labels, soft, weight, _ = targets
    if soft:
        return moments(ops, masses_of(labels, weight, classes, options), half_gaps)
    hard = 1 - options.label_smoothing
    if weight is not None:
        hard = hard * ops.at(weight, labels)[..., None]
    mass, half_gap = hard, weighed(ops, hard, ops.at(half_gaps, labels)[..., None])
    if options.label_smoothing:
        masses = masses_of(None, weight, classes, options)
        mass = mass + (options.label_smoothing if weight is None else ops.sum(masses, -1))
        half_gap = half_gap + ops.sum(weighed(ops, masses, half_gaps), -1)
    return mass, half_gap


def masses_of(distributions, weight, classes, options):
    """mass_c; without distributions, the part that smoothing gives each class."""
    masses = options.label_smoothing / classes if options.label_smoothing else 0.0
    if distributions is not None:
        masses = masses + (1 - options.label_smoothing) * distributions
    return masses if weight is None else weight * masses


def moments(ops, masses, half_gaps):
    """(sum_c mass_c, half of sum_c mass_c (m - z_c))"""
    return ops.sum(masses, -1), ops.sum(weighed(ops, masses, half_gaps), -1)


def weighed(ops, masses, half_gaps):
    """Their products, where 0 * inf = 0: a class that cannot occur and is not expected costs nothing."""
    return masses * ops.where((masses == 0) & (half_gaps == math.inf), 0, half_gaps)


def of_rows(peak, log_sum, mass, half_gap, options):
    """The loss of rows from what is known of each."""
    losses = mass * log_sum + 2 * half_gap
    if options.z_loss:
        lse = peak + log_sum
        losses = losses + options.z_loss * lse * lse
    return losses


def weighted(ops, losses, targets, options):
    """Losses of rows with their sample weights; 0 of an ignored row."""
    if targets.sample_weight is not None:
        losses = losses * targets.sample_weight
    valid, _ = targets.counted(ops, options)
    return losses if valid is None else ops.where(valid, losses, 0)


def reduced(ops, losses, targets, options, normalizer=None):
    """What the reduction makes of `row_losses`."""
    return reduced_weighted(ops, weighted(ops, losses, targets, options), targets, options, normalizer)


def reduced_weighted(ops, losses, targets, options, normalizer=None):
    """The same of losses that have their weights."""
    if options.reduction == "none":
        return losses
    total = ops.total(losses)
    if options.reduction == "sum":
        return total
    if normalizer is None:
        return total / divisor(ops, targets, options)
    return over(ops, total, normalizer)


def divisor(ops, targets, options):
    """What "mean" divides by: the weights of the rows that count."""
    valid, (labels, soft, weight, row_weight) = targets.counted(ops, options)
    if not soft and weight is not None:
        own = ops.at(weight, labels)
        row_weight = own if row_weight is None else own * row_weight
    if row_weight is not None:
        return ops.total(row_weight if valid is None else ops.where(valid, row_weight, 0))
    if valid is not None:
        return ops.count(valid)
    rows, _ = ops.sizes(labels if soft else labels[..., None])
    return rows


def over(ops, total, normalizer):
    """`total` divided; a normalizer of 0, where no label counts, makes it 0."""
    nothing = normalizer == 0
    return ops.where(nothing, 0, total / ops.where(nothing, 1, normalizer))


def _at(values, labels):
    if values.ndim == 1:
        return values.take(labels, mode="clip")
    return np.take_along_axis(values, labels[..., None], -1)[..., 0]


NUMPY = Operations(
    where=np.where,
    exp=np.exp,
    log1p=np.log1p,
    tanh=np.tanh,
    max=lambda x, axis: x.max(axis, keepdims=True, initial=-np.inf),
    sum=lambda x, axis: x.sum(axis, keepdims=True),
    total=np.sum,
    count=np.count_nonzero,
    sizes=lambda x: (math.prod(x.shape[:-1]), x.shape[-1]),
    at=_at,
    constant=lambda x: x,
)


def slope(x, options):
    """dz/dx, in NumPy."""
    if options.softcap is None:
        return options.logit_scale
    return options.logit_scale / np.cosh(x / options.softcap) ** 2
