"""Calibration by bins of confidence: partial results of some rows that can be merged."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _checks_calibration
from fastlogits.calibration._rows import binned, labelled_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class ReliabilityCurve(NamedTuple):
    """What `reliability_curve` returns, one number a bin: NaN in the first two where it is empty."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationState:
    """What some rows have to say about calibration.

    Made by `CalibrationState.of`; `merge` puts the rows of several together, so that an array in pieces, on disk or on
    several machines, gives the answers of the whole. It can be pickled, and has the size of some numbers a bin.

    Attributes
    ----------
    count, correct : ndarray of int64, shape (bins,)
        How many predictions have a confidence in each bin, and how many of them are right.
    confidence : ndarray of float64, shape (bins,)
        The sum of their confidences.
    nll, brier : float
        The sums of the rows' negative log-likelihoods and Brier scores.

    Examples
    --------
    Two pieces of four rows:

    >>> import numpy as np
    >>> from fastlogits.calibration import CalibrationState
    >>> logits, labels = np.log([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4]]), [0, 0, 0, 1]
    >>> pieces = [CalibrationState.of(logits[i : i + 2], labels[i : i + 2]) for i in (0, 2)]
    >>> whole = pieces[0].merge(pieces[1])
    >>> whole.rows, round(whole.expected_calibration_error(), 6)
    (4, 0.4)
    """

    count: np.ndarray
    correct: np.ndarray
    confidence: np.ndarray
    nll: float
    brier: float

    @classmethod
    def of(
        cls,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        bins: int = 15,
        axis: int = -1,
        temperature: float = 1.0,
        ignore_index: int = -100,
    ) -> CalibrationState:
        """The state of some rows; parameters as of `expected_calibration_error`."""
        binned, scores = bins_of(logits, labels, bins, axis, temperature, ignore_index)
        return dataclasses.replace(
            binned, nll=float(np.add.reduce(scores.nll)), brier=float(np.add.reduce(scores.brier))
        )

    def merge(self, *others: CalibrationState) -> CalibrationState:
        """The state of all these rows together: counts exactly, sums but for rounding in double precision."""
        states = (self, *others)
        _checks_calibration.same_bins([len(state.count) for state in states])
        values = zip(*(vars(state).values() for state in states), strict=True)
        return CalibrationState(*map(sum, values))

    @property
    def rows(self) -> int:
        return int(self.count.sum())

    def reliability_curve(self) -> ReliabilityCurve:
        """As the function `reliability_curve`."""
        with np.errstate(invalid="ignore"):
            return ReliabilityCurve(self.confidence / self.count, self.correct / self.count, self.count)

    def expected_calibration_error(self) -> float:
        """As the function `expected_calibration_error`."""
        return mean(np.abs(self.correct - self.confidence).sum(), self.rows)

    def maximum_calibration_error(self) -> float:
        """As the function `maximum_calibration_error`."""
        filled = self.count > 0
        gaps = np.abs(self.correct - self.confidence)[filled] / self.count[filled]
        return float(gaps.max()) if self.rows else math.nan

    def accuracy(self) -> float:
        """The share of the predictions that are right."""
        return mean(self.correct.sum(), self.rows)

    def brier_score(self) -> float:
        """As the function `brier_score`."""
        return mean(self.brier, self.rows)

    def negative_log_likelihood(self) -> float:
        """As the function `negative_log_likelihood`."""
        return mean(self.nll, self.rows)


def bins_of(logits, labels, bins, axis, temperature, ignore_index):
    """A state without the losses, and the scores that these would be sums of."""
    bins = _checks_calibration.at_least_one("bins", bins)
    rows = labelled_rows(logits, labels, axis, ignore_index)
    scores = rows.scores(temperature)
    place = even_bin_of(scores.confidence, bins)
    state = CalibrationState(
        count=np.bincount(place, minlength=bins),
        correct=np.bincount(place, rows.correct(), bins).astype(np.intp),
        confidence=binned(place, scores.confidence, bins),
        nll=math.nan,
        brier=math.nan,
    )
    return state, scores


def edges(bins):
    return np.linspace(0.0, 1.0, bins + 1)


def bin_of(probabilities, edges):
    """The i with edges_i < probability <= edges_(i+1); 0 is in the first bin, and NaN in the last."""
    return np.searchsorted(edges[1:-1], probabilities, side="left")


@np.errstate(invalid="ignore")
def even_bin_of(probabilities, bins):
    """As bin_of, of `edges(bins)`, without a search: what rounding does to a product with `bins` is put right."""
    place = probabilities * bins
    np.ceil(place, out=place)
    place -= 1
    np.fmin(place, bins - 1, out=place)
    np.fmax(place, 0, out=place)
    place = place.astype(np.intp)
    inner = edges(bins)[1:-1]
    place += probabilities > np.append(inner, math.inf)[place]
    place -= probabilities <= np.append(-math.inf, inner)[place]
    return place


def mean(total, rows):
    return float(total) / rows if rows else math.nan
