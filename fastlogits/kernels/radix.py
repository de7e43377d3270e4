"""The k largest logits of a row in their order, for a k too large for a heap: those above a limit, sorted by radix.

The sort is stable, so that equals stay in order of index. Its entries, logits and indices, are in double: `memory` has
the counts of digits, then a place for the entries and one that they are dealt to.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.shared import blocks_of, row_blocks, row_fields
from fastlogits.kernels.sizes import BLOCK, BUCKETS
from fastlogits.kernels.sums import next_above


def gather(task, row, limit, memory, values, work):
    """The logits above the limit, or all for a limit of -inf, in order of index; returns how many."""
    blocks = row_blocks(task, work, row)
    ids = values + task.classes
    n = 0
    for block in range(blocks_of(task.classes)):
        if blocks.peak[block] <= limit and limit > -machine.INF:
            continue
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        at = row * task.x_stride + start
        j = 0
        while j < size:
            if limit > -machine.INF:
                j = next_above(task.x, at, j, size, limit)
            if j < size:
                memory[values + n] = machine.number(task.x, at + j)
                memory[ids + n] = start + j
                n += 1
            j += 1
    return n


def deal(memory, n, classes, values, dealt, place):
    """One step of the sort: by the digit at one place of the keys, and as they were where that is the same."""
    for digit in range(BUCKETS):
        memory[digit] = 0.0
    for i in range(n):
        memory[machine.digit(memory[values + i], place)] += 1.0
    first = 0.0
    for digit in range(BUCKETS):
        count = memory[digit]
        memory[digit] = first
        first += count
    for i in range(n):
        bucket = machine.digit(memory[values + i], place)
        to = machine.whole(memory[bucket])
        memory[bucket] += 1.0
        memory[dealt + to] = memory[values + i]
        memory[dealt + classes + to] = memory[values + classes + i]


def select_sorted(task, row, limit, work):
    """The k first logits of a row, all of them above the limit, and their indices."""
    classes = task.classes
    memory = machine.stretch(work.blocks, row_fields(classes))
    values = BUCKETS
    dealt = values + 2 * classes
    n = gather(task, row, limit, memory, values, work)
    for place in range(machine.DIGITS):
        deal(memory, n, classes, values, dealt, place)
        values, dealt = dealt, values
    at = row * task.stats.top_k
    for i in range(task.stats.top_k):
        task.stats.top_values[at + i] = memory[values + i]
        task.stats.top_ids[at + i] = machine.whole(memory[values + classes + i])
