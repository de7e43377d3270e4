"""Filters of rows of logits by the rules of Hugging Face's processors, without sorting.

Each filter looks at what the ones before it left. These survivors stand in scratch memory, ordered by class: the logit
z, its mass exp(z - peak) with peak the row's largest z, and the class. All of it is in double.

What sorting would find, `select_key` finds by histograms: where the masses of the largest keys, added up, reach a
share. The key is z, or minus its distance from the mean. Most of a long row never becomes a survivor, because the
first filter sets a bound that no smaller z can pass. A row's `rules` are the parameters of its filters.

There is room for so many survivors. A long row may have more: then it is left for whoever called to come back to it
with more memory.
"""

import math

from fastlogits.kernels import machine
from fastlogits.kernels.doubles import count_from, exps_of, real_exps, total_from, total_of
from fastlogits.kernels.numbers import exp, weigh
from fastlogits.kernels.plan import field_of
from fastlogits.kernels.records import Survivors
from fastlogits.kernels.selection import (
    ALL_TIES,
    FEW_RANKS,
    FIRST_TIES,
    LAST_TIES,
    LOWEST,
    ON_LIMIT,
    count_at,
    keep,
    nth,
    select_key,
)
from fastlogits.kernels.shared import blocks_of
from fastlogits.kernels.sizes import (
    BLOCK,
    EPSILON,
    ETA,
    MIN_KEEP,
    MIN_P,
    MOST_ROOM,
    NO_ROOM,
    SPAN,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    TYPICAL_P,
)
from fastlogits.kernels.sums import load_some, maximum_or_nan, save_some

ROUNDED = 2.0**-40  # of a total, more than rounding does to it


def survivors_of(work):
    memory = work.survivors
    field = field_of(work.room[0])
    return Survivors(
        memory, machine.stretch(memory, field), machine.stretch(memory, 2 * field), machine.stretch(memory, 3 * field),
        machine.stretch(memory, 4 * field), machine.stretch(memory, 5 * field), machine.stretch(memory, 6 * field),
        machine.stretch(memory, 7 * field),
    )  # fmt: skip


def scaled_logits(task, at, n, temperature, work):
    """spare_j = z_j = x_j / temperature of at most BLOCK logits, and -inf up to a whole vector"""
    w = machine.WIDTH
    divisor = machine.splat(temperature)
    j = 0
    while j < n:
        v = machine.load(task.x, at + j) if j + w <= n else machine.load_tail(task.x, at + j, n - j, -machine.INF)
        machine.save(work.spare, j, v if temperature == 1.0 else v / divisor)
        j += machine.WIDTH


