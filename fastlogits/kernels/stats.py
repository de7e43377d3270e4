"""Partial results of rows from one sweep: the steps of softmax.py, with moments, ranks and the k largest logits.

NaN counts as the largest logit, and equals come by index; see the reference in backends/_numpy_row_stats.py.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import beats, exp, rounded_away, weigh
from fastlogits.kernels.order import group_maxima, how_many_above
from fastlogits.kernels.records import Kept
from fastlogits.kernels.shared import blocks_of, row_blocks
from fastlogits.kernels.sharing import piece_at
from fastlogits.kernels.sizes import BLOCK, DISCARD, NONE, WEIGHTED
from fastlogits.kernels.softmax import settle_row
from fastlogits.kernels.sums import exp_sum, find, maximum, maximum_or_nan, sweep_from
from fastlogits.kernels.topk import group_step, select


def pick_label(task, row):
    """The logit at the label; NaN where that is not a class."""
    label = task.labels[row]
    task.stats.label_logits[row] = machine.NAN
    if label >= 0 and label < task.classes:
        task.stats.label_logits[row] = machine.number(task.x, row * task.x_stride + label)


def reduce_stats(task, row, work, first, last):
    """Per block: peak_b; sum_b and its moment, see below; mass_b, how many are above the threshold."""
    blocks = row_blocks(task, work, row)
    step = group_step(task)
    for block in range(first, last):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        at = row * task.x_stride + start
        if task.stats.sums:
            blocks.peak[block] = group_maxima(task.x, at, size, work.tile, block * step, False)
            sum_block(task, row, work, block)
        else:
            blocks.peak[block] = group_maxima(task.x, at, size, work.tile, block * step, True)
        if task.stats.ranked:
            limit = machine.cast(task.stats.thresholds[row])
            blocks.mass[block] = 0.0
            if beats(blocks.peak[block], limit):
                blocks.mass[block] = how_many_above(task.x, at, size, limit)


def sum_block(task, row, work, block):
    """sum_b = sum exp(x_j - peak_b), gap_b = sum (x_j - peak_b) exp(x_j - peak_b); the peak is NaN if there is one."""
    blocks = row_blocks(task, work, row)
    start = block * BLOCK
    size = min(BLOCK, task.classes - start)
    at = row * task.x_stride + start
    peak = blocks.peak[block]
    if task.stats.moment:
        total, moment = exp_sum(task.x, at, size, sweep_from(peak, 1.0, BLOCK, DISCARD, WEIGHTED), work.spare, 0)
        blocks.gap[block] = moment
    else:
        total, _ = exp_sum(task.x, at, size, sweep_from(peak, 1.0, BLOCK, DISCARD, NONE), work.spare, 0)
    blocks.sum[block] = total
    if total != total:
        blocks.peak[block] = maximum_or_nan(task.x, at, size)


def lead(task, row, work):
    """PEAK = max_b peak_b, or NaN; returns the first block that has it."""
    blocks = row_blocks(task, work, row)
    best = 0
    for block in range(1, blocks_of(task.classes)):
        if beats(blocks.peak[block], blocks.peak[best]):
            best = block
    work.peak[0] = blocks.peak[best]
    return best


def merge_moments(task, row, work):
    """sum (x_j - PEAK) exp(x_j - PEAK) = sum_b exp(away_b) (gap_b + away_b sum_b), with away_b = peak_b - PEAK."""
    blocks = row_blocks(task, work, row)
    total = 0.0
    lost = 0.0
    for block in range(blocks_of(task.classes)):
        if blocks.peak[block] > -machine.INF:
            away = blocks.peak[block] - work.peak[0]
            # Infinite, perhaps, of a block so far below that nothing is left of it.
            term = weigh(exp(away), blocks.gap[block] + away * blocks.sum[block])
            lost += rounded_away(total, term)
            total += term
    return total + lost


def second_largest(task, row, best, found, work):
    """The largest of the other peaks and of the other logits in block `best`, which has its peak at `found`."""
    blocks = row_blocks(task, work, row)
    start = best * BLOCK
    size = min(BLOCK, task.classes - start)
    at = row * task.x_stride + start
    second = max(maximum(task.x, at, found), maximum(task.x, at + found + 1, size - found - 1))
    for block in range(blocks_of(task.classes)):
        if block != best and blocks.peak[block] > second:
            second = blocks.peak[block]
    return second


def finish_stats(task, row, work):
    """The results of a row from its blocks."""
    best = lead(task, row, work)
    peak = work.peak[0]
    task.row_peaks[row] = peak
    if task.stats.moment:
        task.stats.moments[row] = merge_moments(task, row, work)
    if task.stats.sums:
        task.row_rests[row] = machine.NAN
        if peak > -machine.INF:
            settle_row(task, row, Kept(machine.stretch_real(work.spare, 0), 0, 0, DISCARD), work)
            task.row_rests[row] = work.rest[0]
    if task.stats.located or task.stats.second:
        start = best * BLOCK
        found = find(task.x, row * task.x_stride + start, min(BLOCK, task.classes - start), peak)
        if task.stats.located:
            task.indices[row] = start + found
        if task.stats.second:
            task.stats.seconds[row] = second_largest(task, row, best, found, work)
    if task.stats.ranked:
        blocks = row_blocks(task, work, row)
        above = 0.0
        for block in range(blocks_of(task.classes)):
            above += blocks.mass[block]
        task.stats.above[row] = machine.whole(above)
    if task.stats.top_k > 0:
        work.peak[0] = peak
        select(task, row, work)


def stats_rows(task, work, start, stop):
    """The partial results of the rows [start, stop)."""
    for row in range(start, stop):
        if task.stats.labelled:
            pick_label(task, row)
        if task.stats.swept:
            reduce_stats(task, row, work, 0, blocks_of(task.classes))
            finish_stats(task, row, work)


# The steps of long rows that threads share: see sharing.py


def stats_pick(task, work, start, stop):
    """The logits at the labels of the rows [start, stop) of those that threads share."""
    if task.stats.labelled:
        for row in range(task.first + start, task.first + stop):
            pick_label(task, row)


def stats_reduce(task, work, start, stop):
    """The blocks of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        reduce_stats(task, row, work, first, last)


def stats_write(task, work, start, stop):
    """The results of the rows that have their first piece in [start, stop)."""
    for item in range(start, stop):
        row, first, _ = piece_at(task, item)
        if first == 0:
            finish_stats(task, row, work)
