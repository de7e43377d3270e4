"""Statistics that the kernels take of several rows at once, most of them of few classes: rows and columns, against the
oracle."""

from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from operations import labels_like
from test_row_stats import assert_stats

import fastlogits

CLASSES = [*range(1, 18), 31, 32, 33, 64, 65, 99, 127, 128, 129, 255, 256, 257]
ROWS = 149  # a whole group of short rows and some


def logits_of(rng, classes, dtype):
    """Rows with ties, some of them with NaN, inf or -inf, or nothing but -inf."""
    x = np.round(3 * rng.standard_normal((ROWS, classes)), rng.integers(0, 3)).astype(dtype)
    anywhere = rng.integers(0, classes, ROWS)
    for first, value in enumerate((np.nan, np.inf, -np.inf, np.nan)):
        rows = slice(first, None, 31)
        x[np.arange(ROWS)[rows], anywhere[rows]] = value
    x[4::31] = -np.inf
    return x


def ranking(x):
    """The classes of each row in the order of `topk`."""
    absent = np.isnan(x)
    return np.lexsort((np.where(absent, 0, -x), ~absent), axis=-1)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("classes", CLASSES)
def test_values(backend, classes, by_columns, dtype, rng):
    x = logits_of(rng, classes, dtype)
    labels, order = rng.integers(0, classes, ROWS), ranking(x.astype(np.float64))
    array, axis = (np.ascontiguousarray(x.T), 0) if by_columns else (x, -1)
    stats = fastlogits.row_stats(array, labels, axis=axis)
    some = ~np.isneginf(x).all(-1)
    exact = oracle.row_stats(x[some], labels[some], 1)
    assert_stats(
        SimpleNamespace(**{name: values[some] for name, values in vars(stats).items()}),
        {name: value for name, value in exact.items() if not name.startswith("topk")},
    )
    assert np.isneginf(stats.lse[~some]).all()
    assert np.isnan([stats.nll[~some], stats.entropy[~some], stats.max_prob[~some]]).all()
    assert fastlogits.entropy(array, axis).tobytes() == stats.entropy.tobytes()
    log_probs = fastlogits.selective_log_softmax(array, labels, axis)
    np.testing.assert_allclose(log_probs.astype(np.float64), -stats.nll.astype(np.float64), rtol=1e-6)
    for k in {1, min(3, classes), max(1, classes // 2), classes}:
        top = fastlogits.topk(array, k, axis)
        values, indices = (np.moveaxis(part, axis, -1) for part in top)
        np.testing.assert_array_equal(indices, order[:, :k])
        expected = np.take_along_axis(x, order[:, :k], -1)
        np.testing.assert_array_equal(values.astype(np.float64), expected.astype(np.float64))
        among = (order[:, :k] == labels[:, None]).any(-1)
        assert fastlogits.accuracy(array, labels, axis=axis, top_k=k) == among.mean()


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("width", [np.int8, np.uint8, np.int32, np.uint64])
def test_labels_of_every_width(backend, classes, width, rng):
    x = rng.standard_normal((ROWS, classes)).astype(np.float32)
    labels = labels_like(x)
    expected, stats = (vars(fastlogits.row_stats(x, y)) for y in (labels, labels.astype(width)))
    for name, values in expected.items():
        np.testing.assert_array_equal(stats[name], values, name)
    assert fastlogits.accuracy(x, labels.astype(width)) == expected["correct"].mean()


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("classes", [3, 40])
def test_neighbours_and_threads_change_nothing(backend, classes, by_columns, rng):
    x = rng.standard_normal((70_001, classes)).astype(np.float32)
    labels = labels_like(x)
    array, axis = (np.ascontiguousarray(x.T), 0) if by_columns else (x, -1)

    def every(logits, labels, axis, threads):
        with fastlogits.settings(num_threads=threads):
            top = fastlogits.topk(logits, 2, axis)
            stats = fastlogits.row_stats(logits, labels, axis=axis)
            return [*vars(stats).values(), *(np.moveaxis(part, axis, 0) for part in top)]

    whole, shared = (every(array, labels, axis, threads) for threads in (1, 3))
    alone = every(x[5:6], labels[5:6], -1, 1)
    for one, other, row in zip(whole, shared, alone, strict=True):
        assert one.tobytes() == other.tobytes()
        np.testing.assert_array_equal(one[..., 5], row[..., 0])


@pytest.mark.parametrize("k", [1, 5, 16, 17, 106, 107, 256])
@pytest.mark.parametrize("classes", [129, 256, 300, 1500])
def test_some_of_many(backend, classes, k, dtype, rng):
    """Rows that wait for each other's lists, rows with too many candidates and rows with NaN side by side."""
    k = min(k, classes)
    x = logits_of(rng, classes, dtype)
    x[9::40] = np.round(x[9::40].astype(np.float64) / 4).astype(dtype)  # ties beyond what a list holds
    order = ranking(x.astype(np.float64))[:, :k]
    top = fastlogits.topk(x, k)
    np.testing.assert_array_equal(top.indices, order)
    expected = np.take_along_axis(x, order, -1)
    np.testing.assert_array_equal(top.values.astype(np.float64), expected.astype(np.float64))
    some = fastlogits.topk(x, k, sorted=False)
    np.testing.assert_array_equal(np.sort(some.indices, -1), np.sort(order, -1))
