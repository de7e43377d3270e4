"""Tiles, whose lanes lie side by side, part of the primitives; tiles.h is their C."""

from fastlogits.kernels import machine, scalars


def to_lanes(x, stride, classes, n, lanes):
    """lanes_cj = x_jc for n rows of `classes` numbers that lie `stride` apart"""
    for j in range(n):
        for c in range(classes):
            lanes[c * n + j] = x[j * stride + c]


def to_rows(lanes, classes, n, x, stride):
    """x_jc = lanes_cj"""
    for j in range(n):
        for c in range(classes):
            x[j * stride + c] = lanes[c * n + j]


def read_lanes(x, at, left):
    """A class of the next lanes, or of those that are left."""
    return machine.read(x, at) if left >= machine.width(x) else machine.read_tail(x, at, left, 0.0)


def write_lanes(x, at, left, lanes):
    if left >= machine.width(x):
        machine.write(x, at, lanes)
    else:
        machine.write_tail(x, at, left, lanes)


def lane_maxima(x, step, classes, n, peaks):
    """peaks_j = max(peaks_j, max_c x_cj) of n lanes, NaN skipped; class c lies at x + c * step."""
    for j in range(0, n, machine.width(x)):
        m = read_lanes(peaks, j, n - j)
        for c in range(classes):
            m = machine.larger_lanes(read_lanes(x, c * step + j, n - j), m)
        write_lanes(peaks, j, n - j, m)


def lane_exps(x, step, classes, n, shift, scale, out, out_step, keep, rest, lost, ones):
    """rest_j + lost_j + ones_j += sum_c exp(scale (x_cj - shift_j)) of n lanes and at most TERMS classes; ones_j counts
    the terms that are 1, which would swallow small ones. Each term goes to out_cj as well if `keep`.
    """
    rate = machine.splat(scale * scalars.LOG2_E, x)
    floor = machine.splat(machine.lowest(x) / (scale * scalars.LOG2_E), x)
    one = machine.splat(1.0, x)
    w = machine.width(x)
    sums = machine.stack(w, x)
    counts = machine.stack(w, x)
    for j in range(0, n, w):
        away = read_lanes(shift, j, n - j)
        total = count = machine.splat(0.0, x)
        for c in range(classes):
            e = scalars.exp_from(read_lanes(x, c * step + j, n - j) - away, rate, floor)
            below = machine.zero_where_equal(e, one, e)
            total = total + below
            count = count + (e - below)
            if keep:
                write_lanes(out, c * out_step + j, n - j, e)
        machine.write(sums, 0, total)
        machine.write(counts, 0, count)
        for i in range(min(w, n - j)):
            lost[j + i] += scalars.rounded_away(rest[j + i], sums[i])
            rest[j + i] += sums[i]
            ones[j + i] += counts[i]


def lane_scale(x, step, classes, n, factor, out, out_step):
    """out_cj = factor_j x_cj of n lanes, 0 for a factor of 0 and below the smallest normal number; out may be x"""
    tiny = machine.splat(2.0 ** machine.lowest(x), x)
    nothing = machine.splat(0.0, x)
    for j in range(0, n, machine.width(x)):
        by = read_lanes(factor, j, n - j)
        for c in range(classes):
            v = by * read_lanes(x, c * step + j, n - j)
            v = machine.zero_below(machine.magnitude(v), tiny, v)
            write_lanes(out, c * out_step + j, n - j, machine.zero_where_equal(by, nothing, v))


def lane_shift(x, step, classes, n, rate, shift, offset, out, out_step):
    """out_cj = rate * (x_cj - shift_j) - offset_j of n lanes; out may be x"""
    factor = machine.splat(rate, x)
    for j in range(0, n, machine.width(x)):
        away = read_lanes(shift, j, n - j)
        less = read_lanes(offset, j, n - j)
        for c in range(classes):
            d = read_lanes(x, c * step + j, n - j) - away
            write_lanes(out, c * out_step + j, n - j, factor * d - less)
