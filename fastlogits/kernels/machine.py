"""The vector machine for the interpreter: the operations of machine.h in NumPy, for one type of array.

It runs the text for debugging and says what each operation means: machine.h and Numba's machine are tested against it.
Lanes are arrays of WIDTH numbers, pointers are addresses in memory that others own.
"""

import ctypes
import math
import types
from fractions import Fraction

import numpy as np

LANE_BYTES = 64
LINE = 64
C = {
    "float32": ctypes.c_float, "float64": ctypes.c_double, "uint16": ctypes.c_uint16, "int64": ctypes.c_int64,
}  # fmt: skip


class Pointer:
    """Where numbers of a type begin."""

    def __init__(self, address, dtype):
        self.address, self.dtype = address or 0, np.dtype(dtype)

    def memory(self, at, n):
        """The n numbers from `at` on, as they lie."""
        where = self.address + int(at) * self.dtype.itemsize
        return np.frombuffer((C[self.dtype.name] * int(n)).from_address(where), self.dtype)

    def __getitem__(self, at):
        return self.memory(at, 1)[0].item()  # which is computed with as C does: in double, in 64 bits

    def __setitem__(self, at, value):
        self.memory(at, 1)[0] = value


def bfloat16_of(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def bits_of_bfloat16(values):
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def two_sum(a, b):
    """a + b, and what that rounds away, 0 where it is infinite or NaN"""
    both = a + b
    part = both - a
    lost = (a - (both - part)) + (b - part)
    return both, np.where(np.isnan(lost), 0.0, lost)


def exact_fma(a, b, c):
    """a b + c, rounded once. A product of floats is exact in double; the sum is rounded to odd there, so that the
    rounding to float does not see a tie that is none.
    """
    if a.dtype == np.float32:
        product = a.astype(np.float64) * b
        both, lost = two_sum(product, c.astype(np.float64))
        even = both.view(np.uint64) & 1 == 0
        return np.where((lost != 0) & even, np.nextafter(both, np.copysign(np.inf, lost)), both).astype(np.float32)
    return np.vectorize(double_fma, otypes=[np.float64])(a, b, c)


def double_fma(a, b, c):
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c  # which has the sign
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def machine_of(stored, lane_bytes=LANE_BYTES):
    """The machine for arrays of a type, "float32", "float64", "float16" or "bfloat16", and vectors of a size."""
    wide = stored == "float64"
    real = np.dtype(np.float64 if wide else np.float32)
    integers = np.dtype(np.uint64 if wide else np.uint32)
    width = lane_bytes // real.itemsize
    side = 16 // real.itemsize
    mantissa_bits, bias = (np.uint64(52), 0x3FF << 52) if wide else (np.uint32(23), 0x7F << 23)
    sqrt_half = 0x3FE6A09E667F3BCD if wide else 0x3F3504F3
    machine = types.ModuleType(f"machine_{stored}")

    def operation(function):
        setattr(machine, function.__name__, function)

    machine.WIDTH, machine.SIDE, machine.DOUBLE, machine.SQUARES = width, side, wide, True
    machine.NARROW = lane_bytes == 16
    machine.HALVES = stored in ("float16", "bfloat16")
    machine.MAGIC = 6755399441055744.0 if wide else 12582912.0
    machine.LOWEST_EXPONENT = -1022.0 if wide else -126.0
    machine.TINY = 2.0**machine.LOWEST_EXPONENT
    machine.INF, machine.NAN = float("inf"), float("nan")

    def widened(values):
        if values.dtype != np.uint16:
            return values.astype(real)
        return values.view(np.float16).astype(real) if stored == "float16" else bfloat16_of(values)

    def narrowed(values, pointer):
        if pointer.dtype != np.uint16:
            return values
        return values.astype(np.float16).view(np.uint16) if stored == "float16" else bits_of_bfloat16(values)

    # Lanes

    @operation
    def splat(value):
        """`value` in each lane"""
        return np.full(width, value, real)

    @operation
    def fma(a, b, c):
        """a b + c, rounded once"""
        return exact_fma(a, b, c)

    @operation
    def larger(x, m):
        """The larger number of each lane, m where x is NaN"""
        return np.where(x > m, x, m)

    @operation
    def magnitude(v):
        return np.abs(v)

    @operation
    def copy_sign(size, sign):
        """The sizes, which have no sign, with the signs of others"""
        return np.copysign(size, sign)

    @operation
    def zero_below(d, floor, value):
        """0 where d < floor; a NaN in d keeps the value"""
        return np.where(d < floor, real.type(0), value)

    @operation
    def zero_where_equal(a, b, value):
        return np.where(a == b, real.type(0), value)

    @operation
    def zero_nan(v):
        return np.where(np.isnan(v), real.type(0), v)

    @operation
    def where_larger(x, m, a, b):
        """a where x > m, else b"""
        return np.where(x > m, a, b)

    @operation
    def where_above(x, m, a, b):
        """a where x > m or one is NaN, else b"""
        return np.where(x <= m, b, a)

    @operation
    def two_to(shifted):
        """2^n of lanes that hold n in their low bits"""
        return ((shifted.view(integers) << mantissa_bits) + integers.type(bias)).view(real)

    @operation
    def exponent(u):
        """k of u = 2^k m, with m in [sqrt(1/2), sqrt(2)), for u >= 1"""
        return ((u.view(integers) + integers.type(bias - sqrt_half)) >> mantissa_bits).astype(real) - real.type(
            bias >> int(mantissa_bits)
        )

    @operation
    def mantissa(u):
        """m of u = 2^k m"""
        within = (u.view(integers) + integers.type(bias - sqrt_half)) & integers.type((1 << int(mantissa_bits)) - 1)
        return (within + integers.type(sqrt_half)).view(real)

    @operation
    def keep_first(v, n):
        """0 in all lanes but the first n"""
        return np.where(np.arange(width) < n, v, real.type(0))

    @operation
    def evens(a, b):
        """a_0 a_2 ... b_0 b_2 ..."""
        return np.concatenate([a, b])[::2]

    @operation
    def odds(a, b):
        return np.concatenate([a, b])[1::2]

    @operation
    def zip_low(a, b):
        """a_0 b_0 a_1 b_1 ... of the lower halves"""
        return np.stack([a, b], axis=1).reshape(-1)[:width]

    @operation
    def zip_high(a, b):
        return np.stack([a, b], axis=1).reshape(-1)[width:]

    # Folds

    def halves(v):
        return v[: len(v) // 2], v[len(v) // 2 :]

    @operation
    def add_lanes(v):
        """The sum, in double, of halves of the lanes until one is left"""
        v = v.astype(np.float64)
        while len(v) > 1:
            low, high = halves(v)
            v = low + high
        return v[0].item()

    @operation
    def add_lanes_exactly(v):
        """The same; of doubles, what the additions round away comes back at the end"""
        if not wide:
            return machine.add_lanes(v)
        lost = np.zeros_like(v)
        while len(v) > 1:
            v, away = two_sum(*halves(v))
            low, high = halves(lost)
            lost = low + (high + away)
        return (v[0] + lost[0]).item()

    @operation
    def add_eight(v0, v1, v2, v3, v4, v5, v6, v7, sums, at):
        """sums_at+k = add_lanes_exactly(v_k)"""
        for k, v in enumerate((v0, v1, v2, v3, v4, v5, v6, v7)):
            sums[at + k] = machine.add_lanes_exactly(v)

    @operation
    def largest(v):
        """The largest lane, of lanes without NaN; of zeros of both signs, either"""
        return v.max().item()

    @operation
    def lane(v):
        """The first lane"""
        return v[0].item()

    @operation
    def any_nan(a, b):
        return int((np.isnan(a) | np.isnan(b)).any())

    def first(condition):
        return int(condition.argmax()) if condition.any() else width

    @operation
    def count_above(x, limit):
        """How many lanes are larger than those of `limit`, or unordered"""
        return int((~(x <= limit)).sum())

    @operation
    def count_equal(a, b):
        return int((a == b).sum())

    @operation
    def first_above(x, limit):
        """The first lane that is larger, or unordered; WIDTH where there is none"""
        return first(~(x <= limit))

    @operation
    def first_equal(a, b):
        return first(a == b)

    @operation
    def first_nan(x):
        return first(np.isnan(x))

    @operation
    def add_to(sums, at, v):
        """sums_at+i += v_i, in double"""
        sums.memory(at, width)[:] += v

    @operation
    def add_exactly_to(sums, lost, at, v):
        """The same; what the additions round away goes to `lost`"""
        where = sums.memory(at, width)
        both, away = two_sum(where.copy(), v.astype(np.float64))
        lost.memory(at, width)[:] += away
        where[:] = both

    # Memory

    @operation
    def load(x, at):
        """WIDTH numbers"""
        return widened(x.memory(at, width).copy())

    @operation
    def load_tail(x, at, n, padding):
        """n < WIDTH numbers, `padding` in the other lanes; no other memory is read"""
        v = np.full(width, padding, real)
        v[:n] = widened(x.memory(at, n))
        return v

    @operation
    def save(y, at, v):
        """WIDTH numbers, rounded to nearest even; a NaN stays one"""
        y.memory(at, width)[:] = narrowed(v, y)

    @operation
    def save_tail(y, at, n, v):
        """The first n lanes; no other memory is written"""
        y.memory(at, n)[:] = narrowed(v, y)[:n]

    machine.save_past = machine.save  # past the caches, to an address that is a multiple of the vector's size

    @operation
    def end_streams():
        """What was saved past the caches comes before what this thread writes from here on"""

    @operation
    def prefetch(x, at):
        """Asks for the cache line of x_at"""

    @operation
    def prefetch_four(x, at):
        """Asks for the cache lines of four vectors"""

    @operation
    def until_line(y, at):
        """How many numbers there are before the next cache line"""
        return -(y.address + at * y.dtype.itemsize) % LINE // y.dtype.itemsize

    @operation
    def number(x, at):
        """One number"""
        return widened(x.memory(at, 1))[0].item()

    @operation
    def put(y, at, value):
        """One number, rounded as `save` does"""
        y.memory(at, 1)[:] = narrowed(np.array([value], real), y)

    @operation
    def is_scratch(y):
        """Whether memory holds the computing type"""
        return y.dtype == real

    @operation
    def in_place(x):
        """An array of the computing type as scratch memory"""
        return Pointer(x.address, real)

    @operation
    def stretch(x, at):
        """What lies behind: a pointer to x_at"""
        return Pointer(x.address + at * x.dtype.itemsize, x.dtype)

    machine.stretch_real = machine.stretch

    @operation
    def some_lanes(n):
        """n vectors of this function's own"""
        return [None] * n

    @operation
    def cast(value):
        return real.type(value)

    @operation
    def whole(value):
        """value, rounded towards 0"""
        return int(value)

    # Doubles, one at a time

    def as_bits(u):
        return int(np.float64(u).view(np.uint64))

    def of_bits(bits):
        return np.uint64(bits & (1 << 64) - 1).view(np.float64)

    offset = (0x3FF << 52) - 0x3FE6A09E667F3BCD

    machine.double_fma = double_fma

    @operation
    def double_two_to(shifted):
        return of_bits((as_bits(shifted) << 52) + (0x3FF << 52))

    @operation
    def double_exponent(u):
        return float((as_bits(u) + offset >> 52) - 1023)

    @operation
    def double_mantissa(u):
        return of_bits((as_bits(u) + offset & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD)

    machine.DIGITS = 6 if wide else 3

    @operation
    def digit(x, place):
        """The digit, of 11 bits, at a place of the key of a number: for a radix sort from the largest to the smallest.
        NaN has the first key of all, and zeros of both signs have the same.
        """
        top = 1 << 8 * real.itemsize - 1
        x = real.type(x)
        bits = int(x.view(integers))
        key = bits if bits & top else ~(top | bits) & 2 * top - 1
        key = 0 if x != x else top - 1 if x == 0 else key
        return key >> 11 * place & 2047

    # Squares

    @operation
    def square_to_lanes(x, at, stride, to, to_at, step):
        """to_cj = x_jc of WIDTH rows `stride` apart and SIDE classes, which come to lie `step` apart"""
        for j in range(width):
            for c in range(side):
                to[to_at + c * step + j] = machine.number(x, at + j * stride + c)

    @operation
    def square_to_rows(x, at, step, to, to_at, stride):
        """to_jc = x_cj"""
        for j in range(width):
            for c in range(side):
                machine.put(to, to_at + j * stride + c, x[at + c * step + j])

    return machine
