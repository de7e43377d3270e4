"""Error messages of the filters and of sampling."""

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastlogits import _checks

INT64_MAX = 2**63 - 1


class Parameter(NamedTuple):
    """A parameter of the filters: what stands for None, and which values it takes."""

    off: float
    expected: str
    holds: Callable
    whole: bool = False


LOW, HIGH = _checks.SCALE_RANGE
# In the order in which the backends take them.
PARAMETERS = {
    "temperature": Parameter(1.0, f"a number above 0 (from {LOW} to {HIGH})", lambda v: (LOW <= v) & (v <= HIGH)),
    "top_k": Parameter(np.inf, "an integer of at least 1", lambda v: v >= 1, whole=True),
    "top_p": Parameter(1.0, "a number above 0 and at most 1", lambda v: (v > 0) & (v <= 1)),
    "min_p": Parameter(0.0, "a number from 0 to 1", lambda v: (v >= 0) & (v <= 1)),
    "typical_p": Parameter(1.0, "a number above 0 and at most 1", lambda v: (v > 0) & (v <= 1)),
    "epsilon_cutoff": Parameter(0.0, "a number of at least 0 and below 1", lambda v: (v >= 0) & (v < 1)),
    "eta_cutoff": Parameter(0.0, "a number of at least 0 and below 1", lambda v: (v >= 0) & (v < 1)),
    "min_keep": Parameter(1.0, "an integer of at least 1", lambda v: v >= 1, whole=True),
}


def filter_parameter(name, value, batch_shape, zero=False):
    """The value or values of a parameter in float64, of a shape that broadcasts to `batch_shape`; `zero` is allowed."""
    off, expected, holds, _ = PARAMETERS[name]
    if value is None:
        return np.float64(off)
    values = _checks.as_array(name, value).copy()  # which stays what is checked here
    form_of_parameter(name, values, batch_shape)
    good = holds(values) | (values == 0) if zero else holds(values)
    if not good.all():
        position = tuple(map(int, np.unravel_index(np.argmin(good), values.shape)))
        where = f" at {position}" if position else ""
        raise ValueError(f"{name}: expected {expected}, got {values[position]}{where}")
    return values.astype(np.float64)


def form_of_parameter(name, values, batch_shape):
    """Whether an array may hold a parameter, whatever its values are."""
    _, expected, _, whole = PARAMETERS[name]
    if values.dtype.kind not in ("iu" if whole else "iuf") or values.itemsize > 8:
        got = values.dtype if values.ndim else repr(values.item())
        raise TypeError(f"{name}: expected {expected}, or an array of them, got {got}")
    try:
        np.broadcast_to(values, batch_shape)
    except ValueError:
        raise ValueError(
            f"{name}: expected a number or a shape that broadcasts to {batch_shape}, got {values.shape}"
        ) from None


def seed(value):
    """A generator's key, two 32-bit words: from a number by NumPy's SeedSequence, or drawn from a Generator."""
    if isinstance(value, np.random.Generator):
        words = value.integers(1 << 32, size=2, dtype=np.uint32)
    else:
        try:
            number = None if value is None else operator.index(value)
        except TypeError:
            raise TypeError(f"seed: expected an integer, a numpy.random.Generator or None, got {value!r}") from None
        if number is not None and number < 0:
            raise ValueError(f"seed: expected an integer of at least 0, got {value}")
        words = np.random.SeedSequence(number).generate_state(2, np.uint32)
    return tuple(map(int, words))


def row_numbers(value, batch_shape):
    """One number for each row, as int64."""
    size = int(np.prod(batch_shape))
    numbers = _checks.as_array("rows", 0 if value is None else value)
    form_of_row_numbers(numbers, batch_shape)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() <= INT64_MAX - (0 if numbers.ndim else size):
        raise ValueError(f"rows: expected numbers from 0 to 2**63 - 1, got {numbers.min()} to {numbers.max()}")
    if numbers.ndim:
        return numbers.astype(np.int64)
    return np.arange(size).reshape(batch_shape) + np.int64(numbers)


def form_of_row_numbers(numbers, batch_shape):
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"rows: expected integers, got {numbers.dtype}")
    if numbers.ndim and numbers.shape != batch_shape:
        raise ValueError(f"rows: expected a first number or an array of shape {batch_shape}, got {numbers.shape}")


def not_to_be_sampled(ids):
    """Of a row whose id is negative, as a backend's `sample` leaves it."""
    position = tuple(map(int, np.unravel_index(np.argmax(ids < 0), ids.shape)))
    why = "NaN or +inf (perhaps by division by the temperature)" if ids[position] == -1 else "nothing but -inf"
    return ValueError(f"logits: cannot sample from row {position}: it has {why}")
