"""Partial results of rows from one sweep: the steps of softmax.py, with moments, ranks and the k largest logits.

NaN counts as the largest logit, and equals come by index; see the reference in backends/numpy/_row_stats.py.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import beats, exp, log1p, rounded_away, weigh
from fastlogits.kernels.order import group_maxima, how_many_above, how_many_equal
from fastlogits.kernels.records import Kept
from fastlogits.kernels.shared import blocks_of, row_blocks
from fastlogits.kernels.sharing import piece_at
from fastlogits.kernels.sizes import BLOCK, DISCARD, NONE, WEIGHTED
from fastlogits.kernels.softmax import settle_row
from fastlogits.kernels.sums import exp_sum, find, maximum, maximum_or_nan, sweep_from
from fastlogits.kernels.topk import group_step, list_waiting, select


def label_logit(task, x, row, at, step):
    """The logit at the label of a row that begins at `at`, its classes `step` apart; NaN where that is not a class."""
    label = task.labels[row]
    if label >= 0 and label < task.classes:
        return machine.number(x, at + label * step)
    return machine.NAN


def threshold(task, row):
    """What the logits that `above` counts are larger than."""
    if task.stats.given:
        return task.stats.thresholds[row]
    return label_logit(task, task.x, row, row * task.x_stride, 1)


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
            blocks.mass[block] = count_before(task, row, start, size, blocks.peak[block])


def count_before(task, row, start, size, peak):
    """How many logits of a block are above the threshold; with `ties` also the equals that come before the label."""
    limit = machine.cast(threshold(task, row))
    at = row * task.x_stride + start
    count = 0
    if beats(peak, limit):
        count += how_many_above(task.x, at, size, limit)
    if task.stats.ties:
        count += how_many_equal(task.x, at, min(size, task.labels[row] - start), limit)
    return count


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
    if task.stats.labelled:
        work.picked[0] = label_logit(task, task.x, row, row * task.x_stride, 1)
    if task.stats.moment:
        work.gap[0] = -merge_moments(task, row, work)
    if task.stats.sums:
        work.rest[0] = machine.NAN
        if peak > -machine.INF:
            settle_row(task, row, Kept(machine.stretch_real(work.spare, 0), 0, 0, DISCARD), work)
        work.log_norm[0] = log1p(work.rest[0])
    work.peak[0] = peak
    if task.stats.located or task.stats.second:
        start = best * BLOCK
        found = find(task.x, row * task.x_stride + start, min(BLOCK, task.classes - start), peak)
        work.index[0] = start + found
        if task.stats.second:
            work.second[0] = second_largest(task, row, best, found, work)
    if task.stats.ranked:
        blocks = row_blocks(task, work, row)
        above = 0.0
        for block in range(blocks_of(task.classes)):
            above += blocks.mass[block]
        work.above[0] = above
    deliver(task, row, 1, work)


def deliver(task, row, n, work):
    """What is wanted of n rows, from what is known of them. An infinite peak is the log of the sum itself; the nll of
    rows that are ignored is 0.
    """
    if task.stats.with_label_logits:
        for j in range(n):
            task.stats.label_logits[row + j] = work.picked[j]
    if task.stats.with_peaks:
        for j in range(n):
            task.row_peaks[row + j] = work.peak[j]
    if task.stats.with_rests:
        for j in range(n):
            task.row_rests[row + j] = work.rest[j]
    if task.stats.with_moments:
        for j in range(n):
            task.stats.moments[row + j] = -work.gap[j]
    if task.stats.with_seconds:
        for j in range(n):
            task.stats.seconds[row + j] = work.second[j]
    if task.stats.with_lse:
        for j in range(n):
            peak = work.peak[j]
            task.lse[row + j] = peak if peak - peak != 0.0 else peak + work.log_norm[j]
    if task.stats.with_nll:
        for j in range(n):
            task.stats.nll[row + j] = work.log_norm[j] + (work.peak[j] - work.picked[j])
        for j in range(n):
            if task.labels[row + j] == task.loss.ignore_index:
                task.stats.nll[row + j] = 0.0
    if task.stats.with_entropy:
        for j in range(n):
            task.stats.entropy[row + j] = work.log_norm[j] + work.gap[j] / (1.0 + work.rest[j])
    if task.stats.with_max_prob:
        for j in range(n):
            task.stats.max_prob[row + j] = 1.0 / (1.0 + work.rest[j])
    if task.stats.with_margin:
        for j in range(n):
            task.stats.margin[row + j] = work.peak[j] - work.second[j]
    if task.stats.located:
        for j in range(n):
            task.indices[row + j] = work.index[j]
    if task.stats.ranked:
        for j in range(n):
            task.stats.above[row + j] = machine.whole(work.above[j])


def stats_rows(task, work, start, stop):
    """The results of the rows [start, stop)."""
    waiting = 0
    for row in range(start, stop):
        if task.stats.swept:
            reduce_stats(task, row, work, 0, blocks_of(task.classes))
            finish_stats(task, row, work)
            if task.stats.top_k > 0:
                waiting = select(task, row, waiting, work)
        else:
            task.stats.label_logits[row] = label_logit(task, task.x, row, row * task.x_stride, 1)
    if waiting > 0:
        list_waiting(task, waiting, work)


# The steps of long rows that threads share: see sharing.py


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
            if task.stats.top_k > 0 and select(task, row, 0, work) > 0:
                list_waiting(task, 1, work)