def span_peaks(task, at, temperature, survivors):
    """The largest z of each span of the row; returns the largest of them all, or NaN if there is one."""
    peak = -machine.INF
    for span in range((task.classes + SPAN - 1) // SPAN):
        start = span * SPAN
        largest = machine.cast(maximum_or_nan(task.x, at + start, min(SPAN, task.classes - start)))
        survivors.peaks[span] = largest / machine.cast(temperature)
        if survivors.peaks[span] != survivors.peaks[span]:
            return machine.NAN
        if survivors.peaks[span] > peak:
            peak = survivors.peaks[span]
    return peak


def row_mass(task, at, temperature, peak, survivors, work):
    """sum_j exp(z_j - peak); the terms are in `mass`, which has room for those of up to MOST_ROOM classes."""
    total = 0.0
    for block in range(blocks_of(task.classes)):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        scaled_logits(task, at + start, size, temperature, work)
        mass = machine.stretch(survivors.mass, start if task.classes <= MOST_ROOM else 0)
        total += real_exps(machine.stretch_real(work.spare, 0), size, peak, mass)
    return total


def row_mean(task, at, temperature, peak, total, survivors, work):
    """sum_j mass_j (z_j - peak) / total, of a row whose masses are at hand"""
    moment = 0.0
    for block in range(blocks_of(task.classes)):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        scaled_logits(task, at + start, size, temperature, work)
        for i in range(size):
            survivors.key[i] = weigh(survivors.mass[start + i], work.spare[i] - peak)
        moment += total_of(survivors.key, size)
    return moment / total


def least_mass(classes, rest, total, survivors):
    """A limit such that all smaller masses of the row come to at most `rest`: so much for each class, and what those
    below it leave of `rest` for each of the others.
    """
    least = rest / classes
    above = 0.0
    left = 0
    for block in range(blocks_of(classes)):
        start = block * BLOCK
        size = min(BLOCK, classes - start)
        mass = machine.stretch(survivors.mass, start)
        above += total_from(mass, mass, size, least, survivors.key)
        left += count_from(mass, size, least)
    return max(least, (rest - ROUNDED * total - (total - above)) / max(1, left))


def gather_survivors(task, at, temperature, bound, survivors, work):
    """Makes survivors of the finite z from `bound` on, perhaps of some that are just below it; returns how many, or
    NO_ROOM.
    """
    w = machine.WIDTH
    # Whole vectors are not above `low`, or all above `high`, whatever rounding did to these.
    low = machine.splat(bound - 1e-6 * abs(bound) - machine.TINY)
    high = machine.splat(bound + 1e-6 * abs(bound))
    limit = machine.lane(low)
    n = 0
    more = 0
    for span in range((task.classes + SPAN - 1) // SPAN):
        if survivors.peaks[span] >= bound:
            start = span * SPAN
            size = min(SPAN, task.classes - start)
            scaled_logits(task, at + start, size, temperature, work)
            if n + size > work.room[0]:
                for j in range(size):
                    more += 1 if work.spare[j] > limit else 0
            else:
                first = n
                i = 0
                while i < size:
                    v = machine.load(work.spare, i)
                    place = 1.0 * (start + i)
                    if machine.count_above(v, high) == w:
                        for j in range(machine.WIDTH):
                            survivors.id[n + j] = place + j
                        n += w
                    elif machine.count_above(v, low) > 0:
                        # Written whether it stays or not: of branches here half would be mispredicted.
                        for j in range(machine.WIDTH):
                            survivors.id[n] = place + j
                            n += 1 if work.spare[i + j] > limit else 0
                    i += w
                for k in range(first, n):
                    survivors.z[k] = work.spare[machine.whole(survivors.id[k]) - start]
    if more > 0:
        work.needed[0] = n + more + SPAN
        return NO_ROOM
    return n


def peaks_of_lanes(task, at, temperature, survivors, work):
    """key_i = the largest z of the classes that are i modulo two vectors; returns how many."""
    w = machine.WIDTH
    low = -machine.INF
    m0 = m1 = machine.splat(low)
    j = 0
    while j + 2 * w <= task.classes:
        m0 = machine.larger(machine.load(task.x, at + j), m0)
        m1 = machine.larger(machine.load(task.x, at + j + w), m1)
        j += 2 * w
    while j < task.classes:
        m1 = machine.larger(machine.load_tail(task.x, at + j, min(w, task.classes - j), low), m1)
        j += w
    machine.save(work.spare, 0, m0)
    machine.save(work.spare, w, m1)
    for i in range(2 * w):
        survivors.key[i] = work.spare[i] / machine.cast(temperature)
    return 2 * w


def keep_top_p(n, top_p, total, min_keep, survivors):
    """Drops z as long as the mass of all that are not larger is at most 1 - top_p of the total."""
    rest = (1.0 - top_p) * total
    threshold, before, one = select_key(survivors.z, survivors.mass, n, total, rest, survivors)
    at_threshold = count_at(survivors.z, n, threshold)
    stay = 1
    while stay < at_threshold and total - (before + stay * one) > rest:
        stay += 1
    return keep(survivors.z, n, threshold, at_threshold - stay, at_threshold, LAST_TIES, min_keep, survivors)


def keep_probable(n, cutoff, total, ties, min_keep, survivors):
    """Drops z with mass / total < cutoff."""
    lowest = machine.INF
    for i in range(n):
        if survivors.mass[i] / total >= cutoff and survivors.z[i] < lowest:
            lowest = survivors.z[i]
    return keep(survivors.z, n, lowest, 0, n, ties, min_keep, survivors)


def mean(n, peak, total, survivors):
    """sum_i mass_i (z_i - peak) / total"""
    for i in range(n):
        survivors.key[i] = weigh(survivors.mass[i], survivors.z[i] - peak)
    return total_of(survivors.key, n) / total


def keep_typical(n, typical_p, peak, center, total, min_keep, survivors):
    """Keeps the z nearest to the mean, up to the first with which they have typical_p of the mass, and its equals.

    -log p_i - H = sum_j p_j z_j - z_i: the distance of the surprise from the entropy H is that of z from its mean.
    """
    key = survivors.key
    for i in range(n):
        key[i] = max(-abs((survivors.z[i] - peak) - center), LOWEST)
    threshold, _, _ = select_key(key, survivors.mass, n, total, (1.0 - typical_p) * total, survivors)
    # Classes above and below the mean that are as far from it are so to within the rounding.
    threshold = max(threshold - ON_LIMIT * (1.0 - threshold), LOWEST)
    return keep(key, n, threshold, 0, n, FIRST_TIES, min_keep, survivors)


def eta_cutoff(eta, center, total):
    """min(eta, sqrt(eta) exp(-H)), H the entropy."""
    return min(eta, math.sqrt(eta) * exp(center - math.log(total)))


def first_bound(task, at, rules, peak, total, center, survivors, work):
    """No z below this passes the first of the filters; `total` and `center`, the mean of z - peak, where it needs them,
    0 where they are not known.

    typical_p drops what lies farther from the mean than all others, the largest too, and comes to so little.
    """
    classes = task.classes
    count = machine.whole(rules[MIN_KEEP])
    bound = peak
    if rules[TOP_K] < classes:
        count = max(machine.whole(rules[TOP_K]), count)
    else:
        least = 0.0
        if rules[TOP_P] < 1.0:
            rest = (1.0 - rules[TOP_P]) * total
            least = least_mass(classes, rest, total, survivors) if classes <= MOST_ROOM else rest / classes
        elif rules[MIN_P] > 0.0:
            least = rules[MIN_P]
        elif total > 0.0 and rules[TYPICAL_P] < 1.0:
            least = min(least_mass(classes, (1.0 - rules[TYPICAL_P]) * total, total, survivors), exp(2.0 * center))
        elif total > 0.0:
            share = rules[EPSILON] if rules[EPSILON] > 0.0 else eta_cutoff(rules[ETA], center, total)
            least = share * total
        if least == 0.0:
            return LOWEST
        # Well below what rounding may do to it
        bound = min(peak, peak + math.log(least) - 1e-6 - 1e-15 * abs(peak))
    spans = (classes + SPAN - 1) // SPAN
    # As many spans, or lanes, have a z of this size.
    if count > spans:
        if count > FEW_RANKS:
            return LOWEST
        lanes = peaks_of_lanes(task, at, rules[TEMPERATURE], survivors, work)
        if count > lanes:
            return LOWEST
        bound = min(bound, nth(survivors.key, lanes, count, survivors))
    elif count > 1:
        bound = min(bound, nth(survivors.peaks, spans, count, survivors))
    return max(bound, LOWEST)


def filter_row(task, at, rules, survivors, work):
    """Leaves the survivors of all filters; returns how many, NO_ROOM, or -1 for a row with NaN or +inf."""
    min_keep = machine.whole(rules[MIN_KEEP])
    temperature = rules[TEMPERATURE]
    peak = span_peaks(task, at, temperature, survivors)
    if not peak < machine.INF:
        return -1
    if peak == -machine.INF:
        return 0
    # A filter by the share of the whole row's mass must know it even where it looks at the top of the row only.
    whole = 0
    centered = 0
    if rules[TOP_K] >= task.classes and (rules[TOP_P] < 1.0 or rules[MIN_P] == 0.0):
        whole = 1
        if rules[TOP_P] == 1.0 and (rules[TYPICAL_P] < 1.0 or rules[EPSILON] == 0.0):
            centered = whole = 1 if task.classes <= MOST_ROOM else 0
    total = row_mass(task, at, temperature, peak, survivors, work) if whole else 0.0
    center = row_mean(task, at, temperature, peak, total, survivors, work) if centered else 0.0
    bound = first_bound(task, at, rules, peak, total, center, survivors, work)
    n = gather_survivors(task, at, temperature, bound, survivors, work)
    if n < 0:
        return n
    if rules[TOP_K] < task.classes:
        top_k = max(machine.whole(rules[TOP_K]), min_keep)
        n = keep(survivors.z, n, machine.INF, 0, 0, ALL_TIES, top_k, survivors)
    left = exps_of(survivors.z, n, peak, survivors.mass)
    if not whole:
        total = left
    if rules[TOP_P] < 1.0:
        n = keep_top_p(n, rules[TOP_P], total, min_keep, survivors)
        total = total_of(survivors.mass, n)
    if rules[MIN_P] > 0.0:
        n = keep_probable(n, rules[MIN_P], 1.0, FIRST_TIES, min_keep, survivors)
        total = total_of(survivors.mass, n)
    if rules[TYPICAL_P] < 1.0:
        if not centered:
            center = mean(n, peak, total, survivors)
        n = keep_typical(n, rules[TYPICAL_P], peak, center, total, min_keep, survivors)
        total = total_of(survivors.mass, n)
        centered = 0
    if rules[EPSILON] > 0.0:
        n = keep_probable(n, rules[EPSILON], total, ALL_TIES, min_keep, survivors)
        total = total_of(survivors.mass, n)
    if rules[ETA] > 0.0:
        if not centered:
            center = mean(n, peak, total, survivors)
        n = keep_probable(n, eta_cutoff(rules[ETA], center, total), total, ALL_TIES, min_keep, survivors)
    return n


def unfiltered(rules, classes):
    """Whether every class survives, if its logit is finite."""
    if rules[TOP_K] < classes or rules[TOP_P] < 1.0 or rules[MIN_P] > 0.0:
        return False
    return not (rules[EPSILON] > 0.0 or rules[TYPICAL_P] < 1.0 or rules[ETA] > 0.0)


def fill(y, at, n, value):
    """y_j = value"""
    i = 0
    while i < n:
        save_some(y, at + i, n - i, machine.splat(value))
        i += machine.WIDTH


def divide_row(task, row, temperature, survivors, work):
    """y_j = x_j / temperature; NaN for a row with NaN or +inf."""
    at = row * task.x_stride
    y_at = row * task.y_stride
    if not span_peaks(task, at, temperature, survivors) < machine.INF:
        fill(task.y, y_at, task.classes, machine.NAN)
        return
    divisor = machine.splat(temperature)
    j = 0
    while j < task.classes:
        left = task.classes - j
        save_some(task.y, y_at + j, left, load_some(task.x, at + j, left) / divisor)
        j += machine.WIDTH


def filter_rows(task, work, start, stop):
    """y_j = x_j / temperature where class j survives, else -inf; NaN for a row with NaN or +inf. Of the rows
    [start, stop), or up to the first for which there is no room.
    """
    survivors = survivors_of(work)
    for row in range(start, stop):
        work.reached[0] = row
        y_at = row * task.y_stride
        rules = machine.stretch(task.rules, row * task.rules_stride)
        if unfiltered(rules, task.classes):
            divide_row(task, row, rules[TEMPERATURE], survivors, work)
            continue
        n = filter_row(task, row * task.x_stride, rules, survivors, work)
        if n == NO_ROOM:
            return
        fill(task.y, y_at, task.classes, machine.NAN if n < 0 else -machine.INF)
        for i in range(n):
            machine.put(task.y, y_at + machine.whole(survivors.id[i]), survivors.z[i])
    work.reached[0] = stop
