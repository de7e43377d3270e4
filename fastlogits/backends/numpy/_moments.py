"""The moments of rows at an inverse temperature, in plain NumPy."""

import numpy as np

from fastlogits._blocks import blocks, load, normalizer, quiet, view


@quiet
def moments(x, labels, results, outer, classes, inner, x_stride, beta, threads):
    """`results`, shape (5, rows), holds per row, with z = beta (m - x), p = softmax(beta x) and m = max x:

        1 / max p - 1;  m - x_label;  the mean of z under p;  its variance;  the sum of p^2 without the label's

    or 0 where the label is negative.
    """
    xs = view(x, outer, classes, inner, x_stride)
    labels, results = labels.reshape(outer, inner), results.reshape(5, outer, inner)
    for block in blocks(outer, classes, inner):
        logits, label = load(xs, block).astype(np.float64), labels[block]
        below, e, r = normalizer(logits, beta)
        z = np.where(e == 0, 0, -below)
        mean = (e * z).sum(axis=-1, keepdims=True) / (1 + r)
        variance = (e * (z - mean) ** 2).sum(axis=-1, keepdims=True) / (1 + r)
        at = np.maximum(label, 0)[..., None]
        gap = logits.max(axis=-1, keepdims=True) - np.take_along_axis(logits, at, -1)
        np.put_along_axis(e, at, 0, -1)
        square = (e**2).sum(axis=-1, keepdims=True) / (1 + r) ** 2
        values = np.stack([r, gap, mean, variance, square])[..., 0]
        results[(slice(None), *block)] = np.where(label < 0, 0, values)
