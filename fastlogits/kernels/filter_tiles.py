"""Filters of rows of few classes, and of columns of them, SIEVE lanes at a time: class c of lane j lies at c * n + j.

As filters.py has it, without histograms: the z of each lane are sorted, in vectors, and all filters but typical_p leave
so many of the largest. A dropped z becomes -inf. The tile of z is work.tile, that of the sorted ones work.other_tile.
"""

import math

from fastlogits.kernels import machine
from fastlogits.kernels.columns import lane_maxima, start_peaks, to_lanes, to_rows
from fastlogits.kernels.filter_ranks import ranked_filters, some_lane, sort_lanes, top_k_tile
from fastlogits.kernels.numbers import exp
from fastlogits.kernels.plan import few_lanes, tiles_in
from fastlogits.kernels.selection import LOWEST, ON_LIMIT
from fastlogits.kernels.sizes import EPSILON, ETA, MIN_KEEP, MIN_P, RULES, SIEVE, TEMPERATURE, TOP_K, TOP_P, TYPICAL_P
from fastlogits.kernels.sums import load_some, save_some


def read_rules(task, row, n, work):
    """The rules of n rows; at temperature 0 no filter is on. top_k and min_keep are whole numbers up to the classes."""
    for rule in range(RULES):
        for j in range(n):
            work.rules[rule * SIEVE + j] = task.rules[(row + j) * task.rules_stride + rule]
    for j in range(n):
        if work.rules[TEMPERATURE * SIEVE + j] == 0.0:
            work.rules[TOP_K * SIEVE + j] = task.classes
            work.rules[TOP_P * SIEVE + j] = 1.0
            work.rules[MIN_P * SIEVE + j] = 0.0
            work.rules[TYPICAL_P * SIEVE + j] = 1.0
            work.rules[EPSILON * SIEVE + j] = 0.0
            work.rules[ETA * SIEVE + j] = 0.0


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
        temperature = work.rules[TEMPERATURE * SIEVE + j]
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


def min_p_tile(classes, n, work):
    """min_p alone, where one class at least is kept: it needs the maximum and no exponential."""
    for j in range(n):
        work.limit[j] = math.log(work.rules[MIN_P * SIEVE + j])
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
        work.limit[j] = (1.0 - work.rules[TYPICAL_P * SIEVE + j]) * work.total[j]
    for c in range(classes):
        for j in range(n):
            work.count[j] += 1.0 if work.other_tile[c * n + j] - work.peak[j] >= work.sum[j] else 0.0
    for j in range(n):
        gap = reach_out(n, j, work)
        # Classes above and below the mean that are as far from it are so to within the rounding.
        work.limit[j] = min(gap + ON_LIMIT * (1.0 + gap), -LOWEST)
        if work.rules[TYPICAL_P * SIEVE + j] == 1.0:
            work.limit[j] = -LOWEST
    for c in range(classes):
        for j in range(n):
            work.keys[c * n + j] = min(abs(work.tile[c * n + j] - work.peak[j] - work.sum[j]), -LOWEST)
    if some_lane(machine.stretch(work.rules, MIN_KEEP * SIEVE), n, 1.0, machine.INF):
        for j in range(n):
            keep_nearest(classes, n, j, work)
    for c in range(classes):
        for j in range(n):
            nearest = work.tile[c * n + j] if work.keys[c * n + j] <= work.limit[j] else -machine.INF
            work.tile[c * n + j] = nearest


def reach_out(n, j, work):
    """How far from the mean of lane j the nearest lie, one at least, that leave at most `limit` of the mass."""
    below = machine.whole(work.count[j])
    above = below - 1
    last = machine.whole(work.kept[j])
    center = work.sum[j]
    mass = 0.0
    gap = -1.0
    while (above >= 0 or below < last) and (gap < 0.0 or work.total[j] - mass > work.limit[j]):
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
    """Where fewer than min_keep classes of lane j are within its limit, the min_keep nearest are, of equals those with
    the lowest index: the others get a distance beyond it.
    """
    least = work.rules[MIN_KEEP * SIEVE + j]
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
    """z_cj = -inf of the classes that the filters of lane j drop. Lanes with NaN or +inf are left to whoever called."""
    top_k = some_lane(machine.stretch(work.rules, TOP_K * SIEVE), n, 0.0, classes)
    top_p = some_lane(machine.stretch(work.rules, TOP_P * SIEVE), n, -1.0, 1.0)
    min_p = some_lane(machine.stretch(work.rules, MIN_P * SIEVE), n, 0.0, 2.0)
    typical = some_lane(machine.stretch(work.rules, TYPICAL_P * SIEVE), n, -1.0, 1.0)
    late = some_lane(machine.stretch(work.rules, EPSILON * SIEVE), n, 0.0, 2.0)
    late = late + some_lane(machine.stretch(work.rules, ETA * SIEVE), n, 0.0, 2.0)
    more = some_lane(machine.stretch(work.rules, MIN_KEEP * SIEVE), n, 1.0, machine.INF)
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
    if task.rules_stride == 0:
        read_rules(task, 0, few_lanes(task.classes), work)
    for item in range(start, stop):
        outer, first, n = few_at(task, item)
        if task.rules_stride > 0:
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
