"""Stretches of doubles whatever the type of array is, in loops that compilers make vector loops of."""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import exp


def real_exps(z, n, peak, mass):
    """As exps_of, of the computing type's numbers."""
    for i in range(n):
        mass[i] = exp(z[i] - peak)
    return total_of(mass, n)


def exps_of(z, n, peak, mass):
    """mass_i = exp(z_i - peak); returns their sum."""
    for i in range(n):
        mass[i] = exp(z[i] - peak)
    return total_of(mass, n)


def total_of(x, n):
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = s12 = s13 = s14 = s15 = 0.0
    i = 0
    while i + 16 <= n:
        s0 += x[i]
        s1 += x[i + 1]
        s2 += x[i + 2]
        s3 += x[i + 3]
        s4 += x[i + 4]
        s5 += x[i + 5]
        s6 += x[i + 6]
        s7 += x[i + 7]
        s8 += x[i + 8]
        s9 += x[i + 9]
        s10 += x[i + 10]
        s11 += x[i + 11]
        s12 += x[i + 12]
        s13 += x[i + 13]
        s14 += x[i + 14]
        s15 += x[i + 15]
        i += 16
    while i < n:
        s0 += x[i]
        i += 1
    low = ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
    high = ((s8 + s12) + (s10 + s14)) + ((s9 + s13) + (s11 + s15))
    return low + high


def total_from(key, x, n, limit, part):
    """The sum of the x_i whose key is at least `limit`; all others are 0 in `part`."""
    for i in range(n):
        part[i] = x[i] if key[i] >= limit else 0.0
    return total_of(part, n)


def largest_of(x, n, sign):
    """max_i sign x_i of numbers without NaN; -inf of nothing."""
    m0 = m1 = m2 = m3 = -machine.INF
    i = 0
    while i + 4 <= n:
        m0 = max(m0, sign * x[i])
        m1 = max(m1, sign * x[i + 1])
        m2 = max(m2, sign * x[i + 2])
        m3 = max(m3, sign * x[i + 3])
        i += 4
    while i < n:
        m0 = max(m0, sign * x[i])
        i += 1
    return max(max(m0, m1), max(m2, m3))


def count_from(x, n, limit):
    """How many x_i are at least `limit`."""
    count = 0
    for i in range(n):
        count += 1 if x[i] >= limit else 0
    return count


def place_of(x, n, value):
    """The first i with x_i equal to value, n - 1 if there is none."""
    i = 0
    while i < n - 1 and x[i] != value:
        i += 1
    return i
