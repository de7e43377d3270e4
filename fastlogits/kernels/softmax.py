"""Softmax, log-softmax, log-sum-exp and argmax of rows: the classes of a row lie side by side in memory.

Every operation has three steps: `reduce` reads some blocks of a row, `settle` merges the blocks of the row, `write`
produces some blocks of the result. One thread does all three on a row while it is in cache, or several threads share
a long row between them; the arithmetic is the same, so the result is too. Rows of one block take each step as a group,
so that the processor works on several at once.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import beats, exp, far_peak, flush_lanes, log1p, rounded_away
from fastlogits.kernels.records import Kept
from fastlogits.kernels.shared import blocks_of, padded, row_blocks, row_kept, row_scale
from fastlogits.kernels.sizes import BLOCK, DISCARD, KEEP, KEEP_PADDED, NONE, ROWS
from fastlogits.kernels.sums import (
    exp_run,
    exp_sum,
    find,
    load_some,
    maximum,
    maximum_or_nan,
    rest_of,
    save_some,
    sweep_from,
)


def group_of(classes):
    """How many rows take the steps together: as many as their exponentials fit the scratch tile; 1 of long rows."""
    return 1 if classes > BLOCK else min(ROWS, 4 * BLOCK // padded(classes))


def in_scratch(classes, keep):
    """Whether the exponentials of a group stay in scratch memory.

    Kept in the memory of the results, they claim it while there is work to do. Rows of few classes pay more for vectors
    across cache lines.
    """
    if classes > BLOCK:
        return keep == KEEP_PADDED
    return classes <= BLOCK // 4 or keep != KEEP


def kept_in(task, work, row):
    """Where the exponentials of the rows from `row` on stay: in y, or in scratch memory."""
    if not in_scratch(task.classes, task.keep):
        return Kept(machine.in_place(task.y), row * task.y_stride, task.y_stride, task.keep)
    if task.classes > BLOCK:
        return Kept(row_kept(task, work, row), 0, 0, KEEP_PADDED)
    return Kept(machine.stretch_real(work.tile, 0), 0, padded(task.classes), KEEP_PADDED)


# Rows of one block


def read_scales(task, row, n, work):
    """scales_j = what the logits of row `row + j` are multiplied by, where not all have the same."""
    if task.scale == 0.0:
        for j in range(n):
            work.scales[j] = task.scales[row + j]


def scale_at(scale, j, work):
    """The one scale of all rows of a group, or row j's own where that is 0."""
    return scale if scale > 0.0 else work.scales[j]


def group_sums(x, at, stride, classes, n, scale, kept, work):
    """PEAK and REST of a group of n rows."""
    group_peaks(x, at, stride, classes, n, work)
    group_rests(x, at, stride, classes, n, scale, kept, work)


def group_peaks(x, at, stride, classes, n, work):
    for j in range(n):
        work.peak[j] = maximum(x, at + j * stride, classes)


def group_rests(x, at, stride, classes, n, scale, kept, work):
    if kept.how == KEEP:
        group_exps(x, at, stride, classes, n, scale, Kept(kept.exps, kept.at, kept.stride, KEEP), work)
    elif kept.how == KEEP_PADDED:
        group_exps(x, at, stride, classes, n, scale, Kept(kept.exps, kept.at, kept.stride, KEEP_PADDED), work)
    else:
        group_exps(x, at, stride, classes, n, scale, Kept(kept.exps, 0, 0, DISCARD), work)
    for j in range(n):
        work.rest[j] -= 1.0 if work.peak[j] > -machine.INF else 0.0
    for j in range(n):
        if work.rest[j] < 0.5 and work.peak[j] > -machine.INF:
            if kept.how == DISCARD:
                sweep = sweep_from(work.peak[j], scale_at(scale, j, work), 0, KEEP_PADDED, NONE)
                exp_sum(x, at + j * stride, classes, sweep, work.spare, 0)
                work.rest[j] = rest_of(work.spare, 0, classes)
            else:
                work.rest[j] = rest_of(kept.exps, kept.at + j * kept.stride, classes)


