"""The readable reference, every operation as plain vectorised NumPy; and the fallback without a compiler.

Arrays come as (outer, classes, inner), see `fastlogits._layout`, and are seen as (outer, inner, classes); z is one
block of them, packed, so that NumPy adds its classes pairwise, in the dtype that is computed in. Per row: m the
maximum, r the sum of exp(z - m) over all classes but one maximum, s = 1 + r, so that log s = log1p(r) keeps its
relative accuracy for s near 1.
There are no threads here: `threads` is taken because every backend takes it.
"""

import numpy as np

from fastlogits import formula
from fastlogits._blocks import (
    blocks,
    dominating,
    load,
    normalizer,
    quiet,
    scaled_difference,
    scales_of,
    store,
    view,
)
from fastlogits._options import LossOptions
from fastlogits.backends.numpy._filters import COLUMNS, NEAR, filter_logits, philox, sample, uniform  # noqa: F401
from fastlogits.backends.numpy._moments import moments  # noqa: F401
from fastlogits.backends.numpy._row_stats import columns_pay, row_stats, takes_bias  # noqa: F401
from fastlogits.formula import NUMPY, Targets


@quiet
def softmax(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, scales=None):
    xs, ys = view(x, outer, classes, inner, x_stride), view(y, outer, classes, inner, y_stride)
    for block in blocks(outer, classes, inner):
        _, e, r = normalizer(load(xs, block), scales_of(scale, scales, outer, inner, block))
        store(ys, block, e / (1 + r))


@quiet
def log_softmax(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, scales=None):
    xs, ys = view(x, outer, classes, inner, x_stride), view(y, outer, classes, inner, y_stride)
    for block in blocks(outer, classes, inner):
        shifted, _, r = normalizer(load(xs, block), scales_of(scale, scales, outer, inner, block))
        ys[block] = shifted - np.log1p(r)


@quiet
def softmax_blocks(x, peaks, sums, rests, rows, classes, x_stride, scale, threads):
    """m, the sum of exp(scale (x - m)) and r of parts of each row; as many parts as there are places for them."""
    xs, found = view(x, rows, classes, 1, x_stride), [values.reshape(rows, -1) for values in (peaks, sums, rests)]
    for block in blocks(rows, classes, 1):
        for part, z in enumerate(np.array_split(load(xs, block)[:, 0], found[0].shape[1], axis=-1)):
            m, (_, _, r) = z.max(axis=-1), normalizer(z, scale)
            for values, some in zip(found, (m, np.where(np.isneginf(m), 0, 1 + r[:, 0]), r[:, 0]), strict=True):
                values[block[0], part] = some


@quiet
def softmax_merged(peaks, sums, rests, row_peaks, row_rests, classes, scale):
    """m and r of rows, given those of their parts."""
    m = peaks.max(axis=-1, keepdims=True)
    terms = np.where(sums == 0, 0, sums * np.exp(scale * (peaks - m)))
    best = peaks.argmax(axis=-1, keepdims=True)
    np.put_along_axis(terms, best, np.take_along_axis(rests, best, axis=-1), axis=-1)
    row_peaks[...], row_rests[...] = m[:, 0], terms.sum(axis=-1)


@quiet
def softmax_piece(x, y, peaks, rests, rows, classes, x_stride, y_stride, scale, log, threads):
    """softmax or log_softmax of some classes of rows, given m and r of all their classes."""
    xs, ys = view(x, rows, classes, 1, x_stride), view(y, rows, classes, 1, y_stride)
    for block in blocks(rows, classes, 1):
        z, m, r = load(xs, block), peaks[block[0], None, None], rests[block[0], None, None]
        shifted = scaled_difference(z, m.astype(z.dtype), scale)
        if log:
            ys[block] = shifted - np.log1p(r)
        else:
            store(ys, block, np.exp(shifted) / (1 + r))


@quiet
def logsumexp(x, lse, outer, classes, inner, x_stride, threads):
    xs, lse = view(x, outer, classes, inner, x_stride), lse.reshape(outer, inner)
    for block in blocks(outer, classes, inner):
        z = load(xs, block)
        m = z.max(axis=-1)
        _, _, r = normalizer(z)
        lse[block] = np.where(np.isinf(m), m, m + np.log1p(r[..., 0]))


@quiet
def argmax(x, indices, outer, classes, inner, x_stride, threads):
    xs, indices = view(x, outer, classes, inner, x_stride), indices.reshape(outer, inner)
    for block in blocks(outer, classes, inner):
        indices[block] = load(xs, block).argmax(axis=-1)


@quiet
def softmax_backward(g, p, out, outer, classes, inner, g_stride, p_stride, out_stride, threads):
    gs, ps = view(g, outer, classes, inner, g_stride), view(p, outer, classes, inner, p_stride)
    outs = view(out, outer, classes, inner, out_stride)
    # p_j (g_j - sum_k g_k p_k) is the same for g - c. Where a class dominates, c is its own g: beside it the others'
    # terms, from which alone its gradient comes, would be lost.
    for block in blocks(outer, classes, inner):
        grad, probs = load(gs, block).astype(np.float64), load(ps, block).astype(np.float64)
        lead = np.where(dominating(probs) & np.isfinite(grad), grad, 0).sum(axis=-1, keepdims=True)
        grad -= lead
        store(outs, block, probs * (grad - (grad * probs).sum(axis=-1, keepdims=True)))


