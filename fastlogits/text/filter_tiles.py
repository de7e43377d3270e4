"""Filters of rows of few classes, and of columns of them, FEW lanes at a time: class c of lane j lies at c * n + j.

As filters.py has it, without histograms: the z of each lane are sorted, in vectors, and all filters but typical_p leave
so many of the largest. A dropped z becomes -inf. The tile of z is work.tile, that of the sorted ones work.other_tile.
"""

import math

from fastlogits.kernels import machine
from fastlogits.kernels.columns import lane_maxima, start_peaks, to_lanes, to_rows
from fastlogits.kernels.filters import LOWEST, ON_LIMIT
from fastlogits.kernels.numbers import exp, weigh
from fastlogits.kernels.plan import few_lanes, tiles_in
from fastlogits.kernels.sizes import (
    EPSILON,
    ETA,
    FEW,
    MIN_KEEP,
    MIN_P,
    RULES,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    TYPICAL_P,
)
from fastlogits.kernels.sums import load_some, save_some

SOME_RANKS = 8  # which are found faster one after another than by sorting


def some_lane(x, n, low, high):
    """Whether low < x_j < high for some lane."""
    count = 0
    for j in range(n):
        count += 1 if low < x[j] and x[j] < high else 0
    return count > 0


def read_rules(task, row, n, work):
    """The rules of n rows; at temperature 0 no filter is on. top_k and min_keep are whole numbers up to the classes."""
    for rule in range(RULES):
        for j in range(n):
            work.rules[rule * FEW + j] = task.rules[(row + j) * task.rules_stride + rule]
    for j in range(n):
        if work.rules[TEMPERATURE * FEW + j] == 0.0:
            work.rules[TOP_K * FEW + j] = task.classes
            work.rules[TOP_P * FEW + j] = 1.0
            work.rules[MIN_P * FEW + j] = 0.0
            work.rules[TYPICAL_P * FEW + j] = 1.0
            work.rules[EPSILON * FEW + j] = 0.0
            work.rules[ETA * FEW + j] = 0.0


def load_tile(task, outer, first, n, work):
    """tile_cj = z_cj = x_cj / temperature_j"""
    w = machine.WIDTH
    if task.inner == 1:
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
    else:
        at = outer * task.x_stride + first
        for c in range(task.classes):
            j = 0
            while j < n:
                save_some(work.tile, c * n + j, n - j, load_some(task.x, at + c * task.inner + j, n - j))
                j += w
    others = 0
    for j in range(n):
        temperature = work.rules[TEMPERATURE * FEW + j]
        others += 1 if temperature != 1.0 else 0
        work.factors[j] = temperature if temperature > 0.0 else 1.0
    if others > 0:
        for c in range(task.classes):
            j = 0
            while j < n:
                divisor = load_some(work.factors, j, n - j)
                save_some(work.tile, c * n + j, n - j, load_some(work.tile, c * n + j, n - j) / divisor)
                j += w


def tile_peaks(classes, n, work):
    """peaks_j = max_c z_cj, or NaN in a lane that has one."""
    size = classes * n
    start_peaks(n, work)
    lane_maxima(work.tile, 0, n, classes, n, work)
    found = 0
    i = 0
    while i < size:
        v = load_some(work.tile, i, size - i)
        found |= machine.any_nan(v, v)
        i += machine.WIDTH
    if found:
        for c in range(classes):
            for j in range(n):
                if work.tile[c * n + j] != work.tile[c * n + j]:
                    work.peaks[j] = machine.NAN
    for j in range(n):
        work.peak[j] = work.peaks[j]