def group_exps(x, at, stride, classes, n, scale, kept, work):
    """rest_j = sum_i exp(scale (x_ji - peak_j)) of n rows, the terms where they are kept; the next n are asked for."""
    run = 64 * machine.WIDTH
    parts = machine.some_lanes(ROWS)
    for j in range(n):
        work.rest[j] = 0.0
    i = 0
    while i < classes:
        size = min(run, classes - i)
        for j in range(n):
            sweep = sweep_from(work.peak[j], scale_at(scale, j, work), n * stride, kept.how, NONE)
            sums, _ = exp_run(x, at + j * stride + i, size, sweep, kept.exps, kept.at + j * kept.stride + i)
            parts[j] = sums
        for j in range(n):
            work.rest[j] += machine.add_lanes(parts[j])
        i += run


def norm(work, j):
    """1 + REST; NaN for a row of nothing but -inf."""
    return 1.0 + work.rest[j] if work.peak[j] > -machine.INF else machine.NAN


def scale_row(exps, at, n, factor, y, y_at, past):
    """y_i = factor e_i, 0 below the smallest normal number; y may be where the exponentials are."""
    by = machine.splat(factor)
    w = machine.WIDTH
    i = 0
    if past:
        while i < min(n, machine.until_line(y, y_at)):
            left = min(w, min(n, machine.until_line(y, y_at)) - i)
            machine.save_tail(y, y_at + i, left, flush_lanes(by * machine.load_tail(exps, at + i, left, 0.0)))
            i += left
        while i + w <= n:
            machine.save_past(y, y_at + i, flush_lanes(by * machine.load(exps, at + i)))
            i += w
    while i + w <= n:
        machine.save(y, y_at + i, flush_lanes(by * machine.load(exps, at + i)))
        i += w
    if i < n:
        machine.save_tail(y, y_at + i, n - i, flush_lanes(by * machine.load_tail(exps, at + i, n - i, 0.0)))


def shift_row(task, row, first, n, peak, log_sum):
    """y_i = scale (x_i - peak) - log_sum of n classes, one by one: peak + log_sum would round large peaks."""
    scale = row_scale(task, row)
    if scale < 1.0 and peak > far_peak():
        shift_far_row(task, row, first, n, peak, log_sum)
        return
    x_at = row * task.x_stride + first
    y_at = row * task.y_stride + first
    rate = machine.splat(scale)
    shift = machine.splat(peak)
    less = machine.splat(log_sum)
    w = machine.WIDTH
    i = 0
    if task.past:
        head = min(n, machine.until_line(task.y, y_at))
        while i < head:
            left = min(w, head - i)
            v = rate * (machine.load_tail(task.x, x_at + i, left, 0.0) - shift) - less
            machine.save_tail(task.y, y_at + i, left, v)
            i += left
        while i + w <= n:
            machine.save_past(task.y, y_at + i, rate * (machine.load(task.x, x_at + i) - shift) - less)
            i += w
    while i + w <= n:
        machine.save(task.y, y_at + i, rate * (machine.load(task.x, x_at + i) - shift) - less)
        i += w
    if i < n:
        v = rate * (machine.load_tail(task.x, x_at + i, n - i, 0.0) - shift) - less
        machine.save_tail(task.y, y_at + i, n - i, v)


def shift_far_row(task, row, first, n, peak, log_sum):
    """As shift_row, of halves: their difference is not too large."""
    x_at = row * task.x_stride + first
    y_at = row * task.y_stride + first
    half = machine.splat(0.5)
    rate = machine.splat(2.0 * row_scale(task, row))
    shift = machine.splat(0.5 * peak)
    less = machine.splat(log_sum)
    i = 0
    while i < n:
        v = rate * (half * load_some(task.x, x_at + i, n - i) - shift) - less
        save_some(task.y, y_at + i, n - i, v)
        i += machine.WIDTH


# Rows of several blocks


