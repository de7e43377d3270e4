"""fastlogits for TensorFlow: the losses and softmaxes of tf.nn, by the same names, faster on CPU."""

from fastlogits._memory import empty_cache
from fastlogits.tensorflow import uniform
from fastlogits.tensorflow._calls import portable
from fastlogits.tensorflow.nn import (
    log_softmax,
    reduce_logsumexp,
    softmax,
    softmax_cross_entropy_with_logits,
    sparse_softmax_cross_entropy_with_logits,
)

__all__ = [
    "empty_cache",
    "log_softmax",
    "portable",
    "reduce_logsumexp",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits",
    "uniform",
]
