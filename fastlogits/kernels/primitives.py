"""The primitives of the kernel text for Numba and the interpreter; primitives.h and what it includes are their C.

What differs between Numba and the interpreter is in `machine`, the functions of single numbers are in `scalars`, those
of tiles in `tiles`, what `row_stats` selects by in `order`.
"""

import math

import numpy as np

from fastlogits.kernels import machine, order, scalars, tiles

BLOCK = 1024
SLOTS = 26
LANES = 256
SHORT = 128
TERMS = 16
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


# Stretches, with four accumulators for the latency of the additions


def maximum(x, n):
    """max_i x_i, NaN skipped; -inf of nothing."""
    return extreme(x, n, 1.0)


def minimum(x, n):
    """min_i x_i, NaN skipped; +inf of nothing."""
    return -extreme(x, n, -1.0)


def extreme(x, n, sign):
    """max_i sign x_i"""
    w = machine.width(x)
    times = machine.splat(sign, x)
    m0 = m1 = m2 = m3 = machine.splat(NEG_INF, x)
    i = 0
    while i + 4 * w <= n:
        m0 = machine.larger_lanes(times * machine.read(x, i), m0)
        m1 = machine.larger_lanes(times * machine.read(x, i + w), m1)
        m2 = machine.larger_lanes(times * machine.read(x, i + 2 * w), m2)
        m3 = machine.larger_lanes(times * machine.read(x, i + 3 * w), m3)
        i += 4 * w
    while i + w <= n:
        m0 = machine.larger_lanes(times * machine.read(x, i), m0)
        i += w
    if i < n:
        m1 = machine.larger_lanes(times * machine.read_tail(x, i, n - i, -sign * INF), m1)
    return machine.largest(machine.larger_lanes(machine.larger_lanes(m0, m1), machine.larger_lanes(m2, m3)))


def exp_loop(x, n, shift, scale, out, keep, moment):
    """sum_i exp(scale * (x_i - shift)); each term goes to out_i as well, unless out is None. out may be x.

    With `moment` (and scale 1) also moment_0 = sum_i (x_i - shift) exp(x_i - shift).

    Touches the next 4 KB: a hardware prefetcher stops at the page. Here, where there is work in between, and
    not in `maximum`: LLVM makes bursts of 16 lines of that, with which rows out of cache took 20 % longer.
    """
    w = machine.width(x)
    away = machine.splat(shift, x)
    rate = machine.splat(scale * LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * LOG2_E), x)
    total = 0.0
    moment_total = 0.0
    i = 0
    while i + w <= n:
        s0 = s1 = s2 = s3 = machine.splat(0.0, x)
        m0 = m1 = m2 = m3 = machine.splat(0.0, x)
        end = min(n, i + 64 * w)
        while i + 4 * w <= end:
            for line in range(64, 68):
                machine.prefetch(x, i + line * w)
            d0 = machine.read(x, i) - away
            d1 = machine.read(x, i + w) - away
            d2 = machine.read(x, i + 2 * w) - away
            d3 = machine.read(x, i + 3 * w) - away
            e0 = scalars.exp_from(d0, rate, floor)
            e1 = scalars.exp_from(d1, rate, floor)
            e2 = scalars.exp_from(d2, rate, floor)
            e3 = scalars.exp_from(d3, rate, floor)
            if out is not None:
                machine.write(out, i, e0)
                machine.write(out, i + w, e1)
                machine.write(out, i + 2 * w, e2)
                machine.write(out, i + 3 * w, e3)
            s0 = s0 + e0
            s1 = s1 + e1
            s2 = s2 + e2
            s3 = s3 + e3
            if moment is not None:
                m0 = m0 + moment_lanes(d0, e0, floor)
                m1 = m1 + moment_lanes(d1, e1, floor)
                m2 = m2 + moment_lanes(d2, e2, floor)
                m3 = m3 + moment_lanes(d3, e3, floor)
            i += 4 * w
        while i + w <= end:
            d0 = machine.read(x, i) - away
            e0 = scalars.exp_from(d0, rate, floor)
            if out is not None:
                machine.write(out, i, e0)
            s0 = s0 + e0
            if moment is not None:
                m0 = m0 + moment_lanes(d0, e0, floor)
            i += w
        total += machine.add_lanes((s0 + s1) + (s2 + s3))
        if moment is not None:
            moment_total += machine.add_lanes((m0 + m1) + (m2 + m3))
    if i < n:
        d0 = machine.read_tail(x, i, n - i, NEG_INF) - away
        e0 = scalars.exp_from(d0, rate, floor)
        if out is not None:
            if keep == KEEP_PADDED:
                machine.write(out, i, e0)
            else:
                machine.write_tail(out, i, n - i, e0)
        total += machine.add_lanes(e0)
        if moment is not None:
            moment_total += machine.add_lanes(moment_lanes(d0, e0, floor))
    if moment is not None:
        moment[0] = moment_total
    return total


def moment_lanes(d, e, floor):
    """d * exp(d), where d = -inf gives 0"""
    return machine.larger_lanes(d, floor) * e


def sum_exp(x, n, shift, scale):
    return exp_loop(x, n, shift, scale, None, DISCARD, None)


def sum_exp_moment(x, n, shift, moment):
    return exp_loop(x, n, shift, 1.0, None, DISCARD, moment)


def keep_exp(x, n, shift, scale, out, keep):
    return exp_loop(x, n, shift, scale, out, keep, None)


def shift_each(x, n, rate, shift, offset, out):
    """out_i = rate * (x_i - shift) - offset; out may be x"""
    w = machine.width(x)
    factor = machine.splat(rate, x)
    away = machine.splat(shift, x)
    less = machine.splat(offset, x)
    i = 0
    while i + w <= n:
        machine.write(out, i, factor * (machine.read(x, i) - away) - less)
        i += w
    if i < n:
        machine.write_tail(out, i, n - i, factor * (machine.read_tail(x, i, n - i, 0.0) - away) - less)


