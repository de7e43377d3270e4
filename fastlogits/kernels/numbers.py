"""Functions of numbers, and of lanes of them."""

from fastlogits.kernels import machine

LOG2_E = 1.4426950408889634

# 2^f = 1 + A1 f + A2 f^2 + ... for f in [-1/2, 1/2]: minimax, whose error (0.02 eps for float, 0.08 for double) is far
# below the rounding
A1, A2, A3 = 0.6931472149680279, 0.24022652782887738, 0.05550310551013797
A4, A5, A6 = 0.009617692972993062, 0.0013406643902351759, 0.0001559467816132662
B1, B2, B3, B4 = 0.69314718055994569675, 0.24022650695910098007, 0.055504108664790394552, 0.0096181291076070023796
B5, B6, B7 = 0.0013333558153439964747, 0.0001540353044157213033, 0.000015252727385193868197
B8, B9 = 1.3215442675329822143e-6, 1.0180647659234138888e-7
B10, B11 = 7.0725704128144235096e-9, 4.0780719295883366627e-10

# tanh(u) = u + u z P(z) / Q(z) for |u| < 5/8, z = u^2, after Cephes; Q = 1 for float
NEAR = 0.625
C0, C1, C2, C3, C4 = -3.33332819422e-1, 1.33314422036e-1, -5.37397155531e-2, 2.06390887954e-2, -5.70498872745e-3
P0, P1, P2 = -1.61468768441708447952e3, -9.92877231001918586564e1, -9.64399179425052238628e-1
Q0, Q1, Q2 = 4.84406305325125486048e3, 2.23548839060100448583e3, 1.12811678491632931402e2

# log(1 + f) = f - f^2/2 + s (f^2/2 + L1 z + L2 z^2 + ...) for s = f / (2 + f), z = s^2, after FreeBSD; M for float
L1, L2, L3, L4 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01
L5, L6, L7 = 1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01
M1, M2, M3, M4 = 0.66666663, 0.40000972152, 0.28498786688, 0.24279078841
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LN2_HIGH_F, LN2_LOW_F = 6.9313812256e-01, 9.0580006145e-06


def exp_lanes(d, rate, floor):
    """2^(d rate), exactly 0 for d < floor: adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits."""
    magic = machine.splat(machine.MAGIC)
    shifted = machine.fma(d, rate, magic)
    f = machine.fma(d, rate, magic - shifted)
    return machine.zero_below(d, floor, exp2_near(f) * machine.two_to(shifted))


def exp2_near(f):
    """2^f for f in [-1/2, 1/2]"""
    if machine.DOUBLE:
        p = machine.fma(f, machine.splat(B11), machine.splat(B10))
        p = machine.fma(f, p, machine.splat(B9))
        p = machine.fma(f, p, machine.splat(B8))
        p = machine.fma(f, p, machine.splat(B7))
        p = machine.fma(f, p, machine.splat(B6))
        p = machine.fma(f, p, machine.splat(B5))
        p = machine.fma(f, p, machine.splat(B4))
        p = machine.fma(f, p, machine.splat(B3))
        p = machine.fma(f, p, machine.splat(B2))
        p = machine.fma(f, p, machine.splat(B1))
    else:
        p = machine.fma(f, machine.splat(A6), machine.splat(A5))
        p = machine.fma(f, p, machine.splat(A4))
        p = machine.fma(f, p, machine.splat(A3))
        p = machine.fma(f, p, machine.splat(A2))
        p = machine.fma(f, p, machine.splat(A1))
    return machine.fma(f, p, machine.splat(1.0))


def floor_of(scale):
    """Where exp(scale d) falls below the smallest normal number."""
    return machine.LOWEST_EXPONENT / (scale * LOG2_E)


def flush_lanes(v):
    """0 for what is smaller than the smallest normal number."""
    return machine.zero_below(machine.magnitude(v), machine.splat(machine.TINY), v)


def tanh_lanes(u):
    """tanh(u) = (1 - e) / (1 + e) sign(u) with e = exp(-2 |u|); near 0, where 1 - e cancels, u - u^3 / 3 + ..."""
    one = machine.splat(1.0)
    size = machine.magnitude(u)
    e = exp_lanes(machine.splat(-2.0) * size, machine.splat(LOG2_E), machine.splat(floor_of(1.0)))
    z = u * u
    if machine.DOUBLE:
        p = machine.fma(z, machine.fma(z, machine.splat(P2), machine.splat(P1)), machine.splat(P0))
        q = machine.fma(z, machine.fma(z, z + machine.splat(Q2), machine.splat(Q1)), machine.splat(Q0))
        p = p / q
    else:
        p = machine.fma(z, machine.splat(C4), machine.splat(C3))
        p = machine.fma(z, p, machine.splat(C2))
        p = machine.fma(z, p, machine.splat(C1))
        p = machine.fma(z, p, machine.splat(C0))
    near = machine.fma(size * z, p, size)
    far = (one - e) / (one + e)
    return machine.copy_sign(machine.where_larger(machine.splat(NEAR), size, near, far), u)


