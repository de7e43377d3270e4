"""Maxima and sums of a stretch of numbers, with several accumulators for the latency of the additions."""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import LOG2_E, exp_lanes, finite_peak, floor_of
from fastlogits.kernels.records import Sweep
from fastlogits.kernels.sizes import BLOCK, KEEP, KEEP_PADDED, NONE, PLAIN, TERMS


def load_some(x, at, left):
    """Lanes, or the numbers that are left for them, with 0 in the others."""
    return machine.load(x, at) if left >= machine.WIDTH else machine.load_tail(x, at, left, 0.0)


def save_some(y, at, left, v):
    if left >= machine.WIDTH:
        machine.save(y, at, v)
    else:
        machine.save_tail(y, at, left, v)


def maximum(x, at, n):
    """max_i x_i, NaN skipped; -inf of nothing."""
    return extreme(x, at, n, 1.0)


def minimum(x, at, n):
    """min_i x_i, NaN skipped; +inf of nothing."""
    return -extreme(x, at, n, -1.0)


def extreme(x, at, n, sign):
    """max_i sign x_i"""
    w = machine.WIDTH
    times = machine.splat(sign)
    m0 = m1 = m2 = m3 = machine.splat(-machine.INF)
    i = 0
    while i + 4 * w <= n:
        m0 = machine.larger(times * machine.load(x, at + i), m0)
        m1 = machine.larger(times * machine.load(x, at + i + w), m1)
        m2 = machine.larger(times * machine.load(x, at + i + 2 * w), m2)
        m3 = machine.larger(times * machine.load(x, at + i + 3 * w), m3)
        i += 4 * w
    while i + w <= n:
        m0 = machine.larger(times * machine.load(x, at + i), m0)
        i += w
    if i < n:
        m1 = machine.larger(times * machine.load_tail(x, at + i, n - i, -sign * machine.INF), m1)
    return machine.largest(machine.larger(machine.larger(m0, m1), machine.larger(m2, m3)))


def sweep_from(peak, scale, ahead, keep, moment):
    """The sweep of a stretch whose largest number is `peak`."""
    shift = machine.splat(finite_peak(peak))
    return Sweep(shift, machine.splat(scale * LOG2_E), machine.splat(floor_of(scale)), ahead, keep, moment)


def exp_run(x, at, n, sweep, out, out_at):
    """Sums by lane of e_i, n <= 64 vectors, and by `sweep.moment` of d_i = x_i - shift (PLAIN) or d_i e_i (WEIGHTED).

    Each e_i goes to out_i as well, if they are kept; out may be x. What comes next is asked for, since a hardware
    prefetcher stops at the page: here, where there is work in between, and not in `maximum`.
    """
    w = machine.WIDTH
    s0 = s1 = s2 = s3 = m0 = m1 = m2 = m3 = machine.splat(0.0)
    i = 0
    while i + 4 * w <= n:
        machine.prefetch_four(x, at + i + sweep.ahead)
        d0 = machine.load(x, at + i) - sweep.shift
        d1 = machine.load(x, at + i + w) - sweep.shift
        d2 = machine.load(x, at + i + 2 * w) - sweep.shift
        d3 = machine.load(x, at + i + 3 * w) - sweep.shift
        e0 = exp_lanes(d0, sweep.rate, sweep.floor)
        e1 = exp_lanes(d1, sweep.rate, sweep.floor)
        e2 = exp_lanes(d2, sweep.rate, sweep.floor)
        e3 = exp_lanes(d3, sweep.rate, sweep.floor)
        if sweep.keep:
            machine.save(out, out_at + i, e0)
            machine.save(out, out_at + i + w, e1)
            machine.save(out, out_at + i + 2 * w, e2)
            machine.save(out, out_at + i + 3 * w, e3)
        s0 = s0 + e0
        s1 = s1 + e1
        s2 = s2 + e2
        s3 = s3 + e3
        if sweep.moment != NONE:
            m0 = m0 + moment_of(d0, e0, sweep)
            m1 = m1 + moment_of(d1, e1, sweep)
            m2 = m2 + moment_of(d2, e2, sweep)
            m3 = m3 + moment_of(d3, e3, sweep)
        i += 4 * w
    while i + w <= n:
        d0 = machine.load(x, at + i) - sweep.shift
        e0 = exp_lanes(d0, sweep.rate, sweep.floor)
        if sweep.keep:
            machine.save(out, out_at + i, e0)
        s0 = s0 + e0
        if sweep.moment != NONE:
            m0 = m0 + moment_of(d0, e0, sweep)
        i += w
    if i < n:
        d0 = machine.load_tail(x, at + i, n - i, -machine.INF) - sweep.shift
        e0 = exp_lanes(d0, sweep.rate, sweep.floor)
        s1 = s1 + e0
        if sweep.moment == PLAIN:
            d0 = machine.keep_first(d0, n - i)
        if sweep.moment != NONE:
            m1 = m1 + moment_of(d0, e0, sweep)
        if sweep.keep == KEEP_PADDED:
            machine.save(out, out_at + i, e0)
        elif sweep.keep == KEEP:
            machine.save_tail(out, out_at + i, n - i, e0)
    return (s0 + s1) + (s2 + s3), (m0 + m1) + (m2 + m3)


def moment_of(d, e, sweep):
    """d, or d exp(d), where d = -inf gives 0"""
    return d if sweep.moment == PLAIN else machine.larger(d, sweep.floor) * e


