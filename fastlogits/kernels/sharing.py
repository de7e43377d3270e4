"""The steps of long rows that threads share: each piece to whoever is free, each step after the one before it."""

from fastlogits.kernels import machine
from fastlogits.kernels.cross_entropy import reduce_loss, settle_loss, write_loss, write_zeros
from fastlogits.kernels.gradients import reduce_gradient, settle_gradient, write_slopes
from fastlogits.kernels.loss import finish, pick, read_labels
from fastlogits.kernels.numbers import log1p
from fastlogits.kernels.records import Kept
from fastlogits.kernels.shared import blocks_of, row_memory
from fastlogits.kernels.sizes import BLOCK, BLOCK_FIELDS, DISCARD, IGNORED, PIECE
from fastlogits.kernels.softmax import (
    kept_in,
    reduce_argmax,
    reduce_blocks,
    settle_argmax,
    settle_row,
    write_blocks,
)
from fastlogits.kernels.sums import maximum_or_nan


def pieces_of(task):
    """How many pieces a row has."""
    return (blocks_of(task.classes) + PIECE - 1) // PIECE


def piece_at(task, item):
    """(row, first block, last block) of a piece"""
    pieces = pieces_of(task)
    first = item % pieces * PIECE
    return task.first + item // pieces, first, min(blocks_of(task.classes), first + PIECE)


def numbers_of(task, work, row):
    """What is known of a row as a whole, beside its blocks."""
    return machine.stretch(row_memory(task, work, row), BLOCK_FIELDS * blocks_of(task.classes))


def park(task, work, row):
    """Leaves what is known of a row, the thread's first, for whoever goes on with it."""
    numbers = numbers_of(task, work, row)
    numbers[0] = work.peak[0]
    numbers[1] = work.rest[0]
    numbers[2] = work.factor[0]
    numbers[3] = work.counter[0]
    numbers[4] = work.target[0]
    numbers[5] = work.picked[0]
    numbers[6] = work.slope[0]
    numbers[7] = work.label[0]
    numbers[8] = work.lead[0]
    numbers[9] = work.top[0]
    numbers[10] = work.top_target[0]
    numbers[11] = work.boost[0]


def resume(task, work, row):
    numbers = numbers_of(task, work, row)
    work.peak[0] = numbers[0]
    work.rest[0] = numbers[1]
    work.factor[0] = numbers[2]
    work.counter[0] = numbers[3]
    work.target[0] = numbers[4]
    work.picked[0] = numbers[5]
    work.slope[0] = numbers[6]
    work.label[0] = machine.whole(numbers[7])
    work.lead[0] = numbers[8]
    work.top[0] = machine.whole(numbers[9])
    work.top_target[0] = numbers[10]
    work.boost[0] = numbers[11]


def softmax_reduce(task, work, start, stop):
    """The peaks and sums of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        reduce_blocks(task, row, kept_in(task, work, row), work, first, last)


def softmax_settle(task, work, start, stop):
    """PEAK and REST of the rows [start, stop) of those that threads share."""
    for row in range(task.first + start, task.first + stop):
        settle_row(task, row, kept_in(task, work, row), work)
        park(task, work, row)


def softmax_write(task, work, start, stop):
    """softmax or log_softmax of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        resume(task, work, row)
        write_blocks(task, row, kept_in(task, work, row), work, first, last)


def logsumexp_reduce(task, work, start, stop):
    """The peaks and sums of the pieces [start, stop)."""
    kept = Kept(machine.stretch_real(work.spare, 0), 0, 0, DISCARD)
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        reduce_blocks(task, row, kept, work, first, last)


def logsumexp_settle(task, work, start, stop):
    """logsumexp of the rows [start, stop) of those that threads share."""
    kept = Kept(machine.stretch_real(work.spare, 0), 0, 0, DISCARD)
    for row in range(task.first + start, task.first + stop):
        settle_row(task, row, kept, work)
        task.lse[row] = work.peak[0] + log1p(work.rest[0])
        if work.peak[0] == machine.INF:
            task.lse[row] = maximum_or_nan(task.x, row * task.x_stride, task.classes)


def argmax_reduce(task, work, start, stop):
    """The peaks of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        reduce_argmax(task, row, work, first, last)


def argmax_settle(task, work, start, stop):
    """argmax of the rows [start, stop) of those that threads share."""
    for row in range(task.first + start, task.first + stop):
        settle_argmax(task, row, work)


def gradient_reduce(task, work, start, stop):
    """sum g_k p_k, or sum g_k, of the blocks of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        reduce_gradient(task, row, work, first, last)


def gradient_settle(task, work, start, stop):
    """The sums of the rows [start, stop) of those that threads share."""
    for row in range(task.first + start, task.first + stop):
        settle_gradient(task, row, work)
        park(task, work, row)


def gradient_write(task, work, start, stop):
    """The gradient of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        resume(task, work, row)
        at = first * BLOCK
        write_slopes(task, row, at, min(last * BLOCK, task.classes) - at, 0, 0, work)


def loss_pick(task, work, start, stop):
    """The labels of the rows [start, stop) of those that threads share, before exponentials may be kept over logits."""
    for row in range(task.first + start, task.first + stop):
        read_labels(task, row, 1, work)
        pick(task, task.x, row * task.x_stride, 0, 1, 1, work)
        park(task, work, row)


def loss_reduce(task, work, start, stop):
    """The peaks, sums, gaps and masses of the pieces [start, stop)."""
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        resume(task, work, row)
        if work.label[0] != IGNORED:
            reduce_loss(task, row, kept_in(task, work, row), work, first, last)


def loss_settle(task, work, start, stop):
    """The losses of the rows [start, stop) of those that threads share."""
    for row in range(task.first + start, task.first + stop):
        resume(task, work, row)
        if work.label[0] == IGNORED:
            task.losses[row] = 0.0
        else:
            settle_loss(task, row, kept_in(task, work, row), work)
            finish(task, row, 1, work)
            park(task, work, row)


def loss_write(task, work, start, stop):
    """The gradient of the pieces [start, stop), where asked."""
    if not task.loss.with_grad:
        return
    for item in range(start, stop):
        row, first, last = piece_at(task, item)
        resume(task, work, row)
        if work.label[0] == IGNORED:
            write_zeros(task, row, first * BLOCK, min(last * BLOCK, task.classes) - first * BLOCK)
        else:
            write_loss(task, row, kept_in(task, work, row), work, first, last)
