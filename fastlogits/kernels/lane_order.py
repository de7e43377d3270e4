"""Order among the classes of columns and of short rows, see columns.py: the largest but one, ranks, the k largest."""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import to_rows
from fastlogits.kernels.numbers import beats
from fastlogits.kernels.sizes import TERMS
from fastlogits.kernels.sums import load_some


def lane_seconds(x, tile, count, work):
    """counters_j >= spare_j, the two largest numbers of each lane so far, NaN skipped, and `count` classes more."""
    w = machine.WIDTH
    j = 0
    while j < tile.n:
        most = machine.load(work.counters, j)
        second = machine.load(work.spare, j)
        for c in range(count):
            v = load_some(x, tile.at + c * tile.step + j, tile.n - j)
            second = machine.larger(machine.where_larger(v, most, most, v), second)
            most = machine.larger(v, most)
        machine.save(work.counters, j, most)
        machine.save(work.spare, j, second)
        j += w


def lane_before(task, x, tile, first, count, work):
    """above_j += how many of `count` classes from `first` on are above `factors_j`; with `ties` also the equals among
    them that come before the label.
    """
    if task.stats.ties:
        for j in range(tile.n):
            label = task.labels[tile.row + j] - first
            work.counters[j] = min(max(label, -1), TERMS)
        lane_counts(x, tile, count, work, True)
    else:
        lane_counts(x, tile, count, work, False)


def lane_counts(x, tile, count, work, ties):
    w = machine.WIDTH
    one = machine.splat(1.0)
    nothing = machine.splat(0.0)
    j = 0
    while j < tile.n:
        limit = machine.load(work.factors, j)
        label = machine.load(work.counters, j)
        before = nothing
        for c in range(count):
            v = load_some(x, tile.at + c * tile.step + j, tile.n - j)
            above = machine.where_above(v, limit, one, nothing)
            if ties:
                reached = machine.where_larger(limit, v, nothing, one)
                above = machine.where_larger(label, machine.splat(c), reached, above)
            before = before + above
        machine.add_to(work.above, j, before)
        j += w


def lane_top(task, x, tile, work):
    """The k largest of each lane and their classes, of fewer than 2^24. A vector of lanes at a time, whose lists are in
    `other_tile` and `chunk`, class by class: each goes where the first smaller number is, and those from there on move
    down, so that equals stay in order of index.
    """
    w = machine.WIDTH
    k = task.stats.top_k
    j = 0
    while j < tile.n:
        if insert_lanes(x, tile, task.classes, k, j, work):
            insert_numbers(x, tile, task.classes, k, j, work)
        n = min(w, tile.n - j)
        at = (tile.row + j) * k
        if n == w:
            to_rows(work.other_tile, k, w, task.stats.top_values, at, k)
            to_rows(work.chunk, k, w, work.other_tile, 0, k)
            for i in range(w * k):
                task.stats.top_ids[at + i] = machine.whole(work.other_tile[i])
        else:
            for lane in range(n):
                for i in range(k):
                    task.stats.top_values[at + lane * k + i] = work.other_tile[i * w + lane]
                    task.stats.top_ids[at + lane * k + i] = machine.whole(work.chunk[i * w + lane])
        j += w


def insert_lanes(x, tile, classes, k, j, work):
    """The lists of a vector of lanes; whether a NaN has spoilt them."""
    w = machine.WIDTH
    nans = 0
    for c in range(classes):
        v = load_some(x, tile.at + c * tile.step + j, tile.n - j)
        now = machine.splat(c)
        nans |= machine.any_nan(v, v)
        i = min(c, k)
        if i < k:
            machine.save(work.other_tile, i * w, v)
            machine.save(work.chunk, i * w, now)
        i -= 1 if i == k else 0
        here = machine.load(work.other_tile, i * w)
        its_class = machine.load(work.chunk, i * w)
        while i > 0:
            above = machine.load(work.other_tile, (i - 1) * w)
            class_above = machine.load(work.chunk, (i - 1) * w)
            value = machine.where_larger(v, here, v, here)
            index = machine.where_larger(v, here, now, its_class)
            machine.save(work.other_tile, i * w, machine.where_larger(v, above, above, value))
            machine.save(work.chunk, i * w, machine.where_larger(v, above, class_above, index))
            here = above
            its_class = class_above
            i -= 1
        machine.save(work.other_tile, 0, machine.where_larger(v, here, v, here))
        machine.save(work.chunk, 0, machine.where_larger(v, here, now, its_class))
    return nans


def insert_numbers(x, tile, classes, k, j, work):
    """As insert_lanes, lane by lane, with NaN as the largest number."""
    w = machine.WIDTH
    for lane in range(min(w, tile.n - j)):
        for c in range(classes):
            value = machine.number(x, tile.at + c * tile.step + j + lane)
            i = min(c, k)
            while i > 0 and beats(value, work.other_tile[(i - 1) * w + lane]):
                if i < k:
                    work.other_tile[i * w + lane] = work.other_tile[(i - 1) * w + lane]
                    work.chunk[i * w + lane] = work.chunk[(i - 1) * w + lane]
                i -= 1
            if i < k:
                work.other_tile[i * w + lane] = value
                work.chunk[i * w + lane] = c
