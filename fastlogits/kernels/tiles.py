"""Tiles, whose lanes lie side by side, part of the primitives; tiles.h is their C."""

from fastlogits.kernels import each, machine, reductions, rows, scalars, squares


def to_lanes(x, stride, classes, n, lanes):
    """lanes_cj = x_jc for n rows of `classes` numbers that lie `stride` apart. Squares at the end overlap others."""
    side = squares.side(x)
    first = 0
    while classes >= side and first + machine.width(x) <= n:
        for c in range(0, classes, side):
            at = min(c, classes - side)
            squares.to_lanes(x, first * stride + at, stride, lanes, at * n + first, n)
        first += machine.width(x)
    for j in range(first, n):
        for c in range(classes):
            lanes[c * n + j] = x[j * stride + c]


def to_rows(lanes, classes, n, x, stride):
    """x_jc = lanes_cj"""
    side = squares.side(x)
    first = 0
    while classes >= side and first + machine.width(x) <= n:
        for c in range(0, classes, side):
            at = min(c, classes - side)
            squares.to_rows(lanes, at * n + first, n, x, first * stride + at, stride)
        first += machine.width(x)
    for j in range(first, n):
        for c in range(classes):
            x[j * stride + c] = lanes[c * n + j]


def lane_maxima(x, step, classes, n, peaks):
    """peaks_j = max(peaks_j, max_c x_cj) of n lanes, NaN skipped; class c lies at x + c * step."""
    for j in range(0, n, machine.width(x)):
        m = reductions.read_some(peaks, j, n - j)
        for c in range(classes):
            m = machine.larger_lanes(reductions.read_some(x, c * step + j, n - j), m)
        reductions.write_some(peaks, j, n - j, m)


def lane_argmax(x, step, classes, n, first, best, indices, row):
    """indices_row+j = first + c and best_j = x_cj for the last c at which x_cj beat best_j, of n lanes"""
    for c in range(classes):
        for j in range(n):
            # Selections instead of a branch, which would keep the loop from becoming vector code.
            value = x[c * step + j]
            so_far = best[j]
            found = indices[row + j]
            beats = scalars.beats(value, so_far)
            best[j] = value if beats else so_far
            indices[row + j] = first + c if beats else found


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
        away = reductions.read_some(shift, j, n - j)
        total = count = machine.splat(0.0, x)
        for c in range(classes):
            e = scalars.exp_from(reductions.read_some(x, c * step + j, n - j) - away, rate, floor)
            below = machine.zero_where_equal(e, one, e)
            total = total + below
            count = count + (e - below)
            if keep:
                reductions.write_some(out, c * out_step + j, n - j, e)
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
        by = reductions.read_some(factor, j, n - j)
        for c in range(classes):
            v = by * reductions.read_some(x, c * step + j, n - j)
            v = machine.zero_where_equal(by, nothing, each.flush_lanes(v, tiny))
            reductions.write_some(out, c * out_step + j, n - j, v)


def lane_gaps(x, step, mass, mass_step, classes, n, shift, gaps, masses):
    """gaps_j += sum_c mass_cj (shift_j - x_cj), where a mass of 0 counts 0, and masses_j += sum_c mass_cj of n lanes
    and at most TERMS classes
    """
    w = machine.width(x)
    nothing = machine.splat(0.0, x)
    some = machine.stack(w, x)
    some_mass = machine.stack(w, x)
    for j in range(0, n, w):
        peak = reductions.read_some(shift, j, n - j)
        gap = total = nothing
        for c in range(classes):
            m = reductions.read_some(mass, c * mass_step + j, n - j)
            d = m * (peak - reductions.read_some(x, c * step + j, n - j))
            gap = gap + machine.zero_where_equal(m, nothing, d)
            total = total + m
        machine.write(some, 0, gap)
        machine.write(some_mass, 0, total)
        for i in range(min(w, n - j)):
            gaps[j + i] += some[i]
            masses[j + i] += some_mass[i]


