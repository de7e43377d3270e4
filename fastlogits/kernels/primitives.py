"""The primitives of the kernel text for Numba and the interpreter; primitives.h holds the same names for C.

TYPED primitives have a version for each type, because in Numba a float32 times a Python float is a float64. The
compiler may reorder the sums of the REDUCTIONS, which makes them vector sums.
"""

import math

import numpy as np

BLOCK = 1024
SLOTS = 26
LANES = 256
SHORT = 64

PEAKS, SHIFTS, SUMS, TIES, GAPS, MASSES, LOG_NORMS, FACTORS, COUNTERS, LABEL_GRADS, PICKS, SLOPES, TILE = range(6, 19)
TARGET_TILE = TILE + 4

PEAK, REST, PICKED, SLOPE, FACTOR, COUNTER, TARGET, ROW_FIELDS = range(8)
BLOCK_PEAK, BLOCK_SUM, BLOCK_GAP, BLOCK_MASS, BLOCK_FIELDS = range(5)
RESTS, TIE_SUMS, GAP_SUMS, MASS_SUMS, STATE = (ROW_FIELDS + k * LANES for k in range(5))

NATIVE, FLOAT16, BFLOAT16 = range(3)
INF, NEG_INF, NAN = math.inf, -math.inf, math.nan

TINY_F32, TINY_F64 = np.float32(1.17549435e-38), np.float64(2.2250738585072014e-308)
LOG2_E_F32, LOG2_E_F64 = np.float32(1.4426950408889634), np.float64(1.4426950408889634)
LOWEST_F32, LOWEST_F64 = np.float32(-126.0), np.float64(-1022.0)
TOP_F32, TOP_F64 = np.float32(88.722839), np.float64(709.78271289338397)
ROUND_F32, ROUND_F64 = np.float32(12582912.0), np.float64(6755399441055744.0)


def stretch(x, at, n):
    return x[at : at + n]


def slot(work, index):
    return work[index * BLOCK : (index + 1) * BLOCK]


def cast(value, like):
    return like.dtype.type(value)


def load(x, at, n, buffer, storage):
    if storage == NATIVE:
        return stretch(x, at, n)
    widen(x, at, n, buffer, storage)
    return buffer


def store(y, at, n, values, storage):
    if storage == NATIVE:
        copy(y, at, n, values)
    else:
        narrow(y, at, n, values, storage)


def copy(y, at, n, values):
    for i in range(n):
        y[at + i] = values[i]


def widen(x, at, n, buffer, storage):
    if storage == BFLOAT16:
        for i in range(n):
            buffer[i] = float_from_bits(np.uint32(x[at + i]) << np.uint32(16))
    else:
        for i in range(n):
            buffer[i] = float16_to_float(x[at + i])


def narrow(y, at, n, values, storage):
    if storage == BFLOAT16:
        for i in range(n):
            y[at + i] = float_to_bfloat16(values[i])
    else:
        for i in range(n):
            y[at + i] = float_to_float16(values[i])


def float_from_bits(bits):
    return np.uint32(bits).view(np.float32)


def float16_to_float(half):
    """Exponent and mantissa moved into place, then 2^112 for the difference of the biases; subnormals come right."""
    bits = np.uint32(half)
    size = float_from_bits((bits & np.uint32(0x7FFF)) << np.uint32(13)) * np.float32(2.0**112)
    if bits & np.uint32(0x7C00) == np.uint32(0x7C00):
        size = float_from_bits(np.uint32(0x7F800000) | ((bits & np.uint32(0x3FF)) << np.uint32(13)))
    return -size if bits & np.uint32(0x8000) else size


def float_to_float16(real):
    """Round to nearest even: below 2^-14 by adding 1/2, which aligns the mantissa, else by integer arithmetic."""
    bits = np.int64(np.float32(real).view(np.uint32))
    sign = (bits >> 16) & 0x8000
    bits &= 0x7FFFFFFF
    if bits >= 0x47800000:
        half = 0x7E00 if bits > 0x7F800000 else 0x7C00
    elif bits < 0x38800000:
        half = np.int64(np.float32(abs(real) + np.float32(0.5)).view(np.uint32)) - 0x3F000000
    else:
        half = (bits + 0xFFF + ((bits >> 13) & 1) - 0x38000000) >> 13
    return np.uint16(half | sign)


def float_to_bfloat16(real):
    bits = np.int64(np.float32(real).view(np.uint32))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.uint16((bits >> 16) | 0x40 if (bits & 0x7FFFFFFF) > 0x7F800000 else rounded)


# An integer whose order is that of the floats: compilers turn an integer maximum into vector code, with NaN on top.


def maximum_f32(x, n):
    bits = x[:n].view(np.int32)
    best = np.int32(-0x7F800001)
    for i in range(n):
        key = bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        best = max(best, key)
    return float_from_bits(np.uint32(best ^ ((best >> np.int32(31)) & np.int32(0x7FFFFFFF)) & np.int64(0xFFFFFFFF)))


def maximum_f64(x, n):
    bits = x[:n].view(np.int64)
    best = np.int64(-0x7FF0000000000001)
    for i in range(n):
        key = bits[i] ^ ((bits[i] >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))
        best = max(best, key)
    return np.int64(best ^ ((best >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))).view(np.float64)


def maximum_or_nan(x, n):
    nans = 0
    for i in range(n):
        nans += x[i] != x[i]
    return maximum(x, n) if nans == 0 else cast(NAN, x)


def find(x, n, value):
    for i in range(n):
        if x[i] == value or (x[i] != x[i] and value != value):
            return i
    return 0


def total(x, n):
    value = cast(0.0, x)
    for i in range(n):
        value += x[i]
    return float(value)


