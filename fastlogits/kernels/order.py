"""Maxima of groups of numbers, and what is above a limit: larger, or NaN."""

from fastlogits.kernels import machine
from fastlogits.kernels.sizes import BLOCK, GROUPS


def group_maxima(x, at, n, groups, to, or_nan):
    """max_i x_i, NaN skipped, and the maxima of GROUPS groups that share out the x_i; or a NaN if there is one, which
    costs 15 % where the exponentials are summed as well.
    """
    return grouped(x, at, n, groups, to, True) if or_nan else grouped(x, at, n, groups, to, False)


def grouped(x, at, n, groups, to, or_nan):
    w = machine.WIDTH
    m0 = m1 = m2 = m3 = machine.splat(-machine.INF)
    found = 0
    i = 0
    while i + 4 * w <= n:
        a = machine.load(x, at + i)
        b = machine.load(x, at + i + w)
        c = machine.load(x, at + i + 2 * w)
        d = machine.load(x, at + i + 3 * w)
        machine.prefetch_four(x, at + i + BLOCK)
        m0 = machine.larger(a, m0)
        m1 = machine.larger(b, m1)
        m2 = machine.larger(c, m2)
        m3 = machine.larger(d, m3)
        if or_nan:
            found |= machine.any_nan(a, b) | machine.any_nan(c, d)
        i += 4 * w
    while i < n:
        a = machine.load(x, at + i) if i + w <= n else machine.load_tail(x, at + i, n - i, -machine.INF)
        m0 = machine.larger(a, m0)
        if or_nan:
            found |= machine.any_nan(a, a)
        i += w
    if 4 * w > GROUPS:
        m0 = machine.larger(m2, m0)
        m1 = machine.larger(m3, m1)
    if 2 * w > GROUPS:
        m0 = machine.larger(m1, m0)
    machine.save(groups, to, m0)
    if w < GROUPS:
        machine.save(groups, to + w, m1)
    if 2 * w < GROUPS:
        machine.save(groups, to + 2 * w, m2)
        machine.save(groups, to + 3 * w, m3)
    for k in range(4 * w, GROUPS):
        groups[to + k] = -machine.INF
    if found:
        return machine.NAN
    return machine.largest(machine.larger(machine.larger(m0, m1), machine.larger(m2, m3)))


def how_many_above(x, at, n, limit):
    """How many x_i are above the limit, which is a number."""
    w = machine.WIDTH
    bound = machine.splat(limit)
    count = 0
    i = 0
    while i + w <= n:
        count += machine.count_above(machine.load(x, at + i), bound)
        i += w
    if i < n:
        count += machine.count_above(machine.load_tail(x, at + i, n - i, -machine.INF), bound)
    return count


def how_many_equal(x, at, n, value):
    """How many x_i equal the value; of a NaN, how many are NaN."""
    w = machine.WIDTH
    wanted = machine.splat(value)
    count = 0
    i = 0
    if value != value:
        for j in range(n):
            one = machine.number(x, at + j)
            count += 1 if one != one else 0
        return count
    while i + w <= n:
        count += machine.count_equal(machine.load(x, at + i), wanted)
        i += w
    while i < n:
        count += 1 if machine.number(x, at + i) == value else 0
        i += 1
    return count
