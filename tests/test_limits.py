"""Classes exactly on the limits of the filters: one rule for every backend, for filter_logits and sample alike."""

from fractions import Fraction

import numpy as np
import pytest
from tolerance import BFLOAT16, DTYPES

import fastlogits

LIMITED = ("top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
SHIFTS = (0.0, -1.5, 1e-3, 40.0, -700.0)


def kept(fl, logits, **options):
    """The classes of one row that filter_logits keeps; a sample is one of them."""
    survives = fl.filter_logits(logits, **options) > -np.inf
    drawn = fl.sample(np.tile(logits, (200, 1)), seed=1, **options).ids
    assert set(drawn) <= set(np.flatnonzero(survives))
    return np.flatnonzero(survives).tolist()


@pytest.mark.parametrize("probs", [[0.3, 0.1, 0.1, 0.5], [0.1, 0.5, 0.1, 0.3], [0.5, 0.3, 0.1, 0.1]], ids=str)
def test_half_and_more_than_a_quarter(fl, probs):
    assert kept(fl, np.log(probs), top_p=0.8) == sorted(np.argsort(probs)[-2:])
    assert kept(fl, np.log(probs), min_p=0.2) == [0, 1, 2, 3]
    assert kept(fl, np.log(probs), min_p=0.6) == sorted(np.argsort(probs)[-2:])
    assert kept(fl, np.log(probs), epsilon_cutoff=0.1) == [0, 1, 2, 3]
    assert kept(fl, np.log(probs), epsilon_cutoff=0.3) == sorted(np.argsort(probs)[-2:])


def random_masses(rng):
    """Whole numbers, whose shares are exact fractions."""
    masses = rng.integers(1, rng.choice([3, 10, 100]), rng.integers(2, rng.choice([5, 40, 1500])))
    return [int(mass) for mass in masses]


def by_rank(masses):
    """Classes from the likeliest on, of equals the highest index first: those with the lowest go first for top_p."""
    return sorted(range(len(masses)), key=lambda c: (masses[c], c), reverse=True)


def logits_of(masses, rng):
    return np.log(np.array(masses, float)) + rng.choice(SHIFTS)


@pytest.mark.parametrize("seed", range(8))
def test_top_p_drops_what_has_exactly_the_rest(fl, seed):
    rng = np.random.default_rng(seed)
    for _ in range(15):
        masses = random_masses(rng)
        total, order = sum(masses), by_rank(masses)
        n = int(rng.integers(1, len(masses)))
        top_p = float(Fraction(sum(masses[c] for c in order[:n]), total))
        assert kept(fl, logits_of(masses, rng), top_p=top_p) == sorted(order[:n])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["min_p", "epsilon_cutoff", "eta_cutoff"])
def test_what_is_at_a_cutoff_stays(fl, name, seed):
    rng = np.random.default_rng(seed)
    for _ in range(15):
        masses = random_masses(rng)
        limit = int(rng.choice(masses))
        whole = max(masses) if name == "min_p" else sum(masses)
        value, p = float(Fraction(limit, whole)), np.array(masses) / sum(masses)
        if name == "eta_cutoff" and np.sqrt(value) * np.exp((p * np.log(p)).sum()) < 1.01 * value:
            continue
        assert kept(fl, logits_of(masses, rng), **{name: value}) == [c for c, m in enumerate(masses) if m >= limit]


@pytest.mark.parametrize("seed", range(8))
def test_typical_p_is_reached(fl, seed):
    """By the nearest classes, together with those that are as near on the other side of the mean."""
    rng = np.random.default_rng(seed)
    for _ in range(15):
        masses = random_masses(rng)
        logs = np.log(np.array(masses, np.longdouble))
        far = np.abs(logs - (np.array(masses) * logs).sum() / sum(masses))
        order = sorted(range(len(masses)), key=lambda c: far[c])
        n = int(rng.integers(1, len(masses) + 1))
        limit = far[order[n - 1]] + 1e-9
        nearest = [c for c in range(len(masses)) if far[c] <= limit]
        typical_p = float(Fraction(sum(masses[c] for c in nearest), sum(masses)))
        assert kept(fl, logits_of(masses, rng), typical_p=typical_p) == nearest


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("typical_p", [0.1, 0.3, 0.6])
def test_typical_p_keeps_both_sides(fl, typical_p, shift):
    """The mean of log 1/4, log 1/2, log 1/4 lies in the middle between them."""
    assert kept(fl, np.log([0.25, 0.5, 0.25]) + shift, typical_p=typical_p) == [0, 1, 2]
    assert kept(fl, np.log([0.5, 0.25, 0.25]) * 3 + shift, typical_p=0.01) != []


def test_the_largest_class_stays_however_low_the_limit(fl):
    for name in ("top_p", "typical_p"):
        for value in (1e-300, 1e-13, 1e-11):
            assert kept(fl, np.array([0.0, 3.0, 1.0]), **{name: value}) != []
    assert kept(fl, np.array([0.0, 3.0, 1.0]), top_p=1e-13) == [1]


@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("classes", [2, 7, 100, 1030])
def test_nothing_is_drawn_that_is_dropped(fl, backend, name, classes):
    """Two largest logits that may be equal after the division by the temperature, among the rules that see it."""
    rng = np.random.default_rng(classes)
    rows, kind = 40 if classes < 1000 else 8, DTYPES[name]
    for trial in range(6 if backend == "numpy" else 30):
        x = (rng.standard_normal((rows, classes)) * rng.choice([1, 8, 100])).astype(kind)
        first = x.astype(float).argmax(1)
        second = (first + rng.integers(1, classes)) % classes
        peak = x[np.arange(rows), first]
        below = peak.view(np.uint16) - 1 if kind == BFLOAT16 else np.nextafter(peak, kind.type(-np.inf))
        x[np.arange(rows), second] = below.view(kind)
        options = {"temperature": rng.choice([1.3, 0.7, 2.9])}
        if trial % 3 == 0:
            options["temperature"] = rng.uniform(0.2, 3, rows)
        limit = {"min_p": 1.0, "top_p": 0.5, "typical_p": 0.3, "epsilon_cutoff": 0.3, "eta_cutoff": 0.9, "top_k": 1}
        options |= {name: limit[name] for name in rng.choice(list(limit), rng.integers(1, 3), replace=False)}
        survives = fl.filter_logits(x, **options).astype(float) > -np.inf
        drawn = fl.sample(x, seed=trial, **options).ids
        assert survives[np.arange(rows), drawn].all(), options


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backends_keep_the_same_of_float_logits(fl, dtype):
    """Of random rows, and of rows of few values, as the reference does."""
    rng = np.random.default_rng(7)
    for trial in range(40):
        x = rng.standard_normal((6, 300)) * rng.choice([1, 4])
        x[3:] = rng.choice(np.log([0.1, 0.2, 0.25, 0.5]), (3, 300))
        options = {name: rng.choice([0.1, 0.2, 0.5, 0.9]) for name in LIMITED if rng.random() < 0.4}
        x = x.astype(dtype)
        with fastlogits.settings(backend="numpy"):
            expected = fastlogits.filter_logits(x, **options)
        np.testing.assert_array_equal(fl.filter_logits(x, **options), expected, f"{trial} {options}")
