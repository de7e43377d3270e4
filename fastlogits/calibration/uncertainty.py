"""Calibration errors without bins, curves of each class, and how far a measure of so few rows can be trusted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _blocks as blocks
from fastlogits import _checks, _checks_calibration, dispatch
from fastlogits.calibration._rows import binned, inverse, labelled_rows
from fastlogits.calibration.measures import adaptive_error
from fastlogits.calibration.state import ReliabilityCurve, bin_of, edges, mean
from fastlogits.softmax import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CELLS = 4096  # of the unit interval, for the smooth error: a place is off by an eight-thousandth at most
NARROWEST = 1e-3
HALVINGS = 40
MEASURES = (
    "accuracy", "expected_calibration_error", "maximum_calibration_error", "adaptive_calibration_error",
    "smooth_calibration_error", "brier_score", "negative_log_likelihood",
)  # fmt: skip
LOSSES = {"brier_score": "brier", "negative_log_likelihood": "nll"}


class ConfidenceInterval(NamedTuple):
    """What `bootstrap` returns."""

    value: float
    low: float
    high: float


@dispatch.by_array
def smooth_calibration_error(
    logits: ArrayLike, labels: ArrayLike, *, axis: int = -1, temperature: float = 1.0, ignore_index: int = -100
) -> float:
    """Smooth calibration error (smECE): as the expected one, smoothed by a kernel in the place of bins.

    The differences of correctness and confidence are smoothed by a Gaussian that is reflected at 0 and 1; the result is
    the mean of their absolute values where it equals the width of the Gaussian. It has no bins to choose, and changes
    little where the confidences do.

    Parameters and result as of `expected_calibration_error`. Widths below 0.001 count as 0.001.

    References
    ----------
    Blasiok, Nakkiran (2023), Smooth ECE: principled reliability diagrams via kernel smoothing, arXiv 2309.12236.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import smooth_calibration_error
    >>> round(smooth_calibration_error(np.log([[0.6, 0.4]] * 10), [0] * 9 + [1]), 6)
    0.3
    """
    rows = labelled_rows(logits, labels, axis, ignore_index)
    return smooth_error(rows.scores(temperature).confidence, rows.correct())


def smooth_error(confidence, correct):
    """`smooth_calibration_error` of predictions."""
    if not len(confidence) or np.isnan(confidence).any():
        return math.nan
    place = np.minimum((confidence * CELLS).astype(np.intp), CELLS - 1)
    residual = np.bincount(place, correct - confidence, CELLS) / len(confidence)
    # Reflected, it is a circle; smoothing multiplies its Fourier coefficients.
    coefficients = np.fft.rfft(np.concatenate([residual, residual[::-1]]))
    squares = np.square(np.pi * np.arange(len(coefficients)))

    def smoothed(width):
        return np.abs(np.fft.irfft(coefficients * np.exp(-0.5 * squares * width * width), 2 * CELLS)[:CELLS]).sum()

    low, high = NARROWEST, 1.0
    if smoothed(low) <= low:
        return float(smoothed(low))
    for _ in range(HALVINGS):
        width = (low + high) / 2
        low, high = (width, high) if smoothed(width) > width else (low, width)
    return float(smoothed(high))


@dispatch.by_array
def classwise_reliability_curves(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
) -> ReliabilityCurve:
    """Of each class: its mean probability, its frequency among the labels, and the rows, in bins of its probability.

    Parameters and bins as of `classwise_calibration_error`, which is made of them.

    Returns
    -------
    ReliabilityCurve
        As of `reliability_curve`, of arrays of shape (C, bins): a class's curve is the named tuple of its rows.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import classwise_reliability_curves
    >>> curves = classwise_reliability_curves(np.log([[0.6, 0.4], [0.6, 0.4]]), [0, 1], bins=2)
    >>> curves.accuracy
    array([[nan, 0.5],
           [0.5, nan]])
    """
    bins = _checks_calibration.at_least_one("bins", bins)
    rows = labelled_rows(logits, labels, axis, ignore_index).packed()
    classes = rows.layout.classes
    shape = rows.outer, classes, rows.inner
    labels = rows.labels.reshape(rows.outer, rows.inner)
    logits = blocks.view(rows.x, *shape, rows.stride)
    within, first_bin = 1 / inverse(temperature), bins * np.arange(classes)
    mass, hits, count = np.zeros((3, classes * bins))
    for block in blocks.blocks(*shape) if rows.total else ():
        counted = labels[block] >= 0
        probs = softmax(logits[block][counted].astype(np.float64), temperature=within)
        place = first_bin + bin_of(probs, edges(bins))
        mass += np.bincount(place.ravel(), probs.ravel(), classes * bins)
        count += np.bincount(place.ravel(), minlength=classes * bins)
        hits += np.bincount(place[np.arange(len(probs)), labels[block][counted]], minlength=classes * bins)
    with np.errstate(invalid="ignore"):
        curve = mass / count, hits / count, count.astype(np.int64)
    return ReliabilityCurve(*(part.reshape(classes, bins) for part in curve))


@dispatch.by_array
def bootstrap(
    logits: ArrayLike,
    labels: ArrayLike,
    measure: str = "expected_calibration_error",
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator | None = None,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
) -> ConfidenceInterval:
    """A measure, and the interval in which it lies for most samples of as many of the rows, drawn with replacement.

    The logits are read once, whatever the number of resamples.

    Parameters
    ----------
    logits, labels, axis, temperature, ignore_index
        As of `expected_calibration_error`.
    measure : str
        "accuracy", "expected_calibration_error" (default), "maximum_calibration_error", "adaptive_calibration_error",
        "smooth_calibration_error", "brier_score" or "negative_log_likelihood".
    resamples : int, default 1000
        At least 1.
    level : float, default 0.95
        How many of the resamples lie in the interval.
    seed : int, numpy.random.Generator or None, optional
        For ``numpy.random.default_rng``.
    bins : int, default 15
        Of the measures that have bins.

    Returns
    -------
    ConfidenceInterval
        The named tuple (value, low, high): the measure of all rows, and percentiles of the resamples.

    Notes
    -----
    Calibration errors are absolute values, so that noise makes them larger: the interval of a well-calibrated
    classifier lies above its value. It tells how two classifiers differ, not whether the error is 0.

    References
    ----------
    Efron, Tibshirani (1993), An introduction to the bootstrap.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import bootstrap
    >>> found = bootstrap(np.log([[0.6, 0.4]] * 100), [0] * 90 + [1] * 10, seed=0)
    >>> round(found.value, 6), bool(found.low < 0.3 < found.high)
    (0.3, True)
    """
    _checks.one_of("measure", measure, MEASURES)
    resamples = _checks_calibration.at_least_one("resamples", resamples)
    bins = _checks_calibration.at_least_one("bins", bins)
    level = _checks.fraction("level", level)
    rows = labelled_rows(logits, labels, axis, ignore_index)
    correct = rows.correct()
    values = correct if measure == "accuracy" else getattr(rows.scores(temperature), LOSSES.get(measure, "confidence"))

    def measured(index):
        return _of_predictions(measure, bins, correct[index], values[index])

    rng, count = np.random.default_rng(seed), len(correct)
    value = measured(slice(None))
    found = [measured(rng.integers(count, size=count)) for _ in range(resamples if count else 0)] or [math.nan]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return ConfidenceInterval(value, float(low), float(high))


def _of_predictions(measure, bins, correct, values):
    if measure == "smooth_calibration_error":
        return smooth_error(values, correct)
    if measure == "adaptive_calibration_error":
        return adaptive_error(values, correct, bins)
    if measure in ("expected_calibration_error", "maximum_calibration_error"):
        place = bin_of(values, edges(bins))
        surplus = np.abs(binned(place, correct - values, bins))
        if measure == "expected_calibration_error":
            return mean(surplus.sum(), len(correct))
        count = np.bincount(place, minlength=bins)
        return float((surplus[count > 0] / count[count > 0]).max(initial=-math.inf)) if len(correct) else math.nan
    return mean(np.add.reduce(values, dtype=np.float64), len(values))
