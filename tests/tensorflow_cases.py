"""Tensors and functions for the tests of fastlogits.tensorflow."""

import numpy as np
import pytest
from conftest import need

tf = need("tensorflow")
ft = need("fastlogits.tensorflow")
_native = need("fastlogits.tensorflow._native")

DTYPES = (tf.float32, tf.float64, tf.bfloat16, tf.float16)


def normal(*shape, dtype=tf.float64, seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def shares(*shape, dtype=tf.float64, seed=1):
    return tf.nn.softmax(normal(*shape, seed=seed) * 2) if dtype is tf.float64 else tf.cast(shares(*shape), dtype)


LABELS = tf.constant([[0, 4, 2], [2, 2, 1]])
LOGITS = normal(2, 3, 5)

# Ours, TensorFlow's, and the arguments before the logits.
FUNCTIONS = {
    "sparse": (ft.sparse_softmax_cross_entropy_with_logits, tf.nn.sparse_softmax_cross_entropy_with_logits, (LABELS,)),
    "distribution": (ft.softmax_cross_entropy_with_logits, tf.nn.softmax_cross_entropy_with_logits, (shares(2, 3, 5),)),
    "softmax": (ft.softmax, tf.nn.softmax, ()),
    "log_softmax": (ft.log_softmax, tf.nn.log_softmax, ()),
    "reduce_logsumexp": (ft.reduce_logsumexp, tf.reduce_logsumexp, ()),
}
each_function = pytest.mark.parametrize(("ours", "theirs", "first"), FUNCTIONS.values(), ids=FUNCTIONS)


def by_python(monkeypatch):
    """From here on, the way of what the C core does not serve."""
    monkeypatch.setattr(_native, "serves", lambda *_: False)
