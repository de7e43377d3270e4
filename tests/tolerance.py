"""How far a result may be from the exact one: the only table of tolerances, by dtype."""

from typing import NamedTuple

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
HALF = (np.dtype(np.float16), BFLOAT16)
DTYPES = {dtype.name: dtype for dtype in (np.dtype(np.float32), np.dtype(np.float64), *HALF)}


class Exact(NamedTuple):
    """A value and the largest absolute error allowed for it."""

    value: np.ndarray
    error: np.ndarray


def compute_type(dtype):
    """The type in which results of `dtype` are computed: float32 for the half types."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def wide_type(dtype):
    """The oracle's own type: at least 11 more bits than the type under test (where long double has them)."""
    return np.longdouble if dtype == np.float64 else np.float64


def machine_epsilon(dtype):
    return wide_type(dtype)(np.finfo(compute_type(dtype)).eps)


class Tolerance:
    """Errors allowed to results of one dtype, as multiples of the machine epsilon of the computing type.

    Eight epsilons pay for a vectorised exp (2), the rounding of a division or product (1) and the blocked
    sum of positive terms (5, whatever the length, because partial sums are merged in double). An argument a
    of exp is known to eps * abs(a), which exp turns into a relative error: hence the distance terms. `slope`
    is the same for logits that are scaled or capped first: z is then known to a few eps of abs(z) only.
    """

    def __init__(self, dtype, slope=0.0):
        self.eps = machine_epsilon(dtype)
        self.slope = slope

    def log_sum(self, log_s, distance):
        return (8 + distance + self.slope) * self.eps * log_s

    def lse(self, lse, log_s, distance, magnitude):
        return self.eps * np.abs(lse) + self.log_sum(log_s, distance) + self.slope * self.eps * magnitude

    def probability(self, p, distance_to_lse):
        return (8 + distance_to_lse + self.slope) * self.eps * p

    def target_gradient(self, others, distance):
        return (8 + distance + self.slope) * self.eps * others

    def sum_of(self, magnitude):
        """Error of a sum whose terms may cancel: relative to the terms, not to the sum."""
        return 8 * self.eps * magnitude


def spacing(values, dtype):
    """Distance to the next number of a half type, from its bits: np.spacing knows no bfloat16."""
    size = np.abs(values.astype(dtype))
    following = (size.view(np.uint16) + np.uint16(1)).view(dtype)
    with np.errstate(invalid="ignore"):
        return following.astype(np.float64) - size.astype(np.float64)


def shares(actual, exact):
    """How far each element of `actual` is from `exact`, as a share of what is allowed; inf where it is no number.

    Infinities and NaN must be where the oracle has them. A result of a half type may be one ulp from the
    correctly rounded one. Below the smallest normal number of the computing type the error may be that
    number, since results there are flushed to zero.
    """
    actual = np.asarray(actual)
    value, error = (np.broadcast_to(part, actual.shape) for part in exact)
    reference, slack = value, error
    if actual.dtype in HALF:
        with np.errstate(over="ignore", under="ignore"):
            rounded = value.astype(actual.dtype)
        reference, slack = rounded.astype(np.float64), error + spacing(rounded, actual.dtype)
    wide = actual.astype(value.dtype)
    tiny = np.finfo(compute_type(actual.dtype)).tiny
    with np.errstate(invalid="ignore"):
        distance = np.abs(wide - reference) / (slack + tiny)
        same = (wide == reference) | (np.isnan(wide) & np.isnan(reference))
    return np.where(np.isfinite(reference) & np.isfinite(wide), distance, np.where(same, 0, np.inf))


def failures(actual, exact):
    """Mask of the elements of `actual` that are further from `exact` than allowed."""
    return ~(shares(actual, exact) <= 1)


def assert_close(actual, exact, context=""):
    bad = np.atleast_1d(failures(actual, exact))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        got, value, error = (np.broadcast_to(np.atleast_1d(a), bad.shape)[where] for a in (actual, *exact))
        raise AssertionError(
            f"{context} at {where}: got {got!r}, exact {value!r}, error allowed {error!r}; "
            f"{bad.sum()} of {bad.size} are wrong"
        )
