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
SCALE = f"a number above 0 (from {LOW} to {HIGH})"
# In the order in which the backends take them; then those that are no rules of theirs.
PARAMETERS = {
    "temperature": Parameter(1.0, SCALE, lambda v: (LOW <= v) & (v <= HIGH)),
    "top_k": Parameter(np.inf, "an integer of at least 1 (or 0, -1 or None: no limit)", lambda v: v >= -1, whole=True),
    "top_p": Parameter(1.0, "a number above 0 and at most 1", lambda v: (v > 0) & (v <= 1)),
    "min_p": Parameter(0.0, "a number from 0 to 1", lambda v: (v >= 0) & (v <= 1)),
    "typical_p": Parameter(1.0, "a number above 0 and at most 1", lambda v: (v > 0) & (v <= 1)),
    "epsilon_cutoff": Parameter(0.0, "a number of at least 0 and below 1", lambda v: (v >= 0) & (v < 1)),
    "eta_cutoff": Parameter(0.0, "a number of at least 0 and below 1", lambda v: (v >= 0) & (v < 1)),
    "min_keep": Parameter(1.0, "an integer of at least 1", lambda v: v >= 1, whole=True),
    "top_n_sigma": Parameter(np.inf, "a number above 0", lambda v: v > 0),
    "top_h": Parameter(np.inf, "a number above 0 and at most 1", lambda v: (v > 0) & (v <= 1)),
    "xtc_threshold": Parameter(1.0, "a number above 0 and at most 1", lambda v: (v > 0) & (v <= 1)),
    "xtc_probability": Parameter(1.0, "a number from 0 to 1", lambda v: (v >= 0) & (v <= 1)),
    "repetition_penalty": Parameter(1.0, SCALE, lambda v: (LOW <= v) & (v <= HIGH)),
    "frequency_penalty": Parameter(0.0, "a finite number", np.isfinite),
    "presence_penalty": Parameter(0.0, "a finite number", np.isfinite),
}
RULES = tuple(PARAMETERS)[:8]
PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")
ORDERS = ("temperature_first", "temperature_last")


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
    values = values.astype(np.float64)
    if name == "top_k":
        values[values < 1] = off
    return values


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


def combination(options):
    """Whether each of the options of filters has an effect beside the others."""
    _checks.one_of("order", options.order, ORDERS)
    given = [name for name in PENALTIES if getattr(options, name) is not None]
    if given and options.history is None:
        raise ValueError(f"history: expected the ids so far, since {given[0]} is for them, got None")
    if options.history is not None and not given:
        raise ValueError(f"history: has no effect without one of {', '.join(PENALTIES)}")
    if options.xtc_probability is not None and options.xtc_threshold is None:
        raise ValueError("xtc_probability: has no effect without xtc_threshold")
    if options.bias is not None and options.order == "temperature_last":
        raise ValueError("bias: is added after the division by the temperature, which order has come last")


def history(value, batch_shape):
    """The ids of all rows one after the other, and the number of the row that each belongs to, by the batch's order."""
    rows = int(np.prod(batch_shape))
    of_each = f"one array of ids for each of {rows} rows, or an array of shape {(*batch_shape, '...')}".replace("'", "")
    if hasattr(value, "shape"):
        value = _checks.as_array("history", value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        if value.shape[:-1] != batch_shape or not value.ndim:
            raise ValueError(f"history: expected {of_each}, got shape {value.shape}")
        parts, lengths = [value.ravel()], value.shape[-1]
    else:
        parts = [np.ravel(_checks.as_array("history", part)) for part in (value if batch_shape else [value])]
        if len(batch_shape) > 1 or len(parts) != rows:
            raise ValueError(f"history: expected {of_each}, got {len(parts)} of them")
        lengths = [part.size for part in parts]
    for part in parts:
        if part.dtype.kind not in "iu" and part.size:
            raise TypeError(f"history: expected integer ids, got {part.dtype}")
    ids = np.concatenate([np.empty(0, np.int64), *parts], dtype=np.int64, casting="unsafe")
    return ids, np.repeat(np.arange(rows), lengths)


def ids_within(name, ids, classes, rows=None):
    """Ids of classes; those of a history may be negative, which is padding."""
    bad = (ids >= classes) if rows is not None else (ids >= classes) | (ids < 0)
    if bad.any():
        at = np.argmax(bad)
        of_row = "" if rows is None else f" of row {rows[at]}"
        raise IndexError(f"{name}: expected values in [0, {classes}), got {ids[at]}{of_row}")


def bias(values):
    if np.isnan(values).any() or (values == np.inf).any():
        raise ValueError(f"logit_bias: expected finite numbers or -inf, got {values[~(values < np.inf)][0]}")
    return values


def form_of_classes(name, shape, of_logits, axis, length):
    """The shape, broadcast to that of logits with so many in the place of the classes; `axis` counts from 0."""
    expected = (*of_logits[:axis], length, *of_logits[axis + 1 :])
    try:
        if np.broadcast_shapes(shape, expected) == expected:
            return expected
    except ValueError:
        pass
    raise ValueError(f"{name}: expected a shape that broadcasts to {expected}, got {shape}")


def mask(values):
    """Whether the mask is packed, 32 classes in a word."""
    if values.dtype.kind != "b" and values.dtype not in (np.int32, np.uint32):
        raise TypeError(f"allowed: expected bool, or int32 words of 32 classes each, got {values.dtype}")
    return values.dtype.kind != "b"


def words(shape, axis, classes):
    """Of a packed mask, along an axis that counts from the end."""
    if len(shape) < -axis or shape[axis] != -(-classes // 32):
        raise ValueError(f"allowed: expected {-(-classes // 32)} words, for {classes} classes, got shape {shape}")


def id_of(name, value):
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected integer ids, got {value!r}") from None


def not_a_bias(dtype):
    return TypeError(f"logit_bias: expected numbers, or a dict of numbers by id, got {dtype}")


def not_a_mapping_each(count, batch_shape):
    return ValueError(f"logit_bias: expected one dict, or one for each row of {batch_shape}, got {count}")


def draws(value, replacement):
    if value is None:
        if not replacement:
            raise ValueError("replacement: has no effect without draws")
        return 1
    return _checks.count("draws", value)


def too_few_classes(ids):
    """Of a row from which not as many could be drawn, which lie along the last axis."""
    position = tuple(map(int, np.argwhere((ids < 0).any(axis=-1))[0]))
    draws = ids.shape[-1]
    return ValueError(f"logits: cannot draw {draws} classes without replacement from row {position}: it has fewer")


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


def row_seeds(values, batch_shape):
    """One seed for each row, as uint64."""
    values = _checks.as_array("seed", values)
    form_of_row_seeds(values, batch_shape)
    if values.size and values.min() < 0:
        raise ValueError(f"seed: expected integers of at least 0, got {values.min()}")
    return values.astype(np.uint64)


def form_of_row_seeds(values, batch_shape):
    if values.dtype.kind not in "iu":
        raise TypeError(f"seed: expected integers, got {values.dtype}")
    if values.shape != batch_shape:
        raise ValueError(f"seed: expected one number or an array of shape {batch_shape}, got {values.shape}")


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
