"""Softmax and log-softmax of rows that are at hand in pieces, each of whole blocks: the blocks of every piece, the rows
from all blocks, then the results of each piece.
"""

from fastlogits.kernels import primitives, softmax


def blocks_rows(x, x_stride, peaks, sums, rests, classes, scale, state, work, storage, start, stop):
    """peak_b and sum_b of the blocks of the rows [start, stop); rest_b, without the maximum, if its 1 is most of it."""
    blocks = softmax.blocks_of(classes)
    exps = primitives.slot(work, 1)
    for row in range(start, stop):
        for block in range(blocks):
            at = row * x_stride + block * primitives.BLOCK
            size = min(primitives.BLOCK, classes - block * primitives.BLOCK)
            softmax.reduce(x, at, size, scale, exps, 0, primitives.KEEP_PADDED, state, 0, 1, work, storage)
            item = row * blocks + block
            peaks[item] = state[primitives.ROW_FIELDS + primitives.BLOCK_PEAK]
            sums[item] = state[primitives.ROW_FIELDS + primitives.BLOCK_SUM]
            rests[item] = softmax.without_maximum(exps, size, work) if sums[item] < 1.5 else 0.0


def merged_rows(peaks, sums, rests, row_peaks, row_rests, classes, scale, state, start, stop):
    """PEAK and REST of the rows [start, stop) from what `blocks_rows` found."""
    blocks = softmax.blocks_of(classes)
    for row in range(start, stop):
        for block in range(blocks):
            fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
            state[fields + primitives.BLOCK_PEAK] = peaks[row * blocks + block]
            state[fields + primitives.BLOCK_SUM] = sums[row * blocks + block]
        best = softmax.merge(classes, scale, state)
        row_peaks[row] = state[primitives.PEAK]
        row_rests[row] = state[primitives.REST] + (rests[row * blocks + best] if best >= 0 else 0.0)


def piece_rows(x, x_stride, y, y_stride, peaks, rests, classes, scale, log, keep, state, work, storage, start, stop):
    """softmax or log_softmax of a piece of each of the rows [start, stop), given PEAK and REST of the whole rows.

    Block by block as in `softmax.softmax_rows`, exponentials kept and all: blocks that are those of the whole rows get
    the same bits.
    """
    for row in range(start, stop):
        for block in range(softmax.blocks_of(classes)):
            at = row * x_stride + block * primitives.BLOCK
            y_at = row * y_stride + block * primitives.BLOCK
            size = min(primitives.BLOCK, classes - block * primitives.BLOCK)
            kept = y
            kept_at = y_at
            if keep == primitives.KEEP_PADDED:
                kept = primitives.slot(work, 1)
                kept_at = 0
            if not log:
                softmax.reduce(x, at, size, scale, kept, kept_at, keep, state, 0, 1, work, storage)
            state[primitives.PEAK] = peaks[row]
            state[primitives.REST] = rests[row]
            if log:
                softmax.log_softmax_write(x, at, y, y_at, size, scale, state, 0, 1, work, storage)
            else:
                softmax.softmax_write(
                    x, at, kept, kept_at, keep, y, y_at, size, scale, state, 0, 1, work, storage
                )