def lane_slope(x, step, mass, mass_step, classes, n, factor, counter, out, out_step):
    """out_cj = factor_j x_cj - counter_j mass_cj of n lanes, 0 below the smallest normal number, where a factor or a
    counter of 0 makes 0 of what it multiplies; out may be x
    """
    tiny = machine.splat(2.0 ** machine.lowest(x), x)
    nothing = machine.splat(0.0, x)
    for j in range(0, n, machine.width(x)):
        by = reductions.read_some(factor, j, n - j)
        less = reductions.read_some(counter, j, n - j)
        for c in range(classes):
            v = by * reductions.read_some(x, c * step + j, n - j)
            v = machine.zero_where_equal(by, nothing, v)
            spread = less * reductions.read_some(mass, c * mass_step + j, n - j)
            v = v - machine.zero_where_equal(less, nothing, spread)
            reductions.write_some(out, c * out_step + j, n - j, each.flush_lanes(v, tiny))


def lane_shift(x, step, classes, n, rate, shift, offset, out, out_step):
    """out_cj = rate * (x_cj - shift_j) - offset_j of n lanes; out may be x"""
    factor = machine.splat(rate, x)
    for j in range(0, n, machine.width(x)):
        away = reductions.read_some(shift, j, n - j)
        less = reductions.read_some(offset, j, n - j)
        for c in range(classes):
            d = reductions.read_some(x, c * step + j, n - j) - away
            reductions.write_some(out, c * out_step + j, n - j, factor * d - less)


def lane_sums(x, x_step, y, y_step, classes, n, rest, lost):
    """rest_j + lost_j += sum_c x_cj y_cj, or sum_c x_cj where y is None, of n lanes and at most TERMS classes; lost_j
    is what the sums round away, by two-sum
    """
    w = machine.width(x)
    sums = machine.stack(w, x)
    parts = machine.stack(w, x)
    for j in range(0, n, w):
        total = away = machine.splat(0.0, x)
        for c in range(classes):
            v = reductions.read_some(x, c * x_step + j, n - j)
            if y is not None:
                v = v * reductions.read_some(y, c * y_step + j, n - j)
            both = total + v
            part = both - total
            away = away + ((total - (both - part)) + (v - part))
            total = both
        machine.write(sums, 0, total)
        machine.write(parts, 0, away)
        for i in range(min(w, n - j)):
            lost[j + i] += scalars.rounded_away(rest[j + i], sums[i]) + (parts[i] if parts[i] == parts[i] else 0.0)
            rest[j + i] += sums[i]


def lane_totals(x, step, classes, n, rest, lost):
    lane_sums(x, step, None, 0, classes, n, rest, lost)


def lane_dots(x, x_step, y, y_step, classes, n, rest, lost):
    lane_sums(x, x_step, y, y_step, classes, n, rest, lost)


def lane_softmax_slopes(g, g_step, p, p_step, classes, n, totals, out, out_step):
    """out_cj = p_cj (g_cj - totals_j) of n lanes; out may be g or p"""
    tiny = machine.splat(2.0 ** machine.lowest(g), g)
    for j in range(0, n, machine.width(g)):
        total = reductions.read_some(totals, j, n - j)
        for c in range(classes):
            a = reductions.read_some(g, c * g_step + j, n - j)
            b = reductions.read_some(p, c * p_step + j, n - j)
            reductions.write_some(out, c * out_step + j, n - j, rows.softmax_slope_lanes(a, b, total, tiny))


def lane_log_softmax_slopes(g, g_step, log_p, p_step, classes, n, totals, out, out_step):
    """out_cj = g_cj - exp(log_p_cj) totals_j of n lanes; out may be g or log_p"""
    rate = machine.splat(scalars.LOG2_E, g)
    floor = machine.splat(machine.lowest(g) / scalars.LOG2_E, g)
    least = machine.splat((machine.lowest(g) - 2.0) / scalars.LOG2_E, g)
    nothing = machine.splat(0.0, g)
    for j in range(0, n, machine.width(g)):
        total = reductions.read_some(totals, j, n - j)
        for c in range(classes):
            a = reductions.read_some(g, c * g_step + j, n - j)
            b = reductions.read_some(log_p, c * p_step + j, n - j)
            v = rows.log_softmax_slope_lanes(a, b, total, least, rate, floor, nothing)
            reductions.write_some(out, c * out_step + j, n - j, v)
