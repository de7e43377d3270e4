"""fastlogits for TensorFlow: the losses and softmaxes of tf.nn, by the same names, faster on CPU.

`fastlogits.tensorflow.keras` has the losses for Keras; it is loaded when it is first used.
"""

import importlib
import types

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


def __getattr__(name: str) -> types.ModuleType:
    if name == "keras":
        return importlib.import_module("fastlogits.tensorflow.keras")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
