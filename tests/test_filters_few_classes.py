"""Filters and draws of rows of few classes and of columns, which are taken several at a time: against the reference,
and rows against columns.
"""

import numpy as np
import pytest

import fastlogits

INF = np.inf
CLASSES = [*range(1, 10), 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256, 257]
RULES = {
    "temperature": (0.3, 0.7, 1.0, 2.0),
    "top_k": (1, 2, 5, 9, 40),
    "top_p": (1e-300, 0.1, 0.5, 0.9),
    "min_p": (0.0, 0.02, 0.3, 1.0),
    "typical_p": (1e-300, 0.1, 0.5, 0.9),
    "epsilon_cutoff": (0.0, 0.02, 0.2, 0.6),
    "eta_cutoff": (0.0, 0.02, 0.3),
    "min_keep": (1, 2, 5, 40),
}


def random_logits(rng, shape):
    """Smooth, or with many equals; some with masks, NaN and +inf."""
    x = rng.standard_normal(shape) * rng.choice([0.1, 1, 4])
    if rng.random() < 0.5:
        x = np.round(x * rng.choice([1, 2]))
    for value, share in ((-INF, 0.3), (np.nan, 0.02), (INF, 0.02)):
        if rng.random() < 0.3:
            x[rng.random(shape) < share] = value
    return x


def random_rules(rng, batch):
    """Each rule in a third of the trials, half of them another value for each row."""
    return {
        name: rng.choice(values, batch) if rng.random() < 0.5 else rng.choice(values)
        for name, values in RULES.items()
        if rng.random() < 0.35
    }


def of_rows(rules, rows):
    return {name: value[rows] if np.ndim(value) else value for name, value in rules.items()}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASSES)
def test_as_the_reference(compiled_backend, classes, kind):
    rng = np.random.default_rng(classes)
    for trial in range(12):
        rows = int(rng.integers(1, 150))
        x = random_logits(rng, (rows, classes)).astype(kind)
        rules = random_rules(rng, rows)
        fine = (x < INF).all(1) & (x.max(1) > -INF)
        with fastlogits.settings(backend="numpy"):
            expected = fastlogits.filter_logits(x, **rules)
            drawn = fastlogits.sample(x[fine], seed=trial, **of_rows(rules, fine))
        np.testing.assert_array_equal(fastlogits.filter_logits(x, **rules), expected, str(rules))
        result = fastlogits.sample(x[fine], seed=trial, **of_rows(rules, fine))
        np.testing.assert_array_equal(result.ids, drawn.ids, str(rules))
        np.testing.assert_allclose(result.log_probs, drawn.log_probs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("classes", CLASSES)
def test_columns_have_the_bits_of_rows(compiled_backend, classes, dtype):
    rng = np.random.default_rng(classes)
    for trial in range(4):
        batch = int(rng.integers(1, 4)), int(rng.integers(1, 9)), int(rng.integers(1, 30))
        columns = random_logits(rng, (batch[0], classes, *batch[1:])).astype(dtype)
        rows = np.moveaxis(columns, 1, -1).copy()
        rules = random_rules(rng, batch)
        expected = np.ascontiguousarray(np.moveaxis(fastlogits.filter_logits(rows, **rules), -1, 1))
        assert fastlogits.filter_logits(columns, axis=1, **rules).tobytes() == expected.tobytes()
        finite = np.where(np.isfinite(rows.astype(float)), rows, dtype.type(0))
        drawn = fastlogits.sample(finite, seed=trial, **rules)
        result = fastlogits.sample(np.moveaxis(finite, -1, 1).copy(), axis=1, seed=trial, **rules)
        np.testing.assert_array_equal(result.ids, drawn.ids)
        assert result.log_probs.tobytes() == drawn.log_probs.tobytes()
        assert fastlogits.filter_logits(columns, axis=1, out=columns, **rules) is columns
        assert columns.tobytes() == expected.tobytes()


@pytest.mark.parametrize("classes", [2, 21, 100])
def test_greedy_rows_among_others(compiled_backend, classes, rng):
    """At temperature 0 a row's filters are off, whatever those of its neighbours are."""
    x = np.round(2 * rng.standard_normal((90, classes)))
    temperature = rng.choice([0.0, 1.0], 90)
    drawn = fastlogits.sample(x, seed=1, temperature=temperature, top_p=0.5)
    greedy = temperature == 0
    np.testing.assert_array_equal(drawn.ids[greedy], x[greedy].argmax(1))
    assert (drawn.log_probs[greedy] == 0).all()
    own = fastlogits.sample(x[~greedy], seed=1, rows=np.flatnonzero(~greedy), top_p=0.5)
    np.testing.assert_array_equal(drawn.ids[~greedy], own.ids)
