"""Columns: class c of lane j lies at `at + c * step + j`, so that a vector holds one class of several columns.

The class axis in the middle of an array lies so in memory; rows of few classes are transposed into scratch memory.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import LOG2_E, beats, exp_lanes, finite_peak, floor_of, flush_lanes
from fastlogits.kernels.records import Kept, Sweep
from fastlogits.kernels.sizes import DISCARD, LANES, NONE
from fastlogits.kernels.sums import load_some, save_some


def to_lanes(x, at, stride, classes, n, lanes):
    """lanes_cj = x_jc for n rows of `classes` numbers that lie `stride` apart. Squares at the end overlap others."""
    w = machine.WIDTH
    side = machine.SIDE
    j = 0
    while classes == 2 and stride == 2 and j + w <= n:
        low = machine.load(x, at + 2 * j)
        high = machine.load(x, at + 2 * j + w)
        machine.save(lanes, j, machine.evens(low, high))
        machine.save(lanes, n + j, machine.odds(low, high))
        j += w
    while machine.SQUARES and classes >= side and j + w <= n:
        c = 0
        while c < classes:
            first = min(c, classes - side)
            machine.square_to_lanes(x, at + j * stride + first, stride, lanes, first * n + j, n)
            c += side
        j += w
    while j < n:
        for c in range(classes):
            lanes[c * n + j] = machine.number(x, at + j * stride + c)
        j += 1


def to_rows(lanes, classes, n, y, at, stride):
    """y_jc = lanes_cj"""
    w = machine.WIDTH
    side = machine.SIDE
    j = 0
    while classes == 2 and stride == 2 and j + w <= n:
        a = machine.load(lanes, j)
        b = machine.load(lanes, n + j)
        machine.save(y, at + 2 * j, machine.zip_low(a, b))
        machine.save(y, at + 2 * j + w, machine.zip_high(a, b))
        j += w
    while machine.SQUARES and classes >= side and j + w <= n:
        c = 0
        while c < classes:
            first = min(c, classes - side)
            machine.square_to_rows(lanes, first * n + j, n, y, at + j * stride + first, stride)
            c += side
        j += w
    while j < n:
        for c in range(classes):
            machine.put(y, at + j * stride + c, lanes[c * n + j])
        j += 1


def start_peaks(n, work):
    """The maxima of nothing."""
    for j in range(n):
        work.peaks[j] = -machine.INF


def lane_maxima(x, at, step, classes, n, work):
    """peaks_j = max(peaks_j, max_c x_cj), NaN skipped; the next tile is asked for, whose rows lie pages apart."""
    w = machine.WIDTH
    j = 0
    while j + 4 * w <= n:
        m0 = machine.load(work.peaks, j)
        m1 = machine.load(work.peaks, j + w)
        m2 = machine.load(work.peaks, j + 2 * w)
        m3 = machine.load(work.peaks, j + 3 * w)
        for c in range(classes):
            here = at + c * step + j
            m0 = machine.larger(machine.load(x, here), m0)
            m1 = machine.larger(machine.load(x, here + w), m1)
            m2 = machine.larger(machine.load(x, here + 2 * w), m2)
            m3 = machine.larger(machine.load(x, here + 3 * w), m3)
            machine.prefetch_four(x, here + LANES)
        machine.save(work.peaks, j, m0)
        machine.save(work.peaks, j + w, m1)
        machine.save(work.peaks, j + 2 * w, m2)
        machine.save(work.peaks, j + 3 * w, m3)
        j += 4 * w
    while j < n:
        m = load_some(work.peaks, j, n - j)
        for c in range(classes):
            m = machine.larger(load_some(x, at + c * step + j, n - j), m)
        save_some(work.peaks, j, n - j, m)
        j += w


def start_sums(n, work):
    """shifts_j = peaks_j, 0 for a lane of nothing but -inf; the sums start at 0, one maximum already taken out."""
    for j in range(n):
        work.shifts[j] = finite_peak(work.peaks[j])
    for j in range(n):
        work.rest[j] = 0.0
        work.lost[j] = 0.0
        work.tied[j] = -1.0


def lane_scales(task, row, n, work):
    """What the logits of lane j are multiplied by, where not all have the same: that of row `row + j`."""
    if task.scale == 0.0:
        for j in range(n):
            scale = task.scales[row + j]
            work.times[j] = scale
            work.rates[j] = scale * LOG2_E
            work.floors[j] = floor_of(scale)


def exp_rates(scale, j, left, work):
    """What differences become powers of 2 by, in the lanes that are left from j on."""
    return machine.splat(scale * LOG2_E) if scale > 0.0 else load_some(work.rates, j, left)


def exp_floors(scale, j, left, work):
    """Where their exponentials vanish."""
    return machine.splat(floor_of(scale)) if scale > 0.0 else load_some(work.floors, j, left)


def lane_times(scale, j, left, work):
    """What they are multiplied by."""
    return machine.splat(scale) if scale > 0.0 else load_some(work.times, j, left)


def lane_exps(x, at, step, classes, n, scale, kept, work):
    """rest_j + lost_j + tied_j += sum_c exp(scale (x_cj - shift_j)) of at most TERMS classes; tied_j counts the terms
    that are 1, which would swallow small ones. Each term stays where it is kept.
    """
    w = machine.WIDTH
    j = 0
    while j < n:
        rate = exp_rates(scale, j, n - j, work)
        floor = exp_floors(scale, j, n - j, work)
        sweep = Sweep(load_some(work.shifts, j, n - j), rate, floor, 0, kept.how, NONE)
        here = Kept(kept.exps, kept.at + j, kept.stride, kept.how)
        if j + w <= n:
            total, count = vector_exps(x, at + j, step, classes, w, sweep, here)
        else:
            total, count = vector_exps(x, at + j, step, classes, n - j, sweep, here)
        machine.add_exactly_to(work.rest, work.lost, j, total)
        machine.add_to(work.tied, j, count)
        j += w


def vector_exps(x, at, step, classes, left, sweep, kept):
    """The sums of the terms that are not 1, and of those that are, of the lanes that are left for a vector."""
    one = machine.splat(1.0)
    total = count = machine.splat(0.0)
    for c in range(classes):
        d = load_some(x, at + c * step, left) - sweep.shift
        e = exp_lanes(d, sweep.rate, sweep.floor)
        below = machine.zero_where_equal(e, one, e)
        total = total + below
        count = count + (e - below)
        if sweep.keep != DISCARD:
            save_some(kept.exps, kept.at + c * kept.stride, left, e)
    return total, count


def finish_sums(n, work):
    """The parts of rest_j come together, the smallest first."""
    for j in range(n):
        work.rest[j] += work.lost[j]
        work.rest[j] += work.tied[j]


def lane_scale(kept, classes, n, factors, y, at, step, past):
    """y_cj = factor_j e_cj, 0 for a factor of 0 and below the smallest normal number; y may be where they are kept."""
    w = machine.WIDTH
    for c in range(classes):
        exps_at = kept.at + c * kept.stride
        y_at = at + c * step
        j = 0
        if past:
            j = min(n, machine.until_line(y, y_at))
            scaled_some(kept.exps, exps_at, factors, 0, j, y, y_at)
            while j + w <= n:
                by = machine.load(factors, j)
                machine.save_past(y, y_at + j, scaled(machine.load(kept.exps, exps_at + j), by))
                j += w
        while j + w <= n:
            by = machine.load(factors, j)
            machine.save(y, y_at + j, scaled(machine.load(kept.exps, exps_at + j), by))
            j += w
        scaled_some(kept.exps, exps_at, factors, j, n, y, y_at)


def scaled_some(exps, exps_at, factors, first, last, y, y_at):
    """As lane_scale, of the lanes [first, last), fewer than two vectors of a class."""
    j = first
    while j < last:
        left = min(machine.WIDTH, last - j)
        by = machine.load_tail(factors, j, left, 0.0)
        v = scaled(machine.load_tail(exps, exps_at + j, left, 0.0), by)
        machine.save_tail(y, y_at + j, left, v)
        j += left


def scaled(e, by):
    return machine.zero_where_equal(by, machine.splat(0.0), flush_lanes(by * e))


def lane_argmax(x, at, step, classes, n, first, work):
    """index_j = first + c and peaks_j = x_cj for the last c at which x_cj beat peaks_j. Without NaN two vectors are
    under way; the next tile is asked for meanwhile, whose rows lie pages apart.
    """
    w = machine.WIDTH
    none = machine.splat(-1.0)
    j = 0
    while j + 2 * w <= n:
        m0 = machine.load(work.peaks, j)
        m1 = machine.load(work.peaks, j + w)
        found0 = found1 = none
        nans = machine.any_nan(m0, m1)
        for c in range(classes):
            here = at + c * step + j
            v0 = machine.load(x, here)
            v1 = machine.load(x, here + w)
            machine.prefetch(x, here + LANES)
            machine.prefetch(x, here + LANES + w)
            now = machine.splat(c)
            nans |= machine.any_nan(v0, v1)
            found0 = machine.where_larger(v0, m0, now, found0)
            found1 = machine.where_larger(v1, m1, now, found1)
            m0 = machine.larger(v0, m0)
            m1 = machine.larger(v1, m1)
        if nans:
            break
        machine.save(work.peaks, j, m0)
        machine.save(work.peaks, j + w, m1)
        machine.save(work.spare, 0, found0)
        machine.save(work.spare, w, found1)
        for i in range(2 * w):
            work.index[j + i] = first + machine.whole(work.spare[i]) if work.spare[i] >= 0.0 else work.index[j + i]
        j += 2 * w
    for c in range(classes):
        for lane in range(j, n):
            value = machine.number(x, at + c * step + lane)
            if beats(value, work.peaks[lane]):
                work.peaks[lane] = value
                work.index[lane] = first + c