def reduce_blocks(task, row, kept, work, first, last):
    """peak_b = max x_j and sum_b = sum exp(scale (x_j - peak_b)) of some blocks of a row."""
    blocks = row_blocks(task, work, row)
    scale = row_scale(task, row)
    for block in range(first, last):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        at = row * task.x_stride + start
        blocks.peak[block] = maximum(task.x, at, size)
        blocks.sum[block] = block_sum(task.x, at, size, blocks.peak[block], scale, kept, start)


def block_sum(x, at, size, peak, scale, kept, start):
    """sum exp(scale (x_j - peak)), the terms where they are kept"""
    if kept.how == KEEP:
        total, _ = exp_sum(x, at, size, sweep_from(peak, scale, BLOCK, KEEP, NONE), kept.exps, kept.at + start)
    elif kept.how == KEEP_PADDED:
        total, _ = exp_sum(x, at, size, sweep_from(peak, scale, BLOCK, KEEP_PADDED, NONE), kept.exps, kept.at + start)
    else:
        total, _ = exp_sum(x, at, size, sweep_from(peak, scale, BLOCK, DISCARD, NONE), kept.exps, 0)
    return total


def merge(n, scale, blocks, work):
    """PEAK = max_c x_c, REST = sum exp(scale (x_c - PEAK)) over all c but one maximum, from n blocks.

    The maximum's own 1 is left out because log1p(REST) and REST / (1 + REST) keep their digits where one class
    dominates (Blanchard, Higham, Higham 2021). The sum of its block held that 1 in a lane; where the others come to
    less than 1/2 they have lost digits to it: returns that block, its part left out of REST, to be summed again by
    `rest_of`. Returns -1 where REST is complete.
    """
    peak = blocks.peak[0]
    own = 0.0
    rest = blocks.sum[0]
    lost = 0.0
    best = 0
    if peak > -machine.INF:
        own = rest - 1.0
        rest = 0.0
    for block in range(1, n):
        its_peak = blocks.peak[block]
        its_sum = blocks.sum[block]
        if its_peak > peak:
            if peak > -machine.INF:
                ratio = exp(scale * (peak - its_peak))
                rest = (1.0 + own + rest) * ratio
                lost *= ratio
            own = its_sum - 1.0
            peak = its_peak
            best = block
        elif its_sum != 0.0:
            term = its_sum * exp(scale * (its_peak - peak))
            lost += rounded_away(rest, term)
            rest += term
    rest += lost
    work.peak[0] = peak
    if peak > -machine.INF and own + rest < 0.5:
        work.rest[0] = rest
        return best
    work.rest[0] = own + rest
    return -1


def settle_row(task, row, kept, work):
    """PEAK and REST of a row from its blocks."""
    settle_sums(task, row, task.x, row * task.x_stride, row_scale(task, row), kept, work)


def settle_sums(task, row, x, at, scale, kept, work):
    """As settle_row, of logits that lie at `at`."""
    again = merge(blocks_of(task.classes), scale, row_blocks(task, work, row), work)
    if again >= 0:
        start = again * BLOCK
        size = min(BLOCK, task.classes - start)
        if kept.how == DISCARD:
            sweep = sweep_from(work.peak[0], scale, 0, KEEP_PADDED, NONE)
            exp_sum(x, at + start, size, sweep, work.spare, 0)
            work.rest[0] += rest_of(work.spare, 0, size)
        else:
            work.rest[0] += rest_of(kept.exps, kept.at + start, size)


def rescale(peak_of_row, peak, scale):
    """exp(scale (peak_b - PEAK)), from the exponentials of a block of a row alone to the row's"""
    return 1.0 if peak == peak_of_row else exp(scale * (peak - peak_of_row))


def write_blocks(task, row, kept, work, first, last):
    """softmax or log_softmax of some blocks of a row."""
    if task.log:
        log_sum = log1p(work.rest[0])
        shift_row(task, row, first * BLOCK, min(last * BLOCK, task.classes) - first * BLOCK, work.peak[0], log_sum)
        return
    blocks = row_blocks(task, work, row)
    scale = row_scale(task, row)
    inverse = 1.0 / norm(work, 0)
    for block in range(first, last):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        y_at = row * task.y_stride + start
        factor = inverse * rescale(work.peak[0], blocks.peak[block], scale)
        if kept.how == DISCARD:
            sweep = sweep_from(blocks.peak[block], scale, 0, KEEP_PADDED, NONE)
            exp_sum(task.x, row * task.x_stride + start, size, sweep, work.spare, 0)
            scale_row(work.spare, 0, size, factor, task.y, y_at, task.past)
        else:
            scale_row(kept.exps, kept.at + start, size, factor, task.y, y_at, task.past)


