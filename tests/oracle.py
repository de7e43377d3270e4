"""The formulas, written naively in wide floating point: what every result is compared with.

Nothing here imports fastlogits. The classes are on the last axis; results are `Exact`, a value and the
absolute error it may have.
"""

from typing import NamedTuple

import numpy as np
from tolerance import Exact, Tolerance, compute_type, machine_epsilon, wide_type


class Row(NamedTuple):
    """What the formulas need of every row, shapes (..., 1) and (..., C)."""

    maximum: np.ndarray
    log_s: np.ndarray  # log of the sum of exp(z - maximum)
    distance: np.ndarray  # from the maximum to the nearest other logit
    below: np.ndarray  # maximum - z
    probs: np.ndarray
    others: np.ndarray  # 1 - probs, without cancellation


def analyse(z):
    """Maximum, sum and probabilities of every row, with one maximum kept out of the sum."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        top = np.expand_dims(np.argmax(z, axis=-1), -1)
        maximum = np.take_along_axis(z, top, -1)
        below = np.where((z == maximum) & np.isfinite(z), 0, maximum - z)
        e = np.exp(-below)
        rest = e.copy()
        np.put_along_axis(rest, top, np.where(np.isnan(maximum), np.nan, 0), -1)
        r = rest.sum(axis=-1, keepdims=True)
        probs = e / (1 + r)
        others = 1 - probs
        np.put_along_axis(others, top, r / (1 + r), -1)
        gaps = below.copy()
        np.put_along_axis(gaps, top, np.inf, -1)
        distance = gaps.min(axis=-1, keepdims=True)
        distance = np.where(np.isfinite(distance), distance, 0)
        return Row(maximum, np.log1p(r), distance, below, probs, others)


def finite(a):
    return np.where(np.isfinite(a), a, 0)


def widen(x):
    return np.asarray(x).astype(wide_type(x.dtype))


def scaled(x, temperature):
    """x / temperature, and the tolerance that goes with it."""
    z = widen(x) / temperature
    magnitude = np.abs(finite(z)).max(initial=0.0, axis=-1, keepdims=True)
    return z, Tolerance(x.dtype, slope=0 if temperature == 1 else 2 * magnitude)


def softmax(x, temperature=1.0):
    z, tolerance = scaled(x, temperature)
    row = analyse(z)
    return Exact(row.probs, tolerance.probability(row.probs, finite(row.below + row.log_s)))


def log_softmax(x, temperature=1.0):
    z, tolerance = scaled(x, temperature)
    row = analyse(z)
    error = tolerance.eps * finite(row.below) + tolerance.log_sum(row.log_s, row.distance)
    return Exact(-row.below - row.log_s, error + tolerance.slope * tolerance.eps)


def logsumexp(x):
    z = widen(x)
    row = analyse(z)
    value = np.where(np.isinf(row.maximum), row.maximum, row.maximum + row.log_s)[..., 0]
    error = Tolerance(x.dtype).lse(value, row.log_s[..., 0], row.distance[..., 0], 0)
    return Exact(value, finite(error))


def signed_logsumexp(x, b, axis=None, keepdims=False):
    """log(abs(sum b exp(x))) and the sign of the sum; where b is 0 the element does not exist."""
    z, factor = np.broadcast_arrays(widen(x), np.asarray(b).astype(wide_type(x.dtype)))
    z = np.where(factor == 0, -np.inf, z)
    m = z.max(axis=axis, keepdims=True)
    terms = factor * np.exp(z - finite(m))
    total = terms.sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(np.abs(total)) + finite(m)
        condition = np.abs(terms).sum(axis=axis, keepdims=True) / np.abs(total)
    spread = finite(z - finite(m)).min(axis=axis, keepdims=True)
    error = np.abs(finite(value)) + np.abs(finite(m)) + (8 - spread) * finite(condition)
    error = machine_epsilon(x.dtype) * error
    shape = value if keepdims else np.squeeze(value, axis=axis)
    return Exact(shape, error.reshape(shape.shape)), np.sign(total).reshape(shape.shape)


def argmax(x):
    return np.argmax(np.asarray(x, dtype=np.float64), axis=-1)


def softmax_backward(grad, probs):
    """p (g - sum g p); where a class dominates, the same for g minus the g of that class, which cancels
    nothing."""
    g, p = widen(grad), widen(probs)
    magnitude = np.abs(p) * (np.abs(g) + np.abs(g * p).sum(axis=-1, keepdims=True))
    top, at_top, dominated = dominating(p)
    lead = np.where(dominated, np.take_along_axis(g, top, -1), 0)
    relative = np.where(at_top & dominated, 0, g - lead)
    left = (relative * p).sum(axis=-1, keepdims=True)
    least = 4 * np.abs(p) * (np.abs(relative) + np.abs(relative * p).sum(axis=-1, keepdims=True))
    left_open = np.abs(p * lead * (1 - p.sum(axis=-1, keepdims=True)))
    error = Tolerance(grad.dtype).sum_of(np.where(dominated, np.minimum(magnitude, least), magnitude))
    return Exact(p * (relative - left), error + np.where(np.abs(left) > 0.45 * np.abs(lead), left_open, 0))


def log_softmax_backward(grad, log_probs):
    """g - p sum g; a class that dominates gets g (the others' p) - p (the others' g), which cancels
    nothing."""
    g, p = widen(grad), np.exp(widen(log_probs))
    # exp(log p) is known to (8 + |log p|) eps
    far = 1 - np.where(p == 0, 0, finite(widen(log_probs))) / 8
    magnitude = np.abs(g) + p * far * np.abs(g).sum(axis=-1, keepdims=True)
    top, at_top, dominated = dominating(p)
    own = at_top & dominated
    others_p, others_g = (np.where(own, 0, a).sum(axis=-1, keepdims=True) for a in (p, g))
    value = np.where(own, g * others_p - p * others_g, g - p * g.sum(axis=-1, keepdims=True))
    distance = np.where(own | (p == 0), 0, -p * finite(widen(log_probs))).sum(axis=-1, keepdims=True)
    least = np.abs(g) * (others_p + distance) + p * np.where(own, 0, np.abs(g)).sum(axis=-1, keepdims=True)
    least = 4 * np.where(own, least, 0)
    error = Tolerance(grad.dtype).sum_of(np.where(own, np.minimum(magnitude, least), magnitude))
    left_open = np.abs(g * (1 - p.sum(axis=-1, keepdims=True)))
    return Exact(value, error + np.where(own & (np.abs(value) > 0.45 * np.abs(g)), left_open, 0))


def dominating(p):
    """The likeliest class of each row, the mask of it, and whether it dominates: its p is above 3/4, of about 1.

    The p of all classes need not sum to 1 as they are given, rounded. How a dominating class's own gradient is read
    is then open by as much, except where hardly anything is left of it: that comes from the others' p alone.
    """
    top = np.expand_dims(np.argmax(p, axis=-1), -1)
    sums_to_1 = np.abs(p.sum(axis=-1, keepdims=True) - 1) < 0.01
    return top, np.arange(p.shape[-1]) == top, (np.take_along_axis(p, top, -1) > 0.75) & sums_to_1


class CrossEntropy(NamedTuple):
    loss: Exact
    grad: Exact


@np.errstate(all="ignore")
def cross_entropy(
    x,
    labels,
    *,
    weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    softcap=None,
    logit_scale=1.0,
    reduction="mean",
    normalizer=None,
    grad_loss=None,
):
    """Loss and gradient for logits (..., C), with the errors allowed to each.

    With share_c the weight of class c in the row's loss: loss = sum_c share_c (lse - z_c) + z_loss lse**2.
    Its gradient is p_c (sum of the other shares) - share_c (sum of the other p) + 2 z_loss lse p_c, whose sums at the
    maximum are of the others alone, so that nothing cancels there: its error is relative to these.
    """
    wide, num_classes, labels = wide_type(x.dtype), x.shape[-1], np.asarray(labels)
    hard = labels.dtype.kind in "iu"
    w = np.ones(num_classes, wide) if weight is None else np.asarray(weight).astype(wide)
    v = np.ones(x.shape[:-1], wide) if sample_weight is None else np.asarray(sample_weight).astype(wide)
    valid = labels != ignore_index if hard else np.ones(x.shape[:-1], bool)
    target = (np.arange(num_classes) == labels[..., None]).astype(wide) if hard else labels.astype(wide)
    share = w * ((1 - wide(label_smoothing)) * target + wide(label_smoothing) / num_classes)
    total_share = share.sum(-1, keepdims=True)

    z, slope, chain, chain_error = transform(widen(x), softcap, logit_scale)
    row, tolerance = analyse(z), Tolerance(x.dtype, slope)
    at_top = np.arange(num_classes) == np.argmax(z, axis=-1)[..., None]
    rest = np.where(at_top, np.where(at_top, 0, share).sum(-1, keepdims=True), total_share - share)
    eps, tiny = tolerance.eps, np.finfo(compute_type(x.dtype)).tiny
    flushed = num_classes * tiny  # what a sum loses if exp returns 0 for every term below the normal numbers
    lse = row.maximum + row.log_s
    loss = np.where(share == 0, 0, share * (row.below + row.log_s)).sum(-1, keepdims=True)
    distances = finite(np.where(share == 0, 0, np.abs(share) * row.below).sum(-1, keepdims=True))
    loss_error = np.abs(total_share) * (tolerance.log_sum(row.log_s, row.distance) + slope * eps + flushed)
    loss_error = loss_error + (1 if is_single(share) else 8) * eps * (distances + np.abs(finite(loss)))
    lse_error = tolerance.lse(finite(lse), row.log_s, row.distance, 1)
    if z_loss:
        loss = loss + z_loss * lse**2
        loss_error = loss_error + z_loss * (2 * np.abs(lse) * lse_error + 4 * eps * lse**2)

    far = 8 + finite(row.below + row.log_s) + slope
    p_error = far * eps * row.probs + tiny
    others_error = eps * row.others * (8 + np.where(row.below == 0, row.distance + slope, 0))
    others_error = others_error + np.where(row.below == 0, flushed, p_error)
    grad = row.probs * rest - share * row.others
    grad_error = p_error * np.abs(rest) + np.abs(share) * others_error
    if not is_single(share):
        plain = np.abs(total_share) * row.probs + np.abs(share)
        rounded = np.where(at_top, np.abs(rest) * row.probs + np.abs(share) * row.others, plain)
        grad_error = grad_error + 2 * eps * rounded
    if z_loss:
        grad = grad + 2 * z_loss * lse * row.probs
        z_error = np.abs(lse) * (p_error + 4 * eps * row.probs) + lse_error * row.probs
        grad_error = grad_error + 2 * z_loss * z_error
    grad_error = grad_error * np.abs(chain) + np.abs(grad) * (chain_error + 4 * eps * np.abs(chain))

    divided = wide(1)
    if reduction == "mean":
        divided = (v * (w * target).sum(-1))[valid].sum() if hard else v.sum()
        divided = divided if normalizer is None else wide(normalizer)
    incoming = np.asarray(1.0 if grad_loss is None else grad_loss).astype(wide) / divided
    factor = np.broadcast_to(incoming, valid.shape)[..., None] * v[..., None]
    losses = Exact(np.where(valid, v * loss[..., 0], 0), np.where(valid, np.abs(v) * loss_error[..., 0], 0))
    if reduction != "none":
        total = losses.value.sum() / divided
        losses = Exact(total, losses.error.sum() / np.abs(divided) + 2 * eps * np.abs(finite(total)))
    keep = valid[..., None]
    gradient = Exact(np.where(keep, factor * grad * chain, 0), np.where(keep, np.abs(factor) * grad_error, 0))
    return CrossEntropy(losses, gradient)


def is_single(share):
    """Whether each row's loss is that of one class: then the stricter bounds of a plain label hold."""
    return np.count_nonzero(share, axis=-1).max(initial=0) <= 1


