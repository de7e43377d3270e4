"""Softmax, log-softmax, log-sum-exp and argmax of rows: the classes of a row lie side by side in memory.

Every operation has three steps: `reduce` reads some blocks of a row, `settle` merges the blocks of the row, `write`
produces some blocks of the result. One thread does all three on a row while it is in cache, or several threads share
a long row between them; the arithmetic is the same, so the result is too. The numbers of the row stand in `state`:
ROW_FIELDS, then BLOCK_FIELDS for each block. Rows of one block take each step as a group, so that the processor works
on several at once; there row j has its fields at j.
"""

import math

from fastlogits.kernels import primitives


def blocks_of(classes):
    """How many blocks a row has."""
    return (classes + primitives.BLOCK - 1) // primitives.BLOCK


def padded(classes):
    """The distance of rows in scratch memory: whole vectors."""
    return (classes + 15) // 16 * 16


def group_of(classes):
    """How many rows take the steps together: as many as their exponentials fit the scratch tile; 1 of long rows."""
    return 1 if classes > primitives.BLOCK else min(
        primitives.ROWS, 4 * primitives.BLOCK // padded(classes)
    )


def in_scratch(classes, keep):
    """Whether the exponentials of a group stay in scratch memory.

    Kept in the memory of the results, they claim it while there is work to do: softmax of 4096 x 1000 on two threads
    takes 0.79 ms so, and 0.96 by way of the tile. Rows of few classes pay more for vectors across cache lines.
    """
    if classes > primitives.BLOCK:
        return keep == primitives.KEEP_PADDED
    return classes <= primitives.BLOCK // 4 or keep != primitives.KEEP


def scratch(classes, work):
    """Where the exponentials of a group stay: a tile, or what `work` has behind its slots, for long rows."""
    return primitives.slot(work, primitives.SLOTS if classes > primitives.BLOCK else primitives.TILE)


def block_peak(logits, size, state, fields):
    """peak_b = max_j x_j, kept in `state`; returns the shift for exp, 0 where everything is -inf."""
    peak = primitives.maximum(logits, size)
    state[fields + primitives.BLOCK_PEAK] = peak
    return peak if peak > primitives.NEG_INF else 0.0


def block_sum(logits, size, shift, scale, kept, kept_at, keep, state, fields):
    """sum_b = sum_j exp(scale (x_j - shift)), in `state`; each exponential stays in `kept` where asked."""
    if keep:
        exps = primitives.stretch(kept, kept_at, padded(size))
        state[fields + primitives.BLOCK_SUM] = primitives.keep_exp(logits, size, shift, scale, exps, keep)
    else:
        state[fields + primitives.BLOCK_SUM] = primitives.sum_exp(logits, size, shift, scale)


def merge(classes, scale, state):
    """PEAK = max_c x_c, REST = sum exp(scale (x_c - PEAK)) over all c but one maximum.

    The maximum's own 1 is left out because log1p(REST) and REST / (1 + REST) keep their digits where one class
    dominates (Blanchard, Higham, Higham 2021). The sum of its block held that 1 in a lane; where the others come to
    less than 1/2 they have lost digits to it: returns that block, its part left out of REST, to be summed again by
    `without_maximum`. Returns -1 where REST is complete.
    """
    blocks = blocks_of(classes)
    fields = primitives.ROW_FIELDS
    peak = state[fields + primitives.BLOCK_PEAK]
    own = 0.0
    rest = state[fields + primitives.BLOCK_SUM]
    lost = 0.0
    best = 0
    if peak > primitives.NEG_INF:
        own = rest - 1.0
        rest = 0.0
    for block in range(1, blocks):
        fields += primitives.BLOCK_FIELDS
        its_peak = state[fields + primitives.BLOCK_PEAK]
        its_sum = state[fields + primitives.BLOCK_SUM]
        if its_peak > peak:
            if peak > primitives.NEG_INF:
                ratio = math.exp(scale * (peak - its_peak))
                rest = (1.0 + own + rest) * ratio
                lost *= ratio
            own = its_sum - 1.0
            peak = its_peak
            best = block
        elif its_sum != 0.0:
            term = its_sum * math.exp(scale * (its_peak - peak))
            lost += primitives.rounded_away(rest, term)
            rest += term
    rest += lost
    state[primitives.PEAK] = peak
    if peak > primitives.NEG_INF and own + rest < 0.5:
        state[primitives.REST] = rest
        return best
    state[primitives.REST] = own + rest
    return -1


