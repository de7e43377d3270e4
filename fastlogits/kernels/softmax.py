"""Softmax, log-softmax, log-sum-exp and argmax of rows: the classes of a row lie side by side in memory.

Every operation has three steps: `reduce` reads some blocks of a row, `settle` merges the blocks of the row, `write`
produces some blocks of the result. One thread does all three on a row while it is in cache, or several threads share
a long row between them; the arithmetic is the same, so the result is too. A row's numbers stand in `state`: first
ROW_FIELDS for the row, then BLOCK_FIELDS for each block.
"""

import math

from fastlogits.kernels import primitives


def block_peak(logits, size, state, fields):
    """peak_b = max_j x_j, kept in `state`; returns the shift for exp, 0 where everything is -inf."""
    peak = primitives.maximum(logits, size)
    state[fields + primitives.BLOCK_PEAK] = peak
    return peak if peak > primitives.NEG_INF else 0.0


def block_sum(logits, size, shift, scale, kept, kept_at, keep, state, fields):
    """sum_b = sum_j exp(scale (x_j - shift)), in `state`; each exponential stays in `kept` where asked."""
    if keep:
        exps = primitives.stretch(kept, kept_at, size)
        state[fields + primitives.BLOCK_SUM] = primitives.keep_exp(logits, size, shift, scale, exps)
    else:
        state[fields + primitives.BLOCK_SUM] = primitives.sum_exp(logits, size, shift, scale)


def merge(classes, scale, state):
    """PEAK = max_j x_j, REST = sum exp(scale (x_j - PEAK)) over all j but one maximum.

    The maximum's own 1 is left out because log1p(REST) and REST / (1 + REST) keep their digits where one class
    dominates (Blanchard, Higham, Higham 2021). The sum of its block held that 1 in a lane; where the others come to
    less than 1/2 they have lost digits to it: returns that block, its part left out of REST, to be summed again by
    `without_maximum`. Returns -1 where REST is complete.
    """
    peak = primitives.NEG_INF
    own = 0.0
    rest = 0.0
    lost = 0.0
    best = 0
    for block in range((classes + primitives.BLOCK - 1) // primitives.BLOCK):
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
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


def norm(state):
    """1 + REST; NaN for a row of nothing but -inf."""
    return 1.0 + state[primitives.REST] if state[primitives.PEAK] > primitives.NEG_INF else primitives.NAN


def rescale(block, scale, state):
    """exp(scale (peak_b - PEAK)), from a block's exponentials to the row's."""
    peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
    return 1.0 if peak == state[primitives.PEAK] else math.exp(scale * (peak - state[primitives.PEAK]))


def reduce(x, at, classes, scale, kept, kept_at, keep, state, first, last, work, storage):
    """The peaks and sums of the blocks [first, last) of a row; the exponentials stay in `kept` where asked."""
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
        shift = block_peak(logits, size, state, fields)
        block_sum(logits, size, shift, scale, kept, kept_at + start, keep, state, fields)


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
            primitives.keep_exp(logits, size, state[primitives.PEAK], scale, exps)
        state[primitives.REST] += without_maximum(exps, size, work)


def softmax_write(x, at, y, y_at, classes, scale, keep, state, first, last, work, storage):
    """y_j = exp(scale (x_j - PEAK)) / (1 + REST), from the exponentials already in y where they were kept."""
    inverse = 1.0 / norm(state)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        if keep:
            probs = primitives.stretch(y, y_at + start, size)
            factor = primitives.cast(inverse * rescale(block, scale, state), work)
        else:
            logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
            probs = primitives.slot(work, 1)
            primitives.keep_exp(logits, size, state[primitives.PEAK], scale, probs)
            factor = primitives.cast(inverse, work)
        for j in range(size):
            probs[j] = primitives.flush(probs[j] * factor)
        primitives.store(y, y_at + start, size, probs, storage)


def softmax_rows(x, x_stride, y, y_stride, classes, scale, keep, state, work, storage, start, stop):
    """softmax(scale * x) of the rows [start, stop)."""
    blocks = (classes + primitives.BLOCK - 1) // primitives.BLOCK
    for row in range(start, stop):
        at = row * x_stride
        y_at = row * y_stride
        reduce(x, at, classes, scale, y, y_at, keep, state, 0, blocks, work, storage)
        settle(x, at, classes, scale, y, y_at, keep, state, work, storage)
        softmax_write(x, at, y, y_at, classes, scale, keep, state, 0, blocks, work, storage)


def log_softmax_write(x, at, y, y_at, classes, scale, state, first, last, work, storage):
    """y_j = scale (x_j - PEAK) - log(1 + REST): two subtractions, since PEAK + log(...) would round large peaks."""
    peak = primitives.cast(state[primitives.PEAK], work)
    rate = primitives.cast(scale, work)
    log_sum = primitives.cast(math.log1p(state[primitives.REST]), work)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), storage)
        log_probs = primitives.place(y, y_at + start, primitives.slot(work, 2), storage)
        primitives.shift_each(logits, size, rate, peak, log_sum, log_probs)
        primitives.store(y, y_at + start, size, log_probs, storage)


def log_softmax_rows(x, x_stride, y, y_stride, classes, scale, state, work, storage, start, stop):
    """log_softmax(scale * x) of the rows [start, stop)."""
    blocks = (classes + primitives.BLOCK - 1) // primitives.BLOCK
    for row in range(start, stop):
        at = row * x_stride
        reduce(x, at, classes, scale, x, at, False, state, 0, blocks, work, storage)
        settle(x, at, classes, scale, x, at, False, state, work, storage)
        log_softmax_write(x, at, y, row * y_stride, classes, scale, state, 0, blocks, work, storage)


def log_norm(x, at, classes, state, work, storage):
    """PEAK + log(1 + REST); +inf in a row without NaN is the answer itself."""
    if state[primitives.PEAK] < primitives.INF:
        return state[primitives.PEAK] + math.log1p(state[primitives.REST])
    result = primitives.INF
    for block in range((classes + primitives.BLOCK - 1) // primitives.BLOCK):
        size = min(primitives.BLOCK, classes - block * primitives.BLOCK)
        logits = primitives.load(x, at + block * primitives.BLOCK, size, primitives.slot(work, 0), storage)
        for j in range(size):
            if logits[j] != logits[j]:
                result = primitives.NAN
    return result


def logsumexp_rows(x, x_stride, lse, classes, state, work, storage, start, stop):
    """lse_i = log sum_j exp(x_ij) of the rows [start, stop)."""
    blocks = (classes + primitives.BLOCK - 1) // primitives.BLOCK
    for row in range(start, stop):
        at = row * x_stride
        reduce(x, at, classes, 1.0, x, at, False, state, 0, blocks, work, storage)
        settle(x, at, classes, 1.0, x, at, False, state, work, storage)
        lse[row] = log_norm(x, at, classes, state, work, storage)


def argmax_rows(x, x_stride, indices, classes, work, storage, first, last):
    """indices_i = the first j whose x_ij is the maximum, or the first NaN, of the rows [first, last)."""
    for row in range(first, last):
        best = primitives.NEG_INF
        found = 0
        for block in range((classes + primitives.BLOCK - 1) // primitives.BLOCK):
            start = block * primitives.BLOCK
            size = min(primitives.BLOCK, classes - start)
            logits = primitives.load(x, row * x_stride + start, size, primitives.slot(work, 0), storage)
            peak = primitives.maximum_or_nan(logits, size)
            if peak != peak or peak > best:
                found = start + primitives.find(logits, size, peak)
                best = peak
                if peak != peak:
                    break
        indices[row] = found
