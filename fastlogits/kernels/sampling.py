"""One class of each row, drawn from the probabilities that the filters leave, by the inverse of their sums.

The likeliest class comes first in these sums, then the others by index: exp(z - z_top), added up in blocks in double.
What is drawn depends on the row's logits and rules, on the key and on the row's number, and on nothing else.
"""

import math

from fastlogits.kernels import filters, philox, primitives, softmax


def reach(mass, n, target, left):
    """The first i whose mass, added to those before it, exceeds `target`, else the last that has any.

    left_0 is what the masses before it leave of the target.
    """
    reached = 0
    for i in range(n):
        if mass[i] > 0.0:
            reached = i
            left[0] = target
            if target < mass[i]:
                break
            target -= mass[i]
    return reached


def find_top(x, at, classes, temperature, peak, scratch, work, storage):
    """The first j with z_j = peak."""
    peaks = filters.section(scratch, primitives.SPAN_PEAK)
    span = 0
    while peaks[span] < peak:
        span += 1
    start = span * primitives.SPAN
    size = min(primitives.SPAN, classes - start)
    z = filters.scaled(x, at + start, size, temperature, work, storage)
    return start + primitives.find(z, size, primitives.cast(peak, work))


def others(x, at, block, top, classes, temperature, wide, work, storage):
    """The z of a block in double, -inf in the place of the top; returns how many."""
    start = block * primitives.BLOCK
    size = min(primitives.BLOCK, classes - start)
    filters.widen(x, at + start, size, temperature, wide, work, storage)
    if start <= top and top < start + size:
        wide[top - start] = primitives.NEG_INF
    return size


def draw(x, at, temperature, uniform, log_prob, classes, scratch, work, storage):
    """A class of the row without filters, the likeliest at temperature 0; negative as `sample_rows` has it."""
    divisor = temperature if temperature > 0.0 else 1.0
    peak = filters.find_peaks(x, at, classes, divisor, scratch, work, storage)
    if not peak < primitives.INF:
        return -1
    if peak == primitives.NEG_INF:
        return -2
    top = find_top(x, at, classes, divisor, peak, scratch, work, storage)
    log_prob[0] = 0.0
    if temperature == 0.0:
        return top
    wide = filters.section(scratch, primitives.KEY)
    sums = filters.section(scratch, primitives.NARROWED)
    left = filters.section(scratch, primitives.FOUND)
    blocks = softmax.blocks_of(classes)
    rest = 0.0
    for block in range(blocks):
        size = others(x, at, block, top, classes, temperature, wide, work, storage)
        sums[block] = primitives.sum_exp(wide, size, peak, 1.0)
        rest += sums[block]
    log_prob[0] = -math.log1p(rest)
    target = uniform * (1.0 + rest) - 1.0
    if target < 0.0:
        return top
    block = reach(sums, blocks, target, left)
    size = others(x, at, block, top, classes, temperature, wide, work, storage)
    mass = filters.section(scratch, primitives.SURVIVOR_MASS)
    primitives.keep_exp(wide, size, peak, 1.0, mass, primitives.KEEP)
    j = reach(mass, size, left[0], left)
    log_prob[0] += wide[j] - peak
    return block * primitives.BLOCK + j


def draw_survivor(n, uniform, log_prob, scratch):
    """A class of the n survivors."""
    survivors = filters.section(scratch, primitives.SURVIVOR)
    mass = filters.section(scratch, primitives.SURVIVOR_MASS)
    ids = filters.section(scratch, primitives.SURVIVOR_ID)
    sums = filters.section(scratch, primitives.NARROWED)
    left = filters.section(scratch, primitives.FOUND)
    top = primitives.find(survivors, n, primitives.maximum(survivors, n))
    top_mass = mass[top]
    mass[top] = 0.0
    blocks = softmax.blocks_of(n)
    rest = 0.0
    for block in range(blocks):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, n - start)
        sums[block] = primitives.total(primitives.stretch(mass, start, size), size)
        rest += sums[block]
    chosen = top
    target = uniform * (top_mass + rest) - top_mass
    if target >= 0.0:
        start = reach(sums, blocks, target, left) * primitives.BLOCK
        size = min(primitives.BLOCK, n - start)
        chosen = start + reach(primitives.stretch(mass, start, size), size, left[0], left)
    log_prob[0] = (survivors[chosen] - survivors[top]) - math.log1p(rest / top_mass)
    return primitives.whole(ids[chosen])


def sample_rows(
    x, x_stride, rules, rules_stride, numbers, key_0, key_1, ids, log_probs, classes,
    scratch, work, storage, start, stop,
):  # fmt: skip
    """ids_i drawn, log_probs_i of it; ids_i = -1 for a row with NaN or +inf, -2 for one of nothing but -inf.

    Returns `stop`, or the row for which there is no room.
    """
    for row in range(start, stop):
        at = row * x_stride
        rules_at = row * rules_stride
        temperature = rules[rules_at + primitives.TEMPERATURE]
        uniform = philox.uniform(key_0, key_1, numbers[row])
        log_prob = primitives.stretch(log_probs, row, 1)
        if temperature == 0.0 or filters.unfiltered(rules, rules_at, classes):
            ids[row] = draw(x, at, temperature, uniform, log_prob, classes, scratch, work, storage)
        else:
            n = filters.filter_row(x, at, rules, rules_at, classes, scratch, work, storage)
            if n == primitives.NO_ROOM:
                return row
            ids[row] = draw_survivor(n, uniform, log_prob, scratch) if n > 0 else -1 if n < 0 else -2
    return stop
