"""Results of rows in plain NumPy."""

import numpy as np

from fastlogits._blocks import blocks, load, normalizer, quiet, scales_of, view


@quiet
def row_stats(
    x, labels, thresholds, results, outer, classes, inner, x_stride, ordered, ignore_index, threads, scale=1.0,
    scales=None, bias=None,
):  # fmt: skip
    """Fills the arrays of `results`, {name: one entry a row}.

    NaN counts as the largest logit and equals come by index. Of a row with m = max_c x_c and s what its logits are
    multiplied by, partial results, in double:

        label_logit    the logit at the label; NaN where that is not a class
        peak        m
        rest        sum of exp(s (x_c - m)) over all classes but one maximum; NaN where m is -inf
        moment      sum of s (x_c - m) exp(s (x_c - m))
        argmax      the first c with x_c = m
        second      the largest logit but one
        above       how many logits are larger than the row's threshold, the logit at the label where none is given; 0
                    for a NaN
        ahead       how many classes come before the label, those of equal logits and a lower index among them
        top_values, top_ids   the k first, shape (rows, k), in order where `ordered`

    and, in the dtype that is computed in, `FINISHED`: see `row_stats`. A label of `ignore_index` has nll 0.
    """
    xs = view(x, outer, classes, inner, x_stride)
    wanted = results.keys()
    for block in blocks(outer, classes, inner):
        z = load(xs, block)
        place = np.arange(outer * inner).reshape(outer, inner)[block]
        label = None if labels is None else labels[place]
        row = {"scale": scale if scales is None else scales[place]}
        if label is not None:
            row["label_logit"] = label_logits(z, label)
        row["peak"] = z.max(axis=-1)
        if wanted & {"rest", "moment", *FINISHED}:
            shifted, e, r = normalizer(z, scales_of(scale, scales, outer, inner, block))
            row["rest"] = r[..., 0]
            row["moment"] = np.where(shifted == -np.inf, 0, shifted * e).sum(axis=-1, dtype=np.float64)
        if wanted & {"above", "ahead"}:
            threshold = (row["label_logit"] if thresholds is None else thresholds[place])[..., None]
            above = (z > threshold) | (np.isnan(z) & ~np.isnan(threshold))
            row["above"] = above.sum(axis=-1)
        if "ahead" in wanted:
            equal = (z == threshold) | (np.isnan(z) & np.isnan(threshold))
            row["ahead"] = (above | (equal & (np.arange(classes) < label[..., None]))).sum(axis=-1)
        if wanted & {"argmax", "second", "margin", "top_ids"}:
            absent = np.isnan(z)
            order = np.lexsort((np.where(absent, 0, -z), ~absent), axis=-1)
            row["argmax"] = order[..., 0]
            following = np.take_along_axis(z, order[..., 1:2], -1)
            row["second"] = following[..., 0] if classes > 1 else np.full(place.shape, -np.inf)
            if "top_ids" in wanted:
                row["top_ids"] = order[..., : results["top_ids"].shape[1]]
                row["top_values"] = np.take_along_axis(z, row["top_ids"], -1)
        ignored = label == ignore_index
        for name in wanted:
            results[name][place] = FINISHED[name](row, ignored) if name in FINISHED else row[name]


def label_logits(z, label):
    inside = (label >= 0) & (label < z.shape[-1])
    picked = np.take_along_axis(z, np.where(inside, label, 0)[..., None], -1)[..., 0]
    return np.where(inside, picked, np.nan)


# The fields of `row_stats` that are formulas of the others
FINISHED = {
    "lse": lambda row, _: np.where(
        np.isinf(row["peak"]), row["peak"], row["scale"] * row["peak"].astype(np.float64) + np.log1p(row["rest"])
    ),
    "nll": lambda row, ignored: np.where(
        ignored, 0, np.log1p(row["rest"]) + row["scale"] * (row["peak"].astype(np.float64) - row["label_logit"])
    ),
    "entropy": lambda row, _: np.log1p(row["rest"]) - row["moment"] / (1 + row["rest"]),
    "max_prob": lambda row, _: 1 / (1 + row["rest"]),
    "margin": lambda row, _: row["scale"] * (row["peak"].astype(np.float64) - row["second"]),
}


def columns_pay(classes, top_k):
    """Whether `row_stats` takes the classes of columns where they lie."""
    return True


def takes_bias(classes, top_k):
    """Whether `row_stats` takes a bias of each class; otherwise it is in the logits already."""
    return False
