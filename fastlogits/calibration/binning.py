"""Calibration class by class, by a step function of each class's probability, as a scikit-learn estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from fastlogits import _checks, _checks_calibration
from fastlogits.calibration.estimator import VALID, encoded
from fastlogits.calibration.state import bin_of, edges
from fastlogits.softmax import softmax

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray


class ClasswiseCalibrator(ClassifierMixin, BaseEstimator):
    """Calibrate the probability of each class by itself, by isotonic regression or histogram binning, from logits.

    Each class's probability is mapped to how often it was the label, and those of a row divided by their sum. It is
    fitted to logits of rows that the classifier was not trained on. With some thousand rows it corrects what no
    temperature can; with fewer, `TemperatureScaler` is the better choice.

    Parameters
    ----------
    method : {"isotonic", "histogram"}, default "isotonic"
        scikit-learn's isotonic regression, as its ``CalibratedClassifierCV(method="isotonic")`` has it; or the
        frequencies in bins of equal width, where the middle of a bin stands for one that is empty.
    bins : int, default 15
        Of "histogram".
    classes : array_like of shape (n_classes,), optional
        As of `TemperatureScaler`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The label of each column.
    maps_ : list
        Of each class: an ``IsotonicRegression``, or the ndarray of the bins' frequencies.
    n_features_in_ : int
        The number of columns.

    References
    ----------
    Zadrozny, Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import ClasswiseCalibrator
    >>> logits = np.log([[0.9, 0.1]] * 4)
    >>> ClasswiseCalibrator().fit(logits, [0, 0, 0, 1]).predict_proba(logits[:1]).round(6)
    array([[0.75, 0.25]])
    """

    def __init__(
        self, method: Literal["isotonic", "histogram"] = "isotonic", bins: int = 15, classes: ArrayLike | None = None
    ) -> None:
        self.method = method
        self.bins = bins
        self.classes = classes

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Find the map of each class.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_classes)
            Logits.
        y : array_like of shape (n_samples,)
            Labels.
        sample_weight : array_like of shape (n_samples,), optional
            Weight of each row, not negative.

        Returns
        -------
        self
        """
        _checks.one_of("method", self.method, ("isotonic", "histogram"))
        bins = _checks_calibration.at_least_one("bins", self.bins)
        X, y = validate_data(self, X, y, **VALID)
        _checks_calibration.below_infinity("X", X)
        self.classes_: NDArray[Any]
        self.classes_, labels = encoded(column_or_1d(y, warn=True), self.classes, X.shape[1])
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        probs = softmax(X.astype(np.float64, copy=False))
        self.maps_: list[Any] = []
        for column in range(X.shape[1]):
            hit = (labels == column).astype(np.float64)
            if self.method == "isotonic":
                self.maps_.append(IsotonicRegression(out_of_bounds="clip").fit(probs[:, column], hit, weight))
            else:
                self.maps_.append(_frequencies(probs[:, column], hit, weight, bins))
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Calibrated probabilities; where all of a row's would be 0, they are equal."""
        check_is_fitted(self)
        X = _checks_calibration.below_infinity("X", validate_data(self, X, reset=False, **VALID))
        probs = softmax(X.astype(np.float64, copy=False))
        for column, found in enumerate(self.maps_):
            if self.method == "isotonic":
                probs[:, column] = found.predict(probs[:, column])
            else:
                probs[:, column] = found[bin_of(probs[:, column], edges(len(found)))]
        total = probs.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            probs = np.where(total > 0, probs / total, 1 / probs.shape[1])
        return probs.astype(X.dtype, copy=False)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Their logarithms."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the largest calibrated probability in each row."""
        columns = self.predict_proba(X).argmax(axis=1)
        return self.classes_[columns]


def _frequencies(probabilities, hit, weight, bins):
    """How often the class is the label, for each bin of its probability."""
    limits = edges(bins)
    place = bin_of(probabilities, limits)
    count = np.bincount(place, weight, bins)
    hits = np.bincount(place, weight * hit, bins)
    return np.where(count > 0, hits / np.where(count > 0, count, 1), (limits[:-1] + limits[1:]) / 2)
