"""Keras metrics from logits, for `model.compile(metrics=[...])`."""

import keras
import numpy as np
import tensorflow as tf

from fastlogits import _checks, row_stats
from fastlogits.calibration import CalibrationState

_registered = keras.saving.register_keras_serializable("fastlogits")


class _OfStates(keras.metrics.Metric):
    """Sums over rows, which NumPy finds: eager and in `tf.function`, not under XLA."""

    def __init__(self, name, dtype, sizes, ignore_class):
        super().__init__(name=name, dtype=dtype)
        self.ignore_class = ignore_class
        self._ignore_index = -100 if ignore_class is None else ignore_class
        self._sums = [
            self.add_weight(name=f"sum_{i}", shape=(n,), initializer="zeros", dtype="float64")
            for i, n in enumerate(sizes)
        ]

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Rows of logits and their labels; a label of shape (..., 1) is a label."""
        logits, labels = tf.convert_to_tensor(y_pred), tf.convert_to_tensor(y_true)
        weight = tf.constant(1.0, tf.float64) if sample_weight is None else tf.cast(sample_weight, tf.float64)
        found = tf.numpy_function(self._of_rows, [logits, labels, weight], [tf.float64] * len(self._sums))
        for total, part in zip(self._sums, found, strict=True):
            total.assign_add(tf.ensure_shape(part, total.shape))

    def _of_rows(self, logits, labels, weight):
        if labels.ndim == logits.ndim:
            labels = labels[..., 0]
        labels = labels.astype(np.int64)
        weight = np.broadcast_to(weight.reshape(weight.shape + (1,) * (labels.ndim - weight.ndim)), labels.shape)
        return [np.atleast_1d(part).astype(np.float64) for part in self._parts(logits, labels, weight)]

    def get_config(self):
        return {**super().get_config(), "ignore_class": self.ignore_class}


@_registered
class Perplexity(_OfStates):
    """exp of the mean negative log-likelihood of the labels, from logits.

    Parameters
    ----------
    ignore_class : int, optional
        Rows with this label do not count.
    name, dtype
        As of Keras's metrics.
    """

    def __init__(self, ignore_class=None, name="perplexity", dtype=None):
        super().__init__(name, dtype, (1, 1), ignore_class)

    def _parts(self, logits, labels, weight):
        nll = row_stats(logits, labels, want=("nll",), ignore_index=self._ignore_index).nll
        weight = weight * (labels != self._ignore_index)
        return (weight * nll).sum(), weight.sum()

    def result(self):
        total, count = self._sums
        return tf.cast(tf.exp(tf.math.divide_no_nan(total, count))[0], self.dtype)


@_registered
class TopKAccuracy(_OfStates):
    """How many labels are among the `k` largest logits; of equal logits the first is the larger, as in `topk`.

    Parameters
    ----------
    k : int, default 1
        At least 1.
    ignore_class, name, dtype
        As of `Perplexity`.
    """

    def __init__(self, k=1, ignore_class=None, name="top_k_accuracy", dtype=None):
        super().__init__(name, dtype, (1, 1), ignore_class)
        self.k = _checks.count("k", k)

    def _parts(self, logits, labels, weight):
        rank = row_stats(logits, labels, want=("rank",), ignore_index=self._ignore_index).rank
        weight = weight * (labels != self._ignore_index)
        return (weight * (rank < self.k)).sum(), weight.sum()

    def result(self):
        return tf.cast(tf.math.divide_no_nan(*self._sums)[0], self.dtype)

    def get_config(self):
        return {**super().get_config(), "k": self.k}


@_registered
class ExpectedCalibrationError(_OfStates):
    """As `fastlogits.calibration.expected_calibration_error`, of all batches together.

    Parameters
    ----------
    bins : int, default 15
        Of equal width.
    ignore_class, name, dtype
        As of `Perplexity`. Weights of samples are an error: whole rows count.
    """

    def __init__(self, bins=15, ignore_class=None, name="expected_calibration_error", dtype=None):
        self.bins = _checks.count("bins", bins)
        super().__init__(name, dtype, (bins, bins, bins), ignore_class)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Rows of logits and their labels."""
        if sample_weight is not None:
            raise ValueError("sample_weight: expected None, since the bins count whole rows; leave it out")
        super().update_state(y_true, y_pred)

    def _parts(self, logits, labels, weight):
        state = CalibrationState.of(logits, labels, bins=self.bins, ignore_index=self._ignore_index)
        return state.count, state.correct, state.confidence

    def result(self):
        count, correct, confidence = self._sums
        error = tf.reduce_sum(tf.abs(correct - confidence))
        return tf.cast(tf.math.divide_no_nan(error, tf.reduce_sum(count)), self.dtype)

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}
