"""The likelihood of a label at an inverse temperature beta, and the moments that its derivatives are made of.

With m = max_j x_j, z_j = beta (m - x_j) and p = softmax(beta x), a row with label y has

    largest p = 1 / (1 + rest)                       rest = sum of exp(-z_j) over all j but one maximum
    nll = log(1 + rest) + beta gap                   gap = m - x_y
    beta d nll / d beta = beta gap - mean            mean = sum_j p_j z_j
    beta^2 d^2 nll / d beta^2 = variance             variance = sum_j p_j (z_j - mean)^2
    Brier score = (1 - p_y)^2 + square               square = sum of p_j^2 over all j but y

Moments of z, not of x: where p_j is not 0, z_j is below 88 (709 in double), so that nothing overflows, and no sum
cancels. The steps are those of softmax.py. The `results` are rest, gap, mean, variance and square of all rows, one
field after the other: 0 where the label is negative, and rest is NaN where there are no probabilities.
"""

from fastlogits.kernels import lanes, primitives, softmax


def reduce(x, at, label, classes, beta, state, first, last, work, storage):
    """Per block: peak and sum as in softmax.py; gap_b = sum e z, spread_b = sum e (z - gap_b / sum_b)^2,
    square_b = sum e^2 without the label's.
    """
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
        for j in range(size):
            terms[j] = exps[j] * exps[j]
        if label >= start and label < start + size:
            terms[label - start] = 0
        state[fields + primitives.BLOCK_SQUARE] = primitives.total(terms, size)


def finish(x, at, label, results, row, rows, classes, beta, state, work, storage):
    """The results of a row from its blocks: gaps and spreads move to the row's peak and mean."""
    picked = primitives.load(x, at + label, 1, primitives.slot(work, 0), storage)
    peak = state[primitives.PEAK]
    norm = softmax.norm(state, 0)
    gap = 0.0
    square = 0.0
    for block in range(softmax.blocks_of(classes)):
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        its_sum = state[fields + primitives.BLOCK_SUM]
        if its_sum != 0.0:
            below = beta * (peak - state[fields + primitives.BLOCK_PEAK])
            factor = softmax.rescale(peak, block, beta, state) / norm
            # Infinite, perhaps, of a block so far below that nothing is left of it: factor is 0.
            gap += primitives.weigh(factor, state[fields + primitives.BLOCK_GAP] + its_sum * below)
            square += factor * factor * state[fields + primitives.BLOCK_SQUARE]
    spread = 0.0
    for block in range(softmax.blocks_of(classes)):
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        its_sum = state[fields + primitives.BLOCK_SUM]
        if its_sum != 0.0:
            below = beta * (peak - state[fields + primitives.BLOCK_PEAK])
            factor = softmax.rescale(peak, block, beta, state) / norm
            away = state[fields + primitives.BLOCK_GAP] / its_sum + below - gap
            spread += primitives.weigh(factor, state[fields + primitives.BLOCK_SPREAD] + its_sum * away * away)
    results[row] = state[primitives.REST] if peak > primitives.NEG_INF else primitives.NAN
    results[rows + row] = peak - picked[0]
    results[2 * rows + row] = gap
    results[3 * rows + row] = spread
    results[4 * rows + row] = square


def moments_rows(x, x_stride, labels, results, rows, classes, beta, state, work, storage, start, stop):
    """The results of the rows [start, stop)."""
    blocks = softmax.blocks_of(classes)
    # The exponentials of a single block are still in their slot when it is settled.
    keep = primitives.KEEP_PADDED if blocks == 1 else primitives.DISCARD
    exps = primitives.slot(work, 1)
    for row in range(start, stop):
        at = row * x_stride
        if labels[row] < 0:
            write_zeros(results, row, rows)
        else:
            reduce(x, at, labels[row], classes, beta, state, 0, blocks, work, storage)
            softmax.settle(x, at, classes, beta, exps, 0, keep, state, work, storage)
            finish(x, at, labels[row], results, row, rows, classes, beta, state, work, storage)


def write_zeros(results, row, rows):
    """The results of a row that is left out."""
    for field in range(5):
        results[field * rows + row] = 0.0


