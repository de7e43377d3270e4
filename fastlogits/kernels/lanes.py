"""Softmax and its family for columns: class c of lane j lies at `at + c * step + j`, so that a vector holds one class
of several columns.

A tile is up to LANES columns. The class axis in the middle of an array is a tile as it lies in memory (`*_columns`);
rows of few classes are transposed into one in scratch memory, SHORT rows at a time (`*_short`).
"""

from fastlogits.kernels import primitives


def some_classes(x, at, step, count, n, chunk, storage):
    """`count` classes of n lanes where they lie, `step` apart, or converted to scratch memory, n apart."""
    if primitives.readable(storage):
        return primitives.stretch(x, at, count * step)
    for c in range(count):
        primitives.load(x, at + c * step, n, primitives.stretch(chunk, c * n, n), storage)
    return chunk


def tile_sums(x, at, step, classes, n, scale, kept, kept_at, kept_step, keep, state, work, storage):
    """Per lane j: peaks_j = max_c x_cj; rest_j = sum_c exp(scale (x_cj - peaks_j)) over all but one maximum."""
    apart = step if primitives.readable(storage) else n
    chunk = primitives.slot(work, primitives.CHUNK)
    peaks = start_peaks(n, work)
    c = 0
    while c < classes:
        count = min(primitives.TERMS, classes - c)
        logits = some_classes(x, at + c * step, step, count, n, chunk, storage)
        primitives.lane_maxima(logits, apart, count, n, peaks)
        c += primitives.TERMS
    start_sums(n, state, work)
    c = 0
    while c < classes:
        count = min(primitives.TERMS, classes - c)
        logits = some_classes(x, at + c * step, step, count, n, chunk, storage)
        exps = primitives.stretch(kept, kept_at + c * kept_step, count * kept_step)
        add_exps(logits, apart, count, n, scale, exps, kept_step, keep, state, work)
        c += primitives.TERMS
    finish_sums(n, state)


def start_peaks(n, work):
    """The maxima of nothing."""
    peaks = primitives.slot(work, primitives.PEAKS)
    lowest = primitives.cast(primitives.NEG_INF, work)
    for j in range(n):
        peaks[j] = lowest
    return peaks


def start_sums(n, state, work):
    """shifts_j = peaks_j, 0 for a lane of nothing but -inf; the sums start at 0, one maximum already taken out."""
    peaks = primitives.slot(work, primitives.PEAKS)
    shifts = primitives.slot(work, primitives.SHIFTS)
    for j in range(n):
        shifts[j] = primitives.finite_peak(peaks[j])
    for j in range(n):
        state[primitives.REST + j] = 0.0
        state[primitives.LOST + j] = 0.0
        state[primitives.TIED + j] = -1.0


def add_exps(logits, step, count, n, scale, kept, kept_step, keep, state, work):
    """rest_j += sum_c e_cj of some classes; the maximum's 1, apart, swallows no small term."""
    primitives.lane_exps(
        logits, step, count, n, primitives.slot(work, primitives.SHIFTS), scale, kept, kept_step, keep,
        primitives.stretch(state, primitives.REST, n), primitives.stretch(state, primitives.LOST, n),
        primitives.stretch(state, primitives.TIED, n),
    )  # fmt: skip


def finish_sums(n, state):
    """The parts of rest_j come together, the smallest first."""
    for j in range(n):
        state[primitives.REST + j] += state[primitives.LOST + j]
        state[primitives.REST + j] += state[primitives.TIED + j]


def softmax_tile(x, at, step, y, y_at, y_step, classes, n, scale, keep, state, work, storage):
    """y_cj = exp(scale (x_cj - peaks_j)) / (1 + rest_j)."""
    tile_sums(x, at, step, classes, n, scale, y, y_at, y_step, keep, state, work, storage)
    shifts = primitives.slot(work, primitives.SHIFTS)
    factors = primitives.slot(work, primitives.FACTORS)
    for j in range(n):
        factors[j] = primitives.cast(1.0 / (1.0 + state[primitives.REST + j]), work)
    if keep:
        probs = primitives.stretch(y, y_at, classes * y_step)
        primitives.lane_scale(probs, y_step, classes, n, factors, probs, y_step)
        return
    for c in range(classes):
        logits = primitives.load(x, at + c * step, n, primitives.slot(work, 0), storage)
        exps = primitives.slot(work, 1)
        primitives.exp_each(logits, shifts, n, scale, exps)
        primitives.lane_scale(exps, n, 1, n, factors, exps, n)
        primitives.store(y, y_at + c * y_step, n, exps, storage)


