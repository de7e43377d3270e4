"""Calibration, of dask arrays: what chunks of whole rows have to say is merged in a tree.

Of rows in several chunks, other chunks of about the same size are made that hold whole rows.
"""

import math
from typing import NamedTuple

import dask
import numpy as np

from fastlogits import _checks, _checks_calibration
from fastlogits.calibration import (
    CalibrationState,
    ReliabilityCurve,
    RiskCoverageCurve,
    draw_reliability,
    draw_risk_coverage,
)
from fastlogits.calibration._rows import inverse, labelled_rows
from fastlogits.calibration.measures import adaptive_error, classwise_error, classwise_surplus, risk_coverage
from fastlogits.calibration.temperature import Likelihood, optimum
from fastlogits.dask._blocks import Chunked, chunked, lazily, merged, pick
from fastlogits.dask.cross_entropy import row_weight
from fastlogits.dask.row_stats import class_indices

# One of so many chunks goes into the point from which the temperature is searched.
THINNED = 8


class Labelled(NamedTuple):
    """Logits in chunks of whole rows; labels and weights of the rows as of `lazily`."""

    x: Chunked
    labels: tuple
    weight: tuple | None
    ignore_index: int

    @classmethod
    def of(cls, logits, labels, axis, ignore_index, weight=None):
        x = chunked("logits", logits, _checks.one_axis(axis)).in_whole_rows()
        ignore_index = _checks.ignore_index(ignore_index)
        return cls(x, class_indices(labels, x), row_weight("sample_weight", weight, x), ignore_index)

    def reduced(self, function, merge, *, of=None, **options):
        """For `lazily`, with the axes of the logits: function(logits, labels, weight) of each block, merged.

        `of` selects blocks.
        """
        x = self.x
        results = lazily(
            function, x.all, x.blocks, self.labels, self.weight, axis=x.axis, ignore_index=self.ignore_index,
            dtype=object, chunks=x.one_row | x.one_class, rows=x.rows, **options,
        )  # fmt: skip
        return merged(merge, results if of is None else results.blocks[of], x.batch), x.all

    def some_blocks(self):
        """The index of some blocks, spread evenly along the axis that has the most; None where there are few."""
        blocks = [self.x.array.numblocks[axis] if axis in self.x.batch else 0 for axis in self.x.all]
        if max(blocks) < THINNED:
            return None
        return tuple(slice(None, None, THINNED if axis == np.argmax(blocks) else None) for axis in self.x.all)