def without_maximum(exps, size, work):
    """sum_j e_j over all j but the maximum, whose e_j is 1."""
    others = primitives.slot(work, 2)
    for j in range(size):
        others[j] = primitives.below_one(exps[j])
    return primitives.total(others, size)


def norm(state, j):
    """1 + REST; NaN for a row of nothing but -inf."""
    return 1.0 + state[primitives.REST + j] if state[primitives.PEAK + j] > primitives.NEG_INF else primitives.NAN


def rescale(peak_of_row, block, scale, state):
    """exp(scale (peak_b - PEAK)), from the exponentials of a block of a row alone to the row's."""
    peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
    return 1.0 if peak == peak_of_row else math.exp(scale * (peak - peak_of_row))


def block_exps(logits, size, block, scale, exps, state):
    """The exponentials that were not kept, once more."""
    peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
    shift = peak if peak > primitives.NEG_INF else 0.0
    primitives.keep_exp(logits, size, shift, scale, exps, primitives.KEEP_PADDED)


def reduce(x, at, classes, scale, kept, kept_at, keep, state, first, last, work, storage):
    """The peaks and sums of the blocks [first, last) of a row; the exponentials stay in `kept` where asked."""
    fields = primitives.ROW_FIELDS + first * primitives.BLOCK_FIELDS
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
        shift = block_peak(logits, size, state, fields)
        block_sum(logits, size, shift, scale, kept, kept_at + start, keep, state, fields)
        fields += primitives.BLOCK_FIELDS


def settle(x, at, classes, scale, kept, kept_at, keep, state, work, storage):
    """PEAK and REST of a row from its blocks."""
    again = merge(classes, scale, state)
    if again >= 0:
        start = again * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        if keep:
            exps = primitives.stretch(kept, kept_at + start, size)
        else:
            logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
            exps = primitives.slot(work, 1)
            primitives.keep_exp(logits, size, state[primitives.PEAK], scale, exps, primitives.KEEP_PADDED)
        state[primitives.REST] += without_maximum(exps, size, work)


def sums(x, at, x_stride, classes, scale, kept, kept_at, kept_stride, keep, n, state, work, storage):
    """PEAK and REST of a group of n rows."""
    if classes > primitives.BLOCK:
        reduce(x, at, classes, scale, kept, kept_at, keep, state, 0, blocks_of(classes), work, storage)
        settle(x, at, classes, scale, kept, kept_at, keep, state, work, storage)
        return
    apart = x_stride if primitives.readable(storage) else padded(classes)
    logits = some_rows(x, at, x_stride, classes, n, primitives.slot(work, primitives.TILE), apart, storage)
    peaks = primitives.stretch(state, primitives.PEAK, n)
    rests = primitives.stretch(state, primitives.REST, n)
    exps = primitives.stretch(kept, kept_at, n * kept_stride)
    primitives.row_maxima(logits, apart, classes, n, peaks)
    primitives.row_exps(logits, apart, classes, n, peaks, scale, exps, kept_stride, keep, rests)
    take_out_maxima(exps, kept_stride, classes, n, state, work)


def some_rows(x, at, stride, classes, n, tile, apart, storage):
    """n rows where they lie, or converted to a tile, `apart` from each other."""
    if apart == stride:
        return primitives.load(x, at, (n - 1) * stride + classes, tile, storage)
    for j in range(n):
        primitives.load(x, at + j * stride, classes, primitives.stretch(tile, j * apart, classes), storage)
    return tile


def take_out_maxima(exps, stride, classes, n, state, work):
    """REST of n rows, from the sums of all their exponentials: see `merge`."""
    peaks = primitives.stretch(state, primitives.PEAK, n)
    rests = primitives.stretch(state, primitives.REST, n)
    for j in range(n):
        rests[j] -= 1.0 if peaks[j] > primitives.NEG_INF else 0.0
    for j in range(n):
        if rests[j] < 0.5 and peaks[j] > primitives.NEG_INF:
            rests[j] = without_maximum(primitives.stretch(exps, j * stride, classes), classes, work)


