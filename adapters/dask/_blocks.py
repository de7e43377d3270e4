"""Functions of blocks as lazy arrays: all that knows how dask lays out and runs its graphs."""

import functools
import math
from typing import NamedTuple

import dask.array as da
import numpy as np
from dask.layers import ArraySliceDep

from fastlogits import _checks, _layout, config
from fastlogits.dask._checks import in_the_whole, stand_in, unknown_classes, unknown_rows
from fastlogits.states import BLOCK


class Chunked(NamedTuple):
    """Logits as a dask array, their class axes, and the dtype in which their blocks are taken."""

    array: da.Array
    axes: tuple
    dtype: np.dtype

    @property
    def all(self):
        return tuple(range(self.array.ndim))

    @property
    def batch(self):
        return tuple(i for i in self.all if i not in self.axes)

    @property
    def in_pieces(self):
        """Whether rows are cut along their classes."""
        return any(self.array.numblocks[axis] > 1 for axis in self.axes)

    @property
    def one_class(self):
        """The chunk sizes of what has one number where the logits have classes."""
        return dict.fromkeys(self.axes, 1)

    @property
    def one_row(self):
        return dict.fromkeys(self.batch, 1)

    @property
    def blocks(self):
        return self.array, self.all

    @property
    def location(self):
        """Which slices of the whole each block is."""
        return location(self.blocks)

    @property
    def rows(self):
        """The same for what has one number a row."""
        return ArraySliceDep(tuple(self.array.chunks[i] for i in self.batch)), self.batch

    @property
    def axis(self):
        return self.axes[0]

    @property
    def classes(self):
        return self.array.shape[self.axis]

    def shape(self, axes):
        return tuple(self.array.shape[i] for i in axes)

    def seen(self, axes):
        """The same, with sizes that are unknown as in `stand_in`."""
        shape = stand_in(self.array).shape
        return tuple(shape[i] for i in axes)

    def of_known_classes(self, name):
        """The same, if it is known how many classes each block has."""
        for axis in self.axes:
            if math.isnan(self.array.shape[axis]):
                raise unknown_classes(name, self.array.chunks[axis], axis)
        return self

    def in_whole_rows(self):
        """The same in blocks that hold whole rows, of about as many logits as now."""
        if not self.in_pieces:
            return self
        chunks = dict.fromkeys(self.axes, -1)
        known = [axis for axis in self.batch if not math.isnan(self.array.shape[axis])]
        if known:
            chunks[max(known, key=self.array.chunksize.__getitem__)] = "auto"
        limit = math.prod(self.array.chunksize[axis] for axis in known + [*self.axes]) * self.array.itemsize
        return self._replace(array=self.array.rechunk(chunks, block_size_limit=max(1, limit)))

    def in_blocks(self):
        """The same with rows cut only between the blocks in which the kernels take them, or else in whole rows."""
        if self.axes != self.all[-1:] or self.classes <= BLOCK:
            return self.in_whole_rows()
        cuts = np.cumsum(self.array.chunks[-1])[:-1] // BLOCK * BLOCK
        sizes = np.diff(np.unique([0, *cuts, self.classes]))
        return self._replace(array=self.array.rechunk({self.axis: tuple(sizes.tolist())}))

    def aligned(self, values, axes, *, whole=()):
        """`values` in the chunks of the logits along `axes`; what has length 1, or is `whole`, in one chunk."""
        chunks = tuple(
            (n,) if n == 1 or axis in whole else self.array.chunks[axis]
            for n, axis in zip(values.shape, axes, strict=True)
        )
        if values.chunks != chunks:
            known = {i: sizes for i, sizes in enumerate(chunks) if not math.isnan(sum(sizes) + sum(values.chunks[i]))}
            values = values.rechunk(known)
            if values.numblocks != tuple(map(len, chunks)):
                raise unknown_rows(values.chunks, chunks)
        return values, axes

    def first_of(self, values):
        """`values`, a pair, cut down to their first class."""
        return values[0][(slice(None),) * self.axis + (slice(1),)], self.all

    def replaced(self, function, *args, dtype, **options):
        """Other logits of the same shape: function(block, blocks of other arguments...)."""
        array = lazily(function, self.all, self.blocks, *args, dtype=dtype, **options)
        return Chunked(array, self.axes, dtype)


def location(pair):
    array, axes = pair
    return ArraySliceDep(array.chunks), axes


def chunked(name, values, axis, *, known=True):
    """`values` as `Chunked`, with the class axes `axis` as a caller gives them; sizes along them must be `known`."""
    array = da.asanyarray(values)
    axes = _checks.axes(_checks.axis(axis), array.ndim)
    x = Chunked(array, axes, _layout.floats(array._meta, name).dtype)
    return x.of_known_classes(name) if known else x


def lazily(function, axes, /, *args, dtype, chunks=None, rows=None, **options):
    """The lazy array with `axes` whose blocks are function(block of each argument, ..., **options).

    An argument is a pair, an array and its axes, or None. Along axes that the result lacks it must have one block.
    `chunks` has the result's chunk sizes along axes where they are not those of the first argument. An error
    about a position in a block becomes one about the whole, of which `rows` are the blocks' slices.
    """
    pairs = [part for arg in (*args, rows) for part in (arg or (None, None))]
    return da.blockwise(
        _task(functools.partial(function, **options)), axes, *pairs, align_arrays=False, adjust_chunks=chunks,
        dtype=dtype, meta=np.empty((0,) * len(axes), dtype), token=_name(function),
    )  # fmt: skip


def merged(function, array, axes):
    """`array` with its blocks along `axes` put together in a tree: function(block, *those that follow upon it)."""
    for axis in reversed(axes):
        if array.numblocks[axis] > 1:
            array = da.reduction(
                array, _same, functools.partial(_merge, _task(function)), axis, keepdims=True, concatenate=False,
                dtype=array.dtype, meta=array._meta, name=_name(function),
            )  # fmt: skip
    return array


def pick(objects, index, axes, dtype, **options):
    """The lazy array whose blocks are the item at `index`, or at indices, of the blocks of `objects`, a pair."""
    return lazily(_item, axes, objects, index=index, dtype=dtype, **options)


def _task(function):
    return functools.partial(_run, function, config.chosen())


def _run(function, chosen, *blocks):
    *blocks, rows = map(_only, blocks)
    # One thread, if none has said otherwise: a scheduler runs as many tasks at a time as there are processors.
    settings = {"num_threads": config.environment_threads() or 1} | chosen
    try:
        with config.settings(**settings):
            return function(*blocks)
    except (IndexError, ValueError) as error:
        raise in_the_whole(error, rows) from None


def _only(block):
    """Blocks come in lists, one in the other, along axes that the result lacks."""
    while type(block) is list:
        (block,) = block
    return block


def _merge(task, blocks, axis, keepdims):
    # Under dask's query planning also called on the empty array that stands for what a block is.
    return task(*blocks, None) if type(blocks) is list else blocks


def _same(block, axis, keepdims):
    return block


def _item(block, *, index):
    for i in index if isinstance(index, tuple) else (index,):
        block = block[i]
    return block


def _name(function):
    return f"fastlogits-{getattr(function, 'func', function).__name__.strip('_')}"