def expected_calibration_error(logits, labels, *, bins=15, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.expected_calibration_error`."""
    return _measured("expected_calibration_error", logits, labels, bins, axis, temperature, ignore_index)


def maximum_calibration_error(logits, labels, *, bins=15, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.maximum_calibration_error`."""
    return _measured("maximum_calibration_error", logits, labels, bins, axis, temperature, ignore_index)


def brier_score(logits, labels, *, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.brier_score`."""
    return _measured("brier_score", logits, labels, 1, axis, temperature, ignore_index)


def negative_log_likelihood(logits, labels, *, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.negative_log_likelihood`."""
    return _measured("negative_log_likelihood", logits, labels, 1, axis, temperature, ignore_index)


def reliability_curve(logits, labels, *, bins=15, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.reliability_curve`."""
    state, axes = _states(logits, labels, bins, axis, temperature, ignore_index)
    return _curve(ReliabilityCurve, _reliability, (state, axes), (np.float64, np.float64, np.int64), bins)


def _measured(name, logits, labels, bins, axis, temperature, ignore_index):
    states = _states(logits, labels, bins, axis, temperature, ignore_index)
    return lazily(_measure, (), states, name=name, dtype=np.float64)


def _states(logits, labels, bins, axis, temperature, ignore_index):
    bins = _checks_calibration.at_least_one("bins", bins)
    inverse(temperature)
    rows = Labelled.of(logits, labels, axis, ignore_index)
    return rows.reduced(_state, _merged_states, bins=bins, temperature=temperature)


def _state(x, labels, weight, **options):
    return CalibrationState.of(x, labels, **options)


def _merged_states(state, *others):
    return state.merge(*others)


def _measure(state, *, name):
    return np.float64(getattr(state, name)())


def _reliability(state):
    return state.reliability_curve()


def _curve(kind, function, merged, dtypes, size):
    """A named tuple of lazy arrays, the fields of function(merged block)."""
    axes = merged[1][:1]
    curve = lazily(function, axes, merged, dtype=object), axes
    return kind(*(pick(curve, i, axes, dtype, chunks={axes[0]: (size,)}) for i, dtype in enumerate(dtypes)))


def adaptive_calibration_error(logits, labels, *, bins=15, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.adaptive_calibration_error`; one task gets the confidences of all rows."""
    bins = _checks_calibration.at_least_one("bins", bins)
    predictions = _predictions(logits, labels, axis, temperature, ignore_index)
    return lazily(_adaptive, (), predictions, bins=bins, dtype=np.float64)


def risk_coverage_curve(logits, labels, *, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.risk_coverage_curve`, of unknown length; one task gets the confidences of all rows."""
    predictions = _predictions(logits, labels, axis, temperature, ignore_index)
    return _curve(RiskCoverageCurve, _risk_coverage, predictions, (np.float64,) * 3, math.nan)


def _predictions(logits, labels, axis, temperature, ignore_index):
    inverse(temperature)
    rows = Labelled.of(logits, labels, axis, ignore_index)
    return rows.reduced(_confidences, _concatenated, temperature=temperature)


def _confidences(x, labels, weight, *, axis, ignore_index, temperature):
    rows = labelled_rows(x, labels, axis, ignore_index)
    return rows.scores(temperature).confidence, rows.correct()


def _concatenated(*parts):
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _adaptive(predictions, *, bins):
    return np.float64(adaptive_error(*predictions, bins))


def _risk_coverage(predictions):
    return risk_coverage(*predictions)


def classwise_calibration_error(logits, labels, *, bins=15, axis=-1, temperature=1.0, ignore_index=-100):
    """As `fastlogits.calibration.classwise_calibration_error`."""
    bins = _checks_calibration.at_least_one("bins", bins)
    inverse(temperature)
    rows = Labelled.of(logits, labels, axis, ignore_index)
    sums = rows.reduced(_surplus, _added, bins=bins, temperature=temperature)
    return lazily(_classwise, (), sums, classes=rows.x.classes, dtype=np.float64)


def _surplus(x, labels, weight, *, axis, ignore_index, bins, temperature):
    rows = labelled_rows(x, labels, axis, ignore_index)
    return classwise_surplus(rows, bins, temperature), rows.total


def _added(*parts):
    return tuple(map(sum, zip(*parts, strict=True)))


def _classwise(sums, *, classes):
    surplus, rows = sums
    return np.float64(classwise_error(surplus, classes, rows))


def fit_temperature(logits, labels, *, axis=-1, sample_weight=None, ignore_index=-100):
    """As `fastlogits.calibration.fit_temperature`, at once: each of its passes computes the logits.

    Where they come of much work, and the cluster can hold them, give `logits.persist()`.
    """
    rows = Labelled.of(logits, labels, axis, ignore_index, sample_weight)
    likelihood = _LikelihoodOfChunks(rows)
    some = rows.some_blocks()
    fit = optimum(likelihood, some and _LikelihoodOfChunks(rows, some))
    if not likelihood.total:
        raise _checks_calibration.no_rows(rows.x.shape(rows.x.batch))
    if not math.isfinite(fit.nll):
        raise _checks_calibration.impossible_labels(likelihood.each())
    return fit


class _LikelihoodOfChunks(Likelihood):
    """Each pass computes the logits of all chunks, or those that are selected."""

    def __init__(self, rows, of=None):
        self.rows, self.of = rows, of

    @np.errstate(invalid="ignore")
    def means(self, beta):
        sums, axes = self.rows.reduced(_moments, _added, of=self.of, beta=beta)
        self.total, *sums = lazily(_array, axes[:1], (sums, axes), dtype=np.float64, chunks={axes[0]: 5}).compute()
        self.mean_log_norm, *means = np.divide(sums, self.total).tolist()
        return means

    def log_norm(self):
        return self.mean_log_norm

    def each(self):
        x, labels, weight, ignore_index = self.rows
        options = {"axis": x.axis, "ignore_index": ignore_index, "dtype": np.float64}
        return lazily(_likelihoods, x.batch, x.blocks, labels, weight, **options).compute()


def _moments(x, labels, weight, *, axis, ignore_index, beta):
    """What to divide by, and the sums over the rows of log(1 + rest), gap, mean and variance: kernels/moments.py."""
    rows = labelled_rows(x, labels, axis, ignore_index, weight)
    if not rows.total:
        return (0.0,) * 5
    rest, *moments, _ = results = rows.empty()
    rows.moments(beta, results)
    counts = 1.0 if rows.weight is None else rows.weight
    with np.errstate(invalid="ignore"):
        return rows.total, *(np.add.reduce(counts * values) for values in (np.log1p(rest), *moments))


def _array(sums):
    return np.array(sums)


def _likelihoods(x, labels, weight, *, axis, ignore_index):
    """Each row's negative log-likelihood but for beta, or what makes it infinite or NaN at any beta."""
    rows = labelled_rows(x, labels, axis, ignore_index, weight)
    results = rows.empty()
    rows.moments(1.0, results)
    return rows.layout.unflatten(results[0] + results[1])


def plot_reliability(logits, labels, *, bins=15, axis=-1, temperature=1.0, ignore_index=-100, ax=None):
    """As `fastlogits.calibration.plot_reliability`, at once."""
    curve = reliability_curve(logits, labels, bins=bins, axis=axis, temperature=temperature, ignore_index=ignore_index)
    return draw_reliability(ReliabilityCurve(*dask.compute(*curve)), ax)


def plot_risk_coverage(logits, labels, *, axis=-1, temperature=1.0, ignore_index=-100, ax=None):
    """As `fastlogits.calibration.plot_risk_coverage`, at once."""
    curve = risk_coverage_curve(logits, labels, axis=axis, temperature=temperature, ignore_index=ignore_index)
    return draw_risk_coverage(RiskCoverageCurve(*dask.compute(*curve)), ax)
