"""Order among the classes of columns and of short rows, see columns.py: the largest but one, ranks, the k largest."""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import to_rows
from fastlogits.kernels.numbers import beats
from fastlogits.kernels.records import Lists, Tile
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
    """The k largest of each lane and their classes, of fewer than 2^24; a vector of lanes at a time."""
    w = machine.WIDTH
    k = task.stats.top_k
    lists = Lists(machine.stretch_real(work.other_tile, 0), machine.stretch_real(work.chunk, 0), k)
    j = 0
    while j < tile.n:
        n = min(w, tile.n - j)
        here = Tile(tile.at + j, tile.step, tile.row + j, n, 0, 0, 0, 0)
        if insert_lanes(x, here, task.classes, lists, False):
            insert_numbers(x, here, task.classes, lists)
        at = here.row * k
        if n == w:
            to_rows(lists.values, k, w, task.stats.top_values, at, k)
            to_rows(lists.ids, k, w, work.other_tile, 0, k)
            for i in range(w * k):
                task.stats.top_ids[at + i] = machine.whole(work.other_tile[i])
        else:
            for lane in range(n):
                write_list(task, here.row + lane, lane, lists)
        j += w


def write_list(task, row, lane, lists):
    """The results of a row from a lane of the lists."""
    w = machine.WIDTH
    at = row * lists.k
    for i in range(lists.k):
        task.stats.top_values[at + i] = lists.values[i * w + lane]
        task.stats.top_ids[at + i] = machine.whole(lists.ids[i * w + lane])


def insert_lanes(x, tile, count, lists, numbered):
    """The lists of `count` numbers of each lane of a vector, whose indices lie behind them if they are `numbered`;
    whether a NaN has spoilt them. Each number goes where the first smaller one is, and those from there on move down,
    so that equals stay in order of index.
    """
    w = machine.WIDTH
    k = lists.k
    nans = 0
    for c in range(count):
        v = load_some(x, tile.at + c * tile.step, tile.n)
        now = machine.load(x, tile.at + c * tile.step + w) if numbered else machine.splat(c)
        nans |= machine.any_nan(v, v)
        i = min(c, k - 1)
        if c < k:
            machine.save(lists.values, i * w, v)
            machine.save(lists.ids, i * w, now)
        here = machine.load(lists.values, i * w)
        its_id = machine.load(lists.ids, i * w)
        if c >= k and machine.count_above(v, here) == 0:
            continue
        while i > 0:
            above = machine.load(lists.values, (i - 1) * w)
            id_above = machine.load(lists.ids, (i - 1) * w)
            value = machine.where_larger(v, here, v, here)
            index = machine.where_larger(v, here, now, its_id)
            machine.save(lists.values, i * w, machine.where_larger(v, above, above, value))
            machine.save(lists.ids, i * w, machine.where_larger(v, above, id_above, index))
            here = above
            its_id = id_above
            i -= 1
        machine.save(lists.values, 0, machine.where_larger(v, here, v, here))
        machine.save(lists.ids, 0, machine.where_larger(v, here, now, its_id))
    return nans


def insert_numbers(x, tile, count, lists):
    """As insert_lanes, lane by lane, with NaN as the largest number."""
    w = machine.WIDTH
    k = lists.k
    for lane in range(tile.n):
        for c in range(count):
            value = machine.number(x, tile.at + c * tile.step + lane)
            i = min(c, k)
            while i > 0 and beats(value, lists.values[(i - 1) * w + lane]):
                if i < k:
                    lists.values[i * w + lane] = lists.values[(i - 1) * w + lane]
                    lists.ids[i * w + lane] = lists.ids[(i - 1) * w + lane]
                i -= 1
            if i < k:
                lists.values[i * w + lane] = value
                lists.ids[i * w + lane] = c
