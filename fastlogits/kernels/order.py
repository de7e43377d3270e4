"""Maxima of groups, what is above a limit, and keys to sort by, part of the primitives; order.h is its C."""

import numpy as np

from fastlogits.kernels import machine, reductions

GROUPS = 16
NEG_INF = float("-inf")
NAN = float("nan")


def group_maxima(x, n, groups, or_nan):
    """max_i x_i, NaN skipped, and the maxima of GROUPS groups that share out the x_i; or NaN if there is one."""
    w = machine.width(x)
    m0 = m1 = m2 = m3 = machine.splat(NEG_INF, x)
    found = False
    i = 0
    while i + 4 * w <= n:
        a = machine.read(x, i)
        b = machine.read(x, i + w)
        c = machine.read(x, i + 2 * w)
        d = machine.read(x, i + 3 * w)
        for line in range(4):
            machine.prefetch(x, i + reductions.BLOCK + line * w)
        m0 = machine.larger_lanes(a, m0)
        m1 = machine.larger_lanes(b, m1)
        m2 = machine.larger_lanes(c, m2)
        m3 = machine.larger_lanes(d, m3)
        if or_nan:
            found |= machine.any_nan(a, b) | machine.any_nan(c, d)
        i += 4 * w
    while i < n:
        a = machine.read(x, i) if i + w <= n else machine.read_tail(x, i, n - i, NEG_INF)
        m0 = machine.larger_lanes(a, m0)
        if or_nan:
            found |= machine.any_nan(a, a)
        i += w
    m0 = machine.larger_lanes(m2, m0)
    m1 = machine.larger_lanes(m3, m1)
    both = machine.larger_lanes(m1, m0)
    if w == GROUPS:
        machine.write(groups, 0, both)
    else:
        machine.write(groups, 0, m0)
        machine.write(groups, w, m1)
    return machine.cast(NAN, x) if found else machine.largest(both)


def count_above(x, n, limit):
    """How many x_i are above the limit: larger, or NaN."""
    w = machine.width(x)
    bound = machine.splat(limit, x)
    count = 0
    i = 0
    while i + w <= n:
        count += machine.count_above(machine.read(x, i), bound)
        i += w
    if i < n:
        count += machine.count_above(machine.read_tail(x, i, n - i, NEG_INF), bound)
    return count


def next_above(x, start, n, limit):
    """The first i of [start, n) with x_i above the limit; n if there is none."""
    w = machine.width(x)
    bound = machine.splat(limit, x)
    i = start
    while i + w <= n and machine.count_above(machine.read(x, i), bound) == 0:
        i += w
    while i < n and x[i] <= limit:
        i += 1
    return i


def digit_f32(x, place):
    """A digit, of 11 bits, of the key of x: see order.h."""
    bits = np.int32(0) if x == 0 else np.float32(x).view(np.int32)
    key = bits if bits < 0 else bits ^ np.int32(0x7FFFFFFF)
    return 0 if x != x else (np.int64(key) >> (11 * place)) & 2047


def digit_f64(x, place):
    bits = np.int64(0) if x == 0 else np.float64(x).view(np.int64)
    key = bits if bits < 0 else bits ^ np.int64(0x7FFFFFFFFFFFFFFF)
    return 0 if x != x else (key >> (11 * place)) & 2047


digit = machine.typed(digit_f32, digit_f64)


def places(like):
    """How many digits a key has."""
    return 3 if machine.width(like) == 16 else 6