def exp_sum(x, at, n, sweep, out, out_at):
    """The sums of all runs, see exp_run."""
    run = 4 * TERMS * machine.WIDTH
    total = 0.0
    moment = 0.0
    i = 0
    while i < n:
        sums, moments = exp_run(x, at + i, min(run, n - i), sweep, out, out_at + i)
        total += machine.add_lanes(sums)
        if sweep.moment != NONE:
            moment += machine.add_lanes(moments)
        i += run
    return total, moment


def rest_of(exps, at, n):
    """sum_i e_i over all i but the maximum, whose e_i is 1."""
    one = machine.splat(1.0)
    total = 0.0
    i = 0
    while i < n:
        part = machine.splat(0.0)
        end = min(n, i + TERMS * machine.WIDTH)
        while i < end:
            e = load_some(exps, at + i, n - i)
            part = part + machine.zero_where_equal(e, one, e)
            i += machine.WIDTH
        total += machine.add_lanes(part)
    return total


def product(x, x_at, y, y_at, left, times):
    """x_i y_i, or x_i without `times`, of the numbers that are left for lanes"""
    v = load_some(x, x_at, left)
    return v * load_some(y, y_at, left) if times else v


def sum_run(x, x_at, y, y_at, n, times):
    """Sums by lane of x_i y_i, or of x_i without `times`, for n <= 64 vectors."""
    w = machine.WIDTH
    if n <= w:
        return product(x, x_at, y, y_at, n, times)
    s0 = s1 = s2 = s3 = machine.splat(0.0)
    i = 0
    while i + 4 * w <= n:
        s0 = s0 + product(x, x_at + i, y, y_at + i, w, times)
        s1 = s1 + product(x, x_at + i + w, y, y_at + i + w, w, times)
        s2 = s2 + product(x, x_at + i + 2 * w, y, y_at + i + 2 * w, w, times)
        s3 = s3 + product(x, x_at + i + 3 * w, y, y_at + i + 3 * w, w, times)
        i += 4 * w
    while i + w <= n:
        s0 = s0 + product(x, x_at + i, y, y_at + i, w, times)
        i += w
    if i < n:
        s1 = s1 + product(x, x_at + i, y, y_at + i, n - i, times)
    return (s0 + s1) + (s2 + s3)


def sum_of(x, x_at, y, y_at, n, times):
    """sum_i x_i y_i, or sum_i x_i without `times`"""
    if machine.NARROW:
        return narrow_sum(x, x_at, y, y_at, n, times)
    run = 4 * TERMS * machine.WIDTH
    total = 0.0
    i = 0
    while i < n:
        total += machine.add_lanes_exactly(sum_run(x, x_at + i, y, y_at + i, min(run, n - i), times))
        i += run
    return total


def lost_by(total, v):
    """What total + v rounds away, by two-sum"""
    both = total + v
    part = both - total
    return (total - (both - part)) + (v - part)


def narrow_sum(x, x_at, y, y_at, n, times):
    """As sum_of, by two-sum: a lane of so few holds too many numbers of both signs."""
    s = lost = machine.splat(0.0)
    i = 0
    while i < n:
        v = product(x, x_at + i, y, y_at + i, n - i, times)
        lost = lost + lost_by(s, v)
        s = s + v
        i += machine.WIDTH
    total = machine.add_lanes_exactly(s)
    away = machine.add_lanes(lost)
    return total + away if away == away else total


def total(x, at, n):
    return sum_of(x, at, x, at, n, False)


def dot(x, x_at, y, y_at, n):
    return sum_of(x, x_at, y, y_at, n, True)


def maximum_or_nan(x, at, n):
    """max_i x_i, or a NaN if there is one"""
    w = machine.WIDTH
    m0 = m1 = machine.splat(-machine.INF)
    found = 0
    i = 0
    while i + 2 * w <= n:
        a = machine.load(x, at + i)
        b = machine.load(x, at + i + w)
        machine.prefetch(x, at + i + BLOCK)
        machine.prefetch(x, at + i + BLOCK + w)
        m0 = machine.larger(a, m0)
        m1 = machine.larger(b, m1)
        found |= machine.any_nan(a, b)
        i += 2 * w
    while i < n:
        a = machine.load(x, at + i) if i + w <= n else machine.load_tail(x, at + i, n - i, -machine.INF)
        m0 = machine.larger(a, m0)
        found |= machine.any_nan(a, a)
        i += w
    return machine.NAN if found else machine.largest(machine.larger(m0, m1))


def find(x, at, n, value):
    """The first i with x_i equal to value, or both NaN; the last where none is: another thread may have changed it."""
    w = machine.WIDTH
    wanted = machine.splat(value)
    i = 0
    while i < n:
        v = machine.load(x, at + i) if i + w <= n else machine.load_tail(x, at + i, n - i, value)
        found = machine.first_equal(v, wanted) if value == value else machine.first_nan(v)
        if found < w:
            return min(n - 1, i + found)
        i += w
    return n - 1


def next_above(x, at, first, n, limit):
    """The first i of [first, n) with x_i above the limit; n if there is none."""
    w = machine.WIDTH
    bound = machine.splat(limit)
    i = first
    while i < n:
        v = machine.load(x, at + i) if i + w <= n else machine.load_tail(x, at + i, n - i, -machine.INF)
        found = machine.first_above(v, bound)
        if found < w:
            return min(n, i + found)
        i += w
    return n