def log_softmax_tile(x, at, step, y, y_at, y_step, classes, n, scale, state, work, storage):
    """y_cj = scale (x_cj - peaks_j) - log(1 + rest_j)."""
    tile_sums(x, at, step, classes, n, scale, work, 0, 0, False, state, work, storage)
    peaks = primitives.slot(work, primitives.PEAKS)
    log_sums = primitives.slot(work, primitives.FACTORS)
    rate = primitives.cast(scale, work)
    for j in range(n):
        log_sums[j] = primitives.log1p(primitives.cast(state[primitives.REST + j], work))
    for c in range(classes):
        logits = primitives.load(x, at + c * step, n, primitives.slot(work, 0), storage)
        log_probs = primitives.place(y, y_at + c * y_step, primitives.slot(work, 1), storage)
        primitives.lane_shift(logits, n, 1, n, rate, peaks, log_sums, log_probs, n)
        primitives.store(y, y_at + c * y_step, n, log_probs, storage)


def logsumexp_tile(x, at, step, lse, row, classes, n, state, work, storage):
    """lse_j = peaks_j + log(1 + rest_j); an infinite peak in a lane without NaN is the answer itself."""
    tile_sums(x, at, step, classes, n, 1.0, work, 0, 0, False, state, work, storage)
    peaks = primitives.slot(work, primitives.PEAKS)
    out = primitives.stretch(lse, row, n)
    for j in range(n):
        out[j] = peaks[j] + primitives.log1p(primitives.cast(state[primitives.REST + j], work))
    for j in range(n):
        if peaks[j] == primitives.INF or peaks[j] == primitives.NEG_INF:
            out[j] = peaks[j]
            for c in range(classes):
                logits = primitives.load(x, at + c * step + j, 1, primitives.slot(work, 0), storage)
                if logits[0] != logits[0]:
                    out[j] = logits[0]


def backward_tile(
    g, g_at, g_step, p, p_at, p_step, out, out_at, out_step, classes, n, log, state, work, storage
):
    """out_cj = p_cj (g_cj - sum_c g_cj p_cj), or g_cj - exp(p_cj) sum_c g_cj where p holds log-probabilities."""
    readable = primitives.readable(storage)
    g_apart = g_step if readable else n
    p_apart = p_step if readable else n
    apart = out_step if storage == primitives.NATIVE else n
    chunk = primitives.slot(work, primitives.CHUNK)
    other_chunk = primitives.slot(work, primitives.TILE)
    totals = primitives.slot(work, primitives.SUMS)
    rests = primitives.stretch(state, primitives.REST, n)
    lost = primitives.stretch(state, primitives.LOST, n)
    for j in range(n):
        rests[j] = 0.0
        lost[j] = 0.0
    c = 0
    while c < classes:
        count = min(primitives.TERMS, classes - c)
        grads = some_classes(g, g_at + c * g_step, g_step, count, n, chunk, storage)
        if log:
            primitives.lane_totals(grads, g_apart, count, n, rests, lost)
        else:
            probs = some_classes(p, p_at + c * p_step, p_step, count, n, other_chunk, storage)
            primitives.lane_dots(grads, g_apart, probs, p_apart, count, n, rests, lost)
        c += primitives.TERMS
    for j in range(n):
        totals[j] = primitives.cast(rests[j] + lost[j], work)
    c = 0
    while c < classes:
        count = min(primitives.TERMS, classes - c)
        grads = some_classes(g, g_at + c * g_step, g_step, count, n, chunk, storage)
        probs = some_classes(p, p_at + c * p_step, p_step, count, n, other_chunk, storage)
        result = primitives.place(out, out_at + c * out_step, chunk, storage)
        if log:
            primitives.lane_log_softmax_slopes(grads, g_apart, probs, p_apart, count, n, totals, result, apart)
        else:
            primitives.lane_softmax_slopes(grads, g_apart, probs, p_apart, count, n, totals, result, apart)
        store_classes(out, out_at + c * out_step, out_step, count, n, result, apart, storage)
        c += primitives.TERMS


def store_classes(y, at, step, count, n, values, apart, storage):
    """`count` classes of n lanes that lie `apart` from each other go to y, unless they are there."""
    for c in range(count):
        primitives.store(y, at + c * step, n, primitives.stretch(values, c * apart, n), storage)


def gather(x, at, stride, classes, n, tile, work, storage):
    """tile_cj = x_jc: n rows of few classes become n lanes."""
    if primitives.readable(storage):
        primitives.to_lanes(primitives.stretch(x, at, (n - 1) * stride + classes), stride, classes, n, tile)
        return
    rows = primitives.slot(work, 0)
    if stride == classes:
        rows = primitives.load(x, at, n * classes, rows, storage)
    else:
        for j in range(n):
            primitives.load(x, at + j * stride, classes, primitives.stretch(rows, j * classes, classes), storage)
    primitives.to_lanes(rows, classes, classes, n, tile)


def scatter(tile, y, at, stride, classes, n, work, storage):
    """y_jc = tile_cj"""
    if storage == primitives.NATIVE:
        primitives.to_rows(tile, classes, n, primitives.stretch(y, at, (n - 1) * stride + classes), stride)
        return
    rows = primitives.slot(work, 0)
    primitives.to_rows(tile, classes, n, rows, classes)
    if stride == classes:
        primitives.store(y, at, n * classes, rows, storage)
    else:
        for j in range(n):
            primitives.store(y, at + j * stride, classes, primitives.stretch(rows, j * classes, classes), storage)