def transform(x, softcap, logit_scale):
    """z, how many epsilons z is uncertain by, dz/dx, and the error allowed to dz/dx."""
    wide = x.dtype.type
    if softcap is None and logit_scale == 1:
        return x, np.zeros((*x.shape[:-1], 1), wide), wide(1), wide(0)
    scale = wide(logit_scale)
    z, chain, chain_error = x * scale, scale, wide(0)
    if softcap is not None:
        cap = wide(softcap)
        z, chain = scale * cap * np.tanh(x / cap), scale / np.cosh(x / cap) ** 2
        # 1 - tanh**2 comes from a tanh known to a few eps, so its error is absolute where tanh is near 1
        chain_error = 8 * np.abs(scale) * machine_epsilon(np.float64 if wide is np.longdouble else np.float32)
    return z, 8 * np.abs(finite(z)).max(axis=-1, keepdims=True, initial=0.0), chain, chain_error


def order(x):
    """The classes of each row from the largest logit to the smallest; equals by index, NaN first."""
    z = np.asarray(x, np.float64)
    return np.lexsort((np.where(np.isnan(z), 0, -z), ~np.isnan(z)), axis=-1)


@np.errstate(all="ignore")
def row_stats(x, labels, top_k, ties="first"):
    """Every field by name; integers have no error."""
    z, exactly = widen(x), np.zeros(())
    row, tolerance = analyse(z), Tolerance(x.dtype)
    row = row._replace(log_s=np.where(np.isposinf(row.maximum), np.nan, row.log_s))
    eps, flushed = tolerance.eps, z.shape[-1] * np.finfo(compute_type(x.dtype)).tiny * 1000
    spread = np.where(row.probs == 0, 0, row.probs * row.below)
    far = (10 + finite(row.below)) * np.abs(finite(spread))
    entropy_error = finite(tolerance.log_sum(row.log_s, row.distance)[..., 0]) + eps * far.sum(-1) + flushed
    picked = np.asarray(labels)[..., None]
    best = order(x)
    error = eps * finite(row.below) + tolerance.log_sum(row.log_s, row.distance)
    log_probs, topk_ids = Exact(-row.below - row.log_s, error), best[..., :top_k]
    at_label = [np.take_along_axis(part, picked, -1)[..., 0] for part in log_probs]
    label_logit = np.take_along_axis(z, picked, -1)
    larger = (z > label_logit) | (np.isnan(z) & ~np.isnan(label_logit))
    max_prob = np.where(np.isnan(row.log_s), np.nan, 1 / np.exp(row.log_s))
    second = np.take_along_axis(z, best[..., 1:2], -1) if z.shape[-1] > 1 else np.full(row.maximum.shape, -np.inf)
    margin = (row.maximum - second)[..., 0]
    return {
        "lse": logsumexp(x),
        "nll": Exact(-at_label[0], at_label[1]),
        "argmax": Exact(best[..., 0], exactly),
        "correct": Exact(best[..., 0] == labels, exactly),
        "entropy": Exact(row.log_s[..., 0] + spread.sum(-1), entropy_error),
        "max_prob": Exact(max_prob[..., 0], tolerance.probability(max_prob, finite(row.log_s))[..., 0]),
        "rank": Exact((best == picked).argmax(-1) if ties == "first" else larger.sum(-1), exactly),
        "margin": Exact(margin, eps * np.abs(finite(margin))),
        "topk_ids": Exact(topk_ids, exactly),
        "topk_log_probs": Exact(*(np.take_along_axis(part, topk_ids, -1) for part in log_probs)),
    }