def largest_lanes(classes, n, count, work):
    """other_tile_ij = the i-th largest z of lane j, for i < count: each z finds its place among those before it."""
    j = 0
    while j < n:
        left = n - j
        for i in range(count):
            save_some(work.other_tile, i * n + j, left, machine.splat(-machine.INF))
        for c in range(classes):
            v = load_some(work.tile, c * n + j, left)
            for i in range(min(c + 1, count)):
                best = load_some(work.other_tile, i * n + j, left)
                save_some(work.other_tile, i * n + j, left, machine.larger(v, best))
                v = machine.where_larger(v, best, best, v)
        j += machine.WIDTH


def sort_lanes(classes, n, work):
    """other_tile_ij = the i-th largest z of lane j, by Batcher's odd-even mergesort (Knuth, algorithm 5.2.2 M)"""
    i = 0
    while i < classes * n:
        save_some(work.other_tile, i, classes * n - i, load_some(work.tile, i, classes * n - i))
        i += machine.WIDTH
    p = 1
    while p < classes:
        k = p
        while k >= 1:
            first = k % p
            while first + k < classes:
                for i in range(first, first + min(k, classes - first - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        order_lanes(n, i * n, (i + k) * n, work)
                first += 2 * k
            k //= 2
        p *= 2


def order_lanes(n, at, other, work):
    """The larger of two z of each lane comes first."""
    j = 0
    while j < n:
        high = load_some(work.other_tile, at + j, n - j)
        low = load_some(work.other_tile, other + j, n - j)
        save_some(work.other_tile, at + j, n - j, machine.larger(low, high))
        save_some(work.other_tile, other + j, n - j, machine.where_larger(low, high, high, low))
        j += machine.WIDTH


def count_ranked(classes, n, ranks, work):
    """count_j = how many finite z of lane j are at least its ranks_j-th largest"""
    for j in range(n):
        work.shifts[j] = work.other_tile[machine.whole(ranks[j] - 1.0) * n + j]
        work.count[j] = 0.0
    for c in range(classes):
        for j in range(n):
            z = work.other_tile[c * n + j]
            work.count[j] += 1.0 if z >= work.shifts[j] and z > -machine.INF else 0.0


def cut(n, counts, rule, off, work):
    """kept_j = counts_j, where the rule is on, at least min_keep, at most what it was"""
    for j in range(n):
        most = max(counts[j], work.rules[MIN_KEEP * FEW + j])
        if work.rules[rule * FEW + j] != off:
            work.kept[j] = min(work.kept[j], most)


def ranked_totals(classes, n, work):
    """total_j = the mass of what is kept"""
    for j in range(n):
        work.total[j] = 0.0
    for c in range(classes):
        for j in range(n):
            work.total[j] += work.masses[c * n + j] if c < work.kept[j] else 0.0


def ranked_top_p(classes, n, work):
    """As many of the largest as leave at most 1 - top_p of the mass"""
    ranked_totals(classes, n, work)
    for j in range(n):
        work.limit[j] = (1.0 - work.rules[TOP_P * FEW + j]) * work.total[j]
        work.sum[j] = 0.0
        work.count[j] = 1.0
    for c in range(classes):
        for j in range(n):
            work.sum[j] += work.masses[c * n + j]
            work.count[j] += 1.0 if work.total[j] - work.sum[j] > work.limit[j] else 0.0
    cut(n, work.count, TOP_P, 1.0, work)


def count_probable(classes, n, cutoffs, counts, work):
    """counts_j = how many of those that are kept have a mass of at least cutoffs_j"""
    for j in range(n):
        counts[j] = 0.0
    for c in range(classes):
        for j in range(n):
            counts[j] += 1.0 if work.masses[c * n + j] >= cutoffs[j] and c < work.kept[j] else 0.0


def ranked_cutoff(classes, n, rule, work):
    """Those with mass / total of at least `limit`; of the min_keep largest all equals."""
    for j in range(n):
        work.limit[j] *= work.total[j]
    count_probable(classes, n, work.limit, work.sum, work)
    count_ranked(classes, n, machine.stretch(work.rules, MIN_KEEP * FEW), work)
    for j in range(n):
        work.count[j] = max(work.count[j], work.sum[j])
    cut(n, work.count, rule, 0.0, work)


def eta_cutoffs(classes, n, work):
    """limit_j = min(eta, sqrt(eta) exp(-H)), H the entropy"""
    for j in range(n):
        work.sum[j] = 0.0
    for c in range(classes):
        for j in range(n):
            if c < work.kept[j]:
                work.sum[j] += weigh(work.masses[c * n + j], work.other_tile[c * n + j] - work.peak[j])
    for j in range(n):
        eta = work.rules[ETA * FEW + j]
        entropy = math.log(work.total[j]) - work.sum[j] / work.total[j]
        work.limit[j] = min(eta, math.sqrt(eta) * exp(-entropy))


def drop_unranked(classes, n, work):
    """z_cj = -inf of all but the kept_j largest: of those that equal the last of them top_p has kept those with the
    highest index, and of these the ones with the lowest index stay.
    """
    for j in range(n):
        work.shifts[j] = work.other_tile[machine.whole(max(work.kept[j] - 1.0, 0.0)) * n + j]
        work.count[j] = 0.0
        work.sum[j] = 0.0
    for c in range(classes):
        for j in range(n):
            z = work.other_tile[c * n + j]
            work.sum[j] += 1.0 if z > work.shifts[j] else 0.0
            work.count[j] += 1.0 if z == work.shifts[j] else 0.0
    for j in range(n):
        first = max(0.0, work.count[j] - (work.whole[j] - work.sum[j]))
        work.counters[j] = first
        work.factors[j] = first + (work.kept[j] - work.sum[j])
        work.spare[j] = 0.0
    for c in range(classes):
        for j in range(n):
            z = work.tile[c * n + j]
            place = work.spare[j]
            within = 1.0 if place >= work.counters[j] and place < work.factors[j] else 0.0
            stays = 1.0 if z > work.shifts[j] else (within if z == work.shifts[j] else 0.0)
            work.spare[j] = place + 1.0 if z == work.shifts[j] else place
            work.tile[c * n + j] = z if stays > 0.0 else -machine.INF


def ranked_filters(classes, n, early, late, work):
    """The filters before typical_p, those after it, or both."""
    sort_lanes(classes, n, work)
    for j in range(n):
        work.kept[j] = 0.0
    for c in range(classes):
        for j in range(n):
            z = work.other_tile[c * n + j]
            work.kept[j] += 1.0 if z > -machine.INF else 0.0
            work.masses[c * n + j] = exp(z - work.peak[j])
    if early:
        if some_lane(machine.stretch(work.rules, TOP_K * FEW), n, 0.0, classes):
            for j in range(n):
                work.limit[j] = max(work.rules[TOP_K * FEW + j], work.rules[MIN_KEEP * FEW + j])
            count_ranked(classes, n, work.limit, work)
            cut(n, work.count, TOP_K, classes, work)
        if some_lane(machine.stretch(work.rules, TOP_P * FEW), n, -1.0, 1.0):
            ranked_top_p(classes, n, work)
    for j in range(n):
        work.whole[j] = work.kept[j]
    if early and some_lane(machine.stretch(work.rules, MIN_P * FEW), n, 0.0, 2.0):
        count_probable(classes, n, machine.stretch(work.rules, MIN_P * FEW), work.count, work)
        cut(n, work.count, MIN_P, 0.0, work)
    if late and some_lane(machine.stretch(work.rules, EPSILON * FEW), n, 0.0, 2.0):
        ranked_totals(classes, n, work)
        for j in range(n):
            work.limit[j] = work.rules[EPSILON * FEW + j]
        ranked_cutoff(classes, n, EPSILON, work)
    if late and some_lane(machine.stretch(work.rules, ETA * FEW), n, 0.0, 2.0):
        ranked_totals(classes, n, work)
        eta_cutoffs(classes, n, work)
        ranked_cutoff(classes, n, ETA, work)
    drop_unranked(classes, n, work)


def top_k_tile(classes, n, work):
    """top_k alone: all that are at least the k-th largest."""
    most = 1.0
    for j in range(n):
        work.limit[j] = max(work.rules[TOP_K * FEW + j], work.rules[MIN_KEEP * FEW + j])
        most = max(most, work.limit[j])
    if most <= SOME_RANKS:
        largest_lanes(classes, n, machine.whole(most), work)
    else:
        sort_lanes(classes, n, work)
    for j in range(n):
        work.shifts[j] = work.other_tile[machine.whole(work.limit[j] - 1.0) * n + j]
    for c in range(classes):
        j = 0
        while j < n:
            z = load_some(work.tile, c * n + j, n - j)
            low = load_some(work.shifts, j, n - j)
            save_some(work.tile, c * n + j, n - j, machine.where_larger(low, z, machine.splat(-machine.INF), z))
            j += machine.WIDTH


def min_p_tile(classes, n, work):
    """min_p alone, where one class at least is kept: it needs the maximum and no exponential."""
    for j in range(n):
        work.limit[j] = math.log(work.rules[MIN_P * FEW + j])
    for c in range(classes):
        for j in range(n):
            d = work.tile[c * n + j] - work.peak[j]
            work.tile[c * n + j] = work.tile[c * n + j] if d >= work.limit[j] else -machine.INF


def typical_tile(classes, n, work):
    """The z nearest to their mean, up to the first with which they have typical_p of the mass, and its equals."""
    sort_lanes(classes, n, work)
    for j in range(n):
        work.total[j] = 0.0
        work.sum[j] = 0.0
        work.kept[j] = 0.0
        work.count[j] = 0.0
    for c in range(classes):
        for j in range(n):
            z = work.other_tile[c * n + j]
            d = z - work.peak[j]
            mass = exp(d)
            work.masses[c * n + j] = mass
            work.total[j] += mass
            work.sum[j] += mass * d if mass > 0.0 else 0.0
            work.kept[j] += 1.0 if z > -machine.INF else 0.0
    for j in range(n):
        work.sum[j] /= work.total[j]
        work.limit[j] = (1.0 - work.rules[TYPICAL_P * FEW + j]) * work.total[j]
    for c in range(classes):
        for j in range(n):
            work.count[j] += 1.0 if work.other_tile[c * n + j] - work.peak[j] >= work.sum[j] else 0.0
    for j in range(n):
        gap = reach_out(n, j, work)
        # Classes above and below the mean that are as far from it are so to within the rounding.
        work.limit[j] = min(gap + ON_LIMIT * (1.0 + gap), -LOWEST)
        if work.rules[TYPICAL_P * FEW + j] == 1.0:
            work.limit[j] = -LOWEST
    for c in range(classes):
        for j in range(n):
            work.keys[c * n + j] = min(abs(work.tile[c * n + j] - work.peak[j] - work.sum[j]), -LOWEST)
    if some_lane(machine.stretch(work.rules, MIN_KEEP * FEW), n, 1.0, machine.INF):
        for j in range(n):
            keep_nearest(classes, n, j, work)
    for c in range(classes):
        for j in range(n):
            nearest = work.tile[c * n + j] if work.keys[c * n + j] <= work.limit[j] else -machine.INF
            work.tile[c * n + j] = nearest


def reach_out(n, j, work):
    """How far from the mean of lane j those lie with which the nearest leave at most `limit` of the mass."""
    below = machine.whole(work.count[j])
    above = below - 1
    last = machine.whole(work.kept[j])
    center = work.sum[j]
    mass = 0.0
    gap = 0.0
    while (above >= 0 or below < last) and work.total[j] - mass > work.limit[j]:
        up = machine.INF
        down = machine.INF
        if above >= 0:
            up = (work.other_tile[above * n + j] - work.peak[j]) - center
        if below < last:
            down = center - (work.other_tile[below * n + j] - work.peak[j])
        if above >= 0 and (up <= down or below >= last):
            gap = up
            mass += work.masses[above * n + j]
            above -= 1
        else:
            gap = down
            mass += work.masses[below * n + j]
            below += 1
    return gap


def keep_nearest(classes, n, j, work):
    """Where fewer than min_keep classes of lane j are within its limit, the min_keep nearest are, of equals those with the
    lowest index: the others get a distance beyond it.
    """
    least = work.rules[MIN_KEEP * FEW + j]
    within = 0
    for c in range(classes):
        within += 1 if work.keys[c * n + j] <= work.limit[j] and work.tile[c * n + j] > -machine.INF else 0
    if within >= least:
        return
    for c in range(classes):
        nearer = 0
        for other in range(classes):
            d = work.keys[other * n + j] - work.keys[c * n + j]
            nearer += 1 if d < 0.0 or (d == 0.0 and other < c) else 0
        work.masses[c * n + j] = nearer
    work.limit[j] = -LOWEST
    for c in range(classes):
        if work.masses[c * n + j] >= least:
            work.keys[c * n + j] = machine.INF


def filter_tile(classes, n, work):
    """z_cj = -inf of the classes that the filters of their lanes drop. Lanes with NaN or +inf are for whoever called."""
    top_k = some_lane(machine.stretch(work.rules, TOP_K * FEW), n, 0.0, classes)
    top_p = some_lane(machine.stretch(work.rules, TOP_P * FEW), n, -1.0, 1.0)
    min_p = some_lane(machine.stretch(work.rules, MIN_P * FEW), n, 0.0, 2.0)
    typical = some_lane(machine.stretch(work.rules, TYPICAL_P * FEW), n, -1.0, 1.0)
    late = some_lane(machine.stretch(work.rules, EPSILON * FEW), n, 0.0, 2.0)
    late = late + some_lane(machine.stretch(work.rules, ETA * FEW), n, 0.0, 2.0)
    more = some_lane(machine.stretch(work.rules, MIN_KEEP * FEW), n, 1.0, machine.INF)
    if late and not typical:
        ranked_filters(classes, n, True, True, work)
    elif top_k and not top_p and not min_p:
        top_k_tile(classes, n, work)
    elif min_p and not top_k and not top_p and not more:
        min_p_tile(classes, n, work)
    elif top_k or top_p or min_p:
        ranked_filters(classes, n, True, False, work)
    if typical:
        typical_tile(classes, n, work)
        if late:
            ranked_filters(classes, n, False, True, work)


def few_at(task, item):
    """(outer index, first row or column, how many) of a tile"""
    lanes = few_lanes(task.classes)
    if task.inner == 1:
        return 0, item * lanes, min(lanes, task.rows - item * lanes)
    tiles = tiles_in(task.inner, lanes)
    first = item % tiles * lanes
    return item // tiles, first, min(lanes, task.inner - first)


def filter_short(task, work, start, stop):
    """As filter_rows, of the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = few_at(task, item)
        read_rules(task, outer * task.inner + first, n, work)
        load_tile(task, outer, first, n, work)
        tile_peaks(task.classes, n, work)
        filter_tile(task.classes, n, work)
        for j in range(n):
            if not work.peaks[j] < machine.INF:
                for c in range(task.classes):
                    work.tile[c * n + j] = machine.NAN
        store_tile(task, outer, first, n, work)


def store_tile(task, outer, first, n, work):
    """y_cj = z_cj"""
    if task.inner == 1:
        to_rows(work.tile, task.classes, n, task.y, first * task.y_stride, task.y_stride)
        return
    at = outer * task.y_stride + first
    for c in range(task.classes):
        j = 0
        while j < n:
            save_some(task.y, at + c * task.inner + j, n - j, load_some(work.tile, c * n + j, n - j))
            j += machine.WIDTH
