"""What users write in torch for what comes after the logits, by the names of benchmarks/postprocessing.py: functions of
(logits, labels), the classes on AXIS. Each is tried eager and compiled.
"""

from typing import NamedTuple

import torch
from benchmarks.common import AXIS

from benchmarks.postprocessing import five, half

MINUS_INF = -torch.inf


def at(x, labels):
    return x.gather(AXIS, labels.unsqueeze(AXIS)).squeeze(AXIS)


def entropy(x, labels):
    log_p = torch.log_softmax(x, AXIS)
    return -(log_p.exp() * log_p).sum(AXIS)


def row_stats(x, labels):
    log_p = torch.log_softmax(x, AXIS)
    p = log_p.exp()
    above = x > at(x, labels).unsqueeze(AXIS)
    two = torch.topk(x, 2, AXIS).values
    return (
        x.argmax(AXIS),
        -(p * log_p).sum(AXIS),
        torch.logsumexp(x, AXIS),
        two.select(AXIS, 0) - two.select(AXIS, 1),
        p.amax(AXIS),
        -at(log_p, labels),
        above.sum(AXIS),
    )


def some_stats(x, labels):
    lse = torch.logsumexp(x, AXIS)
    return x.argmax(AXIS), lse, lse - at(x, labels)


class Stats(NamedTuple):
    compared: tuple
    others: tuple


def stats_and_top_k(x, labels):
    """The statistics, which are compared, and what goes with them"""
    values, ids = torch.topk(x, five(x, AXIS), AXIS)
    log_probs = values - torch.logsumexp(x, AXIS, keepdim=True)
    return Stats(row_stats(x, labels), (ids, log_probs))


def selective(x, labels):
    return at(x, labels) - torch.logsumexp(x, AXIS)


def selective_backward(x, labels):
    grad = torch.softmax(x, AXIS).neg_()
    return grad.scatter_add_(AXIS, labels.unsqueeze(AXIS), torch.ones_like(labels, dtype=x.dtype).unsqueeze(AXIS))


def perplexity(x, labels):
    return torch.nn.functional.cross_entropy(x, labels).exp()


def accuracy(x, labels):
    return (x.argmax(AXIS) == labels).float().mean()


def accuracy_of_five(x, labels):
    return (torch.topk(x, five(x, AXIS), AXIS).indices == labels.unsqueeze(AXIS)).any(AXIS).float().mean()


def topk(k):
    return lambda x, labels: torch.topk(x, k(x, AXIS), AXIS).values


def top_k(x):
    least = torch.topk(x, five(x, AXIS), AXIS).values.narrow(AXIS, five(x, AXIS) - 1, 1)
    return x.masked_fill(x < least, MINUS_INF)


def top_p(x):
    ordered, ids = torch.sort(x, AXIS)
    dropped = torch.softmax(ordered, AXIS).cumsum(AXIS) <= 0.1
    dropped.narrow(AXIS, -1, 1).fill_(False)
    return x.masked_fill(dropped.scatter(AXIS, ids, dropped), MINUS_INF)


def min_p(x, labels):
    return x.masked_fill(x < x.amax(AXIS, keepdim=True) - 2.995732273553991, MINUS_INF)


def typical_p(x, labels):
    log_p = torch.log_softmax(x, AXIS)
    p = log_p.exp()
    far = (log_p - (p * log_p).nansum(AXIS, keepdim=True)).abs()
    ordered, ids = torch.sort(far, AXIS)
    last = (p.gather(AXIS, ids).cumsum(AXIS) < 0.9).sum(AXIS, keepdim=True).clamp(max=x.shape[AXIS] - 1)
    return x.masked_fill(far > ordered.gather(AXIS, last), MINUS_INF)


def cutoff(x, least):
    return x.masked_fill((torch.softmax(x, AXIS) < least) & (x < x.amax(AXIS, keepdim=True)), MINUS_INF)


def eta_cutoff(x, labels):
    limit = 3e-4**0.5 * torch.exp(-entropy(x, labels)).unsqueeze(AXIS)
    return cutoff(x, limit.clamp(max=3e-4))


def sample(x):
    """By Gumbel's trick, which needs no second visit, and no rows in the last axis as torch.multinomial does"""
    ids = (x - torch.empty_like(x).exponential_().log()).argmax(AXIS)
    return ids, at(x, ids) - torch.logsumexp(x, AXIS)


def predictions(x, labels):
    confidence, predicted = torch.softmax(x, AXIS).max(AXIS)
    return confidence.flatten(), (predicted == labels).flatten()


def bins(x, labels, count=15):
    """(rows, right ones, confidence) of each bin"""
    confidence, correct = predictions(x, labels)
    place = (confidence * count).ceil().long().sub_(1).clamp_(0, count - 1)
    zeros = torch.zeros(count, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    sums = (zeros.scatter_add(0, place, v.to(zeros.dtype)) for v in (torch.ones_like(confidence), correct, confidence))
    return tuple(sums)


def expected_calibration_error(x, labels):
    count, correct, confidence = bins(x, labels)
    return (correct - confidence).abs().sum() / count.sum()


def maximum_calibration_error(x, labels):
    count, correct, confidence = bins(x, labels)
    return ((correct - confidence).abs() / count.clamp(min=1)).max()


def adaptive_calibration_error(x, labels):
    confidence, correct = predictions(x, labels)
    gap = correct.to(confidence.dtype) - confidence
    parts = gap[confidence.argsort(stable=True)].tensor_split(15)
    return sum(part.sum().abs() for part in parts) / len(gap)


def brier_score(x, labels):
    p = torch.softmax(x, AXIS)
    return ((p * p).sum(AXIS) - 2 * at(p, labels) + 1).mean()


def fit_temperature(x, labels):
    inverse = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x * inverse, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return 1 / inverse.detach()


FORMULAS = {
    "entropy": entropy,
    "row_stats": row_stats,
    "row_stats of argmax, lse, nll": some_stats,
    "row_stats and top_k 5": stats_and_top_k,
    "selective_log_softmax": selective,
    "selective_log_softmax_backward": selective_backward,
    "perplexity": perplexity,
    "loglikelihood": selective,
    "accuracy": accuracy,
    "accuracy of the top 5": accuracy_of_five,
    "topk 5": topk(five),
    "topk half": topk(half),
    "filter top_k 5": lambda x, labels: top_k(x),
    "filter top_p": lambda x, labels: top_p(x),
    "filter min_p": min_p,
    "filter typical_p": typical_p,
    "filter epsilon_cutoff": lambda x, labels: cutoff(x, 3e-4),
    "filter eta_cutoff": eta_cutoff,
    "filter three": lambda x, labels: top_p(top_k(x / 0.7)),
    "sample": lambda x, labels: sample(x),
    "sample top_p": lambda x, labels: sample(top_p(x)),
    "expected_calibration_error": expected_calibration_error,
    "maximum_calibration_error": maximum_calibration_error,
    "adaptive_calibration_error": adaptive_calibration_error,
    "brier_score": brier_score,
    "negative_log_likelihood": torch.nn.functional.cross_entropy,
    "fit_temperature": fit_temperature,
}
