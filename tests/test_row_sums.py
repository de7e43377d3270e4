"""Sums over rows: of losses, of weights, of whatever a mean divides by. A million rows stay within 4 eps."""

import math

import numpy as np
import pytest
from conftest import need

import fastlogits
from fastlogits import calibration

ROWS = 1_000_000
EPS = np.finfo(np.float64).eps


def within(actual, terms, divisor=(1.0,), eps=EPS):
    exact = math.fsum(np.ravel(terms).tolist()) / math.fsum(np.ravel(divisor).tolist())
    assert abs(float(actual) - exact) <= 4 * eps * abs(exact), (float(actual) - exact) / exact / eps


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    # Of many sizes, the larger ones last: a plain sum is then off the most.
    sizes = np.sort(rng.lognormal(0, 2, ROWS))
    return {
        "x": rng.standard_normal((ROWS, 2)),
        "labels": rng.integers(0, 2, ROWS),
        "weight": np.array([0.3, 1 / 7]),
        "sample_weight": sizes,
    }


@pytest.mark.parametrize("given", [(), ("weight",), ("sample_weight",), ("weight", "sample_weight")], ids=str)
@pytest.mark.parametrize("ignored", [False, True])
def test_means_and_sums(fl, rows, given, ignored):
    x, labels = rows["x"], rows["labels"].copy()
    options = {name: rows[name] for name in given}
    if ignored:
        labels[::3] = -100
    losses = fl.cross_entropy(x, labels, reduction="none", **options)
    counted = np.where(labels >= 0, options.get("sample_weight", np.ones(ROWS)), 0)
    counted = counted * options.get("weight", np.ones(2))[np.maximum(labels, 0)]
    within(fl.cross_entropy(x, labels, reduction="sum", **options), losses)
    within(fl.cross_entropy(x, labels, **options), losses, counted)
    loss, grad = fl.cross_entropy_with_grad(x, labels, **options)
    within(loss, losses, counted)
    # What the gradient is divided by.
    one = int(np.argmax(labels >= 0))
    undivided = fl.cross_entropy_with_grad(x, labels, reduction="sum", **options).grad_logits[one, 0]
    within(undivided / grad[one, 0], counted)


def test_two_thousand_weights(fl):
    rng = np.random.default_rng(3)
    for _ in range(20):
        weight, labels = rng.uniform(0, 1, 3), rng.integers(0, 3, 2000)
        sample_weight = rng.uniform(0, 1, 2000)
        x = np.zeros((2000, 3))
        options = {"weight": weight, "sample_weight": sample_weight}
        losses = fl.cross_entropy(x, labels, reduction="none", **options)
        within(fl.cross_entropy(x, labels, **options), losses, weight[labels] * sample_weight)


@pytest.mark.parametrize(("weight", "expected"), [(np.inf, 0.0), (np.nan, np.nan), (-1.0, -0.5)])
def test_weights_that_are_no_weights(fl, weight, expected):
    """The gradient at the label of a row beside them: -1/2 divided by their sum."""
    weights = np.array([weight, 1.0, 1.0])
    grad = fl.cross_entropy_with_grad(np.zeros((3, 2)), np.array([0, 1, 0]), sample_weight=weights).grad_logits
    np.testing.assert_array_equal(grad[1, 1], expected)


def test_distributions(fl, rows):
    targets = np.full((ROWS, 2), 0.5)
    options = {"sample_weight": rows["sample_weight"]}
    losses = fl.cross_entropy(rows["x"], targets, reduction="none", **options)
    within(fl.cross_entropy(rows["x"], targets, reduction="sum", **options), losses)
    within(fl.cross_entropy(rows["x"], targets, **options), losses, rows["sample_weight"])


def test_columns(fl, rows):
    """Classes in the middle, rows in two axes."""
    x = np.ascontiguousarray(rows["x"].reshape(1000, 1000, 2).swapaxes(1, 2))
    labels, weights = (rows[name].reshape(1000, 1000) for name in ("labels", "sample_weight"))
    losses = fl.cross_entropy(x, labels, axis=1, reduction="none", sample_weight=weights)
    within(fl.cross_entropy(x, labels, axis=1, sample_weight=weights), losses, weights)


