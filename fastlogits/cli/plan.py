"""How an array is cut into blocks that fit into memory, and suit the caches and the file."""

import math
from typing import NamedTuple

from fastlogits.cli.regions import regions, steps
from fastlogits.states import BLOCK

# A block of this size stays in the processor's cache from reading to writing.
CACHED = 1 << 20
# Where the file is in chunks, or is decoded in order, every read has its cost.
CHUNKED = 1 << 25
# Pieces of columns narrower than a page would fetch every page again and again.
PAGE = 4096
# A worker holds its block as it was read, perhaps converted, and the results.
HELD = 4
# Rows of fewer classes take as much: for their results, and for what is known of them meanwhile.
NARROW = 16
# What is kept of a row between its pieces takes about so many times a logit's bytes.
STATE = 16


class Plan(NamedTuple):
    """Blocks of `step` along each axis, one after the other along the last axis in `order`."""

    shape: tuple
    axis: int
    order: tuple
    step: tuple
    workers: int

    @property
    def whole_rows(self):
        return self.step[self.axis] >= self.shape[self.axis]

    @property
    def count(self):
        """How many blocks there are."""
        return math.prod(-(-n // max(1, step)) for n, step in zip(self.shape, self._whole(), strict=True) if n)

    def blocks(self):
        return regions(self.shape, self._whole(), self.order)

    def _whole(self):
        return (*self.step[: self.axis], self.shape[self.axis], *self.step[self.axis + 1 :])


def plan(source, axis, itemsize, memory, threads, *, in_pieces=True, copied=False, cut_at_chunks=True):
    """Whole rows where they fit into `memory`, in blocks for some workers; else pieces of rows, if they may be.

    `copied` says that there are results of the shape of the source.
    """
    chunks, ordered = source.chunks if cut_at_chunks else None, source.ordered
    shape = (*source.shape[:axis], max(source.shape[axis], NARROW), *source.shape[axis + 1 :])
    order = tuple(range(len(shape))[:: -1 if source.fortran else 1])
    place = order.index(axis)
    outer, inner = order[:place], order[place + 1 :]
    most = memory // HELD
    share = most // (threads + 1)
    best = min(share, CHUNKED if chunks or ordered else CACHED)
    step = steps(shape, itemsize, best, order=outer, chunks=chunks)
    if copied and source.fortran and most >= PAGE * NARROW:
        step = _wide(step, shape, axis, itemsize)
    if not ordered:
        columns = steps(step, itemsize, share, order=inner, chunks=chunks)
        width, whole = (math.prod(part[i] for i in inner) * itemsize for part in (columns, step))
        if width >= PAGE or whole * STATE > most:
            step = columns
    step = steps(step, itemsize, most, order=[axis], chunks=chunks)
    if step[axis] < source.shape[axis] and not in_pieces and chunks:
        # Chunks are decoded again and again, but rows must be whole.
        return plan(source, axis, itemsize, memory, threads, in_pieces=False, cut_at_chunks=False)
    # One more than can compute, to wait for the disk.
    workers = max(1, min(threads + 1, memory // (HELD * max(1, math.prod(step) * itemsize))))
    step = list(map(min, step, source.shape))
    if BLOCK < step[axis] < source.shape[axis] and not chunks:
        step[axis] -= step[axis] % BLOCK
    return Plan(source.shape, axis, order, tuple(step), workers)


def _wide(step, shape, axis, itemsize):
    """The step, along the last axes so long that results are written by the page, and not by the number."""
    step, width = list(step), itemsize
    for last in reversed(range(len(shape))):
        if width >= PAGE:
            break
        if last != axis:
            step[last] = max(step[last], min(shape[last], -(-PAGE // width)))
        width *= step[last]
        if step[last] < shape[last]:
            break
    return tuple(step)
