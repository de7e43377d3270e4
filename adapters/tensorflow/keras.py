"""Keras's two cross-entropies, on the kernels of fastlogits. They take logits: leave the last softmax out."""

import keras
import tensorflow as tf

from fastlogits._options import NOTHING, LossOptions
from fastlogits.tensorflow import _checks, _gradients

if keras.backend.backend() != "tensorflow":
    raise _checks.keras_backend(keras.backend.backend())

_registered = keras.saving.register_keras_serializable("fastlogits")


class _CrossEntropy(keras.losses.Loss):
    def __init__(self, from_logits, axis, reduction, name, dtype, smoothing=0.0, ignore_class=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.axis = _checks.keras_arguments(from_logits, axis)
        ignore_index = NOTHING if ignore_class is None else ignore_class
        self._options = LossOptions(self.axis, ignore_index, smoothing, label_name="y_true").checked()
        self._reduction = _Reduction(reduction=reduction, dtype="float64" if self.dtype == "float64" else "float32")

    def get_config(self):
        return {**super().get_config(), "from_logits": True, "axis": self.axis}

    def call(self, y_true, y_pred):
        return self._loss(*self._inputs(y_true, y_pred), None, "none")

    def __call__(self, y_true, y_pred, sample_weight=None):
        """As in Keras; but the logits, and labels above all, are not converted to the dtype of the loss."""
        mask = getattr(y_pred, "_keras_mask", None)
        with tf.name_scope(self.name):
            labels, logits = self._inputs(y_true, y_pred)
            valid = self._valid(labels)
            if valid is not None:
                mask = valid if mask is None else tf.cast(mask, "bool") & valid
            # What Keras makes of the losses of rows is linear in them: its derivatives are the weights with which
            # the kernel adds them up, and knows the gradient in the same sweep.
            ones = _gradients.ones_for_rows(logits, self.axis, self._reduction.dtype)
            with tf.GradientTape() as tape:
                tape.watch(ones)
                total = self._reduction.of(ones, mask, sample_weight)
            if total.shape.rank != 0 or ones.shape.rank == 0:
                losses = self._loss(labels, logits, None, "none")
                return tf.cast(self._reduction.of(losses, mask, sample_weight), self.dtype)
            weights = tape.gradient(total, ones)
            if sample_weight is None:
                weights = tf.stop_gradient(weights)
            return self._loss(labels, logits, weights, "sum")

    def _is_of_rows(self, weights, logits):
        """Whether the losses are reduced to one number, each of them with a weight of its own if there are weights."""
        rows = _gradients.changed(logits.shape, {self.axis: None})
        if not rows.rank or rows == [0] or self.reduction not in ("sum_over_batch_size", "mean", "sum"):
            return False
        return weights is None or (weights.shape.rank == rows.rank and weights.shape.is_compatible_with(rows))

    def _divisor(self, logits):
        """The number of rows, of all replicas together."""
        rows = _gradients.changed(logits.shape, {self.axis: None})
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if rows.is_fully_defined():
            return tf.constant(rows.num_elements() * replicas, tf.float64)
        logits, classes = tf.size(logits, tf.int64), tf.shape(logits, tf.int64)[self.axis]
        return tf.math.divide_no_nan(tf.cast(logits, tf.float64), tf.cast(classes, tf.float64)) * replicas

    def _loss(self, labels, logits, weights, reduction, normalizer=None):
        options = self._options._replace(reduction=reduction)
        return _gradients.cross_entropy([logits, labels, None, weights, normalizer], options, tf.as_dtype(self.dtype))

    def _valid(self, labels):
        return None


class _Reduction(keras.losses.Loss):
    """What Keras makes of losses that are known already."""

    def of(self, losses, mask, sample_weight):
        if mask is not None:
            losses._keras_mask = mask
        return self(losses, losses, sample_weight)

    def call(self, y_true, y_pred):
        return y_pred


@_registered
class SparseCategoricalCrossentropy(_CrossEntropy):
    """As `keras.losses.SparseCategoricalCrossentropy`, **but from logits**: `from_logits` is True, and must be.

    A model that ends in a softmax needs its last layer without one: probabilities have lost what the loss needs.
    The gradient is computed with the loss, in one pass over the logits, whatever the reduction and the weights.

    Parameters
    ----------
    from_logits : bool, default True
        False is an error.
    ignore_class : int, optional
        Rows with this label are not read; they have loss 0 and count as masked.
    reduction : {"sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None}
        As in Keras.
    axis : int, default -1
        The class axis; in the TensorFlow backend of Keras, always the last.
    name : str
    dtype : str or DTypePolicy, optional
        Of the loss; by default Keras's floatx. The logits are taken in the dtype that they have, and labels as
        the integers that they are.

    Raises
    ------
    tf.errors.InvalidArgumentError
        If a label is neither in [0, C) nor `ignore_class`; the first is named.

    Examples
    --------
    >>> from fastlogits.tensorflow.keras import SparseCategoricalCrossentropy
    >>> float(SparseCategoricalCrossentropy()([0], [[1000.0, 1000.0]]))
    0.6931471824645996
    """

    def __init__(
        self,
        from_logits=True,
        ignore_class=None,
        reduction="sum_over_batch_size",
        axis=-1,
        name="sparse_categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(from_logits, axis, reduction, name, dtype, ignore_class=ignore_class)
        self.ignore_class = ignore_class

    def get_config(self):
        return {**super().get_config(), "ignore_class": self.ignore_class}

    def _inputs(self, y_true, y_pred):
        logits = _checks.predictions(y_pred, self.dtype)
        labels = _checks.class_indices(y_true)
        if labels.shape.rank == logits.shape.rank is not None and labels.shape[self.axis] == 1:
            labels = tf.squeeze(labels, self.axis)
        _checks.batch("y_true", labels, "y_pred", logits, self.axis)
        return labels, logits

    def _valid(self, labels):
        return None if self.ignore_class is None else labels != self.ignore_class


@_registered
class CategoricalCrossentropy(_CrossEntropy):
    """As `keras.losses.CategoricalCrossentropy`, **but from logits**: `from_logits` is True, and must be.

    Parameters
    ----------
    from_logits : bool, default True
        False is an error.
    label_smoothing : float in [0, 1], default 0.0
        Share of the labels that goes to the uniform distribution.
    axis, reduction, name, dtype
        As of `SparseCategoricalCrossentropy`.

    Examples
    --------
    >>> from fastlogits.tensorflow.keras import CategoricalCrossentropy
    >>> float(CategoricalCrossentropy()([[1, 0]], [[1000.0, 1000.0]]))
    0.6931471824645996
    """

    def __init__(
        self,
        from_logits=True,
        label_smoothing=0.0,
        axis=-1,
        reduction="sum_over_batch_size",
        name="categorical_crossentropy",
        dtype=None,
    ):
        super().__init__(from_logits, axis, reduction, name, dtype, label_smoothing)
        self.label_smoothing = label_smoothing

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}

    def _inputs(self, y_true, y_pred):
        logits = _checks.predictions(y_pred, self.dtype)
        labels = _checks.dense("y_true", y_true, _checks.NUMBERS)
        if not labels.dtype.is_floating:
            labels = tf.cast(labels, tf.float32)
        _checks.alike("y_true", labels, "y_pred", logits)
        return labels, logits
