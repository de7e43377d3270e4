"""Sweeps over a piece of the class axis by NumPy, a few rows at a time, so that temporaries stay in cache."""

import itertools
import math

import numpy as np

from fastlogits import _layout

BLOCK = 1 << 16  # logits at a time


def by_rows(axes, *arrays):
    """Lists of views of some rows each, the class axes last.

    The first of the arrays has all axes; one without the class axes, that is, one number a row, gets them with
    length 1. None stays None.
    """
    ndim, last = arrays[0].ndim, tuple(range(-len(axes), 0))
    views = []
    for array in arrays:
        if array is not None:
            array = np.moveaxis(array, axes, last) if array.ndim == ndim else np.expand_dims(array, last)
        views.append(array)
    shape = views[0].shape
    for rows in _blocks(shape[: ndim - len(axes)], math.prod(shape[ndim - len(axes) :])):
        yield [None if view is None else view[rows] for view in views]


def _blocks(shape, classes):
    budget, steps = BLOCK // max(1, classes), []
    for n in reversed(shape):
        steps.insert(0, max(1, min(n, budget)))
        budget //= steps[0]
    for starts in itertools.product(*(range(0, n, step) for n, step in zip(shape, steps, strict=True))):
        yield tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))


@np.errstate(all="ignore")
def normalized(x, state, where, *, name, axes, kind):
    """softmax or log_softmax, in the dtype `kind`, of rows of which `x` is a piece and `state` the whole."""
    x = _layout.floats(x, "logits")
    wide, compute = _layout.COMPUTE[x.dtype], _layout.COMPUTE[kind]
    result = np.empty(x.shape, kind)
    if where is not None:
        where = np.broadcast_to(where, x.shape)
    parts = state.parts["peak"].astype(wide), state.log_sum.astype(compute), (1 / state.norm).astype(compute)
    for out, z, selected, peak, log_sum, inverse in by_rows(axes, result, x, where, *parts):
        z = (z.astype(wide, copy=False) - peak).astype(compute, copy=False)
        if name == "log_softmax":
            z -= log_sum
        else:
            np.exp(z, out=z)
            z *= inverse
        if selected is not None:
            z[~selected] = 0 if name == "softmax" else -np.inf
        store(out, z)
    return result


def softmax_gradient(log_probs, shares, total):
    """The gradient to a piece of z of sum_c share_c (lse - z_c), `total` the sum of all the row's shares.

    That is p_c (total - share_c) - share_c (1 - p_c), which cancels nowhere.
    """
    return np.exp(log_probs) * (total - shares) + shares * np.expm1(log_probs)


def store(out, values):
    """Rounds once; what is below the smallest normal number of the computing dtype becomes 0."""
    tiny = np.finfo(_layout.COMPUTE[out.dtype]).tiny
    values[np.abs(values) < tiny] = 0
    out[...] = values
