"""Softmax and its family of columns, a tile of them at a time: the class axis in the middle of an array as it lies in
memory (`*_columns`), and rows of few classes, transposed in scratch memory, SHORT rows at a time (`*_short`).
"""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import (
    finish_sums,
    lane_argmax,
    lane_exps,
    lane_maxima,
    lane_scale,
    lane_totals,
    scaled,
    start_peaks,
    start_sums,
    to_lanes,
    to_rows,
)
from fastlogits.kernels.gradients import limit, nearly_lost, settle_again, slope
from fastlogits.kernels.numbers import LOG2_E, exp, exp_lanes, far_peak, floor_of, flush, log1p_lanes
from fastlogits.kernels.plan import tile_lanes, tiles_in
from fastlogits.kernels.records import Kept
from fastlogits.kernels.sizes import DISCARD, KEEP, NOTHING, SHORT, TERMS, TILE
from fastlogits.kernels.sums import add_twice, load_some, maximum, save_some


def tile_sums(x, at, step, classes, n, scale, kept, work):
    """Per lane j: peaks_j = max_c x_cj; rest_j = sum_c exp(scale (x_cj - peaks_j)) over all but one maximum."""
    start_peaks(n, work)
    c = 0
    while c < classes:
        lane_maxima(x, at + c * step, step, min(TERMS, classes - c), n, work)
        c += TERMS
    start_sums(n, work)
    c = 0
    while c < classes:
        here = Kept(kept.exps, kept.at + c * kept.stride, kept.stride, kept.how)
        lane_exps(x, at + c * step, step, min(TERMS, classes - c), n, scale, here, work)
        c += TERMS
    finish_sums(n, work)


def softmax_tile(task, x, at, y, y_at, step, n, work):
    """y_cj = exp(scale (x_cj - peaks_j)) / (1 + rest_j), or scale (x_cj - peaks_j) - log(1 + rest_j)."""
    classes = task.classes
    kept = Kept(machine.stretch_real(work.tile, 0), 0, n, DISCARD)
    if not task.log:
        if machine.is_scratch(y):
            kept = Kept(machine.in_place(y), y_at, step, KEEP)
        elif n * classes <= TILE:
            kept = Kept(machine.stretch_real(work.tile, 0), 0, n, KEEP)
    tile_sums(x, at, step, classes, n, task.scale, kept, work)
    if task.log:
        lane_log_sums(n, work)
        lane_shift(task, x, at, y, y_at, step, n, work)
        return
    for j in range(n):
        work.factors[j] = 1.0 / (1.0 + work.rest[j])
    if kept.how == KEEP:
        lane_scale(kept, classes, n, work.factors, y, y_at, step, task.past)
        return
    rate = machine.splat(task.scale * LOG2_E)
    floor = machine.splat(floor_of(task.scale))
    for c in range(classes):
        j = 0
        while j < n:
            d = load_some(x, at + c * step + j, n - j) - load_some(work.shifts, j, n - j)
            e = scaled(exp_lanes(d, rate, floor), load_some(work.factors, j, n - j))
            save_some(y, y_at + c * step + j, n - j, e)
            j += machine.WIDTH


def lane_log_sums(n, work):
    """factors_j = log(1 + rest_j)"""
    w = machine.WIDTH
    for j in range(n):
        work.factors[j] = work.rest[j]
    j = 0
    while j < n:
        machine.save(work.factors, j, log1p_lanes(machine.load(work.factors, j)))
        j += w


