"""Parts of arrays. A region is a tuple with one slice per axis, of which start and stop are known."""

import itertools
import math

import numpy as np


def lengths(region):
    return tuple(part.stop - part.start for part in region)


def steps(shape, itemsize, limit, *, order=None, chunks=None):
    """Lengths of pieces of at most `limit` bytes: the axes are cut in `order`, each only as far as it must be.

    Along an axis the pieces are of whole `chunks`, where one fits. They remain larger where cutting the axes in
    `order` is not enough.
    """
    step = list(shape)
    for axis in range(len(shape)) if order is None else order:
        size = math.prod(step) * itemsize
        if size <= limit:
            break
        fit = max(1, limit * step[axis] // size)
        if chunks is not None and fit > chunks[axis]:
            fit -= fit % chunks[axis]
        step[axis] = fit
    return tuple(step)


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
    strides = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    last = len(shape) - 1
    while last > 0 and part[last] == shape[last]:
        last -= 1
    starts = np.array([region[last].start * strides[last]] if shape else [0])
    for axis in reversed(range(last)):
        steps = np.arange(region[axis].start, region[axis].stop) * strides[axis]
        starts = np.add.outer(steps, starts).ravel()
    return starts.tolist(), math.prod(part[last:] if shape else ()) * itemsize
