"""Parts of arrays. A region is a tuple with one slice per axis, of which start and stop are known."""

import itertools
import math

import numpy as np


def lengths(region):
    return tuple(part.stop - part.start for part in region)


def steps(shape, itemsize, limit, *, order=None, chunks=None):
    """Lengths of pieces of at most `limit` bytes: the axes are cut in `order`, each only as far as it must be.

    The pieces are of whole `chunks`. They remain larger where that, or cutting the axes in `order`, is not enough.
    """
    unit = [min(chunk, n) or 1 for chunk, n in zip(chunks, shape, strict=True)] if chunks else [1] * len(shape)
    step, itemsize = [-(-n // m) for n, m in zip(shape, unit, strict=True)], itemsize * math.prod(unit)
    for axis in range(len(shape)) if order is None else order:
        size = math.prod(step) * itemsize
        if size <= limit:
            break
        step[axis] = max(1, limit * step[axis] // size)
    return tuple(min(n, units * m) for n, units, m in zip(shape, step, unit, strict=True))


def regions(shape, step, order=None):
    """All pieces of these lengths, those along the last axis in `order` one after the other."""
    order = range(len(shape)) if order is None else order
    cuts = []
    for axis in order:
        starts = range(0, shape[axis], max(1, step[axis])) or [0]
        cuts.append([slice(start, min(start + step[axis], shape[axis])) for start in starts])
    places = [list(order).index(axis) for axis in range(len(shape))]
    for parts in itertools.product(*cuts):
        yield tuple(parts[place] for place in places)


def runs(shape, region, itemsize):
    """The pieces of a region that lie in one, for an array in C order: (where they begin, length), in bytes."""
    part = lengths(region)
    if not math.prod(part):
        return [], 0
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    last = len(shape) - 1
    while last > 0 and part[last] == shape[last]:
        last -= 1
    starts = np.array([region[last].start * strides[last]] if shape else [0])
    for axis in reversed(range(last)):
        steps = np.arange(region[axis].start, region[axis].stop) * strides[axis]
        starts = np.add.outer(steps, starts).ravel()
    return starts.tolist(), math.prod(part[last:] if shape else ()) * itemsize
