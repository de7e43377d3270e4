"""Random calls against the formulas in wide floating point: sizes, layouts, dtypes, options and threads as they come.

FASTLOGITS_TEST_SEED repeats a run; the seed is printed, and stands in every failure.
"""

import os
import zlib

import numpy as np
import oracle
import pytest
from guards import guarded
from operations import LAYOUTS, gradient_like, labels_like, laid_out, make_logits
from test_row_stats import assert_stats
from tolerance import DTYPES, assert_close, compute_type

import fastlogits

CALLS = int(os.environ.get("FASTLOGITS_TEST_CALLS", 300))
SEED = int(os.environ.get("FASTLOGITS_TEST_SEED", np.random.SeedSequence().entropy % 2**32))
MOST_LOGITS = 20_000
LAYOUT_ROWS = 6  # what every layout can show


def size(rng, most):
    """From 1 to `most`: small ones and large ones alike, and those about which kernels change their ways."""
    if rng.random() < 0.3:
        edge = int(rng.choice([16, 32, 64, 128, 256, 1024, 2048, 4096])) + int(rng.integers(-1, 2))
        return min(edge, most)
    return int(np.exp(rng.uniform(0, np.log(most + 1))))


def logits(rng, dtype, rows=None):
    rows = size(rng, 300) if rows is None else rows
    x = make_logits(rows, size(rng, MOST_LOGITS // rows), dtype, seed=int(rng.integers(2**31)))
    if rng.random() < 0.3:
        x *= np.asarray(rng.choice([1e-3, 0.1, 3]), dtype)
    return x


def normalised(rng, name, x):
    temperature = float(np.exp(rng.uniform(-1, 1))) if rng.random() < 0.5 else 1.0
    exact = getattr(oracle, name)(x, temperature)
    view, axis, _ = laid_out((x,), str(rng.choice(list(LAYOUTS)))) if len(x) == LAYOUT_ROWS else ((x,), -1, None)
    result = getattr(fastlogits, name)(view[0], axis, temperature=temperature)
    plain = np.moveaxis(np.asarray(view[0]), axis, -1).astype(x.dtype)
    if plain.shape == x.shape and np.array_equal(plain, x, equal_nan=True):
        assert_close(np.moveaxis(result, axis, -1), exact)
    else:
        assert_close(np.moveaxis(result, axis, -1), getattr(oracle, name)(plain, temperature))


def softmax(rng, x):
    normalised(rng, "softmax", x)


def log_softmax(rng, x):
    normalised(rng, "log_softmax", x)


def logsumexp(rng, x):
    assert_close(fastlogits.logsumexp(x), oracle.logsumexp(x))


def argmax(rng, x):
    np.testing.assert_array_equal(fastlogits.argmax(x), oracle.argmax(x))


def softmax_backward(rng, x):
    g, p = gradient_like(x), oracle.softmax(x).value.astype(x.dtype)
    assert_close(fastlogits.softmax_backward(g, p), oracle.softmax_backward(g, p))


def log_softmax_backward(rng, x):
    g, p = gradient_like(x), oracle.log_softmax(x).value.astype(x.dtype)
    assert_close(fastlogits.log_softmax_backward(g, p), oracle.log_softmax_backward(g, p))


def cross_entropy(rng, x):
    rows, classes = x.shape
    hard = rng.random() < 0.7
    labels = rng.integers(0, classes, rows) if hard else rng.dirichlet(np.ones(classes), rows).astype(x.dtype)
    choices = {
        "weight": lambda: rng.uniform(0.2, 2, classes).astype(compute_type(x.dtype)),
        "sample_weight": lambda: rng.uniform(0.2, 2, rows),
        "label_smoothing": lambda: rng.uniform(0, 1),
        "z_loss": lambda: rng.uniform(0, 0.1),
        "softcap": lambda: rng.uniform(5, 50),
        "logit_scale": lambda: rng.uniform(-1, 1),
        "grad_loss": lambda: rng.standard_normal(rows),
    }
    options = {name: value() for name, value in choices.items() if rng.random() < 0.3}
    finite = np.isfinite(x.astype(float)).all(-1)
    if not finite.all() and {"label_smoothing", "softcap", "logit_scale"} & options.keys() or not hard:
        # What masses at a logit of -inf give is a matter of special values.
        x = np.where(np.isfinite(x), x, x.dtype.type(-50))
    if hard and rng.random() < 0.3:
        labels[rng.random(rows) < 0.3] = options["ignore_index"] = int(rng.choice([-100, 0]))
    exact = oracle.cross_entropy(x, labels, reduction="none", **options)
    result = fastlogits.cross_entropy_with_grad(x, labels, reduction="none", **options)
    assert_close(result.loss, exact.loss, "loss")
    assert_close(result.grad_logits, exact.grad, "gradient")
    options.pop("grad_loss", None)
    np.testing.assert_array_equal(fastlogits.cross_entropy(x, labels, reduction="none", **options), result.loss)


def row_stats(rng, x):
    labels, k = labels_like(x), int(rng.integers(1, min(x.shape[1], 400) + 1))
    assert_stats(fastlogits.row_stats(x, labels, top_k=k), oracle.row_stats(x, labels, k))


def topk(rng, x):
    k = int(rng.integers(0, x.shape[1] + 1))
    values, indices = fastlogits.topk(x, k)
    np.testing.assert_array_equal(indices, oracle.order(x)[:, :k])
    np.testing.assert_array_equal(values, np.take_along_axis(x, indices, -1))


def selective_log_softmax(rng, x):
    ids = rng.integers(0, x.shape[1], (len(x), size(rng, 20)))
    exact = oracle.log_softmax(x)
    picked = type(exact)(*(np.take_along_axis(part, ids, -1) for part in exact))
    assert_close(fastlogits.selective_log_softmax(x, ids), picked)


def sample(rng, x):
    limits = {
        "temperature": np.exp(rng.uniform(-1, 1)), "top_k": int(rng.integers(1, x.shape[1] + 1)),
        "top_p": rng.uniform(0.01, 1), "min_p": rng.uniform(0, 1), "typical_p": rng.uniform(0.01, 1),
        "epsilon_cutoff": rng.uniform(0, 0.5), "eta_cutoff": rng.uniform(0, 0.5),
        "min_keep": int(rng.integers(1, 5)),
    }  # fmt: skip
    options = {name: value for name, value in limits.items() if rng.random() < 0.3}
    filtered = fastlogits.filter_logits(x, **options).astype(float)
    drawn = fastlogits.sample(x, seed=int(rng.integers(2**31)), **options)
    picked = np.take_along_axis(filtered, drawn.ids[:, None], -1)
    assert (picked > -np.inf).all()
    in_double = filtered - filtered.max(-1, keepdims=True)
    probs = np.exp(in_double)
    expected = np.log(probs / probs.sum(-1, keepdims=True) + 1e-320)
    expected = np.take_along_axis(expected, drawn.ids[:, None], -1)[:, 0]
    # The filtered logits of half types are rounded; the probabilities are not.
    slack, largest = 1e-4 if x.dtype.itemsize > 2 else 0.02, np.abs(filtered[filtered > -np.inf]).max()
    np.testing.assert_allclose(drawn.log_probs, expected, slack, slack * (1 + largest))


CHECKS = (
    softmax, log_softmax, logsumexp, argmax, softmax_backward, log_softmax_backward, cross_entropy, row_stats, topk,
    selective_log_softmax, sample,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=[check.__name__ for check in CHECKS])
def test_random_calls(backend, check, capsys):
    with capsys.disabled():
        print(f"\nFASTLOGITS_TEST_SEED={SEED} {check.__name__} {backend}")
    for number in range(CALLS if backend != "numpy" else CALLS // 3):
        seed = [SEED, zlib.crc32(check.__name__.encode()), number]
        rng = np.random.default_rng(seed)
        dtype = DTYPES[str(rng.choice(list(DTYPES)))]
        x = logits(rng, dtype, LAYOUT_ROWS if rng.random() < 0.3 else None)
        if rng.random() < 0.5:
            x = guarded(x, str(rng.choice(["before", "after"])))
        try:
            with fastlogits.settings(num_threads=int(rng.integers(1, 4))):
                check(rng, x)
        except Exception as error:
            error.add_note(f"FASTLOGITS_TEST_SEED={SEED}, call {number}: {x.dtype} {x.shape}")
            raise
