"""How far confidences are from frequencies: calibration errors, scores and curves, straight from the logits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _blocks as blocks
from fastlogits import _checks_calibration, dispatch
from fastlogits.calibration._rows import binned, inverse, labelled_rows
from fastlogits.calibration.state import ReliabilityCurve, bin_of, bins_of, edges, even_bin_of, mean
from fastlogits.softmax import softmax

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike


class RiskCoverageCurve(NamedTuple):
    """What `risk_coverage_curve` returns."""

    coverage: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray


@dispatch.by_array
def expected_calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> float:
    """Expected calibration error (ECE): how far, on average, confidence is from accuracy.

    The confidence of a row is the largest probability of ``softmax(logits / temperature)``, and its prediction that
    class. Rows go to bins of equal width by confidence; the result is the mean over the rows of
    ``abs(accuracy of the bin - mean confidence in the bin)``.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    labels : array_like of integers, shape (...)
        Class indices in [0, C), or `ignore_index`.
    bins : int, default 15
        At least 1.
    axis : int, default -1
        The class axis.
    temperature : float, default 1.0
        Divides the logits; what `fit_temperature` returned, including the limits 0 and inf.
    ignore_index : int, default -100
        Rows with this label do not count.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    float
        From 0 to 1; NaN where no row counts, or one that counts has NaN or +inf, or nothing but -inf.

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; the first is named.

    Notes
    -----
    Neither probabilities nor anything else of the size of the logits is allocated, but some numbers a row.

    Bin i is ``i / bins < confidence <= (i + 1) / bins``, so that a confidence of 1 is in the last; 0 is in the first.
    So it is in the paper and in scikit-learn. netcal has ``<=`` on the left, and so has torchmetrics, which also gives
    the confidence 1 a bin of its own; both round confidences to float32 where logits are. Confidences of float32
    logits are formed in double precision here, which matters on the edge of a bin: 5 equal logits give 0.2 exactly.

    Of equal logits the first is the prediction, as of `argmax`.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks.

    Examples
    --------
    Nine predictions of ten are right, made with a confidence of 0.6:

    >>> import numpy as np
    >>> from fastlogits.calibration import expected_calibration_error
    >>> logits = np.log([[0.6, 0.4]] * 10)
    >>> round(expected_calibration_error(logits, [0] * 9 + [1]), 6)
    0.3
    """
    state, _ = bins_of(logits, labels, bins, axis, temperature, ignore_index)
    return state.expected_calibration_error()


@dispatch.by_array
def maximum_calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> float:
    """Maximum calibration error (MCE): ``abs(accuracy - mean confidence)`` of the bin where it is largest.

    Parameters, bins and result as of `expected_calibration_error`. Empty bins do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import maximum_calibration_error
    >>> round(maximum_calibration_error(np.log([[0.6, 0.4], [0.1, 0.9]]), [1, 1]), 6)
    0.6
    """
    state, _ = bins_of(logits, labels, bins, axis, temperature, ignore_index)
    return state.maximum_calibration_error()


@dispatch.by_array
def adaptive_calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> float:
    """Adaptive calibration error (ACE): as `expected_calibration_error`, with bins that hold as many rows each.

    Parameters and result as of `expected_calibration_error`.

    Notes
    -----
    The edges are the quantiles ``numpy.quantile(confidence, i / bins)``, and belong to the bin below: as scikit-learn's
    ``calibration_curve(strategy="quantile")`` has it. Equal confidences share a bin, so some may hold more, or none.
    This is the measure of the predicted class, like all here but the class-wise one; Nixon et al. also average it
    over all classes.

    References
    ----------
    Nixon, Dusenberry, Zhang, Jerfel, Tran (2019), Measuring calibration in deep learning.
    Nguyen, O'Connor (2015), Posterior calibration and exploratory analysis for natural language processing models.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import adaptive_calibration_error
    >>> logits = np.log([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1]])
    >>> round(adaptive_calibration_error(logits, [0, 1, 0, 0], bins=2), 6)
    0.15
    """
    bins = _checks_calibration.at_least_one("bins", bins)
    rows = labelled_rows(logits, labels, axis, ignore_index)
    return adaptive_error(rows.scores(temperature).confidence, rows.correct(), bins)


def adaptive_error(confidence, correct, bins):
    """`adaptive_calibration_error` of predictions."""
    if not len(confidence):
        return math.nan
    place = bin_of(confidence, np.quantile(confidence, edges(bins)))
    return mean(np.abs(binned(place, correct - confidence, bins)).sum(), len(confidence))


@dispatch.by_array
def classwise_calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> float:
    """Class-wise calibration error: the calibration error of each class's probability, averaged over the classes.

    For each class, all rows go to bins of equal width by the probability of that class, and its frequency among the
    labels of a bin is held against the mean probability in the bin.

    Parameters, bins and result as of `expected_calibration_error`. The probabilities are formed in double precision,
    some rows at a time.

    References
    ----------
    Kull et al. (2019), Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with Dirichlet
    calibration.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import classwise_calibration_error
    >>> round(classwise_calibration_error(np.log([[0.6, 0.4], [0.6, 0.4]]), [0, 1]), 6)
    0.1
    """
    bins = _checks_calibration.at_least_one("bins", bins)
    rows = labelled_rows(logits, labels, axis, ignore_index)
    return classwise_error(classwise_surplus(rows, bins, temperature), rows.layout.classes, rows.total)


def classwise_surplus(rows, bins, temperature):
    """For each bin of each class, how many labels it has more than its probabilities add up to."""
    rows = rows.packed()
    shape = rows.outer, rows.layout.classes, rows.inner
    labels = rows.labels.reshape(rows.outer, rows.inner)
    logits = blocks.view(rows.x, *shape, rows.stride)
    within = 1 / inverse(temperature)
    first_bin = bins * np.arange(rows.layout.classes)
    surplus = np.zeros(first_bin.size * bins)
    for block in blocks.blocks(*shape) if rows.total else ():
        counted = labels[block] >= 0
        probs = softmax(logits[block][counted].astype(np.float64), temperature=within)
        place = first_bin + even_bin_of(probs, bins)
        np.subtract.at(surplus, place, probs)
        np.add.at(surplus, place[np.arange(len(probs)), labels[block][counted]], 1)
    return surplus


def classwise_error(surplus, classes, rows):
    """`classwise_calibration_error` of so many rows."""
    return mean(np.abs(surplus).sum() / max(1, classes), rows)


@dispatch.by_array
def brier_score(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> float:
    """Brier score: the mean over the rows of ``sum((probs - one_hot(label)) ** 2)``.

    Parameters as of `expected_calibration_error`.

    Returns
    -------
    float
        From 0, the best, to 2. Of two classes this is twice what scikit-learn's ``brier_score_loss`` gives for the
        probability of one.

    References
    ----------
    Brier (1950), Verification of forecasts expressed in terms of probability.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import brier_score
    >>> round(brier_score(np.log([[0.6, 0.4]]), [0]), 6)
    0.32
    """
    brier = labelled_rows(logits, labels, axis, ignore_index).scores(temperature).brier
    return mean(np.add.reduce(brier), len(brier))


@dispatch.by_array
def negative_log_likelihood(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> float:
    """Mean negative log-likelihood of the labels, in nats.

    Parameters as of `expected_calibration_error`; the result is that of `cross_entropy`, rounded to no other dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import negative_log_likelihood
    >>> round(negative_log_likelihood(np.log([[0.6, 0.4]]), [0]), 6)
    0.510826
    """
    nll = labelled_rows(logits, labels, axis, ignore_index).scores(temperature).nll
    return mean(np.add.reduce(nll), len(nll))


@dispatch.by_array
def reliability_curve(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> ReliabilityCurve:
    """Mean confidence, accuracy and number of rows in bins of confidence: what a reliability diagram shows.

    Parameters and bins as of `expected_calibration_error`.

    Returns
    -------
    ReliabilityCurve
        The named tuple (confidence, accuracy, count) of arrays of shape (bins,); the first two are NaN where a bin is
        empty.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import reliability_curve
    >>> curve = reliability_curve(np.log([[0.6, 0.4], [0.1, 0.9]]), [1, 1], bins=5)
    >>> curve.count
    array([0, 0, 1, 0, 1])
    >>> curve.accuracy
    array([nan, nan,  0., nan,  1.])
    """
    state, _ = bins_of(logits, labels, bins, axis, temperature, ignore_index)
    return state.reliability_curve()


@dispatch.by_array
def risk_coverage_curve(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> RiskCoverageCurve:
    """Share of wrong predictions among those at least so confident, for each confidence there is.

    Parameters as of `expected_calibration_error`.

    Returns
    -------
    RiskCoverageCurve
        The named tuple (coverage, risk, threshold), one entry for each distinct confidence, the largest first: the
        share of the rows whose confidence is at least `threshold`, and the share of wrong predictions among them.
        Rows without a confidence (NaN) come last, one by one.

    References
    ----------
    Geifman, El-Yaniv (2017), Selective classification for deep neural networks.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import risk_coverage_curve
    >>> curve = risk_coverage_curve(np.log([[0.6, 0.4], [0.1, 0.9]]), [1, 1])
    >>> curve.coverage, curve.risk
    (array([0.5, 1. ]), array([0. , 0.5]))
    """
    rows = labelled_rows(logits, labels, axis, ignore_index)
    return risk_coverage(rows.scores(temperature).confidence, rows.correct())


def risk_coverage(confidence, correct):
    """`risk_coverage_curve` of predictions."""
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], ~correct[order]
    last = np.append(confidence[1:] != confidence[:-1], True)[: len(confidence)]
    covered = np.arange(1, len(confidence) + 1)[last]
    return RiskCoverageCurve(covered / len(confidence), np.cumsum(wrong)[last] / covered, confidence[last])
