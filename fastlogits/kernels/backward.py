"""Gradients of softmax and log-softmax of rows, in the steps of softmax.py: reduce, settle, write.

With p = softmax(z): dp_j/dz_k = p_j (delta_jk - p_k), so grad_z = p (g - sum_k g_k p_k).
With l = log_softmax(z): dl_j/dz_k = delta_jk - exp(l_k), so grad_z = g - exp(l) sum_k g_k.
"""

from fastlogits.kernels import primitives


def reduce(g, g_at, p, p_at, classes, log, state, first, last, work, storage):
    """sum_b = sum g_j p_j over block b; sum g_j where p holds log-probabilities."""
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        grads = primitives.load(g, g_at + start, size, primitives.slot(work, 0), storage)
        if log:
            state[fields + primitives.BLOCK_SUM] = primitives.total(grads, size)
        else:
            probs = primitives.load(p, p_at + start, size, primitives.slot(work, 1), storage)
            state[fields + primitives.BLOCK_SUM] = primitives.dot(grads, probs, size)


def settle(classes, state):
    """REST = the sum over the blocks."""
    total = 0.0
    lost = 0.0
    for block in range((classes + primitives.BLOCK - 1) // primitives.BLOCK):
        term = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_SUM]
        lost += primitives.rounded_away(total, term)
        total += term
    state[primitives.REST] = total + lost


def write(g, g_at, p, p_at, out, out_at, classes, log, state, first, last, work, storage):
    """out_j = p_j (g_j - REST), or g_j - exp(p_j) REST where p holds log-probabilities."""
    total = primitives.cast(state[primitives.REST], work)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        grads = primitives.load(g, g_at + start, size, primitives.slot(work, 0), storage)
        probs = primitives.load(p, p_at + start, size, primitives.slot(work, 1), storage)
        result = primitives.place(out, out_at + start, primitives.slot(work, 2), storage)
        if log:
            primitives.log_softmax_slope(grads, probs, size, total, result)
        else:
            primitives.softmax_slope(grads, probs, size, total, result)
        primitives.store(out, out_at + start, size, result, storage)


def one_block(g, g_at, p, p_at, out, out_at, classes, log, work, storage):
    """The three steps of a row of one block, whose sum need not be merged."""
    grads = primitives.load(g, g_at, classes, primitives.slot(work, 0), storage)
    probs = primitives.load(p, p_at, classes, primitives.slot(work, 1), storage)
    result = primitives.place(out, out_at, primitives.slot(work, 2), storage)
    if log:
        total = primitives.cast(primitives.total(grads, classes), work)
        primitives.log_softmax_slope(grads, probs, classes, total, result)
    else:
        total = primitives.cast(primitives.dot(grads, probs, classes), work)
        primitives.softmax_slope(grads, probs, classes, total, result)
    primitives.store(out, out_at, classes, result, storage)


def backward_rows(g, g_stride, p, p_stride, out, out_stride, classes, log, state, work, storage, start, stop):
    """The gradient of softmax, or of log-softmax, for the rows [start, stop)."""
    blocks = (classes + primitives.BLOCK - 1) // primitives.BLOCK
    for row in range(start, stop):
        g_at = row * g_stride
        p_at = row * p_stride
        out_at = row * out_stride
        if blocks == 1:
            one_block(g, g_at, p, p_at, out, out_at, classes, log, work, storage)
        else:
            reduce(g, g_at, p, p_at, classes, log, state, 0, blocks, work, storage)
            settle(classes, state)
            write(g, g_at, p, p_at, out, out_at, classes, log, state, 0, blocks, work, storage)
