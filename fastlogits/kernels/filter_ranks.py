"""Filters of a tile of few classes by the rank of each z, see filter_tiles.py: so many of the largest are left."""

import math

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import exp, weigh
from fastlogits.kernels.sizes import EPSILON, ETA, MIN_KEEP, MIN_P, SIEVE, TOP_K, TOP_P
from fastlogits.kernels.sums import load_some, save_some

SOME_RANKS = 8  # which are found faster one after another than by sorting


def some_lane(x, n, low, high):
    """Whether low < x_j < high for some lane."""
    count = 0
    for j in range(n):
        count += 1 if low < x[j] and x[j] < high else 0
    return count > 0


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
                    if (i ^ (i + k)) < 2 * p:
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
        most = max(counts[j], work.rules[MIN_KEEP * SIEVE + j])
        if work.rules[rule * SIEVE + j] != off:
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
        work.limit[j] = (1.0 - work.rules[TOP_P * SIEVE + j]) * work.total[j]
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
    count_ranked(classes, n, machine.stretch(work.rules, MIN_KEEP * SIEVE), work)
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
        eta = work.rules[ETA * SIEVE + j]
        entropy = math.log(work.total[j]) - work.sum[j] / work.total[j]
        work.limit[j] = min(eta, math.sqrt(eta) * exp(-entropy))


def drop_unranked(classes, n, work):
    """z_cj = -inf of all but the kept_j largest: of those that equal the last of them top_p has kept those with the
    highest index, and of these the ones with the lowest index stay.
    """
    for j in range(n):
        work.shifts[j] = work.other_tile[machine.whole(max(work.kept[j] - 1.0, 0.0)) * n + j]
    count_beside(classes, n, work)
    some = 0
    for j in range(n):
        above = work.counters[j]
        equal = classes - above - work.factors[j]
        first = max(0.0, equal - (work.whole[j] - above))
        last = first + (work.kept[j] - above)
        some += 1 if first > 0.0 or last < equal else 0
        work.counters[j] = first
        work.factors[j] = last
        work.spare[j] = 0.0
    if some == 0:
        drop_smaller(classes, n, work)
        return
    for c in range(classes):
        for j in range(n):
            z = work.tile[c * n + j]
            place = work.spare[j]
            within = 1.0 if place >= work.counters[j] and place < work.factors[j] else 0.0
            stays = 1.0 if z > work.shifts[j] else (within if z == work.shifts[j] else 0.0)
            work.spare[j] = place + 1.0 if z == work.shifts[j] else place
            work.tile[c * n + j] = z if stays > 0.0 else -machine.INF


def count_beside(classes, n, work):
    """How many z of each lane are larger than shifts_j, in counters_j, and how many smaller, in factors_j"""
    one = machine.splat(1.0)
    nothing = machine.splat(0.0)
    j = 0
    while j < n:
        middle = load_some(work.shifts, j, n - j)
        above = below = nothing
        for c in range(classes):
            v = load_some(work.other_tile, c * n + j, n - j)
            above = above + machine.where_larger(v, middle, one, nothing)
            below = below + machine.where_larger(middle, v, one, nothing)
        save_some(work.counters, j, n - j, above)
        save_some(work.factors, j, n - j, below)
        j += machine.WIDTH


def drop_smaller(classes, n, work):
    """z_cj = -inf where it is smaller than shifts_j"""
    lowest = machine.splat(-machine.INF)
    for c in range(classes):
        j = 0
        while j < n:
            z = load_some(work.tile, c * n + j, n - j)
            low = load_some(work.shifts, j, n - j)
            save_some(work.tile, c * n + j, n - j, machine.where_larger(low, z, lowest, z))
            j += machine.WIDTH


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
        if some_lane(machine.stretch(work.rules, TOP_K * SIEVE), n, 0.0, classes):
            for j in range(n):
                work.limit[j] = max(work.rules[TOP_K * SIEVE + j], work.rules[MIN_KEEP * SIEVE + j])
            count_ranked(classes, n, work.limit, work)
            cut(n, work.count, TOP_K, classes, work)
        if some_lane(machine.stretch(work.rules, TOP_P * SIEVE), n, -1.0, 1.0):
            ranked_top_p(classes, n, work)
    for j in range(n):
        work.whole[j] = work.kept[j]
    if early and some_lane(machine.stretch(work.rules, MIN_P * SIEVE), n, 0.0, 2.0):
        count_probable(classes, n, machine.stretch(work.rules, MIN_P * SIEVE), work.count, work)
        cut(n, work.count, MIN_P, 0.0, work)
    if late and some_lane(machine.stretch(work.rules, EPSILON * SIEVE), n, 0.0, 2.0):
        ranked_totals(classes, n, work)
        for j in range(n):
            work.limit[j] = work.rules[EPSILON * SIEVE + j]
        ranked_cutoff(classes, n, EPSILON, work)
    if late and some_lane(machine.stretch(work.rules, ETA * SIEVE), n, 0.0, 2.0):
        ranked_totals(classes, n, work)
        eta_cutoffs(classes, n, work)
        ranked_cutoff(classes, n, ETA, work)
    drop_unranked(classes, n, work)


def top_k_tile(classes, n, work):
    """top_k alone: all that are at least the k-th largest."""
    most = 1.0
    for j in range(n):
        work.limit[j] = max(work.rules[TOP_K * SIEVE + j], work.rules[MIN_KEEP * SIEVE + j])
        most = max(most, work.limit[j])
    if most <= SOME_RANKS:
        largest_lanes(classes, n, machine.whole(most), work)
    else:
        sort_lanes(classes, n, work)
    for j in range(n):
        work.shifts[j] = work.other_tile[machine.whole(work.limit[j] - 1.0) * n + j]
    drop_smaller(classes, n, work)