def test_perplexity(fl, rows):
    losses = fl.cross_entropy(rows["x"], rows["labels"], reduction="none")
    within(np.log(fl.perplexity(rows["x"], rows["labels"])), losses, [ROWS])


def test_loglikelihood(fl, rows):
    losses = fl.cross_entropy(rows["x"], rows["labels"], reduction="none")
    within(-fl.loglikelihood(rows["x"], rows["labels"]).log_prob, losses)
    odd = np.arange(ROWS) % 2
    found = fl.loglikelihood(rows["x"], rows["labels"], groups=odd)
    for number in (0, 1):
        within(-found.log_prob[number], losses[odd == number])
        within(-found.mean[number], losses[odd == number], [ROWS / 2])


def test_calibration(backend, rows):
    x, labels = 3 * rows["x"], rows["labels"]
    losses = fastlogits.cross_entropy(x, labels, reduction="none")
    within(calibration.negative_log_likelihood(x, labels), losses, [ROWS])
    confidence = fastlogits.row_stats(x, want=["max_prob"]).max_prob
    state = calibration.CalibrationState.of(x, labels, bins=3)
    within(state.confidence.sum(), confidence)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch(rows, dtype):
    torch = need("torch")
    import fastlogits.torch

    x, labels, weight, sample_weight = (torch.from_numpy(rows[name]) for name in rows)
    x, weight, sample_weight = (t.to(getattr(torch, dtype)) for t in (x, weight, sample_weight))
    eps, options = np.finfo(dtype).eps, {"sample_weight": sample_weight}
    losses = fastlogits.torch.cross_entropy(x, labels, weight, reduction="none", **options).numpy()
    counted = weight.numpy()[labels.numpy()].astype(float) * sample_weight.numpy()
    within(fastlogits.torch.cross_entropy(x, labels, weight, **options), losses, counted, eps)
    grad, loss = torch.func.grad_and_value(lambda z: fastlogits.torch.cross_entropy(z, labels, weight, **options))(x)
    within(loss, losses, counted, eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensorflow(rows, dtype):
    tf = need("tensorflow")
    import fastlogits.tensorflow

    x, sample_weight = (tf.constant(rows[name], dtype) for name in ("x", "sample_weight"))
    losses = fastlogits.cross_entropy(x, rows["labels"], reduction="none", sample_weight=sample_weight).numpy()
    eps, counted = np.finfo(dtype).eps, sample_weight.numpy()
    within(fastlogits.cross_entropy(x, rows["labels"], sample_weight=sample_weight), losses, counted, eps)
    with fastlogits.tensorflow.portable():
        function = tf.function(lambda x, w: fastlogits.cross_entropy(x, rows["labels"], sample_weight=w))
        within(function(x, sample_weight), losses, counted, eps)


@pytest.mark.parametrize("wide", [False, True])
def test_jax(rows, wide):
    jax = need("jax")
    import fastlogits.jax  # noqa: F401

    with jax.enable_x64(wide):
        x, labels, sample_weight = (jax.numpy.asarray(rows[name]) for name in ("x", "labels", "sample_weight"))
        losses = np.asarray(fastlogits.cross_entropy(x, labels, reduction="none", sample_weight=sample_weight))
        mean = jax.jit(lambda x, w: fastlogits.cross_entropy(x, labels, sample_weight=w))(x, sample_weight)
        within(mean, losses, np.asarray(sample_weight), np.finfo(mean.dtype).eps)


def test_dask(rows):
    da = need("dask.array")
    import fastlogits.dask  # noqa: F401

    x, labels, weights = (rows[name] for name in ("x", "labels", "sample_weight"))
    losses = fastlogits.cross_entropy(x, labels, reduction="none", sample_weight=weights)
    for chunks in (70_000, (70_000, 1)):
        mean = fastlogits.cross_entropy(da.from_array(x, chunks), labels, sample_weight=weights)
        within(mean.compute(), losses, weights)
