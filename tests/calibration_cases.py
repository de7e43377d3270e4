"""Logits with labels, exact probabilities and the names of the measures, for the tests of fastlogits.calibration."""

import functools

import numpy as np

from fastlogits import calibration

BINNED = {
    "expected": calibration.expected_calibration_error,
    "maximum": calibration.maximum_calibration_error,
    "adaptive": calibration.adaptive_calibration_error,
    "classwise": calibration.classwise_calibration_error,
}
SCORES = {"brier": calibration.brier_score, "nll": calibration.negative_log_likelihood}
MEASURES = BINNED | SCORES


def drawn(rows, classes, temperature, seed=0):
    """Logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng([seed, rows, classes])
    x = 3 * rng.standard_normal((rows, classes))
    return x, (x / temperature + rng.gumbel(size=x.shape)).argmax(axis=-1)


def exact_probs(x, temperature=1.0):
    z = x.astype(np.float64) / temperature
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@functools.cache
def case(rows, classes, dtype):
    x, labels = drawn(rows, classes, 2.0)
    x = x.astype(dtype)
    return x, labels, exact_probs(x)