def lane_shift(task, x, at, y, y_at, step, n, work):
    """y_cj = scale (x_cj - peaks_j) - factors_j"""
    if task.scale < 1.0 and maximum(work.peaks, 0, n) > far_peak():
        lane_shift_far(task, x, at, y, y_at, step, n, work)
        return
    rate = machine.splat(task.scale)
    w = machine.WIDTH
    for c in range(task.classes):
        x_at = at + c * step
        to = y_at + c * step
        j = 0
        if task.past:
            j = min(n, machine.until_line(y, to))
            shifted_some(x, x_at, y, to, 0, j, task.scale, work)
            while j + w <= n:
                d = machine.load(x, x_at + j) - machine.load(work.peaks, j)
                machine.save_past(y, to + j, rate * d - machine.load(work.factors, j))
                j += w
        while j + w <= n:
            d = machine.load(x, x_at + j) - machine.load(work.peaks, j)
            machine.save(y, to + j, rate * d - machine.load(work.factors, j))
            j += w
        shifted_some(x, x_at, y, to, j, n, task.scale, work)


def lane_shift_far(task, x, at, y, y_at, step, n, work):
    """As lane_shift, of halves: their difference is not too large."""
    half = machine.splat(0.5)
    rate = machine.splat(2.0 * task.scale)
    for c in range(task.classes):
        j = 0
        while j < n:
            d = half * load_some(x, at + c * step + j, n - j) - half * load_some(work.peaks, j, n - j)
            save_some(y, y_at + c * step + j, n - j, rate * d - load_some(work.factors, j, n - j))
            j += machine.WIDTH


def shifted_some(x, x_at, y, to, first, last, scale, work):
    """As lane_shift, of the lanes [first, last), fewer than two vectors of a class."""
    j = first
    while j < last:
        left = min(machine.WIDTH, last - j)
        d = machine.load_tail(x, x_at + j, left, 0.0) - machine.load_tail(work.peaks, j, left, 0.0)
        less = machine.load_tail(work.factors, j, left, 0.0)
        machine.save_tail(y, to + j, left, machine.splat(scale) * d - less)
        j += left


def logsumexp_tile(task, x, at, step, row, n, work):
    """lse_j = peaks_j + log(1 + rest_j); an infinite peak in a lane without NaN is the answer itself."""
    classes = task.classes
    nowhere = Kept(machine.stretch_real(work.tile, 0), 0, 0, DISCARD)
    tile_sums(x, at, step, classes, n, 1.0, nowhere, work)
    lane_log_sums(n, work)
    for j in range(n):
        task.lse[row + j] = work.peaks[j] + work.factors[j]
    for j in range(n):
        if work.peaks[j] == machine.INF or work.peaks[j] == -machine.INF:
            nans = 0
            for c in range(classes):
                logit = machine.number(x, at + c * step + j)
                nans += 1 if logit != logit else 0
            task.lse[row + j] = machine.NAN if nans > 0 else work.peaks[j]


def argmax_tile(task, x, at, step, row, n, work):
    """indices_j = the first c whose x_cj is the maximum, or the first NaN."""
    start_peaks(n, work)
    for j in range(n):
        work.index[j] = 0
    c = 0
    while c < task.classes:
        lane_argmax(x, at + c * step, step, min(TERMS, task.classes - c), n, c, work)
        c += TERMS
    for j in range(n):
        task.indices[row + j] = work.index[j]


def gradient_tile(task, g_at, p_at, at, n, work):
    """As gradients.py has it, of columns."""
    for j in range(n):
        work.rest[j] = 0.0
        work.lost[j] = 0.0
    start_peaks(n, work)
    c = 0
    while c < task.classes:
        count = min(TERMS, task.classes - c)
        here = c * task.inner
        if task.log:
            lane_totals(task, g_at + here, p_at + here, count, n, work, False)
        else:
            lane_totals(task, g_at + here, p_at + here, count, n, work, True)
        c += TERMS
    doubtful = 0
    most = limit(task)
    for j in range(n):
        work.rest[j] += work.lost[j]
        doubtful += 1 if work.peaks[j] > most else 0
    if doubtful > 0:
        look_at_tile(task, g_at, p_at, n, work)
    for j in range(n):
        work.factors[j] = work.rest[j]
    if task.log:
        lane_slopes(task, g_at, p_at, at, n, work, True)
    elif doubtful > 0:
        led_lane_slopes(task, g_at, p_at, at, n, work)
    else:
        lane_slopes(task, g_at, p_at, at, n, work, False)
    if doubtful > 0:
        for j in range(n):
            if work.top[j] != NOTHING:
                machine.put(task.z, at + work.top[j] * task.inner + j, flush(work.top_target[j]))


