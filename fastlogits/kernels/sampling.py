"""One class of each row, drawn from the probabilities that the filters leave, by the inverse of their sums.

The likeliest class comes first in these sums, then the others by index: exp(z - z_top), added up in blocks in double.
What is drawn depends on the row's logits and rules, on the key and on the row's number, and on nothing else.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.doubles import largest_of, place_of, real_exps, total_of
from fastlogits.kernels.filters import filter_row, scaled_logits, span_peaks, survivors_of, unfiltered
from fastlogits.kernels.numbers import log1p
from fastlogits.kernels.philox import uniform
from fastlogits.kernels.shared import blocks_of
from fastlogits.kernels.sizes import BLOCK, NO_ROOM, SPAN, TEMPERATURE
from fastlogits.kernels.sums import find

GROUP = 32  # masses that are passed over together


def reach(mass, n, target):
    """The first i whose mass, added to those before it, exceeds `target`, else the last that has any; and what the
    masses before it leave of the target.
    """
    i = 0
    while i + GROUP < n:
        group = total_of(machine.stretch(mass, i), GROUP)
        if target < group:
            break
        target -= group
        i += GROUP
    while i < n and target >= mass[i]:
        target -= mass[i]
        i += 1
    if i < n:
        return i, target
    i = n - 1
    while i > 0 and mass[i] == 0.0:
        i -= 1
    return i, target + mass[i]


def find_top(task, at, temperature, peak, survivors, work):
    """The first j with z_j = peak."""
    span = 0
    while survivors.peaks[span] < peak:
        span += 1
    start = span * SPAN
    size = min(SPAN, task.classes - start)
    scaled_logits(task, at + start, size, temperature, work)
    return start + min(find(machine.stretch_real(work.spare, 0), 0, size, peak), size - 1)


def others(task, at, block, top, temperature, peak, survivors, work):
    """mass_j = exp(z_j - peak) of a block, 0 in the place of the top, the z in `spare`; returns the sum."""
    start = block * BLOCK
    size = min(BLOCK, task.classes - start)
    scaled_logits(task, at + start, size, temperature, work)
    if start <= top and top < start + size:
        work.spare[top - start] = -machine.INF
    return real_exps(machine.stretch_real(work.spare, 0), size, peak, survivors.mass)


def draw(task, row, temperature, drawn, survivors, work):
    """A class of the row without filters, the likeliest at temperature 0; negative as `sample_rows` has it."""
    at = row * task.x_stride
    divisor = temperature if temperature > 0.0 else 1.0
    peak = span_peaks(task, at, divisor, survivors)
    if not peak < machine.INF:
        return -1
    if peak == -machine.INF:
        return -2
    top = find_top(task, at, divisor, peak, survivors, work)
    task.log_probs[row] = 0.0
    if temperature == 0.0:
        return top
    sums = survivors.narrowed
    blocks = blocks_of(task.classes)
    rest = 0.0
    for block in range(blocks):
        sums[block] = others(task, at, block, top, temperature, peak, survivors, work)
        rest += sums[block]
    task.log_probs[row] = -log1p(rest)
    target = drawn * (1.0 + rest) - 1.0
    if target < 0.0:
        return top
    block, left = reach(sums, blocks, target)
    if block < blocks - 1:
        others(task, at, block, top, temperature, peak, survivors, work)
    chosen, _ = reach(survivors.mass, min(BLOCK, task.classes - block * BLOCK), left)
    task.log_probs[row] += work.spare[chosen] - peak
    return block * BLOCK + chosen


def draw_survivor(task, row, n, drawn, survivors):
    """A class of the n survivors."""
    mass = survivors.mass
    sums = survivors.narrowed
    top = place_of(survivors.z, n, largest_of(survivors.z, n, 1.0))
    top_mass = mass[top]
    mass[top] = 0.0
    blocks = blocks_of(n)
    rest = 0.0
    for block in range(blocks):
        start = block * BLOCK
        sums[block] = total_of(machine.stretch(mass, start), min(BLOCK, n - start))
        rest += sums[block]
    chosen = top
    target = drawn * (top_mass + rest) - top_mass
    if target >= 0.0:
        block, left = reach(sums, blocks, target)
        start = block * BLOCK
        chosen, _ = reach(machine.stretch(mass, start), min(BLOCK, n - start), left)
        chosen += start
    task.log_probs[row] = (survivors.z[chosen] - survivors.z[top]) - log1p(rest / top_mass)
    return machine.whole(survivors.id[chosen])


def sample_rows(task, work, start, stop):
    """indices_i drawn, log_probs_i of it; indices_i = -1 for a row with NaN or +inf, -2 for one of nothing but -inf. Of
    the rows [start, stop), or up to the first for which there is no room.
    """
    survivors = survivors_of(work)
    for row in range(start, stop):
        work.reached[0] = row
        rules = machine.stretch(task.rules, row * task.rules_stride)
        drawn = uniform(task.key_0, task.key_1, task.numbers[row])
        if rules[TEMPERATURE] == 0.0 or unfiltered(rules, task.classes):
            task.indices[row] = draw(task, row, rules[TEMPERATURE], drawn, survivors, work)
        else:
            n = filter_row(task, row * task.x_stride, rules, survivors, work)
            if n == NO_ROOM:
                return
            if n > 0:
                task.indices[row] = draw_survivor(task, row, n, drawn, survivors)
            else:
                task.indices[row] = -1 if n < 0 else -2
    work.reached[0] = stop
