"""The k largest logits of a row, of which the sweep of stats.py has left the maxima of groups behind.

They give a bound for the k largest, so that another look at the row, in cache, finds few candidates; a heap holds those
found so far, or lists of as many rows as a vector has lanes, or, for a large k, radix.py sorts them. Where threads
share a row, the peaks of its blocks take the place of the groups' maxima. NaN counts as the largest logit, and equals
come by index. Row r has its results at r k.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.lane_order import insert_lanes, write_list
from fastlogits.kernels.numbers import beats
from fastlogits.kernels.order import how_many_above
from fastlogits.kernels.radix import select_sorted
from fastlogits.kernels.records import Lists, Tile
from fastlogits.kernels.shared import blocks_of, row_blocks
from fastlogits.kernels.sizes import BLOCK, CANDIDATES, GROUPS, TILE
from fastlogits.kernels.sums import next_above

# Whole numbers below this are exact in lanes.
MOST_NUMBERED = 1 << 24


def group_step(task):
    """How far apart the groups' maxima of blocks lie in `tile`; 0 where it has no room for them, or belongs to a thread
    that shares the row.
    """
    if task.sharing or blocks_of(task.classes) * GROUPS > TILE:
        return 0
    return GROUPS


def count_candidates(task, row, n, limit, work):
    """How many of the n maxima in `tile` are above the limit; where there are none, how many logits of the row."""
    if n > 0:
        return how_many_above(work.tile, 0, n, limit)
    count = 0
    for block in range(blocks_of(task.classes)):
        start = block * BLOCK
        count += how_many_above(task.x, row * task.x_stride + start, min(BLOCK, task.classes - start), limit)
    return count


def bound(task, row, n, peak, work):
    """A limit that at least k logits are above, and not many more; -inf where none is found.

    By bisection, over the n maxima if they are enough for it, else over the logits. Nearly as many maxima as k would
    reach far down: k = 2000 over 2016 maxima of 128256 logits, to 9000 candidates.
    """
    k = task.stats.top_k
    if 3 * n < 4 * k:
        n = 0
    near = 0.0
    far = 1.0
    count = 0
    while far < 1e6 and count < k:
        count = count_candidates(task, row, n, machine.cast(peak - far), work)
        if count < k:
            near = far
            far *= 2.0
    if count < k:
        return -machine.INF
    for _ in range(10):
        if count <= k + k // 8:
            break
        middle = 0.5 * (near + far)
        inside = count_candidates(task, row, n, machine.cast(peak - middle), work)
        if inside < k:
            near = middle
        else:
            far = middle
            count = inside
    return machine.cast(peak - far)


def comes_after(value, index, other, other_index):
    """Whether a logit stands behind another in the order of `select`."""
    return beats(other, value) or (not beats(value, other) and index > other_index)


def sift(task, at, n, value, index):
    """Put an entry at the root of a heap of n, whose root comes after all others, in the place of what is there."""
    values = task.stats.top_values
    ids = task.stats.top_ids
    place = 0
    child = 1
    while child < n:
        if child + 1 < n and comes_after(
            values[at + child + 1], ids[at + child + 1], values[at + child], ids[at + child]
        ):
            child += 1
        if not comes_after(values[at + child], ids[at + child], value, index):
            break
        values[at + place] = values[at + child]
        ids[at + place] = ids[at + child]
        place = child
        child = 2 * place + 1
    values[at + place] = value
    ids[at + place] = index


def sort_heap(task, at, n):
    """A heap of n into its order, from the first entry to the last."""
    values = task.stats.top_values
    ids = task.stats.top_ids
    last = n - 1
    while last > 0:
        value = values[at + last]
        index = ids[at + last]
        values[at + last] = values[at]
        ids[at + last] = ids[at]
        sift(task, at, last, value, index)
        last -= 1


def push(task, at, n, value, index):
    """Add an entry, whose index is larger than any there, to a heap of n."""
    values = task.stats.top_values
    ids = task.stats.top_ids
    place = n
    while place > 0:
        parent = (place - 1) // 2
        if beats(value, values[at + parent]):
            break
        values[at + place] = values[at + parent]
        ids[at + place] = ids[at + parent]
        place = parent
    values[at + place] = value
    ids[at + place] = index


def fit_lists(task):
    """Whether the k largest, and what a bound lets through with them, are sorted in lists of several rows."""
    k = task.stats.top_k
    return k <= CANDIDATES * 8 // 9 and task.classes < MOST_NUMBERED


def limit_of(task, row, work):
    """What to look for to begin with: logits above this; -inf if nothing better is known."""
    peak = work.peak[0]
    if (task.classes < 4 * task.stats.top_k and not fit_lists(task)) or peak - peak != 0.0:
        return -machine.INF
    blocks = row_blocks(task, work, row)
    n = blocks_of(task.classes) * group_step(task)
    if n == 0:
        n = min(blocks_of(task.classes), BLOCK)
        for block in range(n):
            work.tile[block] = blocks.peak[block]
    return bound(task, row, n, peak, work)


def select(task, row, waiting, work):
    """The k first logits of a row and their indices, in order where asked; or the row is put with others that are
    `waiting` for their lists. Returns how many are.
    """
    limit = limit_of(task, row, work)
    if limit > -machine.INF and fit_lists(task):
        if collect(task, row, limit, waiting, work):
            waiting += 1
            if waiting == machine.WIDTH:
                list_waiting(task, waiting, work)
                waiting = 0
            return waiting
    if task.stats.sorting:
        select_sorted(task, row, limit, work)
    else:
        select_heap(task, row, limit, work)
    return waiting


def collect(task, row, limit, lane, work):
    """Whether the logits above the limit are at most CANDIDATES: they and their indices, in order, go to a lane of
    `other_tile`, where numbers that come after all others are behind them.
    """
    w = machine.WIDTH
    blocks = row_blocks(task, work, row)
    if lane == 0:
        for i in range(CANDIDATES):
            machine.save(work.other_tile, 2 * i * w, machine.splat(-machine.INF))
    n = 0
    for block in range(blocks_of(task.classes)):
        if blocks.peak[block] <= limit:
            continue
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        at = row * task.x_stride + start
        j = next_above(task.x, at, 0, size, limit)
        while j < size:
            if n == CANDIDATES:
                for i in range(CANDIDATES):
                    work.other_tile[2 * i * w + lane] = -machine.INF
                return False
            work.other_tile[2 * n * w + lane] = machine.number(task.x, at + j)
            work.other_tile[(2 * n + 1) * w + lane] = start + j
            n += 1
            j = next_above(task.x, at, j + 1, size, limit)
    work.waiting[lane] = row
    work.candidates[lane] = n
    return True


def list_waiting(task, waiting, work):
    """The results of the rows whose candidates are in the first lanes."""
    w = machine.WIDTH
    most = 0
    for lane in range(waiting):
        most = max(most, work.candidates[lane])
    middle = CANDIDATES * w
    lists = Lists(machine.stretch_real(work.chunk, 0), machine.stretch_real(work.chunk, middle), task.stats.top_k)
    insert_lanes(work.other_tile, Tile(0, 2 * w, 0, w, 0, 0, 0, 0), most, lists, True)
    for lane in range(waiting):
        write_list(task, work.waiting[lane], lane, lists)


def select_heap(task, row, limit, work):
    """The k first, of the logits above the limit, or of all for -inf, by way of a heap."""
    blocks = row_blocks(task, work, row)
    k = task.stats.top_k
    at = row * k
    everything = 1 if limit == -machine.INF else 0
    n = 0
    for block in range(blocks_of(task.classes)):
        if blocks.peak[block] <= limit and (n == k or everything == 0):
            continue
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        x_at = row * task.x_stride + start
        j = 0
        while j < size:
            if n == k or everything == 0:
                j = next_above(task.x, x_at, j, size, limit)
            if j == size:
                break
            value = machine.number(task.x, x_at + j)
            if n < k:
                push(task, at, n, value, start + j)
                n += 1
            elif beats(value, task.stats.top_values[at]):
                sift(task, at, k, value, start + j)
            if n == k:
                limit = task.stats.top_values[at]
            j += 1
    if task.stats.ordered:
        sort_heap(task, at, k)