def sech2_lanes(u):
    """1 - tanh(u)^2 without its cancellation"""
    one = machine.splat(1.0)
    size = machine.magnitude(u)
    e = exp_lanes(machine.splat(-2.0) * size, machine.splat(LOG2_E), machine.splat(floor_of(1.0)))
    return machine.splat(4.0) * e / ((one + e) * (one + e))


def log1p(x):
    """log(1 + x) for x >= 0, after FreeBSD: 1 + x = 2^k (1 + f), and what 1 + x rounded away comes back as
    (x - (u - 1)) / u. Branch-free, so that the loops that call it become vector loops.
    """
    u = 1.0 + x
    k = machine.double_exponent(u)
    f = machine.double_mantissa(u) - 1.0
    s = f / (2.0 + f)
    z = s * s
    half = 0.5 * f * f
    r = L5 + z * (L6 + z * L7)
    r = z * (L1 + z * (L2 + z * (L3 + z * (L4 + z * r))))
    low = k * LN2_LOW + (x - (u - 1.0)) / u
    return s * (half + r) + low - half + f + k * LN2_HIGH


def log1p_lanes(x):
    """As log1p; of floats after FreeBSD's log1pf, with half the terms."""
    one = machine.splat(1.0)
    u = one + x
    k = machine.exponent(u)
    f = machine.mantissa(u) - one
    s = f / (machine.splat(2.0) + f)
    z = s * s
    half = machine.splat(0.5) * f * f
    if machine.DOUBLE:
        r = machine.fma(z, machine.splat(L7), machine.splat(L6))
        r = machine.fma(z, r, machine.splat(L5))
        r = machine.fma(z, r, machine.splat(L4))
        r = machine.fma(z, r, machine.splat(L3))
        r = machine.fma(z, r, machine.splat(L2))
        r = z * machine.fma(z, r, machine.splat(L1))
        high = machine.splat(LN2_HIGH)
        low = machine.splat(LN2_LOW)
    else:
        r = machine.fma(z, machine.splat(M4), machine.splat(M3))
        r = machine.fma(z, r, machine.splat(M2))
        r = z * machine.fma(z, r, machine.splat(M1))
        high = machine.splat(LN2_HIGH_F)
        low = machine.splat(LN2_LOW_F)
    low = machine.fma(k, low, (x - (u - one)) / u)
    return machine.fma(k, high, machine.fma(s, half + r, low) - half + f)


def exp(d):
    """exp(d) of one number, as vectorisable by the compiler as the loop that calls it"""
    within = 709.78271289338397 if d > 709.78271289338397 else d
    shifted = machine.double_fma(within, LOG2_E, 6755399441055744.0)
    f = machine.double_fma(within, LOG2_E, 6755399441055744.0 - shifted)
    p = B7 + f * (B8 + f * (B9 + f * (B10 + f * B11)))
    p = 1.0 + f * (B1 + f * (B2 + f * (B3 + f * (B4 + f * (B5 + f * (B6 + f * p))))))
    return 0.0 if within < -708.3964185322641 else p * machine.double_two_to(shifted)


def finite_peak(peak):
    """`peak`, 0 for that of a row of nothing but -inf."""
    return peak if peak > -machine.INF else 0.0


def far_peak():
    """A peak above this may be further from other numbers than the largest there is."""
    return 9e291 if machine.DOUBLE else 1e31


def flush(value):
    """0 for what is smaller than the computing type's smallest normal number."""
    return 0.0 if abs(value) < machine.TINY else value


def weigh(weight, value):
    """weight * value, 0 for a weight of 0 whatever the value"""
    return 0.0 if weight == 0.0 else weight * value


def beats(x, best):
    """Whether x comes before `best` as numpy.argmax has it: larger, or the first NaN."""
    return x > best or (x != x and best == best)


def rounded_away(a, b):
    """(a + b) - fl(a + b) by Knuth's two-sum, 0 where the sum is infinite or NaN."""
    both = a + b
    part = both - a
    lost = (a - (both - part)) + (b - part)
    return lost if lost == lost else 0.0
