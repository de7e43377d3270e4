"""Sweeps over pieces of rows by NumPy, a few rows at a time, so that temporaries stay in cache."""

import math

import numpy as np

from fastlogits import _layout

BLOCK = 1 << 17  # logits at a time


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
    classes = math.prod(shape[ndim - len(axes) :])
    for rows in _layout.row_blocks(shape[: ndim - len(axes)], BLOCK // max(1, classes)):
        yield [None if view is None else view[rows] for view in views]


def probabilities(x, state, kind):
    """(softmax of a piece in the computing dtype, an array of the dtype `kind` for what is made of it)."""
    probs = state.softmax(x.astype(_layout.COMPUTE[x.dtype], copy=False))
    return probs, probs if probs.dtype == kind else np.empty(probs.shape, kind)


def softmax_gradient(probs, z, peak, log_sum, total, places, own, shares=None, others=0.0, z_loss=0.0, factor=1.0):
    """In place of `probs`, `factor` times the gradient to a piece of z of sum_c share_c (lse - z_c) + z_loss lse^2.

    The shares of a row add up to `total`; they are `shares`, which without the maximum's are `others`, and at those of
    its places that lie in the piece, its `own` besides. The gradient is (total + 2 z_loss lse) p_c - share_c; at the
    places, and where p_c is above 1/2, that may cancel, so there it is, in double,
    p_c (the other shares) - share_c (1 - p_c) + 2 z_loss lse p_c.
    """
    at, share = _delicate(probs, log_sum, places, own)
    row = *at[:-1], np.zeros_like(at[-1])
    rest = np.broadcast_to(others + own.sum(-1, keepdims=True), peak.shape)[row] - share
    total, factor = np.broadcast_arrays(total, factor, peak)[:2]
    lse, pull = peak + log_sum, 2 * z_loss * factor
    if shares is not None:
        share = share + np.broadcast_to(shares, probs.shape)[at]
    rest = np.where(probs[at] > 0.5, rest, total[row] - share)
    log_prob = (z[at].astype(np.float64) - peak[row]) - log_sum[row]
    exact = factor[row] * (np.exp(log_prob) * rest + share * np.expm1(log_prob))
    coefficient = factor * total
    if z_loss:
        exact += pull[row] * (lse[row] * np.exp(log_prob))
        coefficient = coefficient + pull * lse
        too_large = ~(np.abs(coefficient) <= np.finfo(probs.dtype).max)
        if too_large.any():
            probs *= np.where(too_large, lse + total / (2 * z_loss), 1).astype(probs.dtype)
            coefficient = np.where(too_large, pull, coefficient)
    probs *= coefficient.astype(probs.dtype)
    if shares is not None:
        probs -= (factor * shares).astype(probs.dtype)
    probs[at] = exact


def _delicate(probs, log_sum, places, own):
    """(the indices of the places and of what is above 1/2, what `own` adds up to there)"""
    classes = probs.shape[-1]
    first = classes * np.arange(log_sum.size).reshape(log_sum.shape)
    here = (places >= 0) & (places < classes)
    # One class of those rows whose largest is, and none of the others.
    rows = np.nonzero(log_sum[..., 0] < 0.7)
    row, likely = np.nonzero(probs[rows] > 0.5)
    flat = np.concatenate([(first + places)[here], first[rows][row, 0] + likely])
    own = np.concatenate([np.broadcast_to(own, places.shape)[here], np.zeros(len(likely))])
    flat, inverse = np.unique(flat, return_inverse=True)
    return np.unravel_index(flat, probs.shape), np.bincount(inverse, own, len(flat))


def store(out, values):
    """Rounds once; what is below the smallest normal number of the computing dtype becomes 0."""
    small = np.abs(values) < np.finfo(_layout.COMPUTE[out.dtype]).tiny
    if small.any():
        values[small] = 0
    if out is not values:
        out[...] = values
