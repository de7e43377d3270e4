"""The primitives of the kernel text for Numba and the interpreter; primitives.h and stretch.h are their C.

What differs between Numba and the interpreter is in `machine`. Where float and double need constants of their
own a primitive has two versions, because in Numba a float times a Python number is a double.
"""

import math

import numpy as np

from fastlogits.kernels import machine

BLOCK = 1024
SLOTS = 22
LANES = 256
SHORT = 128

PEAKS, SHIFTS, SUMS, TIES, GAPS, MASSES, FACTORS, COUNTERS, TILE = range(6, 15)
OTHER_TILE = TILE + 4

FIELD = LANES + 40
PEAK, REST, TIED, LOG_NORM, PICKED, SLOPE, MASS, GAP = range(0, 8 * FIELD, FIELD)
SCALE, HARD, SMOOTH, FACTOR, COUNTER, TARGET, LOST, ROW_FIELDS = range(8 * FIELD, 16 * FIELD, FIELD)
BLOCK_PEAK, BLOCK_SUM, BLOCK_GAP, BLOCK_MASS, BLOCK_FIELDS = range(5)
MOST_BLOCKS = 256
STATE = ROW_FIELDS + MOST_BLOCKS * BLOCK_FIELDS

NATIVE, FLOAT16, BFLOAT16 = range(3)
INF, NEG_INF, NAN = math.inf, -math.inf, math.nan
LOG2_E = 1.4426950408889634

stretch = machine.stretch
cast = machine.cast


def slot(work, index):
    return stretch(work, index * BLOCK, BLOCK)


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
            real[i] = to_float(np.uint32(half[i]) << 16)
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


def to_bits(real):
    return np.float32(real).view(np.int32)


def to_float(bits):
    return np.uint32(bits).view(np.float32)


def float16_to_float(half):
    """Exponent and mantissa moved into place, then 2^112 for the difference of the biases."""
    bits = np.uint32(half)
    size = to_bits(to_float((bits & 0x7FFF) << 13) * np.float32(2.0**112))
    if bits & 0x7C00 == 0x7C00:
        size = np.int32(0x7F800000 | (bits & 0x3FF) << 13)
    return to_float(np.uint32(size) | (bits & 0x8000) << 16)


def float_to_float16(real):
    """Rounds to even: below 2^-14 by adding 1/2, which aligns the mantissa, else by integer arithmetic."""
    bits = to_bits(real)
    size = bits & 0x7FFFFFFF
    if size >= 0x47800000:
        half = 0x7E00 if size > 0x7F800000 else 0x7C00
    elif size < 0x38800000:
        half = to_bits(abs(real) + np.float32(0.5)) - 0x3F000000
    else:
        half = (size + (0xFFF - 0x38000000) + ((size >> 13) & 1)) >> 13
    return np.uint16(half | (bits >> 16) & 0x8000)


def float_to_bfloat16(real):
    bits = to_bits(real)
    size = bits & 0x7FFFFFFF
    half = size >> 16 | 0x40 if size > 0x7F800000 else (size + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16(half | (bits >> 16) & 0x8000)


# Stretches, with four accumulators for the latency of the additions


def maximum(x, n):
    """max_i x_i, NaN skipped; -inf of nothing."""
    w = machine.width(x)
    m0 = m1 = m2 = m3 = machine.splat(NEG_INF, x)
    i = 0
    while i + 4 * w <= n:
        m0 = machine.larger_lanes(machine.read(x, i), m0)
        m1 = machine.larger_lanes(machine.read(x, i + w), m1)
        m2 = machine.larger_lanes(machine.read(x, i + 2 * w), m2)
        m3 = machine.larger_lanes(machine.read(x, i + 3 * w), m3)
        i += 4 * w
    while i + w <= n:
        m0 = machine.larger_lanes(machine.read(x, i), m0)
        i += w
    if i < n:
        m1 = machine.larger_lanes(machine.read_tail(x, i, n - i, NEG_INF), m1)
    return machine.largest(machine.larger_lanes(machine.larger_lanes(m0, m1), machine.larger_lanes(m2, m3)))


def exp_loop(x, n, shift, scale, out):
    """sum_i exp(scale * (x_i - shift)); each term goes to out_i as well, unless out is None. out may be x.

    Touches the next 4 KB: a hardware prefetcher stops at the page. Here, where there is work in between, and
    not in `maximum`: LLVM makes bursts of 16 lines of that, with which rows out of cache took 20 % longer.
    """
    w = machine.width(x)
    away = machine.splat(shift, x)
    rate = machine.splat(scale * LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * LOG2_E), x)
    total = 0.0
    i = 0
    while i + w <= n:
        s0 = s1 = s2 = s3 = machine.splat(0.0, x)
        end = min(n, i + 64 * w)
        while i + 4 * w <= end:
            for line in range(64, 68):
                machine.prefetch(x, i + line * w)
            e0 = exp_from(machine.read(x, i) - away, rate, floor)
            e1 = exp_from(machine.read(x, i + w) - away, rate, floor)
            e2 = exp_from(machine.read(x, i + 2 * w) - away, rate, floor)
            e3 = exp_from(machine.read(x, i + 3 * w) - away, rate, floor)
            if out is not None:
                machine.write(out, i, e0)
                machine.write(out, i + w, e1)
                machine.write(out, i + 2 * w, e2)
                machine.write(out, i + 3 * w, e3)
            s0 = s0 + e0
            s1 = s1 + e1
            s2 = s2 + e2
            s3 = s3 + e3
            i += 4 * w
        while i + w <= end:
            e0 = exp_from(machine.read(x, i) - away, rate, floor)
            if out is not None:
                machine.write(out, i, e0)
            s0 = s0 + e0
            i += w
        total += machine.add_lanes((s0 + s1) + (s2 + s3))
    if i < n:
        e0 = exp_from(machine.read_tail(x, i, n - i, NEG_INF) - away, rate, floor)
        if out is not None:
            machine.write_tail(out, i, n - i, e0)
        total += machine.add_lanes(e0)
    return total


