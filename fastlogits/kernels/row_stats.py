"""Partial results of rows from one sweep: the steps of softmax.py, with moments, ranks and the k largest logits.

NaN counts as the largest logit, and equals come by index.
"""

import math

from fastlogits.kernels import primitives, softmax, topk


def pick(x, at, labels, row, label_logits, options, work):
    """The logit at the label; NaN where that is not a class."""
    label_logits[row] = primitives.NAN
    if labels[row] >= 0 and labels[row] < options.classes:
        logit = primitives.load(x, at + labels[row], 1, primitives.slot(work, 0), options.storage)
        label_logits[row] = logit[0]


def reduce(x, at, threshold, options, state, first, last, work):
    """Per block: peak_b; sum exp(x_j - peak_b); the moment sum (x_j - peak_b) exp(x_j - peak_b); how many are above."""
    all_groups = primitives.slot(work, primitives.TILE)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), options.storage)
        groups = primitives.stretch(all_groups, block * options.group_step, primitives.GROUPS)
        peak = primitives.group_maxima(logits, size, groups, not options.sums)
        if options.sums:
            shift = peak if peak > primitives.NEG_INF else 0.0
            if options.moment:
                moment = primitives.stretch(state, fields + primitives.BLOCK_GAP, 1)
                total = primitives.sum_exp_moment(logits, size, shift, moment)
            else:
                total = primitives.sum_exp(logits, size, shift, 1.0)
            state[fields + primitives.BLOCK_SUM] = total
            if total != total:
                peak = primitives.maximum_or_nan(logits, size)
        state[fields + primitives.BLOCK_PEAK] = peak
        if options.ranked:
            limit = primitives.cast(threshold, work)
            above = primitives.count_above(logits, size, limit) if primitives.beats(peak, limit) else 0
            state[fields + primitives.BLOCK_MASS] = above


def lead(blocks, state):
    """PEAK = max_b peak_b, or NaN; returns the first block that has it."""
    best = 0
    peak = primitives.NEG_INF
    for block in range(blocks):
        its_peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
        if its_peak > peak or its_peak != its_peak:
            peak = its_peak
            best = block
            if peak != peak:
                break
    state[primitives.PEAK] = peak
    return best


def settle(x, at, options, state, work):
    """REST = sum exp(x_j - PEAK) over all j but one maximum."""
    again = softmax.merge(options.classes, 1.0, state)
    if again >= 0:
        start = again * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        exps = primitives.slot(work, 1)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), options.storage)
        primitives.keep_exp(logits, size, state[primitives.PEAK], 1.0, exps, primitives.KEEP_PADDED)
        state[primitives.REST] += softmax.without_maximum(exps, size, work)


def merge_moments(blocks, state):
    """sum (x_j - PEAK) exp(x_j - PEAK) = sum_b exp(gap_b) (moment_b + gap_b sum_b), with gap_b = peak_b - PEAK."""
    total = 0.0
    lost = 0.0
    for block in range(blocks):
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        gap = state[fields + primitives.BLOCK_PEAK] - state[primitives.PEAK]
        if state[fields + primitives.BLOCK_PEAK] > primitives.NEG_INF:
            # Infinite, perhaps, of a block so far below that nothing is left of it.
            moment = state[fields + primitives.BLOCK_GAP] + gap * state[fields + primitives.BLOCK_SUM]
            term = primitives.weigh(math.exp(gap), moment)
            lost += primitives.rounded_away(total, term)
            total += term
    return total + lost


def second_largest(logits, size, place, best, blocks, state):
    """The largest of the other peaks and of the other logits in block `best`, which has its peak at `place`."""
    after = primitives.stretch(logits, place + 1, size - place - 1)
    second = max(primitives.maximum(logits, place), primitives.maximum(after, size - place - 1))
    for block in range(blocks):
        its_peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
        if block != best and its_peak > second:
            second = its_peak
    return second


def finish(
    x, at, row, peaks, rests, moments, argmax, seconds, aboves, top_values, top_ids, options, state, work
):
    """The results of a row from its blocks; see the reference in backends/_numpy_row_stats.py."""
    blocks = softmax.blocks_of(options.classes)
    best = lead(blocks, state)
    peak = state[primitives.PEAK]
    peaks[row] = peak
    if options.sums:
        rests[row] = primitives.NAN
        if peak > primitives.NEG_INF:
            settle(x, at, options, state, work)
            rests[row] = state[primitives.REST]
    if options.moment:
        moments[row] = merge_moments(blocks, state)
    if options.located or options.second:
        start = best * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), options.storage)
        place = primitives.find(logits, size, primitives.cast(peak, work))
        if options.located:
            argmax[row] = start + place
        if options.second:
            seconds[row] = second_largest(logits, size, place, best, blocks, state)
    if options.ranked:
        above = 0.0
        for block in range(blocks):
            above += state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_MASS]
        aboves[row] = int(above)
    if options.top_k > 0:
        topk.select(x, at, top_values, top_ids, row, options, state, work)


def rows(
    x, labels, thresholds, label_logits, peaks, rests, moments, argmax, seconds, aboves, top_values, top_ids,
    options, state, work, start, stop,
):  # fmt: skip
    """The partial results of the rows [start, stop)."""
    blocks = softmax.blocks_of(options.classes)
    for row in range(start, stop):
        at = row * options.x_stride
        if options.labelled:
            pick(x, at, labels, row, label_logits, options, work)
        if options.swept:
            threshold = thresholds[row] if options.ranked else 0.0
            reduce(x, at, threshold, options, state, 0, blocks, work)
            finish(
                x, at, row, peaks, rests, moments, argmax, seconds, aboves, top_values, top_ids, options, state, work
            )  # fmt: skip
