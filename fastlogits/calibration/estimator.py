"""Temperature and vector scaling as a scikit-learn estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from fastlogits import _checks, _checks_calibration
from fastlogits.calibration._rows import inverse
from fastlogits.calibration.temperature import fit_temperature
from fastlogits.calibration.vector import fit_vector_scaling
from fastlogits.softmax import argmax, log_softmax, softmax

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

# -inf is a logit like others, that of a class which cannot be.
VALID: dict[str, Any] = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}


class TemperatureScaler(OneToOneFeatureMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    """Calibrate a classifier's logits by one temperature, or by a scale and bias for each class.

    It is fitted to logits of rows that the classifier was not trained on: what its ``decision_function`` returns for
    several classes. Of two classes with one score a row, stack 0 and the score. It is a classifier of logits itself, so
    that scikit-learn's scores, displays and searches take it, and a transformer of logits.

    Parameters
    ----------
    method : {"temperature", "vector"}, default "temperature"
        `fit_temperature` or `fit_vector_scaling`.
    classes : array_like of shape (n_classes,), optional
        The label of each column. By default the distinct labels in `y`, sorted, if there is one for each column, and
        else ``0, 1, 2, ...``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The label of each column.
    temperature_ : float
        With "temperature": the optimum, which may be the limit 0 or inf.
    scale_, bias_ : ndarray of float64, shape (n_classes,)
        With "vector".
    nll_ : float
        The mean negative log-likelihood of the calibrated rows it was fitted to.
    n_iter_ : int
        Iterations of the fit.
    n_features_in_ : int
        The number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import TemperatureScaler
    >>> logits = np.log([[9.0, 1.0]] * 4)
    >>> scaler = TemperatureScaler().fit(logits, ["cat", "cat", "cat", "dog"])
    >>> scaler.predict_proba(logits[:1]).round(6)
    array([[0.75, 0.25]])
    >>> scaler.predict(logits[:1])
    array(['cat'], dtype='<U3')
    """

    classes_: NDArray[Any]
    temperature_: float
    scale_: NDArray[np.float64]
    bias_: NDArray[np.float64]
    nll_: float
    n_iter_: int

    def __init__(
        self, method: Literal["temperature", "vector"] = "temperature", classes: ArrayLike | None = None
    ) -> None:
        self.method = method
        self.classes = classes

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Find the temperature, or the scale and bias.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_classes)
            Logits. float32 stays float32.
        y : array_like of shape (n_samples,)
            Labels.
        sample_weight : array_like of shape (n_samples,), optional
            Weight of each row, not negative.

        Returns
        -------
        self
        """
        _checks.one_of("method", self.method, ("temperature", "vector"))
        X, y = validate_data(self, X, y, **VALID)
        _checks_calibration.below_infinity("X", X)
        self.classes_, labels = encoded(column_or_1d(y, warn=True), self.classes, X.shape[1])
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight, np.float64)
        if self.method == "vector":
            fit = fit_vector_scaling(X, labels, sample_weight=sample_weight)
            self.scale_, self.bias_ = fit.scale, fit.bias
        else:
            fit = fit_temperature(X, labels, sample_weight=sample_weight)
            self.temperature_ = fit.temperature
        self.nll_, self.n_iter_ = fit.nll, fit.iterations
        return self

    @np.errstate(over="ignore", invalid="ignore")
    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Calibrated logits, of the shape and dtype of `X`."""
        X = self._logits(X)
        if self.method == "vector":
            return (self.scale_ * X + self.bias_).astype(X.dtype, copy=False)
        if self.temperature_ == 0:
            # So that the largest stays finite.
            X = X - X.max(axis=1, keepdims=True)
        return X * X.dtype.type(inverse(self.temperature_))

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Calibrated probabilities, of the shape and dtype of `X`."""
        return self._normalized(softmax, X)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Their logarithms, accurate also where probabilities are tiny."""
        return self._normalized(log_softmax, X)

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Calibrated logits as scikit-learn's classifiers give them: of two classes, the second's minus the first's."""
        logits = self.transform(X)
        return logits if logits.shape[1] != 2 else logits[:, 1] - logits[:, 0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the largest calibrated logit in each row."""
        columns = argmax(self.transform(X))
        return self.classes_[columns]

    def _normalized(self, function, X):
        if self.method == "vector":
            return function(self.transform(X))
        return function(self._logits(X), temperature=1 / inverse(self.temperature_))

    def _logits(self, X):
        check_is_fitted(self)
        return _checks_calibration.below_infinity("X", validate_data(self, X, reset=False, **VALID))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def encoded(y, classes, columns):
    """(the label of each column, the column of each row's label)"""
    check_classification_targets(y)
    found, labels = np.unique(y, return_inverse=True)
    if classes is None:
        classes = found if len(found) == columns else np.arange(columns)
    classes = np.asarray(classes)
    place = {label: column for column, label in enumerate(classes.tolist())}
    if len(place) != columns:
        raise _checks_calibration.not_classes(classes, columns)
    unknown = [label for label in found.tolist() if label not in place]
    if unknown:
        raise _checks_calibration.unknown_label(unknown[0], classes)
    return classes, np.array([place[label] for label in found.tolist()])[labels]
