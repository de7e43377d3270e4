"""Statistics of columns and of short rows: what stats.py has, on tiles, see tiles.py."""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import lane_argmax, lane_scales, start_peaks, to_lanes
from fastlogits.kernels.lane_order import lane_before, lane_seconds, lane_top
from fastlogits.kernels.moments import tile_means
from fastlogits.kernels.numbers import log1p
from fastlogits.kernels.records import Kept, Tile
from fastlogits.kernels.shared import row_scale
from fastlogits.kernels.sizes import DISCARD, KEEP, SHORT, TERMS, TILE
from fastlogits.kernels.stats import deliver, label_logit
from fastlogits.kernels.sums import load_some
from fastlogits.kernels.tiles import tile_at, tile_sums


def lane_peaks(task, x, tile, work):
    """peaks_j = max_c x_cj, or NaN, and index_j, where it is first."""
    start_peaks(tile.n, work)
    for j in range(tile.n):
        work.index[j] = 0
    c = 0
    while c < task.classes:
        lane_argmax(x, tile.at + c * tile.step, tile.step, min(TERMS, task.classes - c), tile.n, c, work)
        c += TERMS
    for j in range(tile.n):
        work.peak[j] = work.peaks[j]


def lane_stats(task, x, tile, kept, work):
    """rest_j, log_norm_j and, where asked, gap_j of a tile."""
    n = tile.n
    tile_sums(x, tile.at, tile.step, task.classes, n, task.scale, kept, work)
    if task.stats.moment:
        tile_means(task, x, tile, kept, work)
        for j in range(n):
            work.gap[j] += work.mass[j]
    for j in range(n):
        work.log_norm[j] = log1p(work.rest[j])
        work.factors[j] = work.rest[j]


def settle_lanes(task, x, tile, work):
    """peak_j, NaN where there is one, and NaN for what there is none of, in lanes of nothing but -inf."""
    n = tile.n
    for j in range(n):
        work.peak[j] = work.peaks[j]
    if all_plain(n, work):
        return
    for j in range(n):
        if work.rest[j] != work.rest[j]:
            for c in range(task.classes):
                logit = machine.number(x, tile.at + c * tile.step + j)
                if logit != logit:
                    work.peak[j] = machine.NAN
        elif work.peak[j] == -machine.INF:
            work.rest[j] = machine.NAN
            work.log_norm[j] = machine.NAN


def all_plain(n, work):
    """Whether all peaks are finite, and all of `factors` are numbers."""
    w = machine.WIDTH
    nans = 0
    j = 0
    while j < n:
        peak = load_some(work.peaks, j, n - j)
        nans |= machine.any_nan(peak - peak, load_some(work.factors, j, n - j))
        j += w
    return nans == 0


def lane_ranks(task, x, tile, work):
    """above_j, how many classes come before the label"""
    n = tile.n
    if task.stats.given:
        for j in range(n):
            work.factors[j] = task.stats.thresholds[tile.row + j]
    else:
        for j in range(n):
            work.factors[j] = work.picked[j]
    for j in range(n):
        work.above[j] = 0.0
    c = 0
    while c < task.classes:
        here = Tile(tile.at + c * tile.step, tile.step, tile.row, n, 0, 0, 0, 0)
        lane_before(task, x, here, c, min(TERMS, task.classes - c), work)
        c += TERMS
    if not all_plain(n, work):
        for j in range(n):
            if work.factors[j] != work.factors[j]:
                work.above[j] = nans_before(task, x, tile, j) if task.stats.ties else 0.0


def nans_before(task, x, tile, j):
    """How many NaN come before the label of a lane"""
    count = 0.0
    for c in range(min(task.labels[tile.row + j], task.classes)):
        logit = machine.number(x, tile.at + c * tile.step + j)
        count += 1.0 if logit != logit else 0.0
    return count


def lane_margins(task, x, tile, work):
    """second_j, the largest logit but one"""
    for j in range(tile.n):
        work.counters[j] = -machine.INF
        work.spare[j] = -machine.INF
    c = 0
    while c < task.classes:
        here = Tile(tile.at + c * tile.step, tile.step, tile.row, tile.n, 0, 0, 0, 0)
        lane_seconds(x, here, min(TERMS, task.classes - c), work)
        c += TERMS
    for j in range(tile.n):
        work.second[j] = work.spare[j]


def stats_tile(task, x, tile, kept, work):
    """The results of a tile whose lane j is row `tile.row + j`."""
    lane_scales(task, tile.row, tile.n, work)
    for j in range(tile.n):
        work.scales[j] = row_scale(task, tile.row + j)
    if task.stats.labelled:
        for j in range(tile.n):
            work.picked[j] = label_logit(task, x, tile.row + j, tile.at + j, tile.step)
    if task.stats.sums:
        lane_stats(task, x, tile, kept, work)
        settle_lanes(task, x, tile, work)
    if task.stats.located or (not task.stats.sums and (task.stats.with_peaks or task.stats.with_margin)):
        lane_peaks(task, x, tile, work)
    if task.stats.second:
        lane_margins(task, x, tile, work)
    if task.stats.ranked:
        lane_ranks(task, x, tile, work)
    deliver(task, tile.row, tile.n, work)
    if task.stats.top_k > 0:
        lane_top(task, x, tile, work)


def stats_columns(task, work, start, stop):
    """The results of the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        tile = Tile(outer * task.x_stride + first, task.inner, outer * task.inner + first, n, 0, 0, 0, 0)
        how = KEEP if n * task.classes <= TILE else DISCARD
        stats_tile(task, task.x, tile, Kept(machine.stretch_real(work.tile, 0), 0, n, how), work)


def stats_short(task, work, start, stop):
    """The results of the groups of SHORT rows [start, stop), as many of them at a time as fit the scratch tile."""
    most = min(SHORT, TILE // task.classes // 16 * 16)
    for item in range(start, stop):
        last = min(task.rows, (item + 1) * SHORT)
        first = item * SHORT
        while first < last:
            n = min(most, last - first)
            to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
            kept = Kept(machine.stretch_real(work.other_tile, 0), 0, n, KEEP)
            stats_tile(task, work.tile, Tile(0, n, first, n, 0, 0, 0, 0), kept, work)
            first += n