def tile(x, at, step, labels, results, row, rows, classes, n, beta, keep, state, work, storage):
    """The results of a tile whose lane j is row `row + j`, see lanes.py; a small one can `keep` its exponentials."""
    kept = primitives.slot(work, primitives.OTHER_TILE)
    lanes.tile_sums(x, at, step, classes, n, beta, kept, 0, n, keep, state, work, storage)
    peaks = primitives.slot(work, primitives.PEAKS)
    shifts = primitives.slot(work, primitives.SHIFTS)
    sums = primitives.slot(work, primitives.SUMS)
    squares = primitives.slot(work, primitives.SQUARES)
    means = primitives.slot(work, primitives.FACTORS)
    rate = primitives.cast(beta, work)
    nothing = primitives.cast(0.0, work)
    mean_at = 2 * rows + row
    variance_at = 3 * rows + row
    square_at = 4 * rows + row
    start_sums(sums, results, mean_at, state, primitives.LOST, n)
    for c in range(classes):
        logits = primitives.load(x, at + c * step, n, primitives.slot(work, 0), storage)
        exps = exps_of(logits, shifts, n, beta, kept, c, keep, work)
        for j in range(n):
            sums[j] += primitives.weigh(exps[j], rate * (shifts[j] - logits[j]))
        add_sums(sums, results, mean_at, state, primitives.LOST, n, c, classes)
    for j in range(n):
        results[mean_at + j] /= 1.0 + state[primitives.REST + j]
        means[j] = primitives.cast(results[mean_at + j], work)
    start_sums(sums, results, variance_at, state, primitives.LOST, n)
    start_sums(squares, results, square_at, state, primitives.TIED, n)
    for c in range(classes):
        logits = primitives.load(x, at + c * step, n, primitives.slot(work, 0), storage)
        exps = exps_of(logits, shifts, n, beta, kept, c, keep, work)
        for j in range(n):
            away = rate * (shifts[j] - logits[j]) - means[j]
            sums[j] += primitives.weigh(exps[j], away * away)
        for j in range(n):
            squares[j] += nothing if labels[row + j] == c else exps[j] * exps[j]
        add_sums(sums, results, variance_at, state, primitives.LOST, n, c, classes)
        add_sums(squares, results, square_at, state, primitives.TIED, n, c, classes)
    for j in range(n):
        norm = 1.0 + state[primitives.REST + j]
        state[primitives.PEAK + j] = peaks[j]
        results[row + j] = state[primitives.REST + j] if peaks[j] > primitives.NEG_INF else primitives.NAN
        results[variance_at + j] /= norm
        results[square_at + j] /= norm * norm
    for j in range(n):
        if labels[row + j] < 0:
            write_zeros(results, row + j, rows)
        else:
            picked = primitives.load(x, at + labels[row + j] * step + j, 1, primitives.slot(work, 0), storage)
            results[rows + row + j] = state[primitives.PEAK + j] - picked[0]


def exps_of(logits, shifts, n, beta, kept, c, keep, work):
    """exp(-z_c) of each lane."""
    if keep:
        return primitives.stretch(kept, c * n, n)
    exps = primitives.slot(work, 1)
    primitives.exp_each(logits, shifts, n, beta, exps)
    return exps


def start_sums(sums, results, at, state, lost, n):
    """The sums of n lanes start at 0."""
    for j in range(n):
        sums[j] = 0
        results[at + j] = 0.0
        state[lost + j] = 0.0


def add_sums(sums, results, at, state, lost, n, c, classes):
    """results_j += sums_j after every 16 terms of c; what the additions round away goes to `lost`."""
    if c % 16 == 15 or c == classes - 1:
        for j in range(n):
            state[lost + j] += primitives.rounded_away(results[at + j], sums[j])
            results[at + j] += sums[j]
            sums[j] = 0
    if c == classes - 1:
        for j in range(n):
            results[at + j] += state[lost + j]


def moments_columns(x, x_stride, labels, results, rows, classes, inner, beta, state, work, storage, start, stop):
    """The results of the tiles [start, stop)."""
    tiles = (inner + primitives.LANES - 1) // primitives.LANES
    for item in range(start, stop):
        outer = item // tiles
        first = (item % tiles) * primitives.LANES
        n = min(primitives.LANES, inner - first)
        at = outer * x_stride + first
        tile(x, at, inner, labels, results, outer * inner + first, rows, classes, n, beta, False, state, work, storage)


def moments_short(x, x_stride, labels, results, rows, classes, beta, state, work, storage, start, stop):
    """The results of the SHORT-row groups [start, stop)."""
    logits = primitives.slot(work, primitives.TILE)
    for item in range(start, stop):
        first = item * primitives.SHORT
        n = min(primitives.SHORT, rows - first)
        lanes.gather(x, first * x_stride, x_stride, classes, n, logits, work, storage)
        tile(logits, 0, n, labels, results, first, rows, classes, n, beta, True, state, work, primitives.NATIVE)
