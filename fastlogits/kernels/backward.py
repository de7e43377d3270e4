"""Gradients of softmax and log-softmax of rows, in the steps of softmax.py: reduce, settle, write.

With p = softmax(z): dp_j/dz_k = p_j (delta_jk - p_k), so grad_z = p (g - sum_k g_k p_k).
With l = log_softmax(z): dl_j/dz_k = delta_jk - exp(l_k), so grad_z = g - exp(l) sum_k g_k.
"""

from fastlogits.kernels import primitives, softmax


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
    for block in range(softmax.blocks_of(classes)):
        term = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_SUM]
        lost += primitives.rounded_away(total, term)
        total += term
    state[primitives.REST] = total + lost


def write(g, g_at, p, p_at, out, out_at, classes, log, state, first, last, work, storage):
    """out_j = p_j (g_j - REST), or g_j - exp(p_j) REST where p holds log-probabilities."""
    total = primitives.stretch(state, primitives.REST, 1)
    # The next row is asked for: log_softmax_backward of 256 x 32000 takes 1.8 ms on two threads so, and 2.4 without.
    beyond = primitives.readable(storage)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, classes - start)
        grads = primitives.load(g, g_at + start, size, primitives.slot(work, 0), storage)
        probs = primitives.load(p, p_at + start, size, primitives.slot(work, 1), storage)
        result = primitives.place(out, out_at + start, primitives.slot(work, 2), storage)
        if log:
            primitives.row_log_softmax_slopes(grads, classes, probs, classes, size, 1, total, result, 0, beyond)
        else:
            primitives.row_softmax_slopes(grads, classes, probs, classes, size, 1, total, result, 0, beyond)
        primitives.store(out, out_at + start, size, result, storage)


def group_of(classes):
    """How many rows take the steps together: as many as stay in the first cache; 1 of long rows."""
    n = 2 * primitives.BLOCK // classes
    return max(1, n if n < 8 else min(primitives.LANES, n // 8 * 8))


def group_backward(
    g, g_at, g_stride, p, p_at, p_stride, out, out_at, out_stride, classes, n, log, state, work, storage
):
    """The three steps of n rows of one block, whose sums need not be merged."""
    readable = primitives.readable(storage)
    g_apart = g_stride if readable else classes
    p_apart = p_stride if readable else classes
    grads = softmax.some_rows(
        g, g_at, g_stride, classes, n, primitives.slot(work, primitives.TILE), g_apart, storage
    )
    probs = softmax.some_rows(
        p, p_at, p_stride, classes, n, primitives.slot(work, primitives.OTHER_TILE), p_apart, storage
    )
    sums = primitives.stretch(state, primitives.REST, n)
    # Not over grads: a load next to the place of a masked store waits for it, 2.6 times as long for 10 classes.
    result = primitives.place(out, out_at, primitives.slot(work, primitives.CHUNK), storage)
    apart = out_stride if storage == primitives.NATIVE else classes
    if log:
        primitives.row_totals(grads, g_apart, classes, n, sums)
        primitives.row_log_softmax_slopes(
            grads, g_apart, probs, p_apart, classes, n, sums, result, apart, readable
        )
    else:
        primitives.row_dots(grads, g_apart, probs, p_apart, classes, n, sums)
        primitives.row_softmax_slopes(grads, g_apart, probs, p_apart, classes, n, sums, result, apart, readable)
    softmax.store_rows(out, out_at, out_stride, classes, n, result, apart, storage)


def backward_rows(g, g_stride, p, p_stride, out, out_stride, classes, log, state, work, storage, start, stop):
    """The gradient of softmax, or of log-softmax, for the rows [start, stop)."""
    blocks = softmax.blocks_of(classes)
    group = group_of(classes)
    row = start
    while row < stop:
        n = min(group, stop - row)
        g_at = row * g_stride
        p_at = row * p_stride
        out_at = row * out_stride
        if blocks == 1:
            group_backward(
                g, g_at, g_stride, p, p_at, p_stride, out, out_at, out_stride, classes, n, log, state, work, storage
            )
        else:
            reduce(g, g_at, p, p_at, classes, log, state, 0, blocks, work, storage)
            settle(classes, state)
            write(g, g_at, p, p_at, out, out_at, classes, log, state, 0, blocks, work, storage)
        row += n