# Work is counted in items: a tile of columns, or SHORT rows.


def softmax_columns(
    x, x_stride, y, y_stride, classes, inner, scale, log, keep, state, work, storage, start, stop
):
    """softmax or log_softmax of the tiles [start, stop)."""
    tiles = (inner + primitives.LANES - 1) // primitives.LANES
    for item in range(start, stop):
        outer = item // tiles
        first = (item % tiles) * primitives.LANES
        n = min(primitives.LANES, inner - first)
        at = outer * x_stride + first
        y_at = outer * y_stride + first
        if log:
            log_softmax_tile(x, at, inner, y, y_at, inner, classes, n, scale, state, work, storage)
        else:
            softmax_tile(x, at, inner, y, y_at, inner, classes, n, scale, keep, state, work, storage)


def softmax_short(x, x_stride, y, y_stride, rows, classes, scale, log, state, work, storage, start, stop):
    """softmax or log_softmax of the SHORT-row groups [start, stop)."""
    tile = primitives.slot(work, primitives.TILE)
    for item in range(start, stop):
        first = item * primitives.SHORT
        n = min(primitives.SHORT, rows - first)
        gather(x, first * x_stride, x_stride, classes, n, tile, work, storage)
        if log:
            log_softmax_tile(tile, 0, n, tile, 0, n, classes, n, scale, state, work, primitives.NATIVE)
        else:
            softmax_tile(tile, 0, n, tile, 0, n, classes, n, scale, True, state, work, primitives.NATIVE)
        scatter(tile, y, first * y_stride, y_stride, classes, n, work, storage)


def logsumexp_columns(x, x_stride, lse, classes, inner, state, work, storage, start, stop):
    """logsumexp of the tiles [start, stop)."""
    tiles = (inner + primitives.LANES - 1) // primitives.LANES
    for item in range(start, stop):
        outer = item // tiles
        first = (item % tiles) * primitives.LANES
        n = min(primitives.LANES, inner - first)
        logsumexp_tile(
            x, outer * x_stride + first, inner, lse, outer * inner + first, classes, n, state, work, storage
        )


def logsumexp_short(x, x_stride, lse, rows, classes, state, work, storage, start, stop):
    """logsumexp of the SHORT-row groups [start, stop)."""
    tile = primitives.slot(work, primitives.TILE)
    for item in range(start, stop):
        first = item * primitives.SHORT
        n = min(primitives.SHORT, rows - first)
        gather(x, first * x_stride, x_stride, classes, n, tile, work, storage)
        logsumexp_tile(tile, 0, n, lse, first, classes, n, state, work, primitives.NATIVE)


def backward_columns(
    g, g_stride, p, p_stride, out, out_stride, classes, inner, log, state, work, storage, start, stop
):
    """The gradient of softmax, or of log-softmax, for the tiles [start, stop)."""
    tiles = (inner + primitives.LANES - 1) // primitives.LANES
    for item in range(start, stop):
        outer = item // tiles
        first = (item % tiles) * primitives.LANES
        n = min(primitives.LANES, inner - first)
        backward_tile(
            g, outer * g_stride + first, inner, p, outer * p_stride + first, inner,
            out, outer * out_stride + first, inner, classes, n, log, state, work, storage,
        )  # fmt: skip


def argmax_tile(x, at, step, indices, row, classes, n, work, storage):
    """indices_j = the first c whose x_cj is the maximum, or the first NaN."""
    apart = step if primitives.readable(storage) else n
    chunk = primitives.slot(work, primitives.CHUNK)
    best = start_peaks(n, work)
    for j in range(n):
        indices[row + j] = 0
    c = 0
    while c < classes:
        count = min(primitives.TERMS, classes - c)
        logits = some_classes(x, at + c * step, step, count, n, chunk, storage)
        primitives.lane_argmax(logits, apart, count, n, c, best, indices, row)
        c += primitives.TERMS


def argmax_columns(x, x_stride, indices, classes, inner, work, storage, start, stop):
    """argmax of the tiles [start, stop)."""
    tiles = (inner + primitives.LANES - 1) // primitives.LANES
    for item in range(start, stop):
        outer = item // tiles
        first = (item % tiles) * primitives.LANES
        n = min(primitives.LANES, inner - first)
        argmax_tile(x, outer * x_stride + first, inner, indices, outer * inner + first, classes, n, work, storage)


def argmax_short(x, x_stride, indices, rows, classes, work, storage, start, stop):
    """argmax of the SHORT-row groups [start, stop)."""
    tile = primitives.slot(work, primitives.TILE)
    for item in range(start, stop):
        first = item * primitives.SHORT
        n = min(primitives.SHORT, rows - first)
        gather(x, first * x_stride, x_stride, classes, n, tile, work, storage)
        argmax_tile(tile, 0, n, indices, first, classes, n, work, primitives.NATIVE)