def look_at_tile(task, g_at, p_at, n, work):
    """LEAD_j, REST_j, TOP_j and TOP_TARGET_j of columns, the largest p in `peaks`: `look_again` of gradients.py."""
    for j in range(n):
        work.lead[j] = 0.0
        work.top[j] = NOTHING
    j = 0
    while j < n:
        peaks = machine.load_tail(work.peaks, j, min(machine.WIDTH, n - j), -machine.INF)
        if machine.count_above(peaks, machine.splat(limit(task))) > 0:
            look_at_lanes(task, g_at + j, p_at + j, j, min(machine.WIDTH, n - j), work)
        j += machine.WIDTH


def look_at_lanes(task, g_at, p_at, first, left, work):
    """look_at_tile of the lanes from `first` on that are left"""
    w = machine.WIDTH
    one = machine.splat(1.0)
    rate = machine.splat(LOG2_E)
    floor = machine.splat(floor_of(1.0))
    peaks = load_some(work.peaks, first, left)
    own = place = times = grads = lost_grads = probs = lost_probs = machine.splat(0.0)
    for c in range(task.classes):
        g = load_some(task.x, g_at + c * task.inner, left)
        p = load_some(task.y, p_at + c * task.inner, left)
        own = own + (g - machine.zero_where_equal(p, peaks, g))
        here = one - machine.zero_where_equal(p, peaks, one)
        place = place + machine.splat(c) * here
        times = times + here
    for c in range(task.classes):
        g = load_some(task.x, g_at + c * task.inner, left)
        p = load_some(task.y, p_at + c * task.inner, left)
        e = p
        if task.log:
            e = exp_lanes(p, rate, floor)
        else:
            g = (g - own) * p
        grads, lost_grads = add_twice(grads, lost_grads, machine.zero_where_equal(p, peaks, g))
        probs, lost_probs = add_twice(probs, lost_probs, machine.zero_where_equal(p, peaks, e))
    machine.save(work.spare, 0, own)
    machine.save(work.spare, w, place)
    machine.save(work.spare, 2 * w, grads)
    machine.save(work.spare, 3 * w, lost_grads)
    machine.save(work.spare, 4 * w, probs)
    machine.save(work.spare, 5 * w, lost_probs)
    machine.save(work.spare, 6 * w, times)
    for i in range(left):
        own_grad = 0.0 + work.spare[i]
        prob = 0.0 + work.peaks[first + i]
        # What is no distribution may have several such classes.
        if prob > limit(task) and work.spare[6 * w + i] == 1.0:
            if task.log:
                prob = exp(prob)
            if nearly_lost(own_grad, prob, task.log, work.rest[first + i]):
                other_grads = 0.0 + work.spare[2 * w + i] + work.spare[3 * w + i]
                other_probs = 0.0 + work.spare[4 * w + i] + work.spare[5 * w + i]
                top = machine.whole(work.spare[w + i])
                settle_again(task, own_grad, prob, other_grads, other_probs, top, first + i, work)


def led_lane_slopes(task, g_at, p_at, at, n, work):
    """z_cj = p_cj ((g_cj - LEAD_j) - factor_j)"""
    for j in range(n):
        work.shifts[j] = work.lead[j]
    for c in range(task.classes):
        here = c * task.inner
        j = 0
        while j < n:
            g = load_some(task.x, g_at + here + j, n - j) - load_some(work.shifts, j, n - j)
            p = load_some(task.y, p_at + here + j, n - j)
            save_some(task.z, at + here + j, n - j, slope(g, p, load_some(work.factors, j, n - j), False))
            j += machine.WIDTH