def sum_exp(x, n, shift, scale):
    return exp_loop(x, n, shift, scale, None)


def keep_exp(x, n, shift, scale, out):
    return exp_loop(x, n, shift, scale, out)


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


def exp_each(x, shift, n, scale, out):
    """out_i = exp(scale * (x_i - shift_i)); out may be x"""
    w = machine.width(x)
    rate = machine.splat(scale * LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * LOG2_E), x)
    i = 0
    while i + w <= n:
        machine.write(out, i, exp_from(machine.read(x, i) - machine.read(shift, i), rate, floor))
        i += w
    if i < n:
        d = machine.read_tail(x, i, n - i, NEG_INF) - machine.read_tail(shift, i, n - i, 0.0)
        machine.write_tail(out, i, n - i, exp_from(d, rate, floor))


def total(x, n):
    """sum_i x_i"""
    w = machine.width(x)
    value = 0.0
    i = 0
    while i + w <= n:
        s0 = s1 = s2 = s3 = machine.splat(0.0, x)
        end = min(n, i + 64 * w)
        while i + 4 * w <= end:
            s0 = s0 + machine.read(x, i)
            s1 = s1 + machine.read(x, i + w)
            s2 = s2 + machine.read(x, i + 2 * w)
            s3 = s3 + machine.read(x, i + 3 * w)
            i += 4 * w
        while i + w <= end:
            s0 = s0 + machine.read(x, i)
            i += w
        value += machine.add_lanes((s0 + s1) + (s2 + s3))
    if i < n:
        value += machine.add_lanes(machine.read_tail(x, i, n - i, 0.0))
    return value


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
    while i + w <= n:
        lanes = machine.read(x, i)
        if machine.any_equal(lanes, wanted) or (value != value and machine.any_nan(lanes, lanes)):
            break
        i += w
    while i < n - 1 and not (x[i] == value or (x[i] != x[i] and value != value)):
        i += 1
    return i


# Numbers; exp_from takes lanes as well


def exp_from_f32(d, rate, floor):
    """2^(d rate), exactly 0 for d < floor: see EXP2_BODY in primitives.h."""
    shifted = d * rate + np.float32(12582912.0)
    f = d * rate - (shifted - np.float32(12582912.0))
    p = np.float32(0.0013406643902351759) + f * np.float32(0.0001559467816132662)
    p = np.float32(0.05550310551013797) + f * (np.float32(0.009617692972993062) + f * p)
    p = np.float32(1) + f * (np.float32(0.6931472149680279) + f * (np.float32(0.24022652782887738) + f * p))
    return machine.zero_below(d, floor, p * machine.two_to(shifted))


def exp_from_f64(d, rate, floor):
    shifted = d * rate + np.float64(6755399441055744.0)
    f = d * rate - (shifted - np.float64(6755399441055744.0))
    p = np.float64(7.0725704128144235096e-9) + f * np.float64(4.0780719295883366627e-10)
    p = np.float64(1.3215442675329822143e-6) + f * (np.float64(1.0180647659234138888e-7) + f * p)
    p = np.float64(0.0001540353044157213033) + f * (np.float64(0.000015252727385193868197) + f * p)
    p = np.float64(0.0096181291076070023796) + f * (np.float64(0.0013333558153439964747) + f * p)
    p = np.float64(0.24022650695910098007) + f * (np.float64(0.055504108664790394552) + f * p)
    p = np.float64(1) + f * (np.float64(0.69314718055994569675) + f * p)
    return machine.zero_below(d, floor, p * machine.two_to(shifted))


