"""Keras metrics from logits: in evaluate, weighted, saved, and equal to the functions of whole arrays."""

import numpy as np
import pytest
from conftest import need
from refusals import refused

import fastlogits
from fastlogits import calibration

tf = need("tensorflow")
keras = need("keras")
metrics = need("fastlogits.tensorflow.metrics")

X = 3 * np.random.default_rng(0).standard_normal((40, 7), np.float32)
LABELS = fastlogits.sample(X / 2, seed=0).ids
EXACT = {
    "perplexity": (metrics.Perplexity, {}, fastlogits.perplexity),
    "top_k_accuracy": (metrics.TopKAccuracy, {"k": 2}, lambda x, y: fastlogits.accuracy(x, y, top_k=2)),
    "expected_calibration_error": (
        metrics.ExpectedCalibrationError, {"bins": 6},
        lambda x, y: calibration.expected_calibration_error(x, y, bins=6),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "function"), EXACT.values(), ids=EXACT)
def test_batches_are_as_the_whole(kind, options, function):
    metric = kind(**options)
    for start in range(0, 40, 16):
        metric.update_state(LABELS[start : start + 16, None], X[start : start + 16])
    assert float(metric.result()) == pytest.approx(float(function(X, LABELS)), rel=1e-6)
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    metric.reset_state()
    assert float(metric.result()) == (1 if kind is metrics.Perplexity else 0)
    ignoring = kind(**options, ignore_class=3)
    ignoring.update_state(LABELS, X)
    assert float(ignoring.result()) == pytest.approx(float(function(X[LABELS != 3], LABELS[LABELS != 3])), rel=1e-6)


def test_evaluate():
    """In the graph that `model.evaluate` makes, with weights of samples."""
    model = keras.Sequential([keras.Input((7,)), keras.layers.Identity()])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=[kind(**options) for kind, options, _ in EXACT.values()])
    found = model.evaluate(X, LABELS, batch_size=16, verbose=0, return_dict=True)
    for name, (_, _, function) in EXACT.items():
        assert found[name] == pytest.approx(float(function(X, LABELS)), rel=1e-5)
    weight = np.arange(40.0)
    metric = metrics.Perplexity()
    metric.update_state(LABELS, X, sample_weight=weight)
    nll = fastlogits.row_stats(X, LABELS).nll
    assert float(metric.result()) == pytest.approx(np.exp(np.average(nll, weights=weight)), rel=1e-5)
    with refused(ValueError, "sample_weight"):
        metrics.ExpectedCalibrationError().update_state(LABELS, X, sample_weight=weight)
    with refused(ValueError, "k", "at least 1"):
        metrics.TopKAccuracy(0)