def sum_exp(x, n, shift, scale):
    away = cast(shift, x)
    rate = cast(scale * 1.4426950408889634, x)
    value = cast(0.0, x)
    for i in range(n):
        value += exp2_product(x[i] - away, rate)
    return float(value)


def keep_exp(x, n, shift, scale, out):
    away = cast(shift, x)
    rate = cast(scale * 1.4426950408889634, x)
    value = cast(0.0, x)
    for i in range(n):
        term = exp2_product(x[i] - away, rate)
        out[i] = term
        value += term
    return float(value)


def exp_each(x, shift, n, scale, out):
    rate = cast(scale * 1.4426950408889634, x)
    for i in range(n):
        out[i] = exp2_product(x[i] - shift[i], rate)


def exp2_product_f32(d, rate):
    """2^(d rate), exactly 0 below the smallest normal number: see EXP2_BODY in primitives.h."""
    shifted = d * rate + ROUND_F32
    f = d * rate - (shifted - ROUND_F32)
    p = np.float32(0.0013406643902351759) + f * np.float32(0.0001559467816132662)
    p = np.float32(0.05550310551013797) + f * (np.float32(0.009617692972993062) + f * p)
    p = np.float32(1) + f * (np.float32(0.6931472149680279) + f * (np.float32(0.24022652782887738) + f * p))
    bits = np.int64(np.float32(shifted).view(np.uint32))
    value = p * float_from_bits(np.uint32(((bits << 23) + 0x3F800000) & 0xFFFFFFFF))
    return np.float32(0) if d * rate < LOWEST_F32 else value


def exp2_product_f64(d, rate):
    shifted = d * rate + ROUND_F64
    f = d * rate - (shifted - ROUND_F64)
    p = 7.0725704128144235096e-9 + f * 4.0780719295883366627e-10
    p = 1.3215442675329822143e-6 + f * (1.0180647659234138888e-7 + f * p)
    p = 0.0001540353044157213033 + f * (0.000015252727385193868197 + f * p)
    p = 0.0096181291076070023796 + f * (0.0013333558153439964747 + f * p)
    p = 0.24022650695910098007 + f * (0.055504108664790394552 + f * p)
    p = 1.0 + f * (0.69314718055994569675 + f * p)
    bits = np.float64(shifted).view(np.int64)
    value = p * np.int64((bits << 52) + 0x3FF0000000000000).view(np.float64)
    return 0.0 if d * rate < LOWEST_F64 else value


def exp_f32(d):
    return exp2_product_f32(TOP_F32 if d > TOP_F32 else d, LOG2_E_F32)


def exp_f64(d):
    return exp2_product_f64(TOP_F64 if d > TOP_F64 else d, LOG2_E_F64)


# log1p, tanh and sech2 as in primitives.h


def log1p_f32(x):
    u = np.float32(1) + x
    bits = np.int64(np.float32(u).view(np.uint32)) + (0x3F800000 - 0x3F3504F3)
    k = np.float32((bits >> 23) - 127)
    f = float_from_bits(np.uint32((bits & 0x007FFFFF) + 0x3F3504F3)) - np.float32(1)
    s = f / (np.float32(2) + f)
    z = s * s
    half = np.float32(0.5) * f * f
    r = np.float32(0.40000972152) + z * (np.float32(0.28498786688) + z * np.float32(0.24279078841))
    r = z * (np.float32(0.66666663) + z * r)
    lost = (x - (u - np.float32(1))) / u
    return s * (half + r) + (k * np.float32(9.0580006145e-06) + lost) - half + f + k * np.float32(6.9313812256e-01)


def log1p_f64(x):
    return math.log1p(x) if x >= -1.0 else x * NAN


def tanh_f32(u):
    size = abs(u)
    z = u * u
    p = np.float32(-5.37397155531e-2) + z * (np.float32(2.06390887954e-2) - z * np.float32(5.70498872745e-3))
    near = size + size * z * (np.float32(-3.33332819422e-1) + z * (np.float32(1.33314422036e-1) + z * p))
    e = exp_f32(np.float32(-2) * size)
    value = near if size < np.float32(0.625) else (np.float32(1) - e) / (np.float32(1) + e)
    return -value if u < np.float32(0) else value


def tanh_f64(u):
    return math.tanh(u)


def sech2_f32(u):
    e = exp_f32(np.float32(-2) * abs(u))
    return np.float32(4) * e / ((np.float32(1) + e) * (np.float32(1) + e))


def sech2_f64(u):
    e = exp_f64(-2.0 * abs(u))
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


def flush_f32(value):
    return np.float32(0) if abs(value) < TINY_F32 else value


def flush_f64(value):
    return np.float64(0) if abs(value) < TINY_F64 else value


def below_one_f32(value):
    return np.float32(0) if value == np.float32(1) else value


def below_one_f64(value):
    return np.float64(0) if value == 1.0 else value


def larger(x, m):
    return x if x > m else m


def finite_peak_f32(peak):
    return peak if peak > np.float32(NEG_INF) else np.float32(0)


def finite_peak_f64(peak):
    return peak if peak > NEG_INF else np.float64(0)


def weigh(weight, value):
    return weight if weight == 0 else weight * value


def typed(name):
    """The primitive `name` for the interpreter: chooses by the type of its first argument, a scalar or an array."""
    f32, f64 = globals()[f"{name}_f32"], globals()[f"{name}_f64"]

    def primitive(value, *rest):
        return (f32 if value.dtype == np.float32 else f64)(value, *rest)

    primitive.__name__ = primitive.__qualname__ = name
    return primitive


TYPED = ("maximum", "exp2_product", "exp", "log1p", "tanh", "sech2", "flush", "below_one", "finite_peak")
REDUCTIONS = ("total", "sum_exp", "keep_exp")
for _name in TYPED:
    globals()[_name] = typed(_name)
