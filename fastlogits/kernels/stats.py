"""Partial results of rows from one sweep: the steps of softmax.py, with moments, ranks and the k largest logits.

NaN counts as the largest logit, and equals come by index; see the reference in backends/numpy/_row_stats.py.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import beats, exp, log1p, rounded_away, weigh
from fastlogits.kernels.order import group_maxima, how_many_above, how_many_equal
from fastlogits.kernels.records import Kept
from fastlogits.kernels.shared import blocks_of, row_blocks, row_scale
from fastlogits.kernels.sharing import piece_at
from fastlogits.kernels.sizes import BLOCK, DISCARD, NONE, WEIGHTED
from fastlogits.kernels.softmax import settle_sums
from fastlogits.kernels.sums import exp_sum, find, load_some, maximum, maximum_or_nan, sweep_from
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
    return picked(task, row)


def picked(task, row):
    """The logit at the label, with its bias."""
    label = task.labels[row]
    logit = label_logit(task, task.x, row, row * task.x_stride, 1)
    if task.biased and label >= 0 and label < task.classes:
        bias = machine.number(task.bias, label)
        z = machine.cast(row_scale(task, row)) * machine.cast(logit) + bias
        logit = z if bias > -machine.INF else -machine.INF
    return logit


def add_bias(x, at, bias, bias_at, n, scale, to, careful):
    """to_j = scale x_j + bias_j; returns their maximum, NaN skipped. Where the bias is -inf, NaN or +inf in x_j makes
    NaN, but -inf where this is `careful`.
    """
    w = machine.WIDTH
    low = machine.splat(-machine.INF)
    rate = machine.splat(scale)
    m0 = m1 = m2 = m3 = low
    i = 0
    while i + 4 * w <= n:
        machine.prefetch_four(x, at + i + BLOCK)
        z0 = biased(machine.load(x, at + i), machine.load(bias, bias_at + i), rate, careful)
        z1 = biased(machine.load(x, at + i + w), machine.load(bias, bias_at + i + w), rate, careful)
        z2 = biased(machine.load(x, at + i + 2 * w), machine.load(bias, bias_at + i + 2 * w), rate, careful)
        z3 = biased(machine.load(x, at + i + 3 * w), machine.load(bias, bias_at + i + 3 * w), rate, careful)
        machine.save(to, i, z0)
        machine.save(to, i + w, z1)
        machine.save(to, i + 2 * w, z2)
        machine.save(to, i + 3 * w, z3)
        m0 = machine.larger(z0, m0)
        m1 = machine.larger(z1, m1)
        m2 = machine.larger(z2, m2)
        m3 = machine.larger(z3, m3)
        i += 4 * w
    while i < n:
        none = -machine.INF
        each = machine.load(bias, bias_at + i) if i + w <= n else machine.load_tail(bias, bias_at + i, n - i, none)
        z0 = biased(load_some(x, at + i, n - i), each, rate, careful)
        machine.save(to, i, z0)
        m0 = machine.larger(z0, m0)
        i += w
    return machine.largest(machine.larger(machine.larger(m0, m1), machine.larger(m2, m3)))


def biased(x, bias, rate, careful):
    z = rate * x + bias
    low = machine.splat(-machine.INF)
    return machine.where_larger(bias, low, z, low) if careful else z


def bias_block(task, row, block, to, careful):
    """`add_bias` of a block."""
    start = block * BLOCK
    size = min(BLOCK, task.classes - start)
    at = row * task.x_stride + start
    if careful:
        return add_bias(task.x, at, task.bias, start, size, row_scale(task, row), to, True)
    return add_bias(task.x, at, task.bias, start, size, row_scale(task, row), to, False)


def reduce_biased(task, row, block, to, work):
    """The peak, the sum and the moment of a block whose logits have a bias."""
    blocks = row_blocks(task, work, row)
    if task.stats.sums:
        blocks.peak[block] = bias_block(task, row, block, to, False)
        sum_block(task, to, 0, row, block, work)
        if blocks.sum[block] == blocks.sum[block]:
            return
    blocks.peak[block] = bias_block(task, row, block, to, True)
    if task.stats.sums:
        sum_block(task, to, 0, row, block, work)
    else:
        blocks.peak[block] = maximum_or_nan(to, 0, min(BLOCK, task.classes - block * BLOCK))


def reduce_stats(task, row, work, first, last):
    """Per block: peak_b; sum_b and its moment, see below; mass_b, how many are above the threshold."""
    blocks = row_blocks(task, work, row)
    step = group_step(task)
    for block in range(first, last):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        at = row * task.x_stride + start
        if task.biased:
            to = machine.stretch_real(work.other_tile, 0)
            reduce_biased(task, row, block, to, work)
            rank_block(task, to, 0, row, block, work)
        else:
            if task.stats.sums:
                blocks.peak[block] = group_maxima(task.x, at, size, work.tile, block * step, False)
                sum_block(task, task.x, at, row, block, work)
            else:
                blocks.peak[block] = group_maxima(task.x, at, size, work.tile, block * step, True)
            rank_block(task, task.x, at, row, block, work)


def rank_block(task, x, at, row, block, work):
    """mass_b of a block that begins at `at`."""
    if task.stats.ranked:
        blocks = row_blocks(task, work, row)
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        limit = machine.cast(threshold(task, row))
        before = task.labels[row] - start if task.stats.ties else 0
        blocks.mass[block] = count_before(x, at, size, before, blocks.peak[block], limit)


def count_before(x, at, size, before, peak, limit):
    """How many of the logits of a block are above the limit; and how many of the first `before` equal it."""
    count = 0
    if beats(peak, limit):
        count += how_many_above(x, at, size, limit)
    if before > 0:
        count += how_many_equal(x, at, min(size, before), limit)
    return count


def sum_block(task, x, at, row, block, work):
    """e_j = exp(scale (x_j - peak_b)), sum_b = sum e_j, gap_b = sum (x_j - peak_b) e_j of a block that begins at `at`;
    the peak is NaN if there is one.
    """
    blocks = row_blocks(task, work, row)
    size = min(BLOCK, task.classes - block * BLOCK)
    peak = blocks.peak[block]
    scale = sum_scale(task, row)
    if task.stats.moment:
        total, moment = exp_sum(x, at, size, sweep_from(peak, scale, BLOCK, DISCARD, WEIGHTED), work.spare, 0)
        blocks.gap[block] = moment
    else:
        total, _ = exp_sum(x, at, size, sweep_from(peak, scale, BLOCK, DISCARD, NONE), work.spare, 0)
    blocks.sum[block] = total
    if total != total:
        blocks.peak[block] = maximum_or_nan(x, at, size)


def sum_scale(task, row):
    """What is left to multiply by where sums are formed: nothing of logits that have their bias."""
    return 1.0 if task.biased else row_scale(task, row)


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
    """sum (x_j - PEAK) exp(scale (x_j - PEAK)) = sum_b exp(scale away_b) (gap_b + away_b sum_b), with
    away_b = peak_b - PEAK.
    """
    blocks = row_blocks(task, work, row)
    scale = sum_scale(task, row)
    total = 0.0
    lost = 0.0
    for block in range(blocks_of(task.classes)):
        if blocks.peak[block] > -machine.INF:
            away = blocks.peak[block] - work.peak[0]
            # Infinite, perhaps, of a block so far below that nothing is left of it.
            term = weigh(exp(scale * away), blocks.gap[block] + away * blocks.sum[block])
            lost += rounded_away(total, term)
            total += term
    return total + lost


def second_largest(task, x, at, row, best, found, work):
    """The largest of the other peaks and of the other logits in block `best`, which is at `at` and has its peak at
    `found`.
    """
    blocks = row_blocks(task, work, row)
    size = min(BLOCK, task.classes - best * BLOCK)
    second = max(maximum(x, at, found), maximum(x, at + found + 1, size - found - 1))
    for block in range(blocks_of(task.classes)):
        if block != best and blocks.peak[block] > second:
            second = blocks.peak[block]
    return second


def finish_stats(task, row, work):
    """The results of a row from its blocks."""
    best = lead(task, row, work)
    if task.biased:
        to = machine.stretch_real(work.other_tile, 0)
        bias_block(task, row, best, to, True)
        finish_row(task, to, 0, row, best, work)
    else:
        finish_row(task, task.x, row * task.x_stride + best * BLOCK, row, best, work)


def finish_row(task, x, at, row, best, work):
    """As finish_stats, of the block with the peak, which begins at `at`."""
    peak = work.peak[0]
    scale = sum_scale(task, row)
    work.scales[0] = scale
    if task.stats.labelled:
        work.picked[0] = picked(task, row)
    if task.stats.moment:
        work.gap[0] = -scale * merge_moments(task, row, work)
    if task.stats.sums:
        work.rest[0] = machine.NAN
        if peak > -machine.INF:
            nowhere = Kept(machine.stretch_real(work.spare, 0), 0, 0, DISCARD)
            settle_sums(task, row, x, at - best * BLOCK, scale, nowhere, work)
        work.log_norm[0] = log1p(work.rest[0])
    work.peak[0] = peak
    if task.stats.located or task.stats.second:
        start = best * BLOCK
        found = find(x, at, min(BLOCK, task.classes - start), peak)
        work.index[0] = start + found
        if task.stats.second:
            work.second[0] = second_largest(task, x, at, row, best, found, work)
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
            task.lse[row + j] = peak if peak - peak != 0.0 else work.scales[j] * peak + work.log_norm[j]
    if task.stats.with_nll:
        for j in range(n):
            task.stats.nll[row + j] = work.log_norm[j] + work.scales[j] * (work.peak[j] - work.picked[j])
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
            task.stats.margin[row + j] = work.scales[j] * (work.peak[j] - work.second[j])
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
            task.stats.label_logits[row] = picked(task, row)
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
