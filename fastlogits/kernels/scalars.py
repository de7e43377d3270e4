"""Functions of numbers, part of the primitives; `exp_from` takes lanes as well.

Where float and double need constants of their own there are two versions, because in Numba a float times a Python
number is a double.
"""

import numpy as np

from fastlogits.kernels import machine

LOG2_E = 1.4426950408889634
NEG_INF = -np.inf


def to_bits(real):
    return np.float32(real).view(np.int32)


def to_float(bits):
    return np.uint32(bits).view(np.float32)


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


def whole(value):
    """value >= 0, rounded down"""
    return int(value)