exp_from = machine.typed(exp_from_f32, exp_from_f64)


def exp_f32(d):
    top = np.float32(88.722839)
    return exp_from(top if d > top else d, np.float32(LOG2_E), np.float32(-126 / LOG2_E))


def exp_f64(d):
    top = np.float64(709.78271289338397)
    return exp_from(top if d > top else d, np.float64(LOG2_E), np.float64(-1022 / LOG2_E))


exp = machine.typed(exp_f32, exp_f64)


def log1p_f32(x):
    u = np.float32(1) + x
    bits = to_bits(u) + (0x3F800000 - 0x3F3504F3)
    k = np.float32((bits >> 23) - 127)
    f = to_float((bits & 0x007FFFFF) + 0x3F3504F3) - np.float32(1)
    s = f / (np.float32(2) + f)
    z = s * s
    half = np.float32(0.5) * f * f
    r = np.float32(0.40000972152) + z * (np.float32(0.28498786688) + z * np.float32(0.24279078841))
    r = z * (np.float32(0.66666663) + z * r)
    low = k * np.float32(9.0580006145e-06) + (x - (u - np.float32(1))) / u
    return s * (half + r) + low - half + f + k * np.float32(6.9313812256e-01)


def log1p_f64(x):
    u = np.float64(1) + x
    bits = np.float64(u).view(np.int64) + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    k = np.float64((bits >> 52) - 1023)
    f = np.int64((bits & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    r = 1.818357216161805012e-01 + z * (1.531383769920937332e-01 + z * 1.479819860511658591e-01)
    r = 3.999999999940941908e-01 + z * (2.857142874366239149e-01 + z * (2.222219843214978396e-01 + z * r))
    r = z * (6.666666666666735130e-01 + z * r)
    low = k * 1.90821492927058770002e-10 + (x - (u - 1.0)) / u
    return s * (half + r) + low - half + f + k * 6.93147180369123816490e-01


log1p = machine.typed(log1p_f32, log1p_f64)


def tanh_near_f32(u, z):
    p = np.float32(-5.37397155531e-2) + z * (np.float32(2.06390887954e-2) - z * np.float32(5.70498872745e-3))
    return u + u * z * (np.float32(-3.33332819422e-1) + z * (np.float32(1.33314422036e-1) + z * p))


def tanh_near_f64(u, z):
    p = -1.61468768441708447952e3 + z * (-9.92877231001918586564e1 - z * 9.64399179425052238628e-1)
    q = 4.84406305325125486048e3 + z * (2.23548839060100448583e3 + z * (1.12811678491632931402e2 + z))
    return u + u * z * (p / q)


tanh_near = machine.typed(tanh_near_f32, tanh_near_f64)


def tanh(u):
    one = type(u)(1)
    size = abs(u)
    e = exp(type(u)(-2) * size)
    value = tanh_near(size, u * u) if size < 0.625 else (one - e) / (one + e)
    return -value if u < 0 else value


def sech2(u):
    """1 - tanh(u)^2"""
    one = type(u)(1)
    e = exp(type(u)(-2) * abs(u))
    return type(u)(4) * e / ((one + e) * (one + e))


def flush_f32(value):
    return np.float32(0) if abs(value) < np.float32(1.17549435e-38) else value


def flush_f64(value):
    return np.float64(0) if abs(value) < np.float64(2.2250738585072014e-308) else value


flush = machine.typed(flush_f32, flush_f64)


def below_one(value):
    return type(value)(0) if value == 1 else value


def finite_peak(peak):
    return peak if peak > NEG_INF else type(peak)(0)


def beats(x, best):
    """Whether x comes before `best` as numpy.argmax has it: larger, or the first NaN."""
    return (x > best) | ((x != x) & (best == best))


def larger(x, m):
    return x if x > m else m


def weigh(weight, value):
    """weight * value, 0 for a weight of 0 whatever the value"""
    return weight if weight == 0 else weight * value


def rounded_away(a, b):
    """(a + b) - fl(a + b) by Knuth's two-sum, 0 where the sum is infinite or NaN."""
    both = a + b
    part = both - a
    lost = (a - (both - part)) + (b - part)
    return lost if lost == lost else 0.0