def softmax_write(x, at, kept, kept_at, keep, y, y_at, classes, scale, state, first, last, work, storage):
    """y_c = exp(scale (x_c - PEAK)) / (1 + REST) of a row, from the exponentials in `kept` where they were kept."""
    inverse = 1.0 / norm(state, 0)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        if keep:
            exps = primitives.stretch(kept, kept_at + start, size)
        else:
            logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
            exps = primitives.slot(work, 1)
            block_exps(logits, size, block, scale, exps, state)
        factor = primitives.cast(inverse * rescale(state[primitives.PEAK], block, scale, state), work)
        probs = primitives.place(y, y_at + start, exps, storage)
        primitives.scale_each(exps, size, factor, probs)
        primitives.store(y, y_at + start, size, probs, storage)


def softmax_rows(x, x_stride, y, y_stride, classes, scale, keep, state, work, storage, start, stop):
    """softmax(scale * x) of the rows [start, stop)."""
    blocks = blocks_of(classes)
    group = group_of(classes)
    apart_from_y = in_scratch(classes, keep)
    row = start
    while row < stop:
        n = min(group, stop - row)
        at = row * x_stride
        kept = y
        kept_at = row * y_stride
        kept_stride = y_stride
        how = keep
        if apart_from_y:
            kept = scratch(classes, work)
            kept_at = 0
            kept_stride = padded(classes)
            how = primitives.KEEP_PADDED
        sums(x, at, x_stride, classes, scale, kept, kept_at, kept_stride, how, n, state, work, storage)
        if classes > primitives.BLOCK:
            softmax_write(
                x, at, kept, kept_at, how, y, row * y_stride, classes, scale, state, 0, blocks, work, storage
            )
        else:
            for j in range(n):
                state[primitives.FACTOR + j] = 1.0 / norm(state, j)
                state[primitives.COUNTER + j] = 0.0
            exps = primitives.stretch(kept, kept_at, n * kept_stride)
            probs = primitives.place(y, row * y_stride, primitives.slot(work, primitives.OTHER_TILE), storage)
            apart = y_stride if storage == primitives.NATIVE else classes
            primitives.row_scale(
                exps, kept_stride, classes, n, primitives.stretch(state, primitives.FACTOR, n),
                primitives.stretch(state, primitives.COUNTER, n), probs, apart,
            )  # fmt: skip
            store_rows(y, row * y_stride, y_stride, classes, n, probs, apart, storage)
        row += n


def store_rows(y, at, stride, classes, n, values, apart, storage):
    """n rows that lie `apart` from each other go to y, unless they are there."""
    if apart == stride:
        primitives.store(y, at, (n - 1) * stride + classes, values, storage)
        return
    for j in range(n):
        primitives.store(y, at + j * stride, classes, primitives.stretch(values, j * apart, classes), storage)


def log_softmax_write(x, at, y, y_at, classes, scale, state, first, last, work, storage):
    """y_c = scale (x_c - PEAK) - log(1 + REST) of a row."""
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
        log_probs = primitives.place(y, y_at + start, primitives.slot(work, 2), storage)
        shift_rows(logits, 0, size, 1, scale, state, log_probs, 0, work)
        primitives.store(y, y_at + start, size, log_probs, storage)


def shift_rows(logits, stride, size, n, scale, state, log_probs, apart, work):
    """scale (x_c - PEAK) - log(1 + REST) of n rows: two subtractions, since PEAK + log(...) would round large peaks."""
    peaks = primitives.slot(work, 3)
    log_sums = primitives.slot(work, 4)
    for j in range(n):
        peaks[j] = primitives.cast(state[primitives.PEAK + j], work)
        log_sums[j] = primitives.cast(primitives.log1p(state[primitives.REST + j]), work)
    rate = primitives.cast(scale, work)
    primitives.row_shift(logits, stride, size, n, rate, peaks, log_sums, log_probs, apart)


def group_log_softmax(x, at, x_stride, y, y_at, y_stride, classes, n, scale, state, work, storage):
    """As `log_softmax_write`, of n rows of one block."""
    buffer = primitives.slot(work, primitives.OTHER_TILE)
    x_apart = x_stride if primitives.readable(storage) else classes
    apart = y_stride if storage == primitives.NATIVE else classes
    logits = some_rows(x, at, x_stride, classes, n, buffer, x_apart, storage)
    log_probs = primitives.place(y, y_at, primitives.slot(work, primitives.CHUNK), storage)
    shift_rows(logits, x_apart, classes, n, scale, state, log_probs, apart, work)
    store_rows(y, y_at, y_stride, classes, n, log_probs, apart, storage)


