"""Memory and lanes for the interpreter; backends/_numba_machine.py has the same for Numba.

What is a pointer in Numba is an array here, which begins at the address. Lanes are 64 bytes of numbers side
by side: in Numba a vector, which LLVM splits where the processor's are shorter, here a small array.
"""

import numpy as np


def typed(f32, f64):
    """A primitive in two versions, chosen by the type of its first argument."""

    def primitive(value, *rest):
        return (f64 if value.dtype == np.float64 else f32)(value, *rest)

    return primitive


def stretch(x, at, n):
    return x[at : at + n]


def halves(x, at, n):
    """`stretch` for an array of a half type, whose pointer passes for one to its computing type."""
    return x[at : at + n]


def copy(y, n, values):
    """y_i = values_i, unless that is where they are."""
    y[:n] = values[:n]


def until_line(y):
    """How many numbers there are before the next cache line."""
    return 0


def write_past(y, at, lanes):
    """`write` past the caches, a whole line."""
    write(y, at, lanes)


def end_streams():
    """What was written past the caches comes before what this thread writes from here on."""


def prefetch(x, at):
    """Asks for the cache line of x_at."""


def cast(value, like):
    return like.dtype.type(value)


def width(x):
    """How many numbers a `Lanes` has."""
    return 64 // x.itemsize


def lowest(x):
    """The exponent of 2 of the smallest normal number."""
    return np.float64(-1022 if x.dtype == np.float64 else -126)


def splat(value, like):
    return np.full(width(like), value, like.dtype)


def read(x, at):
    return x[at : at + width(x)].copy()


def read_tail(x, at, n, padding):
    lanes = splat(padding, x)
    lanes[:n] = x[at : at + n]
    return lanes


def write(x, at, lanes):
    x[at : at + len(lanes)] = lanes


def write_tail(x, at, n, lanes):
    x[at : at + n] = lanes[:n]


def larger_lanes(x, m):
    """The larger numbers, m where x is NaN."""
    return np.where(x > m, x, m)


def magnitude(lanes):
    return abs(lanes)


def largest(lanes):
    return np.fmax.reduce(lanes)


def add_lanes(lanes):
    """Their sum, in double."""
    return float(lanes.sum(dtype=np.float64))


def any_nan(x, y):
    return bool((np.isnan(x) | np.isnan(y)).any())


def count_above(x, limit):
    """How many numbers of x are larger than those of `limit`, or NaN."""
    return int((~(x <= limit)).sum())


def first_equal(x, y):
    """The first lane in which x and y are equal; their number where there is none."""
    return first(x == y)


def first_nan(x):
    """The first NaN; the number of lanes where there is none."""
    return first(x != x)


def first(condition):
    return int(condition.argmax()) if condition.any() else len(condition)


def zero_below(d, floor, value):
    """0 where d < floor, else value; a NaN stays. For lanes or one number."""
    return np.where(d < floor, value.dtype.type(0), value)[()]


def zero_where_equal(a, b, value):
    """0 where a = b, else value."""
    return np.where(a == b, value.dtype.type(0), value)


def two_to(shifted):
    """2^n for a number, or lanes, that hold n in their low bits."""
    if shifted.dtype == np.float32:
        return ((shifted.view(np.int32) << 23) + np.int32(0x3F800000)).view(np.float32)
    return ((shifted.view(np.int64) << 52) + np.int64(0x3FF0000000000000)).view(np.float64)


def pointers(values):
    """The values of a tuple with pointers in the place of arrays."""
    return values


def stack(size, like):
    """`size` numbers on the stack, of the computing type of `like`."""
    return np.empty(size, np.float64 if like.dtype == np.float64 else np.float32)
