"""The k largest logits of a row, of which the sweep of row_stats.py has left the maxima of groups behind.

They give a bound for the k largest, so that another look at the row, in cache, finds few candidates; a heap holds those
found so far, or, for a large k, radix.py sorts them. Where threads share a row, the peaks of its blocks take the place
of the groups' maxima. NaN counts as the largest logit, and equals come by index.
"""

from fastlogits.kernels import primitives, radix, softmax

# Up to here one maximum after the other is faster: k = 3 of 65536 x 10 takes 56 ns a row so, and 210 by way of a heap.
SHORT_CLASSES = 128
SHORT_K = 16
# From here on a radix sort is faster than a heap: k = 300 of 4096 x 1000, two threads, takes 28 ms so, and 74 by heap.
HEAP_K = 256


def count_above(x, at, maxima, n, limit, options, work):
    """How many of the maxima are above the limit; where there are none (n = 0), how many logits of the row."""
    count = primitives.count_above(maxima, n, limit)
    if n == 0:
        for block in range(softmax.blocks_of(options.classes)):
            start = block * primitives.BLOCK
            size = min(primitives.BLOCK, options.classes - start)
            logits = primitives.load(x, at + start, size, primitives.slot(work, 0), options.storage)
            count += primitives.count_above(logits, size, limit)
    return count


def bound(x, at, maxima, n, peak, options, work):
    """A limit that at least k logits are above, and not many more; -inf where none is found.

    By bisection, over the n maxima if they are enough for it, else over the logits. Nearly as many maxima as k would
    reach far down: k = 2000 over 2016 maxima of 128256 logits, to 9000 candidates.
    """
    k = options.top_k
    if 3 * n < 4 * k:
        n = 0
    near = 0.0
    far = 1.0
    count = 0
    while far < 1e6 and count < k:
        count = count_above(x, at, maxima, n, primitives.cast(peak - far, work), options, work)
        if count < k:
            near = far
            far *= 2.0
    if count < k:
        return primitives.NEG_INF
    for _ in range(10):
        if count <= k + k // 8:
            break
        middle = 0.5 * (near + far)
        inside = count_above(x, at, maxima, n, primitives.cast(peak - middle, work), options, work)
        if inside < k:
            near = middle
        else:
            far = middle
            count = inside
    return peak - far


def comes_after(value, index, other, other_index):
    """Whether a logit stands behind another in the order of `select`."""
    return primitives.beats(other, value) or (not primitives.beats(value, other) and index > other_index)


def sift(values, indices, at, n, value, index):
    """Put an entry at the root of a heap of n, whose root comes after all others, in the place of what is there."""
    place = 0
    child = 1
    while child < n:
        if child + 1 < n and comes_after(
            values[child + 1], indices[at + child + 1], values[child], indices[at + child]
        ):
            child += 1
        if not comes_after(values[child], indices[at + child], value, index):
            break
        values[place] = values[child]
        indices[at + place] = indices[at + child]
        place = child
        child = 2 * place + 1
    values[place] = value
    indices[at + place] = index


def sort(values, indices, at, n):
    """A heap of n into its order, from the first entry to the last."""
    for last in range(n - 1, 0, -1):
        value = values[last]
        index = indices[at + last]
        values[last] = values[0]
        indices[at + last] = indices[at]
        sift(values, indices, at, last, value, index)


def push(values, indices, at, n, value, index):
    """Add an entry, whose index is larger than any there, to a heap of n."""
    place = n
    while place > 0 and not primitives.beats(value, values[(place - 1) // 2]):
        values[place] = values[(place - 1) // 2]
        indices[at + place] = indices[at + (place - 1) // 2]
        place = (place - 1) // 2
    values[place] = value
    indices[at + place] = index


def one_by_one(x, at, values, indices, first, options, work):
    """The k first of a short row, each as the maximum of what is left. False if that is -inf: they are not found."""
    logits = primitives.load(x, at, options.classes, primitives.slot(work, 0), options.storage)
    left = primitives.slot(work, 1)
    for j in range(options.classes):
        left[j] = logits[j]
    for n in range(options.top_k):
        largest = primitives.maximum(left, options.classes)
        if largest == primitives.NEG_INF:
            return False
        j = primitives.find(left, options.classes, largest)
        values[n] = left[j]
        indices[first + n] = j
        left[j] = primitives.cast(primitives.NEG_INF, work)
    return True


def limit_of(x, at, options, state, work):
    """What to look for to begin with: logits above this; -inf if nothing better is known."""
    blocks = softmax.blocks_of(options.classes)
    peak = state[primitives.PEAK]
    if options.classes < 4 * options.top_k or peak - peak != 0.0:
        return primitives.NEG_INF
    maxima = primitives.slot(work, primitives.TILE)
    n = blocks * options.group_step
    if n == 0:
        n = min(blocks, primitives.BLOCK)
        for block in range(n):
            fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
            maxima[block] = primitives.cast(state[fields + primitives.BLOCK_PEAK], work)
    return bound(x, at, maxima, n, peak, options, work)


def select(x, at, top_values, indices, row, options, state, work):
    """The k first logits of a row and their indices, in order where asked."""
    k = options.top_k
    values = primitives.stretch(top_values, row * k, k)
    peak = state[primitives.PEAK]
    if options.classes <= SHORT_CLASSES and k <= SHORT_K and peak == peak:
        if one_by_one(x, at, values, indices, row * k, options, work):
            return
    limit = primitives.cast(limit_of(x, at, options, state, work), work)
    if options.sort_at > 0:
        radix.select(x, at, limit, values, indices, row * k, options, state, work)
        return
    unbounded = limit == primitives.NEG_INF
    n = 0
    for block in range(softmax.blocks_of(options.classes)):
        peak = state[primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS + primitives.BLOCK_PEAK]
        if peak <= limit and not (unbounded and n < k):
            continue
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        logits = primitives.load(x, at + start, size, primitives.slot(work, 0), options.storage)
        j = 0
        while j < size:
            if n == k or not unbounded:
                j = primitives.next_above(logits, j, size, limit)
            if j == size:
                break
            if n < k:
                push(values, indices, row * k, n, logits[j], start + j)
                n += 1
            elif primitives.beats(logits[j], values[0]):
                sift(values, indices, row * k, k, logits[j], start + j)
            if n == k:
                limit = values[0]
            j += 1
    if options.ordered:
        sort(values, indices, row * k, k)
