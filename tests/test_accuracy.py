"""Accuracy: the bounds of `tolerance.py` where they are hard to keep, against arithmetic of any precision."""

import mpmath
import numpy as np
import oracle
import pytest
from operations import LABELLED, OPERATIONS, call
from tolerance import DTYPES, HALF, Exact, Tolerance, assert_close, machine_epsilon, wide_type

FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
by_float = pytest.mark.parametrize("dtype", FLOATS, ids=str)


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


def check_row(fl, counts, dtype):
    """Every forward result and the gradient of one row against mpmath, labels at every distinct logit."""
    counts = {dtype.type(z): n for z, n in counts.items()}
    row, places = laid_row(counts, dtype)
    log_s, lse, probs, others = mp_row(counts, dtype)
    tolerance, gap, wide = Tolerance(dtype), nearest_gap(counts), wide_type(dtype)
    top = max(counts)
    log_s_error = tolerance.log_sum(log_s, gap)
    assert_close(fl.logsumexp(row), Exact(lse, tolerance.lse(lse, log_s, gap, 0)), "lse")
    softmax, log_softmax = fl.softmax(row), fl.log_softmax(row)
    for z, place in places.items():
        below = wide(top) - wide(z)
        p = Exact(probs[z], tolerance.probability(probs[z], below + log_s))
        loss = Exact(below + log_s, tolerance.eps * (below + log_s) + log_s_error)
        assert_close(softmax[place], p, f"probability of {z}")
        assert_close(log_softmax[place], Exact(-loss.value, loss.error), f"log-probability of {z}")
        result = fl.cross_entropy_with_grad(row, place)
        assert_close(result.loss, loss, f"loss at {z}")
        error = (
            tolerance.target_gradient(others[z], gap) if z == top else tolerance.eps * 8 * others[z] + p.error
        )
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
def test_against_mpmath(fl, row, dtype):
    check_row(fl, ROWS[row], dtype)


@by_float
@pytest.mark.parametrize("place", [0, 1, 511, 1023, 1024, 1025, 2048, 4098])
@pytest.mark.parametrize("gap", [8, 24, 50])
def test_dominated_wherever_the_maximum_is(fl, place, gap, dtype):
    """The others' sum must survive beside a maximum in any block; SciPy's log_softmax and p - 1 lose it."""
    from scipy.special import log_softmax

    row = np.full(4099, -0.5, dtype)
    row[place] = gap
    tiny_loss = 4098 * np.exp(wide_type(dtype)(-0.5 - gap))
    exact = oracle.cross_entropy(row, np.array(place))
    result = fl.cross_entropy_with_grad(row, place)
    assert_close(result.loss, exact.loss, "loss")
    assert_close(-fl.log_softmax(row)[place], exact.loss, "log-probability")
    assert_close(result.grad_logits, exact.grad, "gradient")
    np.testing.assert_allclose(float(exact.loss.value), float(np.log1p(tiny_loss)), rtol=1e-12)
    if dtype == np.float32 and gap > 24:
        assert log_softmax(row)[place] == 0  # what this test is for


GAPS = np.arange(14, 18, 0.25)


@by_float
@pytest.mark.parametrize("gap", GAPS)
def test_partial_sums_lose_nothing(fl, gap, dtype):
    """2**20 equal terms beside the maximum: added one after another, all of them are rounded the same way.

    So float32 must be merged in double, and double pairwise or compensated. In the simulation below most of
    these gaps leave the bounds otherwise, by up to five times.
    """
    row = np.full(2**20, -gap, dtype)
    row[333] = 0
    exact = oracle.cross_entropy(row, np.array(333))
    result = fl.cross_entropy_with_grad(row, 333)
    assert_close(result.loss, exact.loss, "loss")
    assert_close(result.grad_logits[333], Exact(exact.grad.value[333], exact.grad.error[333]), "target")
    assert_close(fl.logsumexp(row), oracle.logsumexp(row), "lse")


