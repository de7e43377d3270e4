"""Accuracy: the bounds of `tolerance.py` where they are hard to keep, against arithmetic of any precision."""

import functools

import mpmath
import numpy as np
import oracle
import pytest
from conftest import need
from operations import OPERATIONS, call, case
from tolerance import Exact, Tolerance, assert_close, machine_epsilon, wide_type

FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
by_float = pytest.mark.parametrize("dtype", FLOATS, ids=str)


class OneRow:
    """fastlogits for one row at a time, which stands alone, among other rows, or as a column among others."""

    def __init__(self, fl, arrangement):
        self.fl, self.arrangement = fl, arrangement
        self.axis = 0 if arrangement == "column" else -1

    def __getattr__(self, name):
        return lambda *rows: self.own(getattr(self.fl, name)(*map(self.spread, rows), axis=self.axis))

    def cross_entropy_with_grad(self, row, label):
        x = self.spread(row)
        if x.ndim == 1:
            return self.fl.cross_entropy_with_grad(x, label)
        labels = np.full(x.size // len(row), label)
        result = self.fl.cross_entropy_with_grad(x, labels, axis=self.axis, reduction="none")
        return result._replace(loss=result.loss[1], grad_logits=self.own(result.grad_logits))

    def spread(self, row):
        """The row as every odd one of several; the even ones run backwards."""
        if self.arrangement == "alone":
            return row
        odd = np.arange(67 if row.size < 64 else 3)[:, None] % 2 == 1
        array = np.where(odd, row, row[::-1])
        return array if self.axis else np.ascontiguousarray(array.T)

    def own(self, result):
        if self.arrangement == "alone":
            return result
        rows = result if self.axis else result.T
        assert all(row.tobytes() == rows[1].tobytes() for row in rows[1::2])
        return rows[1]


@pytest.fixture(params=["alone", "among rows", "column"])
def one(request, fl):
    return OneRow(fl, request.param)


def mp_row(counts, dtype):
    """Exact log s, lse, and per distinct logit its probability and that of all other places together.

    `counts` maps a logit to how often it occurs, so that a row of a million places costs a handful of exps.
    """
    with mpmath.workdps(60):
        top = max(counts)
        r = sum(n * mpmath.exp(mpmath.mpf(float(z)) - float(top)) for z, n in counts.items()) - 1
        log_s = mpmath.log1p(r)
        probs = {z: mpmath.exp(mpmath.mpf(float(z)) - float(top)) / (1 + r) for z in counts}
        wide = wide_type(dtype)
        others = {z: wide(mpmath.nstr(r / (1 + r) if z == top else 1 - p, 30)) for z, p in probs.items()}
        probs = {z: wide(mpmath.nstr(p, 30)) for z, p in probs.items()}
        return wide(mpmath.nstr(log_s, 30)), wide(mpmath.nstr(log_s + float(top), 30)), probs, others


def nearest_gap(counts):
    top = max(counts)
    return 0.0 if counts[top] > 1 else float(top) - float(max((z for z in counts if z != top), default=top))


def laid_row(counts, dtype, seed=0):
    """The row that `counts` describes, in random order, and the places of each logit's first occurrence."""
    row = np.repeat(np.array(list(counts), dtype), list(counts.values()))
    np.random.default_rng(seed).shuffle(row)
    return row, {z: int(np.argmax(row == z)) for z in counts}


def check_row(one, counts, dtype):
    """Every forward result and the gradient of one row against mpmath, labels at every distinct logit."""
    counts = {dtype.type(z): n for z, n in counts.items()}
    row, places = laid_row(counts, dtype)
    log_s, lse, probs, others = mp_row(counts, dtype)
    tolerance, gap, wide = Tolerance(dtype), nearest_gap(counts), wide_type(dtype)
    top = max(counts)
    log_s_error = tolerance.log_sum(log_s, gap)
    assert_close(one.logsumexp(row), Exact(lse, tolerance.lse(lse, log_s, gap, 0)), "lse")
    softmax, log_softmax = one.softmax(row), one.log_softmax(row)
    for z, place in places.items():
        below = wide(top) - wide(z)
        p = Exact(probs[z], tolerance.probability(probs[z], below + log_s))
        loss = Exact(below + log_s, tolerance.eps * (below + log_s) + log_s_error)
        assert_close(softmax[place], p, f"probability of {z}")
        assert_close(log_softmax[place], Exact(-loss.value, loss.error), f"log-probability of {z}")
        result = one.cross_entropy_with_grad(row, place)
        assert_close(result.loss, loss, f"loss at {z}")
        error = tolerance.target_gradient(others[z], gap) if z == top else tolerance.eps * 8 * others[z] + p.error
        assert_close(result.grad_logits[place], Exact(-others[z], error), f"gradient of the target {z}")
        rest = [other for other in places if other != z]
        for other in rest:
            exact = Exact(probs[other], tolerance.probability(probs[other], wide(top) - wide(other) + log_s))
            assert_close(result.grad_logits[places[other]], exact, f"gradient of {other} beside {z}")


# distinct logits and how often each occurs
ROWS = {
    "one class": {3.0: 1},
    "a pair": {2.0: 1, -1.0: 1},
    "a loss that is tiny beside the logits": {40.5: 1, 0.25: 1},
    "dominated by 20": {0.0: 1, -20.0: 1},
    "dominated by 30, a thousand classes": {12.5: 1, -17.5: 1000},
    "dominated by 60, three others": {60.0: 1, 0.0: 1, -0.5: 1, -3.0: 1},
    "dominated at zero, a thousand classes": {0.0: 1, -25.0: 1000},
    "dominated at the edge of float32": {0.0: 1, -86.5: 5},
    "ties for the maximum": {7.0: 3, 6.5: 100, -2.0: 20},
    "all equal": {0.3: 1027},
    "far from zero": {1e4: 1, 9990.0: 5000, 9980.0: 11},
    "far below zero": {-1e4: 2, -10008.0: 700},
    "a sum within a hundredth of one": {1.0: 1, -5.0: 2, -8.0: 30},
    "a sum just above a hundredth": {1.0: 1, -4.0: 2},
    "wide": {0.0: 1, -1.0: 1, -10.0: 1, -40.0: 1, -80.0: 1},
    "2**20 around one maximum": {1.5: 1, -0.3: 2**20 - 7, 1.25: 6},
    "2**20 dominated": {20.0: 1, 0.1: 2**20 - 1},
    "2**20 dominated by far": {50.0: 1, 0.1: 2**20 - 1},
}


@by_float
@pytest.mark.parametrize("row", ROWS)
def test_against_mpmath(one, row, dtype):
    check_row(one, ROWS[row], dtype)


@by_float
@pytest.mark.parametrize("place", [0, 1, 511, 1023, 1024, 1025, 2048, 4098])
@pytest.mark.parametrize("gap", [8, 24, 50])
def test_dominated_wherever_the_maximum_is(one, place, gap, dtype):
    """The others' sum must survive beside a maximum in any block; SciPy's log_softmax and p - 1 lose it."""
    row = np.full(4099, -0.5, dtype)
    row[place] = gap
    tiny_loss = 4098 * np.exp(wide_type(dtype)(-0.5 - gap))
    exact = oracle.cross_entropy(row, np.array(place))
    result = one.cross_entropy_with_grad(row, place)
    assert_close(result.loss, exact.loss, "loss")
    assert_close(-one.log_softmax(row)[place], exact.loss, "log-probability")
    assert_close(result.grad_logits, exact.grad, "gradient")
    np.testing.assert_allclose(float(exact.loss.value), float(np.log1p(tiny_loss)), rtol=1e-12)
    if dtype == np.float32 and gap > 24:
        scipys = need("scipy.special").log_softmax(row)
        assert scipys[place] == 0  # what this test is for


GAPS = np.arange(14, 18, 0.5)


@by_float
@pytest.mark.parametrize("gap", GAPS)
def test_partial_sums_lose_nothing(one, gap, dtype):
    """2**20 equal terms beside the maximum: added one after another, all of them are rounded the same way.

    So float32 must be merged in double, and double pairwise or compensated. In the simulation below most of
    these gaps leave the bounds otherwise, by up to five times.
    """
    check_row(one, {0.0: 1, -gap: 2**20 - 1}, dtype)


@by_float
@pytest.mark.parametrize("term", [0.1, 1 / 3])
def test_partial_sums_of_the_backward_functions_lose_nothing(one, term, dtype):
    """As above for the sums of g and of g p, whose terms are all the same here, and so the gradients."""
    g, log_p, p, exact, of_log = equal_gradients(term, dtype)
    assert_close(one.softmax_backward(g, p), exact, "softmax")
    assert_close(one.log_softmax_backward(g, log_p), of_log, "log_softmax")


@functools.cache
def equal_gradients(term, dtype):
    g, log_p = np.full(2**20, term, dtype), np.full(2**20, -20 * np.log(2), dtype)
    p = np.full(2**20, 1.1 * 2.0**-20, dtype)
    results = oracle.softmax_backward(g, p), oracle.log_softmax_backward(g, log_p)
    return g, log_p, p, *(Exact(*(part[:1] for part in result)) for result in results)


@by_float
@pytest.mark.parametrize("classes", [2, 5, 40, 1500])
def test_underflow_is_exactly_zero(one, classes, dtype):
    """Below the smallest normal number nothing remains, above it nothing is lost, in exp or by division."""
    edge = -np.log(wide_type(dtype)(np.finfo(dtype).tiny))
    for maxima in {1, classes - 1}:
        row = np.zeros(classes, dtype)
        for excess, kept in [(-0.1, True), (0.1, False), (5, False), (20, False), (2000, False)]:
            row[maxima:] = np.log(maxima) - edge - excess
            result = one.cross_entropy_with_grad(row, 0)
            for probs in one.softmax(row), result.grad_logits:
                assert (probs[maxima:] != 0).all() == kept
                assert (probs[maxima:] == 0).all() != kept
            assert_close(one.softmax(row), oracle.softmax(row), "softmax")
            assert_close(result.grad_logits, oracle.cross_entropy(row, np.array(0)).grad, "gradient")


@by_float
def test_masked_classes_are_exactly_zero(one, dtype, rng):
    for classes in (3, 10, 70, 1500):
        row = rng.standard_normal(classes).astype(dtype)
        row[1] = -np.inf
        assert one.softmax(row)[1] == 0
        assert one.log_softmax(row)[1] == -np.inf
        assert one.cross_entropy_with_grad(row, 0).grad_logits[1] == 0


@by_float
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "argmax"])
def test_a_row_of_many_blocks(fl, name, dtype):
    arguments, exact = case(name, 1, 2**18, dtype)
    assert_close(call(fl, name, *arguments), exact, name)


