"""Conformal prediction as a scikit-learn estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from fastlogits import _checks, _checks_calibration
from fastlogits.calibration.estimator import VALID, encoded
from fastlogits.conformal.methods import scores
from fastlogits.conformal.quantiles import threshold
from fastlogits.conformal.sets import prediction_sets
from fastlogits.softmax import argmax, softmax

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from fastlogits.conformal.sets import PredictionSets


class ConformalClassifier(ClassifierMixin, BaseEstimator):
    """Sets of classes that have the label with a probability of at least ``1 - alpha``, from a classifier's logits.

    It is fitted to logits of rows that the classifier was not trained on: what its ``decision_function`` returns for
    several classes. Of two classes with one score a row, stack 0 and the score.

    Parameters
    ----------
    alpha : float, default 0.1
        How many labels, of all, may be outside of their sets; from 0 to 1.
    method : {"lac", "aps", "raps", "saps"}, default "lac"
        The nonconformity score, see `scores`.
    penalty, k_reg : optional
        As of `scores`.
    class_conditional : bool, default False
        Whether `alpha` is to hold for each class, which wants ``1 / alpha`` rows of each at least.
    temperature : float, default 1.0
        Divides the logits.
    seed : int, numpy.random.Generator or None, optional
        Draws the random part of the scores, as of `scores`. None does without.
    classes : array_like of shape (n_classes,), optional
        The label of each column. By default the distinct labels in `y`, sorted, if there is one for each column, and
        else ``0, 1, 2, ...``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The label of each column.
    scores_ : ndarray of float64, shape (n_samples,)
        Of the rows it was fitted to.
    threshold_ : float, or ndarray of float64, shape (n_classes,)
        The largest score of a class in a set; of each class where `class_conditional`.
    n_features_in_ : int
        The number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.conformal import ConformalClassifier
    >>> logits = np.log([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]])
    >>> classifier = ConformalClassifier(alpha=0.25).fit(logits, ["cat", "cat", "dog"])
    >>> classifier.threshold_
    0.5
    >>> classifier.predict_sets(np.log([[0.5, 0.5], [0.1, 0.9]]))
    array([[ True,  True],
           [False,  True]])
    """

    classes_: NDArray[Any]
    scores_: NDArray[np.float64]
    threshold_: float | NDArray[np.float64]

    def __init__(
        self,
        alpha: float = 0.1,
        method: Literal["lac", "aps", "raps", "saps"] = "lac",
        penalty: float | None = None,
        k_reg: int | None = None,
        class_conditional: bool = False,
        temperature: float = 1.0,
        seed: int | np.random.Generator | None = None,
        classes: ArrayLike | None = None,
    ) -> None:
        self.alpha = alpha
        self.method = method
        self.penalty = penalty
        self.k_reg = k_reg
        self.class_conditional = class_conditional
        self.temperature = temperature
        self.seed = seed
        self.classes = classes

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Find the threshold.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_classes)
            Logits.
        y : array_like of shape (n_samples,)
            Labels.

        Returns
        -------
        self
        """
        _checks.fraction("alpha", self.alpha)
        X, y = validate_data(self, X, y, **VALID)
        _checks_calibration.below_infinity("X", X)
        self.classes_, labels = encoded(column_or_1d(y, warn=True), self.classes, X.shape[1])
        self._seed = self._fixed_seed()
        self.scores_ = scores(X, labels, **self._options())
        by_class = {"labels": labels, "num_classes": X.shape[1]} if self.class_conditional else {}
        self.threshold_ = threshold(self.scores_, self.alpha, **by_class)
        return self

    @overload
    def predict_sets(self, X: ArrayLike, *, as_ids: Literal[False] = False) -> NDArray[np.bool_]: ...

    @overload
    def predict_sets(self, X: ArrayLike, *, as_ids: Literal[True]) -> PredictionSets: ...

    def predict_sets(self, X: ArrayLike, *, as_ids: bool = False) -> NDArray[np.bool_] | PredictionSets:
        """The classes of each row whose score is within the threshold.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_classes)
            Logits.
        as_ids : bool, default False
            Whether to list columns instead.

        Returns
        -------
        ndarray of bool, shape (n_samples, n_classes), or PredictionSets
            In the order of `classes_`.
        """
        X = self._logits(X)
        # Numbers other than those of the rows it was fitted to.
        rows = {} if self._seed is None else {"rows": len(self.scores_)}
        return prediction_sets(X, self.threshold_, as_ids=as_ids, **rows, **self._options())

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the largest logit in each row."""
        columns = argmax(self._logits(X))
        return self.classes_[columns]

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities, of the shape and dtype of `X`."""
        X = self._logits(X)
        return softmax(X, temperature=self.temperature)

    def _fixed_seed(self):
        """A seed that stays the same, of one that may be a generator."""
        if isinstance(self.seed, np.random.Generator):
            return int(self.seed.integers(1 << 63))
        return self.seed

    def _options(self):
        return {
            "method": self.method, "penalty": self.penalty, "k_reg": self.k_reg, "seed": self._seed,
            "temperature": self.temperature,
        }  # fmt: skip

    def _logits(self, X):
        check_is_fitted(self)
        return _checks_calibration.below_infinity("X", validate_data(self, X, reset=False, **VALID))
