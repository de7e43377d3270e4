"""Reductions of a stretch, part of the primitives, with several accumulators for the latency of the additions;
reductions.h is their C."""

from fastlogits.kernels import machine, scalars

LOG2_E = scalars.LOG2_E
INF, NEG_INF, NAN = float("inf"), float("-inf"), float("nan")
BLOCK = 1024
TERMS = 16
RUN_VECTORS = 4 * TERMS
DISCARD, KEEP, KEEP_PADDED = range(3)


def read_some(x, at, left):
    """Lanes, or the numbers that are left for them, with 0 in the others."""
    return machine.read(x, at) if left >= machine.width(x) else machine.read_tail(x, at, left, 0.0)


def write_some(x, at, left, lanes):
    if left >= machine.width(x):
        machine.write(x, at, lanes)
    else:
        machine.write_tail(x, at, left, lanes)


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


def exp_run(x, at, n, shift, rate, floor, out, out_at, keep, moment, plain, ahead):
    """Sums by lane of e_i = exp(scale * d_i) for n <= RUN, d_i = x_i - shift, rate = scale / log 2; and if `moment` of
    d_i e_i (scale 1), or of d_i if `plain`. Each term goes to out_i as well, unless out is None; out may be x.

    Asks for what comes next, `ahead` of x: a hardware prefetcher stops at the page. Here, where there is work in
    between, and not in `maximum`: LLVM makes bursts of 16 lines of that, with which rows out of cache took 20 % longer.
    """
    w = machine.width(x)
    away = machine.splat(shift, x)
    s0 = s1 = s2 = s3 = machine.splat(0.0, x)
    m0 = m1 = m2 = m3 = machine.splat(0.0, x)
    i = 0
    while i + 4 * w <= n:
        for line in range(4):
            machine.prefetch(x, at + i + ahead + line * w)
        d0 = machine.read(x, at + i) - away
        d1 = machine.read(x, at + i + w) - away
        d2 = machine.read(x, at + i + 2 * w) - away
        d3 = machine.read(x, at + i + 3 * w) - away
        e0 = scalars.exp_from(d0, rate, floor)
        e1 = scalars.exp_from(d1, rate, floor)
        e2 = scalars.exp_from(d2, rate, floor)
        e3 = scalars.exp_from(d3, rate, floor)
        if out is not None:
            machine.write(out, out_at + i, e0)
            machine.write(out, out_at + i + w, e1)
            machine.write(out, out_at + i + 2 * w, e2)
            machine.write(out, out_at + i + 3 * w, e3)
        s0 = s0 + e0
        s1 = s1 + e1
        s2 = s2 + e2
        s3 = s3 + e3
        if moment:
            m0 = m0 + second(d0, e0, floor, plain)
            m1 = m1 + second(d1, e1, floor, plain)
            m2 = m2 + second(d2, e2, floor, plain)
            m3 = m3 + second(d3, e3, floor, plain)
        i += 4 * w
    while i + w <= n:
        d0 = machine.read(x, at + i) - away
        e0 = scalars.exp_from(d0, rate, floor)
        if out is not None:
            machine.write(out, out_at + i, e0)
        s0 = s0 + e0
        if moment:
            m0 = m0 + second(d0, e0, floor, plain)
        i += w
    if i < n:
        d0 = machine.read_tail(x, at + i, n - i, NEG_INF) - away
        e0 = scalars.exp_from(d0, rate, floor)
        s1 = s1 + e0
        if moment:
            if plain:
                d0 = machine.read_tail(x, at + i, n - i, shift) - away
            m1 = m1 + second(d0, e0, floor, plain)
        if out is not None:
            if keep == KEEP_PADDED:
                machine.write(out, out_at + i, e0)
            else:
                machine.write_tail(out, out_at + i, n - i, e0)
    return (s0 + s1) + (s2 + s3), (m0 + m1) + (m2 + m3)


def exp_loop(x, n, shift, scale, out, keep, moment):
    """The sum of all runs, see exp_run; moment_0 is the other one, where asked."""
    rate = machine.splat(scale * LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * LOG2_E), x)
    run = RUN_VECTORS * machine.width(x)
    total = 0.0
    moment_total = 0.0
    for i in range(0, n, run):
        sums, moments = exp_run(
            x, i, min(run, n - i), shift, rate, floor, out, i, keep, moment is not None, False, BLOCK
        )
        total += machine.add_lanes(sums)
        moment_total += machine.add_lanes(moments)
    if moment is not None:
        moment[0] = moment_total
    return total


def second(d, e, floor, plain):
    """d, or d * exp(d), where d = -inf gives 0"""
    return d if plain else machine.larger_lanes(d, floor) * e


def sum_exp(x, n, shift, scale):
    return exp_loop(x, n, shift, scale, None, DISCARD, None)


def sum_exp_moment(x, n, shift, moment):
    return exp_loop(x, n, shift, 1.0, None, DISCARD, moment)


def keep_exp(x, n, shift, scale, out, keep):
    return exp_loop(x, n, shift, scale, out, keep, None)


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


def maximum_or_nan(x, n):
    """max_i x_i, or a NaN if there is one"""
    w = machine.width(x)
    m0 = m1 = machine.splat(NEG_INF, x)
    found = False
    i = 0
    while i + 2 * w <= n:
        a = machine.read(x, i)
        b = machine.read(x, i + w)
        machine.prefetch(x, i + BLOCK)
        machine.prefetch(x, i + BLOCK + w)
        m0 = machine.larger_lanes(a, m0)
        m1 = machine.larger_lanes(b, m1)
        found |= machine.any_nan(a, b)
        i += 2 * w
    while i < n:
        a = machine.read(x, i) if i + w <= n else machine.read_tail(x, i, n - i, NEG_INF)
        m0 = machine.larger_lanes(a, m0)
        found |= machine.any_nan(a, a)
        i += w
    return machine.cast(NAN, x) if found else machine.largest(machine.larger_lanes(m0, m1))


def find(x, n, value):
    """The first i with x_i equal to value, or both NaN; some i if it has gone, see reductions.h."""
    w = machine.width(x)
    wanted = machine.splat(value, x)
    i = 0
    while i < n:
        lanes = machine.read(x, i) if i + w <= n else machine.read_tail(x, i, n - i, value)
        found = machine.first_equal(lanes, wanted) if value == value else machine.first_nan(lanes)
        if found < w:
            return min(i + found, n - 1)
        i += w
    return n - 1
