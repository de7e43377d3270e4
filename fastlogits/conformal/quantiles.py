"""Thresholds: quantiles of the scores of calibration rows, as few as they are."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from fastlogits import _checks, _checks_conformal, dispatch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dispatch.by_array
def threshold(
    scores: ArrayLike, alpha: float, *, labels: ArrayLike | None = None, num_classes: int | None = None
) -> float | np.ndarray:
    """The score that a new row's label exceeds with a probability of at most `alpha`.

    Of n scores it is the ``ceil((n + 1) (1 - alpha))``-th smallest.

    Parameters
    ----------
    scores : array_like of floats, any shape
        Those of calibration rows, on which the classifier was not trained.
    alpha : float
        From 0 to 1, taken as the decimal number that it is written as.
    labels : array_like of integers, of the shape of `scores`, optional
        Class indices of the rows, for a threshold of each class.
    num_classes : int, optional
        C, beside `labels`.

    Returns
    -------
    float, or ndarray of float64, shape (C,) beside labels
        inf where there are too few rows for this `alpha`, which makes the sets all classes; -inf for an `alpha` of 1.

    Raises
    ------
    IndexError
        If a label is not in [0, C); the first is named.
    ValueError
        If a score is NaN; the first is named.

    Notes
    -----
    If calibration rows and a new one are exchangeable, the new label is in its set with a probability of at least
    ``1 - alpha``; where no scores are equal, it is at most ``1 - alpha + 1 / (n + 1)``. Thresholds of each class give
    this for each class, from its rows alone.

    References
    ----------
    Vovk, Gammerman, Shafer (2005), Algorithmic learning in a random world.
    Vovk (2012), Conditional validity of inductive conformal predictors.

    Examples
    --------
    >>> from fastlogits import conformal
    >>> conformal.threshold([0.1, 0.2, 0.3, 0.4], 0.2)
    0.4
    >>> conformal.threshold([0.1, 0.2, 0.3, 0.4], 0.1)
    inf
    >>> conformal.threshold([0.1, 0.2, 0.3, 0.4], 0.5, labels=[0, 0, 0, 1], num_classes=2)
    array([0.2, 0.4])
    """
    values = _checks_conformal.calibration_scores(scores)
    # 0.29 of 100 rows are 29, and not the 28.999999999999996 of doubles.
    alpha = Fraction(repr(_checks.fraction("alpha", alpha)))
    num_classes = _checks_conformal.number_of_classes(labels, num_classes)
    if labels is None:
        return float(_smallest(np.sort(values, axis=None), alpha))
    labels = _checks_conformal.row_labels(labels, values.shape, num_classes)
    counts = np.bincount(labels.ravel(), minlength=num_classes)
    by_class = values.ravel()[np.lexsort((values.ravel(), labels.ravel()))]
    return np.array([_smallest(part, alpha) for part in np.split(by_class, np.cumsum(counts)[:-1])[:num_classes]])


def _smallest(ascending, alpha):
    count = len(ascending)
    place = count + 1 - math.floor((count + 1) * alpha)  # the ceil, from 1
    if place > count:
        return math.inf
    return ascending[place - 1] if place else -math.inf
