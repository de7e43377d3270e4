"""Several rows at once, part of the primitives; rows.h is their C."""

from fastlogits.kernels import each, machine, reductions, scalars

NEG_INF = float("-inf")


def row_maxima(x, stride, size, n, peaks):
    """peaks_j = max_i x_ji, NaN skipped, of n rows that lie `stride` apart"""
    for j in range(n):
        peaks[j] = reductions.maximum(machine.stretch(x, j * stride, size), size)


def row_exps_loop(x, stride, size, n, peaks, scale, out, out_stride, keep, sums, gaps):
    """sums_j = sum_i exp(scale d_ji) of n rows, d_ji = x_ji - peaks_j, the terms in `out` as well; out may be x. Also
    gaps_j = -sum_i d_ji, unless gaps is None.
    """
    rate = machine.splat(scale * scalars.LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * scalars.LOG2_E), x)
    run = reductions.RUN_VECTORS * machine.width(x)
    for j in range(n):
        shift = machine.cast(peaks[j] if peaks[j] > NEG_INF else 0.0, x)
        total = 0.0
        gap = 0.0
        for i in range(0, size, run):
            part, distances = reductions.exp_run(
                x, j * stride + i, min(run, size - i), shift, rate, floor, out, j * out_stride + i, keep,
                gaps is not None, True, n * stride,
            )  # fmt: skip
            total += machine.add_lanes(part)
            gap -= machine.add_lanes(distances)
        sums[j] = total
        if gaps is not None:
            gaps[j] = gap


def row_exps(x, stride, size, n, peaks, scale, out, out_stride, keep, sums):
    row_exps_loop(x, stride, size, n, peaks, scale, out, out_stride, keep, sums, None)


def row_exps_gaps(x, stride, size, n, peaks, scale, out, out_stride, keep, sums, gaps):
    row_exps_loop(x, stride, size, n, peaks, scale, out, out_stride, keep, sums, gaps)


def row_scale(x, stride, size, n, factors, offsets, out, out_stride):
    """out_ji = factors_j x_ji - offsets_j of n rows, 0 below the smallest normal number; out may be x"""
    tiny = machine.splat(2.0 ** machine.lowest(x), x)
    for j in range(n):
        factor = machine.splat(factors[j], x)
        less = machine.splat(offsets[j], x)
        for i in range(0, size, machine.width(x)):
            v = factor * reductions.read_some(x, j * stride + i, size - i) - less
            reductions.write_some(out, j * out_stride + i, size - i, each.flush_lanes(v, tiny))


def row_shift(x, stride, size, n, rate, shifts, offsets, out, out_stride):
    """out_ji = rate * (x_ji - shifts_j) - offsets_j of n rows; out may be x"""
    factor = machine.splat(rate, x)
    for j in range(n):
        shift = machine.splat(shifts[j], x)
        less = machine.splat(offsets[j], x)
        for i in range(0, size, machine.width(x)):
            v = factor * (reductions.read_some(x, j * stride + i, size - i) - shift) - less
            reductions.write_some(out, j * out_stride + i, size - i, v)


def row_gaps(x, stride, size, n, peaks, mass, mass_stride, gaps, masses):
    """gaps_j = sum_i mass_ji (peaks_j - x_ji), where a mass of 0 counts 0, and masses_j = sum_i mass_ji of n rows"""
    w = machine.width(x)
    nothing = machine.splat(0.0, x)
    for j in range(n):
        peak = machine.splat(peaks[j] if peaks[j] > NEG_INF else 0.0, x)
        gap = 0.0
        total = 0.0
        for first in range(0, size, reductions.TERMS * w):
            last = min(size, first + reductions.TERMS * w)
            by_lane = mass_by_lane = nothing
            for i in range(first, last, w):
                m = reductions.read_some(mass, j * mass_stride + i, last - i)
                d = peak - reductions.read_some(x, j * stride + i, last - i)
                by_lane = by_lane + machine.zero_where_equal(m, nothing, m * d)
                mass_by_lane = mass_by_lane + m
            gap += machine.add_lanes(by_lane)
            total += machine.add_lanes(mass_by_lane)
        gaps[j] = gap
        masses[j] = total


def row_slope(x, stride, size, n, factors, mass, mass_stride, counters, out, out_stride):
    """out_ji = factors_j x_ji - counters_j mass_ji of n rows, 0 below the smallest normal number; out may be x"""
    tiny = machine.splat(2.0 ** machine.lowest(x), x)
    for j in range(n):
        factor = machine.splat(factors[j], x)
        counter = machine.splat(counters[j], x)
        for i in range(0, size, machine.width(x)):
            less = counter * reductions.read_some(mass, j * mass_stride + i, size - i)
            v = factor * reductions.read_some(x, j * stride + i, size - i) - less
            reductions.write_some(out, j * out_stride + i, size - i, each.flush_lanes(v, tiny))


def row_totals(x, stride, size, n, sums):
    """sums_j = sum_i x_ji of n rows"""
    for j in range(n):
        sums[j] = reductions.total(machine.stretch(x, j * stride, size), size)


def row_dots(x, x_stride, y, y_stride, size, n, sums):
    """sums_j = sum_i x_ji y_ji of n rows"""
    for j in range(n):
        row = machine.stretch(x, j * x_stride, size)
        sums[j] = reductions.dot(row, machine.stretch(y, j * y_stride, size), size)


def softmax_slope_lanes(g, p, total, tiny):
    """p (g - total), 0 below the smallest normal number"""
    return each.flush_lanes(p * (g - total), tiny)


def log_softmax_slope_lanes(g, log_p, total, least, rate, floor, nothing):
    """g - exp(log_p) total"""
    d = nothing - machine.larger_lanes(least, nothing - log_p)
    return g - total * scalars.exp_from(d, rate, floor)


def row_softmax_slopes(g, g_stride, p, p_stride, size, n, totals, out, out_stride, beyond):
    """out_ji = p_ji (g_ji - totals_j) of n rows; out may be g or p. The next n rows are asked for if `beyond` these."""
    tiny = machine.splat(2.0 ** machine.lowest(g), g)
    for j in range(n):
        total = machine.splat(totals[j], g)
        for i in range(0, size, machine.width(g)):
            a = reductions.read_some(g, j * g_stride + i, size - i)
            b = reductions.read_some(p, j * p_stride + i, size - i)
            if beyond:
                machine.prefetch(g, (n + j) * g_stride + i)
                machine.prefetch(p, (n + j) * p_stride + i)
            reductions.write_some(out, j * out_stride + i, size - i, softmax_slope_lanes(a, b, total, tiny))


def row_log_softmax_slopes(g, g_stride, log_p, p_stride, size, n, totals, out, out_stride, beyond):
    """out_ji = g_ji - exp(log_p_ji) totals_j of n rows; see row_softmax_slopes"""
    rate = machine.splat(scalars.LOG2_E, g)
    floor = machine.splat(machine.lowest(g) / scalars.LOG2_E, g)
    least = machine.splat((machine.lowest(g) - 2.0) / scalars.LOG2_E, g)
    nothing = machine.splat(0.0, g)
    for j in range(n):
        total = machine.splat(totals[j], g)
        for i in range(0, size, machine.width(g)):
            a = reductions.read_some(g, j * g_stride + i, size - i)
            b = reductions.read_some(log_p, j * p_stride + i, size - i)
            if beyond:
                machine.prefetch(g, (n + j) * g_stride + i)
                machine.prefetch(log_p, (n + j) * p_stride + i)
            v = log_softmax_slope_lanes(a, b, total, least, rate, floor, nothing)
            reductions.write_some(out, j * out_stride + i, size - i, v)