@by_float
def test_oracle_agrees_with_mpmath(dtype):
    """The oracle is checked too: against 60 digits, to a hundredth of what results are allowed."""
    for counts in ROWS.values():
        if sum(counts.values()) > 2000:
            continue
        counts = {dtype.type(z): n for z, n in counts.items()}
        row, places = laid_row(counts, dtype)
        log_s, lse, probs, others = mp_row(counts, dtype)
        softmax, log_sum = oracle.softmax(row), oracle.logsumexp(row)
        assert abs(log_sum.value - lse) <= log_sum.error / 64
        for z, place in places.items():
            exact = oracle.cross_entropy(row, np.array(place))
            assert abs(exact.loss.value - (max(counts) - wide_type(dtype)(z) + log_s)) <= exact.loss.error / 64
            assert abs(softmax.value[place] - probs[z]) <= softmax.error[place] / 64
            assert abs(exact.grad.value[place] + others[z]) <= exact.grad.error[place] / 64


@by_float
def test_simulated_merge_one_by_one_would_be_caught(dtype):
    """What the tests above rely on: blocks of 1024 added up in the row's own type would fail."""
    caught = 0
    for gap in GAPS:
        term = np.exp(-gap).astype(dtype)
        total = np.add.accumulate(np.full(1024, 1024 * term))[-1]
        exact = wide_type(dtype)(term) * 2**20
        caught += abs(total / exact - 1) > (9 + gap) * machine_epsilon(dtype)
    assert caught >= len(GAPS) / 2
