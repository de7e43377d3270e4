"""Partial results of rows from one sweep: the steps of softmax.py, with moments, ranks and the k largest logits.

NaN counts as the largest logit, and equals come by index. A block that is read leaves the maxima of its groups behind,
from which `select` takes a bound for the k largest: it looks again, in cache, at few logits. Where threads share a row,
the peaks of its blocks take the place of the groups' maxima.
"""

import math

from fastlogits.kernels import primitives, softmax


def fetch(x, at, start, size, options, work):
    """The logits [start, start + size) of the row at `at`, side by side."""
    if options.step == 1:
        return primitives.load(x, at + start, size, primitives.slot(work, 0), options.storage)
    logits = primitives.slot(work, 0)
    for j in range(size):
        place = at + (start + j) * options.step
        logit = primitives.load(x, place, 1, primitives.slot(work, 1), options.storage)
        logits[j] = logit[0]
    return logits


def pick(x, at, labels, row, label_logits, options, work):
    """The logit at the label; NaN where that is not a class."""
    label_logits[row] = primitives.NAN
    if labels[row] >= 0 and labels[row] < options.classes:
        logit = fetch(x, at, labels[row], 1, options, work)
        label_logits[row] = logit[0]


def reduce(x, at, threshold, options, state, first, last, work):
    """Per block: peak_b; sum exp(x_j - peak_b); the moment sum (x_j - peak_b) exp(x_j - peak_b); how many are above."""
    groups_at = primitives.TILE * primitives.BLOCK
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        logits = fetch(x, at, start, size, options, work)
        groups = primitives.stretch(work, groups_at + block * options.group_step, primitives.GROUPS)
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
    again = softmax.merge(options.classes, 1.0, state, 0)
    if again >= 0:
        start = again * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        exps = primitives.slot(work, 1)
        logits = fetch(x, at, start, size, options, work)
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
            moment = state[fields + primitives.BLOCK_GAP] + gap * state[fields + primitives.BLOCK_SUM]
            term = math.exp(gap) * moment
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


def bound(maxima, n, k, peak):
    """A limit which at least k of the maxima are above, and not many more; -inf where there is no such."""
    width = 1.0
    far = primitives.INF
    if n < k or peak == primitives.INF or peak == primitives.NEG_INF or peak != peak:
        return primitives.NEG_INF
    while width < 1e30 and primitives.count_above(maxima, n, primitives.cast(peak - width, maxima)) < k:
        width *= 2.0
    if width < 1e30:
        far = width
        near = 0.5 * width if width > 1.0 else 0.0
        for _ in range(8):
            middle = 0.5 * (near + far)
            count = primitives.count_above(maxima, n, primitives.cast(peak - middle, maxima))
            if count < k:
                near = middle
            else:
                far = middle
                if count <= k + k // 4:
                    break
    return peak - far


def comes_after(value, index, other, other_index):
    """Whether a logit stands behind another in the order of `select`."""
    return primitives.beats(other, value) or (not primitives.beats(value, other) and index > other_index)


def sift(values, indices, at, n, value, index):
    """Put an entry at the root of a heap of n, whose root comes after all others, in the place of what is there."""
    place = 0
    child = 1
    while child < n:
        if child + 1 < n and comes_after(
            values[child + 1], indices[at + child + 1], values[child], indices[at + child]
        ):
            child += 1
        if not comes_after(values[child], indices[at + child], value, index):
            break
        values[place] = values[child]
        indices[at + place] = indices[at + child]
        place = child
        child = 2 * place + 1
    values[place] = value
    indices[at + place] = index


def push(values, indices, at, n, value, index):
    """Add an entry, whose index is larger than any there, to a heap of n."""
    place = n
    while place > 0 and not primitives.beats(value, values[(place - 1) // 2]):
        values[place] = values[(place - 1) // 2]
        indices[at + place] = indices[at + (place - 1) // 2]
        place = (place - 1) // 2
    values[place] = value
    indices[at + place] = index


def select(x, at, top_values, indices, row, options, state, work):
    """The k first logits of a row and their indices, by a heap of those found so far whose root is the last."""
    k = options.top_k
    blocks = softmax.blocks_of(options.classes)
    values = primitives.stretch(top_values, row * k, k)
    maxima = primitives.slot(work, primitives.TILE)
    candidates = blocks * options.group_step
    if candidates == 0:
        candidates = min(blocks, primitives.BLOCK)
        for block in range(candidates):
            fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
            maxima[block] = primitives.cast(state[fields + primitives.BLOCK_PEAK], work)
    limit = primitives.cast(bound(maxima, candidates, k, state[primitives.PEAK]), work)
    unbounded = limit == primitives.NEG_INF
    n = 0
    for block in range(blocks):
        peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
        if peak <= limit and not (unbounded and n < k):
            continue
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        logits = fetch(x, at, start, size, options, work)
        j = 0
        while j < size:
            if n == k or not unbounded:
                j = primitives.next_above(logits, j, size, limit)
            if j == size:
                break
            if n < k:
                push(values, indices, row * k, n, logits[j], start + j)
                n += 1
            elif primitives.beats(logits[j], values[0]):
                sift(values, indices, row * k, k, logits[j], start + j)
            if n == k:
                limit = values[0]
            j += 1
    if options.ordered:
        for last in range(k - 1, 0, -1):
            value = values[last]
            index = indices[row * k + last]
            values[last] = values[0]
            indices[row * k + last] = indices[row * k]
            sift(values, indices, row * k, last, value, index)


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
        logits = fetch(x, at, start, size, options, work)
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
        select(x, at, top_values, top_ids, row, options, state, work)


def place_of(row, options):
    return row // options.step * options.x_stride + row % options.step


def rows(
    x, labels, thresholds, label_logits, peaks, rests, moments, argmax, seconds, aboves, top_values, top_ids,
    options, state, work, start, stop,
):  # fmt: skip
    """The partial results of the rows [start, stop)."""
    blocks = softmax.blocks_of(options.classes)
    for row in range(start, stop):
        at = place_of(row, options)
        if options.labelled:
            pick(x, at, labels, row, label_logits, options, work)
        if options.swept:
            threshold = thresholds[row] if options.ranked else 0.0
            reduce(x, at, threshold, options, state, 0, blocks, work)
            finish(
                x, at, row, peaks, rests, moments, argmax, seconds, aboves, top_values, top_ids, options, state, work
            )  # fmt: skip
