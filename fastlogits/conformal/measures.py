"""What prediction sets are worth: how many have their label, how large they are, and where they fail."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _checks, _checks_conformal, dispatch
from fastlogits.conformal.sets import PredictionSets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike

STRATA = (0, 2, 4, 11, 101)  # of Angelopoulos et al.: 0 to 1, 2 to 3, 4 to 10, 11 to 100, and more


class CoverageReport(NamedTuple):
    """What `coverage_report` returns."""

    coverage: float
    mean_size: float
    strata: np.ndarray
    stratum_count: np.ndarray
    stratum_coverage: np.ndarray
    class_count: np.ndarray
    class_coverage: np.ndarray

    @property
    def size_stratified_coverage(self) -> float:
        """The least coverage among the strata that have rows."""
        return _least(self.stratum_coverage)

    @property
    def worst_class_coverage(self) -> float:
        """The least coverage among the classes that are labels."""
        return _least(self.class_coverage)


@dispatch.by_array
def coverage(
    sets: ArrayLike | PredictionSets,
    labels: ArrayLike,
    *,
    axis: int = -1,
    classes: Iterable[Any] | None = None,
) -> float:
    """Share of the rows whose set has the label.

    Parameters
    ----------
    sets : array_like of bool, shape (..., C), or PredictionSets
        What `prediction_sets` returned.
    labels : array_like of integers, shape (...)
        Class indices in [0, C).
    axis : int, default -1
        The class axis of a mask.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    float
        NaN where there are no rows.

    Raises
    ------
    IndexError
        If a label is not in [0, C); the first is named.

    Examples
    --------
    >>> from fastlogits import conformal
    >>> conformal.coverage([[True, False, True], [True, False, False]], [2, 1])
    0.5
    """
    covered, _, _ = _rows(sets, labels, axis)
    return _mean(covered)


@dispatch.by_array
def set_sizes(sets: ArrayLike | PredictionSets, *, axis: int = -1) -> np.ndarray:
    """How many classes each set has.

    Parameters
    ----------
    sets, axis
        As of `coverage`.

    Returns
    -------
    ndarray of intp, shape (...), or (N,) of `PredictionSets`

    Examples
    --------
    >>> from fastlogits import conformal
    >>> conformal.set_sizes([[True, False, True], [True, False, False]])
    array([2, 1])
    """
    if isinstance(sets, PredictionSets):
        return np.diff(np.asarray(sets.offsets))
    return np.count_nonzero(_checks_conformal.mask(sets), axis=_checks.one_axis(axis))


@dispatch.by_array
def coverage_report(
    sets: ArrayLike | PredictionSets,
    labels: ArrayLike,
    *,
    strata: Iterable[int] = STRATA,
    axis: int = -1,
    classes: Iterable[Any] | None = None,
) -> CoverageReport:
    """Coverage of all rows, of sets of some size, and of each class; and the mean size.

    Parameters
    ----------
    sets, labels, axis, classes
        As of `coverage`.
    strata : iterable of int, default (0, 2, 4, 11, 101)
        The smallest size of each stratum of sets, the first of them 0.

    Returns
    -------
    CoverageReport
        The named tuple of `coverage` and `mean_size`, which are NaN where there are no rows; `strata`,
        `stratum_count` and `stratum_coverage`, arrays of as many numbers as there are strata; `class_count` and
        `class_coverage`, of shape (C,), or up to the largest label beside `PredictionSets`. The coverage of no rows is
        NaN. Two properties have the least of them: `size_stratified_coverage` and `worst_class_coverage`.

    Raises
    ------
    IndexError
        As `coverage`.

    References
    ----------
    Angelopoulos, Bates, Malik, Jordan (2021), Uncertainty sets for image classifiers using conformal prediction.

    Examples
    --------
    >>> from fastlogits import conformal
    >>> report = conformal.coverage_report([[True, False, True], [True, False, False], [True, True, False]], [2, 1, 1])
    >>> report.stratum_coverage
    array([ 0.,  1., nan, nan, nan])
    >>> report.class_coverage
    array([nan, 0.5, 1. ])
    """
    bounds = _checks_conformal.lower_bounds(strata)
    covered, labels, classes = _rows(sets, labels, axis)
    sizes = set_sizes(sets, axis=axis).ravel()
    stratum = np.searchsorted(bounds, sizes, side="right") - 1
    return CoverageReport(
        _mean(covered), _mean(sizes), bounds, *_by(stratum, covered, len(bounds)), *_by(labels, covered, classes)
    )


def _rows(sets, labels, axis):
    """(whether its set has the label, its label) of each row, and how many classes there are."""
    if isinstance(sets, PredictionSets):
        ids, offsets = map(np.asarray, sets)
        rows = len(offsets) - 1
        labels = _checks_conformal.row_labels(labels, (rows,), math.inf)
        of_set = np.repeat(np.arange(rows), np.diff(offsets))
        covered = np.bincount(of_set[ids == labels[of_set]], minlength=rows) > 0
        return covered, labels, int(labels.max(initial=-1)) + 1
    mask = _checks_conformal.mask(sets)
    axis = _checks.axes(_checks.one_axis(axis), mask.ndim)[0]
    mask = np.moveaxis(mask, axis, -1)
    labels = _checks_conformal.row_labels(labels, mask.shape[:-1], mask.shape[-1])
    covered = np.take_along_axis(mask, labels[..., None], -1).ravel()
    return covered, labels.ravel(), mask.shape[-1]


def _by(place, covered, parts):
    """The number of rows in each part, and their coverage."""
    count = np.bincount(place, minlength=parts)
    with np.errstate(invalid="ignore"):
        return count, np.bincount(place[covered], minlength=parts) / count


def _mean(values):
    return float(values.mean()) if len(values) else math.nan


def _least(values):
    known = [value for value in np.asarray(values).tolist() if value == value]
    return min(known, default=math.nan)
