"""Softmax and log-softmax of rows that are at hand in pieces, each of whole blocks: the blocks of every piece, the rows
from all blocks, then the results of each piece.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import log1p
from fastlogits.kernels.records import Blocks, Kept
from fastlogits.kernels.shared import blocks_of
from fastlogits.kernels.sizes import BLOCK, KEEP_PADDED
from fastlogits.kernels.softmax import block_sum, merge, norm, rescale, scale_row, shift_row
from fastlogits.kernels.sums import maximum, rest_of


def blocks_rows(task, work, start, stop):
    """peak_b and sum_b of the blocks of the rows [start, stop); rest_b, without the maximum, if its 1 is most of it."""
    blocks = blocks_of(task.classes)
    kept = Kept(machine.stretch_real(work.spare, 0), 0, 0, KEEP_PADDED)
    for row in range(start, stop):
        for block in range(blocks):
            item = row * blocks + block
            at = row * task.x_stride + block * BLOCK
            size = min(BLOCK, task.classes - block * BLOCK)
            task.peaks[item] = maximum(task.x, at, size)
            task.sums[item] = block_sum(task.x, at, size, task.peaks[item], task.scale, kept, 0)
            task.rests[item] = rest_of(work.spare, 0, size) if task.sums[item] < 1.5 else 0.0


def merged_rows(task, work, start, stop):
    """PEAK and REST of the rows [start, stop), to row_peaks and row_rests, from what `blocks_rows` found."""
    n = blocks_of(task.classes)
    for row in range(start, stop):
        peaks = machine.stretch(task.peaks, row * n)
        sums = machine.stretch(task.sums, row * n)
        best = merge(n, task.scale, Blocks(peaks, sums, sums, sums, sums), work)
        task.row_peaks[row] = work.peak[0]
        task.row_rests[row] = work.rest[0] + (task.rests[row * n + best] if best >= 0 else 0.0)


def piece_rows(task, work, start, stop):
    """softmax or log_softmax of a piece of each of the rows [start, stop), given PEAK and REST of the whole rows.

    Block by block as in softmax.py: blocks that are those of the whole rows get the same bits.
    """
    kept = Kept(machine.stretch_real(work.spare, 0), 0, 0, KEEP_PADDED)
    for row in range(start, stop):
        work.peak[0] = task.row_peaks[row]
        work.rest[0] = task.row_rests[row]
        for block in range(blocks_of(task.classes)):
            first = block * BLOCK
            size = min(BLOCK, task.classes - first)
            if task.log:
                shift_row(task, row, first, size, work.peak[0], log1p(work.rest[0]))
            else:
                at = row * task.x_stride + first
                peak = maximum(task.x, at, size)
                block_sum(task.x, at, size, peak, task.scale, kept, 0)
                factor = 1.0 / norm(work, 0) * rescale(work.peak[0], peak, task.scale)
                scale_row(work.spare, 0, size, factor, task.y, row * task.y_stride + first, False)