@by_float
@pytest.mark.parametrize("term", [0.1, 0.3, 0.7, 1 / 3])
def test_partial_sums_of_the_backward_functions_lose_nothing(fl, term, dtype):
    """As above for the sums of g and of g p, whose terms are all the same here."""
    g, log_p = np.full((2, 2**20), term, dtype), np.full((2, 2**20), -20 * np.log(2), dtype)
    p = np.full((2, 2**20), 1.1 * 2.0**-20, dtype)
    assert_close(fl.log_softmax_backward(g, log_p), oracle.log_softmax_backward(g, log_p), "log_softmax")
    assert_close(fl.softmax_backward(g, p), oracle.softmax_backward(g, p), "softmax")


@by_float
def test_underflow_is_exactly_zero(fl, dtype):
    """Below the smallest normal number nothing remains; just above it nothing is lost."""
    edge = -np.log(wide_type(dtype)(np.finfo(dtype).tiny))
    for classes in (2, 5, 40, 1500):
        row = np.zeros(classes, dtype)
        for gap, kept in [(edge * 0.999, True), (edge * 1.001, False), (edge * 1.01, False), (2000, False)]:
            row[1:] = -gap
            result = fl.cross_entropy_with_grad(row, 0)
            assert (fl.softmax(row)[1:] != 0).all() == kept
            assert (result.grad_logits[1:] != 0).all() == kept
            assert_close(fl.softmax(row), oracle.softmax(row))
            if not kept:
                assert not fl.softmax(row)[1:].any()
                assert not result.grad_logits[1:].any()


@by_float
def test_masked_classes_are_exactly_zero(fl, dtype, rng):
    for classes in (3, 10, 70, 1500):
        x = rng.standard_normal((9, classes)).astype(dtype)
        x[:, 1] = -np.inf
        assert not fl.softmax(x)[:, 1].any()
        assert (fl.log_softmax(x)[:, 1] == -np.inf).all()
        assert not fl.cross_entropy_with_grad(x, [0] * 9).grad_logits[:, 1].any()


@by_float
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "argmax"])
def test_rows_of_a_million(fl, name, dtype, rng):
    x = (3 * rng.standard_normal((1, 2**20))).astype(dtype)
    arguments = OPERATIONS[name].arguments(x)
    assert_close(call(fl, name, *arguments), OPERATIONS[name].exact(*arguments), name)


half = pytest.mark.parametrize("dtype", HALF, ids=[n for n, d in DTYPES.items() if d in HALF])


def every_half(dtype):
    """All 65536 values, and the same in float64."""
    values = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # signalling NaN are among them
        return values, values.astype(np.float64)


@half
def test_every_half_through_a_row_of_one(fl, dtype):
    """lse of one logit is that logit, so every value must come back."""
    x, numbers = every_half(dtype)
    np.testing.assert_array_equal(fl.logsumexp(x[:, None]).astype(np.float64), numbers)
    p = fl.softmax(x[:, None])[:, 0].astype(np.float64)
    np.testing.assert_array_equal(p, np.where(np.isfinite(numbers), 1, np.nan))


@half
@pytest.mark.parametrize("partner", [0.0, -3.5, 11.0])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", *LABELLED])
def test_every_half_in_a_pair(fl, name, partner, dtype):
    """exp, log and the rounding back of every value; the subnormal results of float16 are kept."""
    x, numbers = every_half(dtype)
    x = x[np.isfinite(numbers)]
    arguments = [np.stack([x, np.full_like(x, partner)], axis=1)]
    if name in LABELLED:
        arguments.append(np.zeros(len(x), np.int64))
    assert_close(call(fl, name, *arguments), OPERATIONS[name].exact(*arguments), name)


def test_float16_keeps_its_subnormal_probabilities(fl):
    p = fl.softmax(np.array([[0, -12], [0, -16.25]], np.float16))[:, 1]
    assert (p > 0).all()
    assert (p < np.finfo(np.float16).tiny).all()


@half
def test_halves_are_rounded_to_nearest(fl, dtype):
    """1/n for n up to 2048 sits near a tie only rarely; truncation would miss every other one."""
    wrong = 0
    for n in range(1, 2049, 7):
        expected = np.float64(1 / n).astype(dtype)
        wrong += fl.softmax(np.ones((1, n), dtype))[0, 0] != expected
    assert wrong <= 3


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
            assert (
                abs(exact.loss.value - (max(counts) - wide_type(dtype)(z) + log_s)) <= exact.loss.error / 64
            )
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
