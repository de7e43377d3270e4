"""Partial results of rows in plain NumPy."""

import numpy as np

from fastlogits.backends._numpy_blocks import blocks, load, normalizer, quiet, view


@quiet
def row_stats(
    x, labels, thresholds, label_logits, peak, rest, moment, argmax, second, above, top_values,
    top_ids, rows, classes, x_stride, ordered, threads,
):  # fmt: skip
    """Each result goes to its array, one entry a row; what is None is not asked for.

    NaN counts as the largest logit and equals come by index. Of a row with m = max_c x_c:

        label_logits   the logit at the label; NaN where that is not a class
        peak        m
        rest        sum of exp(x_c - m) over all classes but one maximum; NaN where m is -inf
        moment      sum of (x_c - m) exp(x_c - m)
        argmax      the first c with x_c = m
        second      the largest logit but one
        above       how many logits are larger than the row's threshold; 0 for a NaN
        top_values, top_ids   the k first, shape (rows, k), in order where `ordered`
    """
    xs = view(x, rows, classes, 1, x_stride)[:, 0]

    def put(results, block, values):
        if results is not None:
            results[block] = values

    for block, _ in blocks(rows, classes, 1):
        z = load(xs, block)
        if peak is not None:
            put(peak, block, z.max(axis=-1))
        if label_logits is not None:
            label = labels[block, None]
            inside = (label >= 0) & (label < classes)
            picked = np.take_along_axis(z, np.where(inside, label, 0), -1)
            put(label_logits, block, np.where(inside, picked, np.nan)[..., 0])
        if rest is not None:
            shifted, e, r = normalizer(z)
            put(rest, block, r[..., 0])
            put(moment, block, np.where(shifted == -np.inf, 0, shifted * e).sum(axis=-1, dtype=np.float64))
        if above is not None:
            threshold = thresholds[block, None]
            larger = (z > threshold) | (np.isnan(z) & ~np.isnan(threshold))
            put(above, block, larger.sum(axis=-1))
        k = 0 if top_ids is None else top_ids.shape[1]
        if argmax is not None or second is not None or k:
            absent = np.isnan(z)
            order = np.lexsort((np.where(absent, 0, -z), ~absent), axis=-1)
            put(argmax, block, order[..., 0])
            following = np.take_along_axis(z, order[..., 1:2], -1)
            put(second, block, following[..., 0] if classes > 1 else -np.inf)
            put(top_ids, block, order[..., :k])
            put(top_values, block, np.take_along_axis(z, order[..., :k], -1))