def flush_lanes(lanes, tiny):
    return machine.zero_below(machine.magnitude(lanes), tiny, lanes)


def scale_each(x, n, factor, out):
    """out_i = factor * x_i, 0 below the smallest normal number; out may be x"""
    w = machine.width(x)
    by = machine.splat(factor, x)
    tiny = machine.splat(2.0 ** machine.lowest(x), x)
    i = 0
    while i + w <= n:
        machine.write(out, i, flush_lanes(by * machine.read(x, i), tiny))
        i += w
    if i < n:
        machine.write_tail(out, i, n - i, flush_lanes(by * machine.read_tail(x, i, n - i, 0.0), tiny))


def exp_each(x, shift, n, scale, out):
    """out_i = exp(scale * (x_i - shift_i)); out may be x"""
    w = machine.width(x)
    rate = machine.splat(scale * LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * LOG2_E), x)
    i = 0
    while i + w <= n:
        machine.write(out, i, scalars.exp_from(machine.read(x, i) - machine.read(shift, i), rate, floor))
        i += w
    if i < n:
        d = machine.read_tail(x, i, n - i, NEG_INF) - machine.read_tail(shift, i, n - i, 0.0)
        machine.write_tail(out, i, n - i, scalars.exp_from(d, rate, floor))


def sum_loop(x, y, n):
    """sum_i x_i y_i, or sum_i x_i where y is None."""
    w = machine.width(x)
    value = 0.0
    i = 0
    while i + w <= n:
        s0 = s1 = s2 = s3 = machine.splat(0.0, x)
        end = min(n, i + 64 * w)
        while i + 4 * w <= end:
            s0 = s0 + term(x, y, i)
            s1 = s1 + term(x, y, i + w)
            s2 = s2 + term(x, y, i + 2 * w)
            s3 = s3 + term(x, y, i + 3 * w)
            i += 4 * w
        while i + w <= end:
            s0 = s0 + term(x, y, i)
            i += w
        value += machine.add_lanes((s0 + s1) + (s2 + s3))
    if i < n:
        last = machine.read_tail(x, i, n - i, 0.0)
        if y is not None:
            last = last * machine.read_tail(y, i, n - i, 0.0)
        value += machine.add_lanes(last)
    return value


def term(x, y, i):
    if y is None:
        return machine.read(x, i)
    return machine.read(x, i) * machine.read(y, i)


def total(x, n):
    return sum_loop(x, None, n)


def dot(x, y, n):
    return sum_loop(x, y, n)


def softmax_slope(g, p, n, total, out):
    """out_i = p_i (g_i - total), 0 below the smallest normal number; out may be g or p"""
    w = machine.width(g)
    less = machine.splat(total, g)
    tiny = machine.splat(2.0 ** machine.lowest(g), g)
    i = 0
    while i + w <= n:
        machine.write(out, i, flush_lanes(machine.read(p, i) * (machine.read(g, i) - less), tiny))
        i += w
    if i < n:
        last = machine.read_tail(p, i, n - i, 0.0) * (machine.read_tail(g, i, n - i, 0.0) - less)
        machine.write_tail(out, i, n - i, flush_lanes(last, tiny))


def log_softmax_slope(g, log_p, n, total, out):
    """out_i = g_i - exp(log_p_i) total; out may be g or log_p"""
    w = machine.width(g)
    times = machine.splat(total, g)
    rate = machine.splat(LOG2_E, g)
    floor = machine.splat(machine.lowest(g) / LOG2_E, g)
    least = machine.splat((machine.lowest(g) - 2.0) / LOG2_E, g)
    none = machine.splat(0.0, g)
    i = 0
    while i + w <= n:
        d = none - machine.larger_lanes(least, none - machine.read(log_p, i))
        machine.write(out, i, machine.read(g, i) - times * scalars.exp_from(d, rate, floor))
        i += w
    if i < n:
        d = none - machine.larger_lanes(least, none - machine.read_tail(log_p, i, n - i, 0.0))
        last = machine.read_tail(g, i, n - i, 0.0) - times * scalars.exp_from(d, rate, floor)
        machine.write_tail(out, i, n - i, last)


def maximum_or_nan(x, n):
    """max_i x_i, or a NaN if there is one"""
    w = machine.width(x)
    m0 = m1 = machine.splat(NEG_INF, x)
    found = False
    i = 0
    while i + 2 * w <= n:
        a = machine.read(x, i)
        b = machine.read(x, i + w)
        machine.prefetch(x, i + 64 * w)
        machine.prefetch(x, i + 65 * w)
        m0 = machine.larger_lanes(a, m0)
        m1 = machine.larger_lanes(b, m1)
        found |= machine.any_nan(a, b)
        i += 2 * w
    while i < n:
        a = machine.read(x, i) if i + w <= n else machine.read_tail(x, i, n - i, NEG_INF)
        m0 = machine.larger_lanes(a, m0)
        found |= machine.any_nan(a, a)
        i += w
    return cast(NAN, x) if found else machine.largest(machine.larger_lanes(m0, m1))


def find(x, n, value):
    """The first i with x_i equal to value, or both NaN; value must be there."""
    w = machine.width(x)
    wanted = machine.splat(value, x)
    i = 0
    while i < n:
        lanes = machine.read(x, i) if i + w <= n else machine.read_tail(x, i, n - i, value)
        found = machine.first_equal(lanes, wanted) if value == value else machine.first_nan(lanes)
        if found < w:
            return i + found
        i += w
    return n - 1