# Work is counted in rows.


def softmax_rows(task, work, start, stop):
    """softmax or log_softmax of the rows [start, stop)."""
    n = 1
    row = start
    while row < stop:
        kept = kept_in(task, work, row)
        if task.classes > BLOCK:
            last = blocks_of(task.classes)
            reduce_blocks(task, row, kept, work, 0, last)
            settle_row(task, row, kept, work)
            write_blocks(task, row, kept, work, 0, last)
        else:
            n = min(group_of(task.classes), stop - row)
            read_scales(task, row, n, work)
            group_sums(task.x, row * task.x_stride, task.x_stride, task.classes, n, task.scale, kept, work)
            group_write(task, row, n, kept, work)
        row += n


def group_write(task, row, n, kept, work):
    """softmax or log_softmax of n rows of one block."""
    if task.log:
        for j in range(n):
            work.factor[j] = log1p(work.rest[j])
        for j in range(n):
            shift_row(task, row + j, 0, task.classes, work.peak[j], work.factor[j])
    else:
        for j in range(n):
            work.factor[j] = 1.0 / norm(work, j)
        for j in range(n):
            y_at = (row + j) * task.y_stride
            exps_at = kept.at + j * kept.stride
            scale_row(kept.exps, exps_at, task.classes, work.factor[j], task.y, y_at, task.past)


def logsumexp_rows(task, work, start, stop):
    """lse_i = log sum_j exp(x_ij) of the rows [start, stop)."""
    n = 1
    row = start
    while row < stop:
        if task.classes > BLOCK:
            kept = Kept(machine.stretch_real(work.spare, 0), 0, 0, DISCARD)
            reduce_blocks(task, row, kept, work, 0, blocks_of(task.classes))
            settle_row(task, row, kept, work)
        else:
            n = min(group_of(task.classes), stop - row)
            how = KEEP_PADDED if task.classes <= BLOCK // 4 else DISCARD
            kept = Kept(machine.stretch_real(work.tile, 0), 0, padded(task.classes), how)
            group_sums(task.x, row * task.x_stride, task.x_stride, task.classes, n, 1.0, kept, work)
        for j in range(n):
            task.lse[row + j] = work.peak[j] + log1p(work.rest[j])
        for j in range(n):
            if work.peak[j] == machine.INF:
                # +inf is the answer itself in a row without NaN.
                task.lse[row + j] = maximum_or_nan(task.x, (row + j) * task.x_stride, task.classes)
        row += n


def reduce_argmax(task, row, work, first, last):
    """peak_b = max_c x_c, or a NaN where there is one, of some blocks of a row."""
    blocks = row_blocks(task, work, row)
    for block in range(first, last):
        start = block * BLOCK
        blocks.peak[block] = maximum_or_nan(task.x, row * task.x_stride + start, min(BLOCK, task.classes - start))


def settle_argmax(task, row, work):
    """The first c whose x_c is the maximum, or the first NaN, from the peaks of the blocks."""
    blocks = row_blocks(task, work, row)
    found = 0
    for block in range(1, blocks_of(task.classes)):
        if beats(blocks.peak[block], blocks.peak[found]):
            found = block
    start = found * BLOCK
    size = min(BLOCK, task.classes - start)
    task.indices[row] = start + find(task.x, row * task.x_stride + start, size, blocks.peak[found])


def argmax_rows(task, work, start, stop):
    """indices_i = argmax_c x_ic of the rows [start, stop)."""
    for row in range(start, stop):
        reduce_argmax(task, row, work, 0, blocks_of(task.classes))
        settle_argmax(task, row, work)