def log_softmax_rows(x, x_stride, y, y_stride, classes, scale, keep, state, work, storage, start, stop):
    """log_softmax(scale * x) of the rows [start, stop).

    `keep`: the exponentials are left in y, to be written over. That claims its memory while there is work to do:
    64 x 32000 on one thread takes 0.42 ms so, and 0.60 without.
    """
    group = group_of(classes)
    tile = primitives.slot(work, primitives.TILE)
    tiled = in_scratch(classes, keep)
    row = start
    while row < stop:
        n = min(group, stop - row)
        at = row * x_stride
        y_at = row * y_stride
        if tiled:
            sums(
                x, at, x_stride, classes, scale, tile, 0, padded(classes), primitives.KEEP_PADDED, n, state, work,
                storage,
            )  # fmt: skip
        else:
            sums(x, at, x_stride, classes, scale, y, y_at, y_stride, keep, n, state, work, storage)
        if classes > primitives.BLOCK:
            log_softmax_write(x, at, y, y_at, classes, scale, state, 0, blocks_of(classes), work, storage)
        else:
            group_log_softmax(x, at, x_stride, y, y_at, y_stride, classes, n, scale, state, work, storage)
        row += n


def log_norm(x, at, classes, state, j, work, storage):
    """PEAK + log(1 + REST); +inf in a row without NaN is the answer itself."""
    if state[primitives.PEAK + j] < primitives.INF:
        return state[primitives.PEAK + j] + primitives.log1p(state[primitives.REST + j])
    result = primitives.INF
    for block in range(blocks_of(classes)):
        size = min(primitives.BLOCK, classes - block * primitives.BLOCK)
        logits = primitives.load(x, at + block * primitives.BLOCK, size, primitives.slot(work, 0), storage)
        for i in range(size):
            if logits[i] != logits[i]:
                result = primitives.NAN
    return result


def logsumexp_rows(x, x_stride, lse, classes, state, work, storage, start, stop):
    """lse_i = log sum_j exp(x_ij) of the rows [start, stop)."""
    group = group_of(classes)
    tile = primitives.slot(work, primitives.TILE)
    keep = primitives.KEEP_PADDED if in_scratch(classes, primitives.DISCARD) else primitives.DISCARD
    row = start
    while row < stop:
        n = min(group, stop - row)
        at = row * x_stride
        sums(x, at, x_stride, classes, 1.0, tile, 0, padded(classes), keep, n, state, work, storage)
        for j in range(n):
            lse[row + j] = state[primitives.PEAK + j] + primitives.log1p(state[primitives.REST + j])
        for j in range(n):
            if state[primitives.PEAK + j] == primitives.INF:
                lse[row + j] = log_norm(x, at + j * x_stride, classes, state, j, work, storage)
        row += n


def argmax_reduce(x, at, classes, state, first, last, work, storage):
    """peak_b = max_c x_c, or a NaN where there is one, of the blocks [first, last)."""
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        state[fields + primitives.BLOCK_PEAK] = primitives.maximum_or_nan(logits, size)


def argmax_of(x, at, classes, state, work, storage):
    """The first c whose x_c is the maximum, or the first NaN, from the peaks of the blocks."""
    best = state[primitives.ROW_FIELDS + primitives.BLOCK_PEAK]
    found = 0
    for block in range(1, blocks_of(classes)):
        peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
        if primitives.beats(peak, best):
            best = peak
            found = block
    start = found * primitives.BLOCK
    size = min(primitives.BLOCK, classes - start)
    logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
    return start + primitives.find(logits, size, primitives.cast(best, work))


def argmax_rows(x, x_stride, indices, classes, state, work, storage, start, stop):
    """indices_i = argmax_c x_ic of the rows [start, stop)."""
    for row in range(start, stop):
        argmax_reduce(x, row * x_stride, classes, state, 0, blocks_of(classes), work, storage)
        indices[row] = argmax_of(x, row * x_stride, classes, state, work, storage)
