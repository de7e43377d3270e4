"""The primitives of the kernel text for Numba and the interpreter; primitives.h and what it includes are their C.

Each group of them has a module, as each header has: numbers (`scalars`), stretches (`reductions`, `each`), `rows`,
`tiles`, and what `row_stats` selects by (`order`). What differs between Numba and the interpreter is in `machine`.
"""

import math

import numpy as np

from fastlogits.kernels import each, machine, order, reductions, rows, scalars, tiles

BLOCK = 1024
SLOTS = 26
LANES = 256
SHORT = 128
ROWS = 16
TERMS = reductions.TERMS
GROUPS = order.GROUPS

PEAKS, SHIFTS, SUMS, TIES, GAPS, MASSES, FACTORS, COUNTERS, TILE = range(6, 15)
OTHER_TILE = TILE + 4
CHUNK = OTHER_TILE + 4

FIELD = LANES + 40
PEAK, REST, TIED, LOG_NORM, PICKED, SLOPE, MASS, GAP = range(0, 8 * FIELD, FIELD)
SCALE, HARD, SMOOTH, FACTOR, COUNTER, TARGET, LOST, ROW_FIELDS = range(8 * FIELD, 16 * FIELD, FIELD)
BLOCK_PEAK, BLOCK_SUM, BLOCK_GAP, BLOCK_MASS, BLOCK_SQUARE, BLOCK_FIELDS = range(6)
BLOCK_SPREAD = BLOCK_MASS
MOST_BLOCKS = 256
STATE = ROW_FIELDS + MOST_BLOCKS * BLOCK_FIELDS

SURVIVOR, SURVIVOR_MASS, SURVIVOR_ID, KEY, NARROWED, NARROWED_MASS, SPAN_PEAK, HISTOGRAM, FOUND, SECTIONS = range(10)
BEFORE, ONE = range(2)
TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, EPSILON, ETA, MIN_KEEP, RULES = range(9)
ALL_TIES, FIRST_TIES, LAST_TIES = range(3)
SPAN, BUCKETS = 256, 2048
LOWEST = -1.7976931348623157e308

WORD, MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1 = 0xFFFFFFFF, 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85

NATIVE, FLOAT16, BFLOAT16 = range(3)
DISCARD, KEEP, KEEP_PADDED = range(3)
INF, NEG_INF, NAN = math.inf, -math.inf, math.nan
LOG2_E = scalars.LOG2_E

stretch = machine.stretch
cast = machine.cast
exp = scalars.exp
log1p = scalars.log1p
tanh = scalars.tanh
sech2 = scalars.sech2
flush = scalars.flush
below_one = scalars.below_one
finite_peak = scalars.finite_peak
beats = scalars.beats
larger = scalars.larger
weigh = scalars.weigh
rounded_away = scalars.rounded_away
whole = scalars.whole
group_maxima = order.group_maxima
count_above = order.count_above
next_above = order.next_above
digit = order.digit
places = order.places
to_lanes = tiles.to_lanes
to_rows = tiles.to_rows
lane_maxima = tiles.lane_maxima
lane_exps = tiles.lane_exps
lane_scale = tiles.lane_scale
lane_shift = tiles.lane_shift
maximum = reductions.maximum
minimum = reductions.minimum
sum_exp = reductions.sum_exp
sum_exp_moment = reductions.sum_exp_moment
keep_exp = reductions.keep_exp
total = reductions.total
dot = reductions.dot
maximum_or_nan = reductions.maximum_or_nan
find = reductions.find
shift_each = each.shift_each
scale_each = each.scale_each
exp_each = each.exp_each
softmax_slope = each.softmax_slope
log_softmax_slope = each.log_softmax_slope
row_maxima = rows.row_maxima
row_exps = rows.row_exps
row_exps_gaps = rows.row_exps_gaps
row_scale = rows.row_scale
row_gaps = rows.row_gaps
row_slope = rows.row_slope


def slot(work, index):
    return stretch(work, index * BLOCK, (SLOTS - index) * BLOCK)


# How the numbers of an array are stored


def load(x, at, n, buffer, storage):
    if storage == NATIVE:
        return stretch(x, at, n)
    widen(machine.halves(x, at, n), n, buffer, storage)
    return buffer


def place(y, at, buffer, storage):
    """Where results for y are best computed: y itself, or a buffer from which `store` converts them."""
    return stretch(y, at, BLOCK) if storage == NATIVE else buffer


def store(y, at, n, values, storage):
    if storage == NATIVE:
        machine.copy(stretch(y, at, n), n, values)
    else:
        narrow(values, n, machine.halves(y, at, n), storage)


def widen(half, n, real, storage):
    if storage == BFLOAT16:
        for i in range(n):
            real[i] = scalars.to_float(np.uint32(half[i]) << 16)
    else:
        for i in range(n):
            real[i] = float16_to_float(half[i])


def narrow(real, n, half, storage):
    if storage == BFLOAT16:
        for i in range(n):
            half[i] = float_to_bfloat16(real[i])
    else:
        for i in range(n):
            half[i] = float_to_float16(real[i])


def float16_to_float(half):
    """Exponent and mantissa moved into place, then 2^112 for the difference of the biases."""
    bits = np.uint32(half)
    size = scalars.to_bits(scalars.to_float((bits & 0x7FFF) << 13) * np.float32(2.0**112))
    if bits & 0x7C00 == 0x7C00:
        size = np.int32(0x7F800000 | (bits & 0x3FF) << 13)
    return scalars.to_float(np.uint32(size) | (bits & 0x8000) << 16)


def float_to_float16(real):
    """Rounds to even: below 2^-14 by adding 1/2, which aligns the mantissa, else by integer arithmetic."""
    bits = scalars.to_bits(real)
    size = bits & 0x7FFFFFFF
    if size >= 0x47800000:
        half = 0x7E00 if size > 0x7F800000 else 0x7C00
    elif size < 0x38800000:
        half = scalars.to_bits(abs(real) + np.float32(0.5)) - 0x3F000000
    else:
        half = (size + (0xFFF - 0x38000000) + ((size >> 13) & 1)) >> 13
    return np.uint16(half | (bits >> 16) & 0x8000)


def float_to_bfloat16(real):
    bits = scalars.to_bits(real)
    size = bits & 0x7FFFFFFF
    half = size >> 16 | 0x40 if size > 0x7F800000 else (size + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16(half | (bits >> 16) & 0x8000)
