"""The half types, exhaustively: every value through conversion, exp and log, and the rounding back."""

import numpy as np
import pytest
from operations import LABELLED, OPERATIONS, call
from tolerance import DTYPES, HALF, assert_close

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
