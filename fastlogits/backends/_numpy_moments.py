"""The moments of rows at an inverse temperature, in plain NumPy."""

import numpy as np

from fastlogits.backends._numpy_blocks import blocks, load, normalizer, quiet, view


@quiet
def moments(x, labels, results, outer, classes, inner, x_stride, beta, threads):
    """`results`, shape (4, rows), holds per row, with z = beta (m - x), p = softmax(beta x) and m = max x:

        log sum exp(-z);    m - x_label;    the mean of z under p;    its variance

    or 0 where the label is negative.
    """
    xs = view(x, outer, classes, inner, x_stride)
    labels, results = labels.reshape(outer, inner), results.reshape(4, outer, inner)
    for block in blocks(outer, classes, inner):
        logits, label = load(xs, block).astype(np.float64), labels[block]
        below, e, r = normalizer(logits, beta)
        z = np.where(e == 0, 0, -below)
        mean = (e * z).sum(axis=-1, keepdims=True) / (1 + r)
        variance = (e * (z - mean) ** 2).sum(axis=-1, keepdims=True) / (1 + r)
        picked = np.take_along_axis(logits, np.maximum(label, 0)[..., None], -1)
        gap = logits.max(axis=-1, keepdims=True) - picked
        values = np.stack([np.log1p(r), gap, mean, variance])[..., 0]
        results[(slice(None), *block)] = np.where(label < 0, 0, values)
