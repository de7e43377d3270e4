"""What users write in NumPy for what comes after the logits: peers, and in float64 what must come out."""

import numpy as np


def at(x, labels, axis):
    return np.take_along_axis(x, np.expand_dims(labels, axis), axis).squeeze(axis)


def log_softmax(x, axis):
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def nll(x, labels, axis):
    return -at(log_softmax(x, axis), labels, axis)


def entropy(x, axis):
    log_p = log_softmax(x, axis)
    return -(np.exp(log_p) * log_p).sum(axis)


def accuracy(x, labels, axis, k=1):
    above = (x > np.expand_dims(at(x, labels, axis), axis)).sum(axis)
    return (above < k).mean()


def predictions(x, labels, axis):
    """(the largest probability, whether it is the label's)"""
    p = softmax(x, axis)
    return p.max(axis).ravel(), (p.argmax(axis) == labels).ravel()


def topk(x, k, axis):
    """The values alone: of equals each library takes others."""
    largest = np.partition(x, x.shape[axis] - k, axis)
    largest = np.flip(np.take(largest, range(x.shape[axis] - k, x.shape[axis]), axis), axis)
    return -np.sort(-largest, axis)


def row_stats(x, labels, axis):
    """Every field that is a number without ties, in order of the names."""
    log_p = log_softmax(x, axis)
    p = np.exp(log_p)
    label = np.expand_dims(at(x, labels, axis), axis)
    two = topk(x, 2, axis)
    return {
        "argmax": x.argmax(axis),
        "entropy": -(p * log_p).sum(axis),
        "lse": np.log(np.exp(x - x.max(axis, keepdims=True)).sum(axis)) + x.max(axis),
        "margin": np.take(two, 0, axis) - np.take(two, 1, axis),
        "max_prob": p.max(axis),
        "nll": -at(log_p, labels, axis),
        "rank": (x > label).sum(axis),
    }


def selective_backward(x, labels, axis):
    grad = -softmax(x, axis)
    labels = np.expand_dims(labels, axis)
    np.put_along_axis(grad, labels, 1 + np.take_along_axis(grad, labels, axis), axis)
    return grad


def without(x, dropped):
    return np.where(dropped, x.dtype.type(-np.inf), x)


def top_k(x, k, axis):
    classes = x.shape[axis]
    return without(x, x < np.take(np.partition(x, classes - k, axis), [classes - k], axis))


def top_p(x, share, axis):
    order = np.argsort(x, axis)
    mass = np.cumsum(softmax(np.take_along_axis(x, order, axis), axis), axis)
    dropped = mass <= 1 - share
    by_class = np.empty_like(dropped)
    np.put_along_axis(by_class, order, dropped, axis)
    return without(x, by_class & (x < x.max(axis, keepdims=True)))


def min_p(x, share, axis):
    return without(x, x < x.max(axis, keepdims=True) + np.log(x.dtype.type(share)))


def typical_p(x, share, axis):
    log_p = log_softmax(x, axis)
    p = np.exp(log_p)
    far = np.abs(log_p - (p * log_p).sum(axis, keepdims=True))
    order = np.argsort(far, axis)
    mass = np.cumsum(np.take_along_axis(p, order, axis), axis)
    last = np.minimum((mass < share).sum(axis, keepdims=True), x.shape[axis] - 1)
    limit = np.take_along_axis(np.take_along_axis(far, order, axis), last, axis)
    return without(x, far > limit)


def cutoff(x, least, axis):
    p = softmax(x, axis)
    return without(x, (p < least) & (x < x.max(axis, keepdims=True)))


def eta_cutoff(x, eta, axis):
    limit = np.sqrt(eta) * np.exp(-np.expand_dims(entropy(x, axis), axis))
    return cutoff(x, np.minimum(limit, x.dtype.type(eta)), axis)


def sample(x, axis):
    """(ids, log-probabilities), by Gumbel's trick"""
    noise = np.random.default_rng(0).gumbel(size=x.shape).astype(x.dtype)
    ids = (x + noise).argmax(axis)
    return ids, at(log_softmax(x, axis), ids, axis)


def bin_gaps(confidence, correct, bins=15):
    """(rows, distance of accuracy from confidence) of each bin"""
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    gap = np.bincount(place, correct, bins) - np.bincount(place, confidence, bins)
    return count, np.abs(gap) / np.maximum(count, 1)


def expected_calibration_error(x, labels, axis):
    count, gap = bin_gaps(*predictions(x, labels, axis))
    return (count * gap).sum() / count.sum()


def maximum_calibration_error(x, labels, axis):
    return bin_gaps(*predictions(x, labels, axis))[1].max()


def adaptive_calibration_error(x, labels, axis, bins=15):
    confidence, correct = predictions(x, labels, axis)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, bins)
    return sum(abs((correct[p] - confidence[p]).sum(dtype=np.float64)) for p in parts) / len(order)


def brier_score(x, labels, axis):
    p = softmax(x, axis)
    return ((p * p).sum(axis) - 2 * at(p, labels, axis) + 1).mean(dtype=np.float64)


def fit_temperature(x, labels, axis):
    from scipy import optimize

    def loss(log_t):
        return nll(x / x.dtype.type(np.exp(log_t)), labels, axis).mean(dtype=np.float64)

    return np.exp(optimize.minimize_scalar(loss, bracket=(0.0, 1.0), tol=1e-4).x)


def curve_of(x, labels, axis, bins=15):
    """(confidence, accuracy, rows) of each bin"""
    confidence, correct = predictions(x, labels, axis)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return [np.bincount(place, value, bins) / count for value in (confidence, correct)] + [count]


def fit_vector_scaling(x, labels, axis):
    """The loss that is reached; rows by classes, whatever the axis"""
    from scipy import optimize

    classes = x.shape[axis]
    rows, picked = np.moveaxis(x, axis, -1).reshape(-1, classes), labels.ravel()

    def loss(parameters):
        scale, bias = parameters.astype(x.dtype).reshape(2, classes)
        log_p = log_softmax(rows * scale + bias, 1)
        slope = np.exp(log_p)
        slope[np.arange(len(rows)), picked] -= 1
        gradient = np.concatenate([(slope * rows).mean(0), slope.mean(0)]).astype(np.float64)
        return -at(log_p, picked, 1).mean(dtype=np.float64), gradient

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    return optimize.minimize(loss, start, jac=True, method="L-BFGS-B").fun
