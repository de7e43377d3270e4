"""Softmax and its family of columns, a tile of them at a time: the class axis in the middle of an array as it lies in
memory (`*_columns`), and rows of few classes, transposed in scratch memory, SHORT rows at a time (`*_short`).
"""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import (
    exp_floors,
    exp_rates,
    finish_sums,
    lane_argmax,
    lane_exps,
    lane_maxima,
    lane_scale,
    lane_scales,
    lane_times,
    scaled,
    start_peaks,
    start_sums,
    to_lanes,
    to_rows,
)
from fastlogits.kernels.numbers import exp_lanes, far_peak, log1p_lanes
from fastlogits.kernels.plan import tile_lanes, tiles_in
from fastlogits.kernels.records import Kept
from fastlogits.kernels.sizes import DISCARD, KEEP, SHORT, TERMS, TILE
from fastlogits.kernels.sums import load_some, maximum, save_some


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
    for c in range(classes):
        j = 0
        while j < n:
            rate = exp_rates(task.scale, j, n - j, work)
            floor = exp_floors(task.scale, j, n - j, work)
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
    scale = task.scale
    w = machine.WIDTH
    for c in range(task.classes):
        x_at = at + c * step
        to = y_at + c * step
        j = 0
        if task.past:
            j = min(n, machine.until_line(y, to))
            shifted_some(x, x_at, y, to, 0, j, scale, work)
            while j + w <= n:
                d = machine.load(x, x_at + j) - machine.load(work.peaks, j)
                machine.save_past(y, to + j, lane_times(scale, j, w, work) * d - machine.load(work.factors, j))
                j += w
        while j + w <= n:
            d = machine.load(x, x_at + j) - machine.load(work.peaks, j)
            machine.save(y, to + j, lane_times(scale, j, w, work) * d - machine.load(work.factors, j))
            j += w
        shifted_some(x, x_at, y, to, j, n, scale, work)


def lane_shift_far(task, x, at, y, y_at, step, n, work):
    """As lane_shift, of halves: their difference is not too large."""
    half = machine.splat(0.5)
    twice = machine.splat(2.0)
    for c in range(task.classes):
        j = 0
        while j < n:
            d = half * load_some(x, at + c * step + j, n - j) - half * load_some(work.peaks, j, n - j)
            rate = twice * lane_times(task.scale, j, n - j, work)
            save_some(y, y_at + c * step + j, n - j, rate * d - load_some(work.factors, j, n - j))
            j += machine.WIDTH


def shifted_some(x, x_at, y, to, first, last, scale, work):
    """As lane_shift, of the lanes [first, last), fewer than two vectors of a class."""
    j = first
    while j < last:
        left = min(machine.WIDTH, last - j)
        d = machine.load_tail(x, x_at + j, left, 0.0) - machine.load_tail(work.peaks, j, left, 0.0)
        less = machine.load_tail(work.factors, j, left, 0.0)
        machine.save_tail(y, to + j, left, lane_times(scale, j, left, work) * d - less)
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
        lane_scales(task, outer * task.inner + first, n, work)
        softmax_tile(task, task.x, at, task.y, outer * task.y_stride + first, task.inner, n, work)


def softmax_short(task, work, start, stop):
    """softmax or log_softmax of the groups of SHORT rows [start, stop)."""
    for item in range(start, stop):
        first = item * SHORT
        n = min(SHORT, task.rows - first)
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
        lane_scales(task, first, n, work)
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