def lane_slopes(task, g_at, p_at, at, n, work, log):
    """z_cj = the slope of g_cj and p_cj; z may be either."""
    w = machine.WIDTH
    for c in range(task.classes):
        here = c * task.inner
        j = 0
        if task.past:
            j = min(n, machine.until_line(task.z, at + here))
            slopes_some(task, g_at + here, p_at + here, at + here, 0, j, work)
            while j + w <= n:
                g = machine.load(task.x, g_at + here + j)
                p = machine.load(task.y, p_at + here + j)
                machine.save_past(task.z, at + here + j, slope(g, p, machine.load(work.factors, j), log))
                j += w
        while j + w <= n:
            g = machine.load(task.x, g_at + here + j)
            p = machine.load(task.y, p_at + here + j)
            machine.save(task.z, at + here + j, slope(g, p, machine.load(work.factors, j), log))
            j += w
        slopes_some(task, g_at + here, p_at + here, at + here, j, n, work)


def slopes_some(task, g_at, p_at, at, first, last, work):
    """As lane_slopes, of the lanes [first, last), fewer than two vectors of a class."""
    j = first
    while j < last:
        left = min(machine.WIDTH, last - j)
        g = machine.load_tail(task.x, g_at + j, left, 0.0)
        p = machine.load_tail(task.y, p_at + j, left, 0.0)
        total = machine.load_tail(work.factors, j, left, 0.0)
        machine.save_tail(task.z, at + j, left, slope(g, p, total, task.log))
        j += left


# Work is counted in items: a tile of columns, or SHORT rows.


def tile_at(task, item):
    """(outer index, first column, how many columns) of a tile"""
    lanes = tile_lanes(task.classes, machine.HALVES)
    tiles = tiles_in(task.inner, lanes)
    first = item % tiles * lanes
    return item // tiles, first, min(lanes, task.inner - first)


def softmax_columns(task, work, start, stop):
    """softmax or log_softmax of the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        at = outer * task.x_stride + first
        softmax_tile(task, task.x, at, task.y, outer * task.y_stride + first, task.inner, n, work)


def softmax_short(task, work, start, stop):
    """softmax or log_softmax of the groups of SHORT rows [start, stop)."""
    for item in range(start, stop):
        first = item * SHORT
        n = min(SHORT, task.rows - first)
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
        softmax_tile(task, work.tile, 0, work.tile, 0, n, n, work)
        to_rows(work.tile, task.classes, n, task.y, first * task.y_stride, task.y_stride)


def logsumexp_columns(task, work, start, stop):
    """logsumexp of the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        at = outer * task.x_stride + first
        logsumexp_tile(task, task.x, at, task.inner, outer * task.inner + first, n, work)


def logsumexp_short(task, work, start, stop):
    """logsumexp of the groups of SHORT rows [start, stop)."""
    for item in range(start, stop):
        first = item * SHORT
        n = min(SHORT, task.rows - first)
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
        logsumexp_tile(task, work.tile, 0, n, first, n, work)


def argmax_columns(task, work, start, stop):
    """argmax of the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        at = outer * task.x_stride + first
        argmax_tile(task, task.x, at, task.inner, outer * task.inner + first, n, work)


def argmax_short(task, work, start, stop):
    """argmax of the groups of SHORT rows [start, stop)."""
    for item in range(start, stop):
        first = item * SHORT
        n = min(SHORT, task.rows - first)
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
        argmax_tile(task, work.tile, 0, n, first, n, work)


def gradient_columns(task, work, start, stop):
    """The gradient of softmax, or of log-softmax, for the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        g_at = outer * task.x_stride + first
        p_at = outer * task.y_stride + first
        gradient_tile(task, g_at, p_at, outer * task.z_stride + first, n, work)
