"""The likelihood of a label at an inverse temperature beta, and the moments that its derivatives are made of.

With m = max_j x_j, z_j = beta (m - x_j) and p = softmax(beta x), a row with label y has

    largest p = 1 / (1 + rest)                       rest = sum of exp(-z_j) over all j but one maximum
    nll = log(1 + rest) + beta gap                   gap = m - x_y
    beta d nll / d beta = beta gap - mean            mean = sum_j p_j z_j
    beta^2 d^2 nll / d beta^2 = variance             variance = sum_j p_j (z_j - mean)^2
    Brier score = (1 - p_y)^2 + square               square = sum of p_j^2 over all j but y

Moments of z, not of x: where p_j is not 0, z_j is below 88 (709 in double), so that nothing overflows, and no sum
cancels. The steps are those of softmax.py; beta is the task's scale. The `results` are rest, gap, mean, variance and
square of all rows, one field after the other: 0 where the label is negative, and rest is NaN where there are no
probabilities.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import exp_floors, exp_rates, lane_times, to_lanes
from fastlogits.kernels.numbers import exp_lanes, finite_peak, weigh
from fastlogits.kernels.records import Kept, Sweep, Tile
from fastlogits.kernels.shared import blocks_of, row_blocks
from fastlogits.kernels.sharing import piece_at
from fastlogits.kernels.sizes import BLOCK, DISCARD, KEEP, KEEP_PADDED, NONE, SHORT, TERMS, TILE, WEIGHTED
from fastlogits.kernels.softmax import norm, rescale, settle_row
from fastlogits.kernels.sums import exp_sum, load_some, maximum, sweep_from
from fastlogits.kernels.tiles import tile_at, tile_sums


def reduce_moments(task, row, work, first, last):
    """Per block: peak and sum as in softmax.py; gap_b = sum e z, mass_b = sum e (z - gap_b / sum_b)^2, and
    square_b = sum e^2 without the label's.
    """
    blocks = row_blocks(task, work, row)
    for block in range(first, last):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        at = row * task.x_stride + start
        peak = maximum(task.x, at, size)
        sweep = sweep_from(peak, task.scale, BLOCK, KEEP_PADDED, WEIGHTED)
        total, moment = exp_sum(task.x, at, size, sweep, work.spare, 0)
        blocks.peak[block] = peak
        blocks.sum[block] = total
        blocks.gap[block] = -task.scale * moment
        spread, square = spread_of(task, row, start, size, peak, blocks.gap[block] / total, work)
        blocks.mass[block] = spread
        blocks.square[block] = square


def spread_of(task, row, start, size, peak, mean, work):
    """(sum e (z - mean)^2, sum e^2 without the label's) of a block whose exponentials are in `spare`."""
    w = machine.WIDTH
    at = row * task.x_stride + start
    label = task.labels[row] - start
    shift = machine.splat(finite_peak(peak))
    rate = machine.splat(task.scale)
    middle = machine.splat(mean)
    nothing = machine.splat(0.0)
    spread = 0.0
    square = 0.0
    i = 0
    while i < size:
        end = min(size, i + TERMS * w)
        spreads = squares = nothing
        while i < end:
            e = load_some(work.spare, i, size - i)
            away = rate * (shift - load_some(task.x, at + i, size - i)) - middle
            spreads = spreads + machine.zero_where_equal(e, nothing, e * (away * away))
            if label >= i and label < i + w:
                machine.save(work.chunk, 0, e)
                work.chunk[label - i] = 0.0
                e = machine.load(work.chunk, 0)
            squares = squares + e * e
            i += w
        spread += machine.add_lanes_exactly(spreads)
        square += machine.add_lanes_exactly(squares)
    return spread, square


def settle_moments(task, row, work):
    """PEAK and REST of a row from its blocks; the exponentials of a single one are still at hand."""
    settle_row(task, row, block_kept(task, work), work)


def block_kept(task, work):
    how = DISCARD if task.sharing or task.classes > BLOCK else KEEP_PADDED
    return Kept(machine.stretch_real(work.spare, 0), 0, 0, how)


def finish_moments(task, row, work):
    """The results of a row from its blocks: gaps and spreads move to the row's peak and mean."""
    blocks = row_blocks(task, work, row)
    rows = task.rows
    peak = work.peak[0]
    whole = norm(work, 0)
    gap = 0.0
    square = 0.0
    for block in range(blocks_of(task.classes)):
        if blocks.sum[block] != 0.0:
            below = task.scale * (peak - blocks.peak[block])
            factor = rescale(peak, blocks.peak[block], task.scale) / whole
            # Infinite, perhaps, of a block so far below that nothing is left of it: factor is 0.
            gap += weigh(factor, blocks.gap[block] + blocks.sum[block] * below)
            square += factor * factor * blocks.square[block]
    spread = 0.0
    for block in range(blocks_of(task.classes)):
        if blocks.sum[block] != 0.0:
            below = task.scale * (peak - blocks.peak[block])
            factor = rescale(peak, blocks.peak[block], task.scale) / whole
            away = blocks.gap[block] / blocks.sum[block] + below - gap
            spread += weigh(factor, blocks.mass[block] + blocks.sum[block] * away * away)
    task.results[row] = work.rest[0] if peak > -machine.INF else machine.NAN
    task.results[rows + row] = peak - machine.number(task.x, row * task.x_stride + task.labels[row])
    task.results[2 * rows + row] = gap
    task.results[3 * rows + row] = spread
    task.results[4 * rows + row] = square


def no_moments(task, row):
    """The results of a row that is left out."""
    for field in range(5):
        task.results[field * task.rows * task.inner + row] = 0.0


def moments_rows(task, work, start, stop):
    """The results of the rows [start, stop)."""
    for row in range(start, stop):
        if task.labels[row] < 0:
            no_moments(task, row)
        else:
            reduce_moments(task, row, work, 0, blocks_of(task.classes))
            settle_moments(task, row, work)
            finish_moments(task, row, work)


# The steps of long rows that threads share: see sharing.py


def moments_reduce(task, work, start, stop):
    """The blocks of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        if task.labels[row] >= 0:
            reduce_moments(task, row, work, first, last)


def moments_settle(task, work, start, stop):
    """The results of the rows [start, stop) of those that threads share."""
    for row in range(task.first + start, task.first + stop):
        if task.labels[row] < 0:
            no_moments(task, row)
        else:
            settle_moments(task, row, work)
            finish_moments(task, row, work)


# Columns, and rows of few classes: see tiles.py


def lane_sweep(task, j, left, work):
    """How the lanes that are left from j on become exponentials."""
    shift = load_some(work.shifts, j, left)
    rate = exp_rates(task.scale, j, left, work)
    return Sweep(shift, rate, exp_floors(task.scale, j, left, work), 0, DISCARD, NONE)


def lane_exp(x, at, left, sweep, kept, kept_at):
    """exp(-z) of a class of the lanes that are left, as it was kept, or once more"""
    if kept.how == DISCARD:
        return exp_lanes(load_some(x, at, left) - sweep.shift, sweep.rate, sweep.floor)
    return load_some(kept.exps, kept_at, left)


def lane_means(task, x, tile, count, kept, work):
    """gap_j + mass_j += sum_c e_cj z_cj of at most TERMS classes, whose logits begin at tile.at; what `gap` rounds away
    goes to `mass`.
    """
    w = machine.WIDTH
    nothing = machine.splat(0.0)
    j = 0
    while j < tile.n:
        left = tile.n - j
        shift = load_some(work.shifts, j, left)
        rate = lane_times(task.scale, j, left, work)
        sweep = lane_sweep(task, j, left, work)
        total = nothing
        for c in range(count):
            at = tile.at + c * tile.step + j
            e = lane_exp(x, at, left, sweep, kept, kept.at + c * kept.stride + j)
            z = rate * (shift - load_some(x, at, left))
            total = total + machine.zero_where_equal(e, nothing, e * z)
        machine.add_exactly_to(work.gap, work.mass, j, total)
        j += w


def tile_means(task, x, tile, kept, work):
    """gap_j + mass_j = sum_c e_cj z_cj"""
    for j in range(tile.n):
        work.gap[j] = 0.0
        work.mass[j] = 0.0
    c = 0
    while c < task.classes:
        here = Tile(tile.at + c * tile.step, tile.step, tile.row, tile.n, 0, 0, 0, 0)
        exps = Kept(kept.exps, kept.at + c * kept.stride, kept.stride, kept.how)
        lane_means(task, x, here, min(TERMS, task.classes - c), exps, work)
        c += TERMS


def lane_spreads(task, x, tile, count, kept, work):
    """gap_j + mass_j += sum_c e_cj (z_cj - mean_j)^2 and hard_j + smooth_j += sum_c e_cj^2 without the label's, as
    `lane_means`; means are in `factors`, and labels, counted from the first of these classes, in `counters`.
    """
    w = machine.WIDTH
    nothing = machine.splat(0.0)
    j = 0
    while j < tile.n:
        left = tile.n - j
        shift = load_some(work.shifts, j, left)
        rate = lane_times(task.scale, j, left, work)
        sweep = lane_sweep(task, j, left, work)
        mean = load_some(work.factors, j, left)
        label = load_some(work.counters, j, left)
        spread = square = nothing
        for c in range(count):
            at = tile.at + c * tile.step + j
            e = lane_exp(x, at, left, sweep, kept, kept.at + c * kept.stride + j)
            away = rate * (shift - load_some(x, at, left)) - mean
            spread = spread + machine.zero_where_equal(e, nothing, e * (away * away))
            square = square + machine.zero_where_equal(label, machine.splat(c), e * e)
        machine.add_exactly_to(work.gap, work.mass, j, spread)
        machine.add_exactly_to(work.hard, work.smooth, j, square)
        j += w


def moments_tile(task, x, tile, kept, work):
    """The results of a tile whose lane j is row `tile.row + j`."""
    n = tile.n
    rows = task.rows * task.inner
    mean_at = 2 * rows + tile.row
    variance_at = 3 * rows + tile.row
    square_at = 4 * rows + tile.row
    tile_sums(x, tile.at, tile.step, task.classes, n, task.scale, kept, work)
    tile_means(task, x, tile, kept, work)
    for j in range(n):
        task.results[mean_at + j] = (work.gap[j] + work.mass[j]) / (1.0 + work.rest[j])
        work.factors[j] = task.results[mean_at + j]
        work.gap[j] = 0.0
        work.mass[j] = 0.0
        work.hard[j] = 0.0
        work.smooth[j] = 0.0
    c = 0
    while c < task.classes:
        here = Tile(tile.at + c * tile.step, tile.step, tile.row, n, 0, 0, 0, 0)
        exps = Kept(kept.exps, kept.at + c * kept.stride, kept.stride, kept.how)
        for j in range(n):
            label = task.labels[tile.row + j] - c
            work.counters[j] = label if label >= 0 and label < TERMS else -1
        lane_spreads(task, x, here, min(TERMS, task.classes - c), exps, work)
        c += TERMS
    for j in range(n):
        whole = 1.0 + work.rest[j]
        work.peak[j] = work.peaks[j]
        task.results[tile.row + j] = work.rest[j] if work.peak[j] > -machine.INF else machine.NAN
        task.results[variance_at + j] = (work.gap[j] + work.mass[j]) / whole
        task.results[square_at + j] = (work.hard[j] + work.smooth[j]) / (whole * whole)
    for j in range(n):
        label = task.labels[tile.row + j]
        if label < 0:
            no_moments(task, tile.row + j)
        else:
            picked = machine.number(x, tile.at + label * tile.step + j)
            task.results[rows + tile.row + j] = work.peak[j] - picked


def moments_columns(task, work, start, stop):
    """The results of the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        tile = Tile(outer * task.x_stride + first, task.inner, outer * task.inner + first, n, 0, 0, 0, 0)
        how = KEEP if n * task.classes <= TILE else DISCARD
        moments_tile(task, task.x, tile, Kept(machine.stretch_real(work.tile, 0), 0, n, how), work)


def moments_short(task, work, start, stop):
    """The results of the groups of SHORT rows [start, stop)."""
    for item in range(start, stop):
        first = item * SHORT
        n = min(SHORT, task.rows - first)
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
        kept = Kept(machine.stretch_real(work.other_tile, 0), 0, n, KEEP)
        moments_tile(task, work.tile, Tile(0, n, first, n, 0, 0, 0, 0), kept, work)
