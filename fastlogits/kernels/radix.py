"""The k largest logits of a row in their order, for a k too large for a heap: those above a limit, sorted by radix.

The sort is stable, so that equals stay in order of index. Its entries, logits and indices, are in double.
"""

from fastlogits.kernels import primitives, softmax


def gather(x, at, limit, values, indices, options, state, work):
    """The logits above the limit, or all for a limit of -inf, in order of index; returns how many."""
    everything = limit == primitives.NEG_INF
    n = 0
    for block in range(softmax.blocks_of(options.classes)):
        peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
        if peak <= limit and not everything:
            continue
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), options.storage)
        j = 0
        while j < size:
            if not everything:
                j = primitives.next_above(logits, j, size, limit)
            if j < size:
                values[n] = logits[j]
                indices[n] = start + j
                n += 1
            j += 1
    return n


def deal(values, indices, n, place, dealt_values, dealt_indices, counts, work):
    """One step of the sort: by the digit at one place of the keys, and as they were where that is the same."""
    for digit in range(primitives.BUCKETS):
        counts[digit] = 0.0
    for i in range(n):
        counts[primitives.digit(primitives.cast(values[i], work), place)] += 1.0
    first = 0.0
    for digit in range(primitives.BUCKETS):
        count = counts[digit]
        counts[digit] = first
        first += count
    for i in range(n):
        digit = primitives.digit(primitives.cast(values[i], work), place)
        to = primitives.whole(counts[digit])
        counts[digit] += 1.0
        dealt_values[to] = values[i]
        dealt_indices[to] = indices[i]


def select(x, at, limit, top_values, top_indices, first, options, state, work):
    """The k first logits of a row, all of them above the limit, and their indices from `first` on."""
    counts = primitives.stretch(state, options.sort_at, primitives.BUCKETS)
    entries = options.sort_at + primitives.BUCKETS
    values = primitives.stretch(state, entries, options.classes)
    indices = primitives.stretch(state, entries + options.classes, options.classes)
    dealt_values = primitives.stretch(state, entries + 2 * options.classes, options.classes)
    dealt_indices = primitives.stretch(state, entries + 3 * options.classes, options.classes)
    n = gather(x, at, limit, values, indices, options, state, work)
    for place in range(primitives.places(work)):
        deal(values, indices, n, place, dealt_values, dealt_indices, counts, work)
        spare = values
        values = dealt_values
        dealt_values = spare
        spare = indices
        indices = dealt_indices
        dealt_indices = spare
    for i in range(options.top_k):
        top_values[i] = primitives.cast(values[i], work)
        top_indices[first + i] = primitives.whole(indices[i])


def room(classes):
    """How many numbers of `state` it takes."""
    return primitives.BUCKETS + 4 * classes
