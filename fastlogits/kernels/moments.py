"""The likelihood of a label at an inverse temperature beta, and the moments that its derivatives are made of.

With m = max_j x_j, z_j = beta (m - x_j) and p = softmax(beta x), a row with label y has

    nll = log_norm + beta gap                        log_norm = log sum_j exp(-z_j),  gap = m - x_y
    beta d nll / d beta = beta gap - mean            mean = sum_j p_j z_j
    beta^2 d^2 nll / d beta^2 = variance             variance = sum_j p_j (z_j - mean)^2

Moments of z, not of x: where p_j is not 0, z_j is below 88 (709 in double), so that nothing overflows, and no sum
cancels. The steps are those of softmax.py. The `results` are log_norm, gap, mean and variance of all rows, one field
after the other; they are 0 where the label is negative.
"""

import math

from fastlogits.kernels import lanes, primitives, softmax


def reduce(x, at, classes, beta, state, first, last, work, storage):
    """Per block: peak and sum as in softmax.py; gap_b = sum e z and spread_b = sum e (z - gap_b / sum_b)^2."""
    rate = primitives.cast(beta, work)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
        exps = primitives.slot(work, 1)
        terms = primitives.slot(work, 2)
        shift = softmax.block_peak(logits, size, state, fields)
        softmax.block_sum(logits, size, shift, beta, exps, 0, primitives.KEEP_PADDED, state, fields)
        peak = primitives.cast(shift, work)
        for j in range(size):
            terms[j] = primitives.weigh(exps[j], rate * (peak - logits[j]))
        state[fields + primitives.BLOCK_GAP] = primitives.total(terms, size)
        mean = primitives.cast(state[fields + primitives.BLOCK_GAP] / state[fields + primitives.BLOCK_SUM], work)
        for j in range(size):
            away = rate * (peak - logits[j]) - mean
            terms[j] = primitives.weigh(exps[j], away * away)
        state[fields + primitives.BLOCK_SPREAD] = primitives.total(terms, size)


def finish(x, at, labels, results, row, rows, classes, beta, state, work, storage):
    """The results of a row from its blocks: gaps and spreads move to the row's peak and mean."""
    picked = primitives.load(x, at + labels[row], 1, primitives.slot(work, 0), storage)
    peak = state[primitives.PEAK]
    gap = 0.0
    for block in range(softmax.blocks_of(classes)):
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        its_sum = state[fields + primitives.BLOCK_SUM]
        if its_sum != 0.0:
            below = beta * (peak - state[fields + primitives.BLOCK_PEAK])
            gap += softmax.rescale(peak, block, beta, state) * (state[fields + primitives.BLOCK_GAP] + its_sum * below)
    mean = gap / softmax.norm(state, 0)
    spread = 0.0
    for block in range(softmax.blocks_of(classes)):
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        its_sum = state[fields + primitives.BLOCK_SUM]
        if its_sum != 0.0:
            below = beta * (peak - state[fields + primitives.BLOCK_PEAK])
            away = state[fields + primitives.BLOCK_GAP] / its_sum + below - mean
            its_spread = state[fields + primitives.BLOCK_SPREAD] + its_sum * away * away
            spread += softmax.rescale(peak, block, beta, state) * its_spread
    results[row] = math.log1p(state[primitives.REST])
    results[rows + row] = peak - picked[0]
    results[2 * rows + row] = mean
    results[3 * rows + row] = spread / softmax.norm(state, 0)


def moments_rows(x, x_stride, labels, results, rows, classes, beta, state, work, storage, start, stop):
    """The results of the rows [start, stop)."""
    blocks = softmax.blocks_of(classes)
    exps = primitives.slot(work, 1)
    for row in range(start, stop):
        if labels[row] < 0:
            write_zeros(results, row, rows)
            continue
        at = row * x_stride
        reduce(x, at, classes, beta, state, 0, blocks, work, storage)
        # The exponentials of a single block are still in their slot.
        keep = primitives.KEEP_PADDED if blocks == 1 else primitives.DISCARD
        softmax.settle(x, at, classes, beta, exps, 0, keep, state, 0, work, storage)
        finish(x, at, labels, results, row, rows, classes, beta, state, work, storage)


def write_zeros(results, row, rows):
    """The results of a row that is left out."""
    for field in range(4):
        results[field * rows + row] = 0.0


def tile(x, at, step, labels, results, row, rows, classes, n, beta, state, work, storage):
    """The results of a tile whose lane j is row `row + j`, see lanes.py."""
    lanes.tile_sums(x, at, step, classes, n, beta, work, 0, 0, False, state, work, storage)
    peaks = primitives.slot(work, primitives.PEAKS)
    shifts = primitives.slot(work, primitives.SHIFTS)
    means = primitives.slot(work, primitives.FACTORS)
    rate = primitives.cast(beta, work)
    mean_at = 2 * rows + row
    variance_at = 3 * rows + row
    for j in range(n):
        results[mean_at + j] = 0.0
        results[variance_at + j] = 0.0
    for c in range(classes):
        logits = primitives.load(x, at + c * step, n, primitives.slot(work, 0), storage)
        exps = primitives.slot(work, 1)
        primitives.exp_each(logits, shifts, n, beta, exps)
        for j in range(n):
            results[mean_at + j] += primitives.weigh(exps[j], rate * (shifts[j] - logits[j]))
    for j in range(n):
        results[mean_at + j] /= 1.0 + state[primitives.REST + j]
        means[j] = primitives.cast(results[mean_at + j], work)
    for c in range(classes):
        logits = primitives.load(x, at + c * step, n, primitives.slot(work, 0), storage)
        exps = primitives.slot(work, 1)
        primitives.exp_each(logits, shifts, n, beta, exps)
        for j in range(n):
            away = rate * (shifts[j] - logits[j]) - means[j]
            results[variance_at + j] += primitives.weigh(exps[j], away * away)
    for j in range(n):
        state[primitives.PEAK + j] = peaks[j]
        results[row + j] = primitives.log1p(state[primitives.REST + j])
        results[variance_at + j] /= 1.0 + state[primitives.REST + j]
    for j in range(n):
        if labels[row + j] < 0:
            write_zeros(results, row + j, rows)
        else:
            picked = primitives.load(x, at + labels[row + j] * step + j, 1, primitives.slot(work, 0), storage)
            results[rows + row + j] = state[primitives.PEAK + j] - picked[0]


def moments_columns(x, x_stride, labels, results, rows, classes, inner, beta, state, work, storage, start, stop):
    """The results of the tiles [start, stop)."""
    tiles = (inner + primitives.LANES - 1) // primitives.LANES
    for item in range(start, stop):
        outer = item // tiles
        first = (item % tiles) * primitives.LANES
        n = min(primitives.LANES, inner - first)
        at = outer * x_stride + first
        tile(x, at, inner, labels, results, outer * inner + first, rows, classes, n, beta, state, work, storage)


def moments_short(x, x_stride, labels, results, rows, classes, beta, state, work, storage, start, stop):
    """The results of the SHORT-row groups [start, stop)."""
    logits = primitives.slot(work, primitives.TILE)
    for item in range(start, stop):
        first = item * primitives.SHORT
        n = min(primitives.SHORT, rows - first)
        lanes.gather(x, first * x_stride, x_stride, classes, n, logits, work, storage)
        tile(logits, 0, n, labels, results, first, rows, classes, n, beta, state, work, primitives.NATIVE)
