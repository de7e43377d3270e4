"""Filters of logits and draws from what they leave, in plain NumPy, a row at a time, by sorting: the rules in code.

`rules` has a row of TEMPERATURE, ... for each row of logits, or one for all.
"""

import numpy as np

from fastlogits._blocks import compute_dtype, quiet, view

COLUMNS = 0  # columns of at most so many classes are taken as they lie
TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, EPSILON, ETA, MIN_KEEP = range(8)
# A share of the probability that comes as near as this to a limit is on it: far more than sums are off by, so that what
# is kept depends neither on the backend nor on the order of additions. `fastlogits.filters` moves the limits by it.
NEAR = 2.0**-42


@quiet
def filter_logits(x, y, rules, rows, classes, inner, x_stride, y_stride, threads):
    xs, ys = (view(a, rows, classes, inner, stride)[:, 0] for a, stride in ((x, x_stride), (y, y_stride)))
    for row, rule in enumerate(np.broadcast_to(rules, (rows, rules.shape[1]))):
        z = _scaled(xs[row], rule[TEMPERATURE])
        ys[row] = np.where(_survives(z.astype(np.float64), rule), z, -np.inf if z.max() < np.inf else np.nan)


@quiet
def sample(x, rules, numbers, key_0, key_1, ids, log_probs, rows, classes, inner, x_stride, threads):
    xs = view(x, rows, classes, inner, x_stride)[:, 0]
    uniforms = uniform(key_0, key_1, numbers)
    for row, rule in enumerate(np.broadcast_to(rules, (rows, rules.shape[1]))):
        z = _scaled(xs[row], rule[TEMPERATURE] or 1.0).astype(np.float64)
        if not z.max() < np.inf:
            ids[row] = -1
            continue
        if z.max() == -np.inf:
            ids[row] = -2
            continue
        z = np.where(_survives(z, rule) | (rule[TEMPERATURE] == 0), z, -np.inf)
        # The likeliest class comes first, the others by index.
        top = z.argmax()
        order = np.insert(np.delete(np.arange(classes), top), 0, top)
        if rule[TEMPERATURE] == 0:
            order = order[:1]
        mass = np.exp(z[order] - z[top])
        sums = np.cumsum(mass)
        place = np.flatnonzero(sums > uniforms[row] * sums[-1])[0]
        ids[row] = order[place]
        log_probs[row] = z[ids[row]] - z[top] - np.log1p(mass[1:].sum())


def _scaled(x, temperature):
    dtype = compute_dtype(x)
    return x.astype(dtype) / dtype(temperature)


def _survives(z, rule):
    """Which classes are left after all filters; each sees -inf where the ones before it have dropped a class."""
    min_keep = int(min(rule[MIN_KEEP], z.size))
    alive = (z > -np.inf) & (z.max() < np.inf)
    if not alive.any():
        return alive
    peak = z.max()
    every = np.arange(z.size)

    if rule[TOP_K] < z.size:
        alive &= z >= np.sort(z)[-max(int(rule[TOP_K]), min_keep)]
    if rule[TOP_P] < 1:
        z = np.where(alive, z, -np.inf)
        order = np.argsort(z, kind="stable")[::-1]
        mass = np.exp(z[order] - peak)
        total = mass.sum(dtype=np.longdouble)
        and_smaller = total - (np.cumsum(mass, dtype=np.longdouble) - mass)
        dropped = (and_smaller <= (1 - rule[TOP_P]) * total) & (every >= min_keep)
        alive[order[dropped]] = False
    if rule[MIN_P] > 0:
        z = np.where(alive, z, -np.inf)
        rank = np.argsort(np.argsort(-z, kind="stable"))
        alive &= (np.exp(z - peak) >= rule[MIN_P]) | (rank < min_keep)
    if rule[TYPICAL_P] < 1:
        z = np.where(alive, z, -np.inf)
        mass = np.exp(z - peak)
        gap = np.abs((z - peak) - np.where(mass > 0, mass * (z - peak), 0).sum() / mass.sum())
        order = np.argsort(gap, kind="stable")
        total = mass.sum(dtype=np.longdouble)
        left = total - np.cumsum(mass[order], dtype=np.longdouble)
        reached = np.append(np.flatnonzero(left <= (1 - rule[TYPICAL_P]) * total), z.size - 1)[0]
        nearest = gap[order[reached]]
        dropped = (gap[order] > nearest + NEAR * (1 + nearest)) & (every >= min_keep)
        alive[order[dropped]] = False
    for name in (EPSILON, ETA):
        if rule[name] > 0:
            z = np.where(alive, z, -np.inf)
            mass = np.exp(z - peak)
            p = mass / mass.sum()
            cutoff = rule[name]
            if name == ETA:
                entropy = -np.where(p > 0, p * np.log(p), 0).sum()
                cutoff = min(cutoff, np.sqrt(cutoff) * np.exp(-entropy))
            alive &= (p >= cutoff) | (z >= np.sort(z)[-min_keep])
    return alive & (z > -np.inf)


def uniform(key_0, key_1, numbers):
    """See fastlogits.kernels.philox."""
    words = philox(key_0, key_1, numbers)
    return ((words[0] >> np.uint64(5)) * 2.0**26 + (words[1] >> np.uint64(6))) * 2.0**-53


def philox(key_0, key_1, numbers):
    """Philox4x32-10 of each number, of the key or each of the keys: four arrays of 32-bit words, in uint64."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    numbers = np.asarray(numbers).astype(np.uint64)
    words = [numbers & low, numbers >> high, np.zeros_like(numbers), np.zeros_like(numbers)]
    keys = np.uint64(key_0), np.uint64(key_1)
    for _ in range(10):
        first, second = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [
            second >> high ^ words[1] ^ keys[0], second & low,
            first >> high ^ words[3] ^ keys[1], first & low,
        ]  # fmt: skip
        keys = keys[0] + np.uint64(0x9E3779B9) & low, keys[1] + np.uint64(0xBB67AE85) & low
    return words