@quiet
def log_softmax_backward(g, log_p, out, outer, classes, inner, g_stride, log_p_stride, out_stride, threads):
    gs, ps = view(g, outer, classes, inner, g_stride), view(log_p, outer, classes, inner, log_p_stride)
    outs = view(out, outer, classes, inner, out_stride)
    # g_j - p_j sum_k g_k = g_j (the others' p) - p_j (the others' g), which does not cancel where j dominates.
    for block in blocks(outer, classes, inner):
        grad, probs = load(gs, block).astype(np.float64), np.exp(load(ps, block))
        plain = grad - probs * grad.sum(axis=-1, keepdims=True)
        own = dominating(probs) & (abs(plain) < abs(grad) / 2)
        other_grads = np.where(own, 0, grad).sum(axis=-1, keepdims=True)
        other_probs = np.where(own, 0, probs).sum(axis=-1, keepdims=True, dtype=np.float64)
        store(outs, block, np.where(own, grad * other_probs - probs * other_grads, plain))


def count_labels(labels, weight, sample_weight, classes, ignore_index):
    """(first label outside [0, classes) that is not ignored or -1, sum of the weights of the valid rows)."""
    bad = (labels != ignore_index) & ((labels < 0) | (labels >= classes))
    if bad.any():
        return int(bad.argmax()), 0.0
    targets = Targets(labels, soft=False, weight=_doubles(weight), sample_weight=sample_weight)
    return -1, float(formula.divisor(NUMPY, targets, LossOptions(ignore_index=ignore_index)))


def _doubles(values):
    return None if values is None else values.astype(np.float64)


@quiet
def cross_entropy(arrays, outer, classes, inner, strides, options, grad_scale, threads):
    # With q_c the mass of a class, see `fastlogits.formula`, and Q their sum,
    #     d loss/dz_c = Q p_c - q_c + 2 z_loss lse p_c
    #                 = p_c (Q - q_c) - q_c (1 - p_c) + 2 z_loss lse p_c
    # The last form cancels nowhere: at the maximum Q - q_c and 1 - p_c are sums over the other classes.
    logits, targets, grad = (
        None if array is None else view(array, outer, classes, inner, stride)
        for array, stride in zip(arrays[:3], strides, strict=True)
    )
    labels, sample_weight, grad_loss, losses = (
        None if values is None else values.reshape(outer, inner) for values in arrays[3:7]
    )
    weight = _doubles(arrays.weight)
    for block in blocks(outer, classes, inner):
        row_weight = None if sample_weight is None else sample_weight[block]
        if targets is None:
            of_block = Targets(labels[block], False, weight, row_weight)
            distributions = np.arange(classes) == labels[block][..., None]
        else:
            distributions = load(targets, block).astype(np.float64)
            of_block = Targets(distributions, True, weight, row_weight)
        x = load(logits, block)
        if options.softcap is not None or options.logit_scale != 1.0:
            x = x.astype(np.float64)
        z = formula.transformed(NUMPY, x, options)

        _, e, r = normalizer(z)
        best = z.argmax(axis=-1, keepdims=True)
        m, log_s = np.take_along_axis(z, best, axis=-1), np.log1p(r)
        q = formula.masses_of(distributions, weight, classes, options)
        total, half_gap = formula.moments(NUMPY, q, (m / 2 - z / 2).astype(np.float64))
        loss = formula.of_rows(m, log_s, total, half_gap, options)
        losses[block] = formula.weighted(NUMPY, loss[..., 0], of_block, options)
        if grad is None:
            continue

        p = e / (1 + r)
        other_p, other_q = 1 - p, total - q
        np.put_along_axis(other_p, best, r / (1 + r), axis=-1)
        at_best = np.zeros(z.shape, bool)
        np.put_along_axis(at_best, best, True, axis=-1)
        np.put_along_axis(other_q, best, np.where(at_best, 0, q).sum(axis=-1, keepdims=True), axis=-1)
        coefficient = np.asarray(grad_scale if grad_loss is None else grad_scale * grad_loss[block])
        if row_weight is not None:
            coefficient = coefficient * row_weight
        coefficient = formula.slope(x, options) * (coefficient[..., None] if coefficient.ndim else coefficient)
        grad_x = coefficient * (p * other_q - q * other_p)
        if options.z_loss:
            grad_x += (2 * options.z_loss * coefficient) * ((m + log_s) * p)
        if targets is None:
            grad_x = np.where(labels[block][..., None] == options.ignore_index, 0, grad_x)
        store(grad, block, grad_x)


@quiet
def weighted_logsumexp(a, b, axes, keepdims):
    """(log |sum(b exp(a))|, its sign) over `axes`; not a kernel, since no other backend has it."""
    a = np.where(b == 0, -np.inf, a)
    m = a.max(axis=axes, keepdims=True, initial=-np.inf)
    at_max = a == m
    # The maxima, apart from the others as r is above. Infinite ones of both signs have no sum: inf - inf.
    lead = np.where(at_max, np.where(np.isposinf(a), b * np.inf, b), 0).sum(axis=axes, keepdims=True)
    rest = np.where(at_max, 0, b * np.exp(a - m)).sum(axis=axes, keepdims=True)
    total = np.where(np.isneginf(m), 0, lead + rest)
    ratio = rest / lead
    log_total = np.where(abs(ratio) < 1, np.log(abs(lead)) + np.log1p(ratio), np.log(abs(total)))
    values, sign = np.where(total == 0, -np.inf, m + log_total), np.sign(total)
    if keepdims:
        return values, sign
    return values.squeeze(axes), sign.squeeze(axes)
