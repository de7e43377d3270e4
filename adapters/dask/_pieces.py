"""Sweeps over pieces of rows by NumPy, a few rows at a time, so that temporaries stay in cache."""

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


def probabilities(x, state, kind):
    """(softmax of a piece in the computing dtype, an array of the dtype `kind` for what is made of it)."""
    probs = state.softmax(x.astype(_layout.COMPUTE[x.dtype], copy=False))
    return probs, probs if probs.dtype == kind else np.empty(probs.shape, kind)


def scattered(values, places, classes):
    """(zeros with each of the values, several a row, added at its place, the indices of those places)."""
    here = (places >= 0) & (places < classes)
    at = *np.nonzero(here)[:-1], places[here]
    result = np.zeros((*places.shape[:-1], classes))
    np.add.at(result, at, np.broadcast_to(values, places.shape)[here])
    return result, at


def softmax_gradient(probs, z, peak, log_sum, total, shares, own, at, pull=0.0):
    """In place of `probs`, the gradient to a piece of z of sum_c share_c (lse - z_c) + pull lse.

    The shares of a row add up to `total`; they are `shares` and, at the indices `at`, `own` besides. The gradient is
    (total + pull) p_c - share_c; at `at`, and where p_c is above 1/2, that may cancel, so there it is
    p_c (total + pull - share_c) - share_c (1 - p_c), in double.
    """
    at = tuple(np.concatenate(parts) for parts in zip(at, np.nonzero(probs > 0.5), strict=True))
    row = *at[:-1], np.zeros_like(at[-1])
    share = np.broadcast_to(shares, probs.shape)[at] + own[at]
    log_prob = (z[at].astype(np.float64) - peak[row]) - log_sum[row]
    total, pull = np.broadcast_arrays(total, pull)
    exact = np.exp(log_prob) * (total[row] - share + pull[row]) + share * np.expm1(log_prob)
    probs *= (total + pull).astype(probs.dtype)
    probs -= np.asarray(shares).astype(probs.dtype)
    probs[at] = exact


def store(out, values):
    """Rounds once; what is below the smallest normal number of the computing dtype becomes 0."""
    small = np.abs(values) < np.finfo(_layout.COMPUTE[out.dtype]).tiny
    if small.any():
        values[small] = 0
    if out is not values:
        out[...] = values
