"""Which way a call takes, and how its work is cut into parts."""

from fastlogits.kernels.sizes import (
    BLOCK,
    BUCKETS,
    DISCARD,
    KEEP,
    KEEP_PADDED,
    LANES,
    MOST_ROOM,
    PIECE,
    SHORT,
    SIEVE,
    SPAN,
    TILE,
)

ROWS_WAY, SHORT_WAY, COLUMNS_WAY, SHARED_WAY = 0, 1, 2, 3

SHORT_CLASSES = 32  # rows of at most so many classes are transposed
GRADIENT_CLASSES = 16  # the same for the gradient of softmax, which has two arrays to transpose
SIEVE_CLASSES = 256  # rows of at most so many are filtered and sampled several at a time
STATS_CLASSES = 128  # the same for statistics
TOP_CLASSES = 256  # and with them for the COLUMN_K largest
IN_CACHE = 1 << 18  # logits of the long rows that go through the steps together, and of a row in scratch memory
PART = 1 << 17  # logits: some tens of microseconds
COLUMN_K, COLUMN_CLASSES = 16, 1 << 16  # the k largest of columns are taken where they lie up to here
SORT_K = 256  # from so many of the largest on a radix sort is faster than a heap
REGION = 1 << 25  # logits that are shared out at once: tens of milliseconds, between which Ctrl-C is heard


TINY_SCALE = 2.0**-120  # a scale below is multiplied in first: a difference of logits may be too large for it


def scale_of(logit_scale):
    """What logits are multiplied by after their maximum is taken from them."""
    return 1.0 if abs(logit_scale) < TINY_SCALE else abs(logit_scale)


def prescale_of(logit_scale):
    """What logits are multiplied by before: the sign of the scale, or all of a tiny one."""
    if abs(logit_scale) < TINY_SCALE:
        return logit_scale
    return -1.0 if logit_scale < 0.0 else 1.0


def way_of(rows, classes, inner, threads):
    """Columns as they lie, short rows transposed, whole rows where there are enough of them, else shared rows."""
    if inner > 1:
        return COLUMNS_WAY
    if classes <= SHORT_CLASSES:
        return SHORT_WAY
    if threads > 1 and rows < 4 * threads and classes > BLOCK * (PIECE - 1):
        return SHARED_WAY
    return ROWS_WAY


def gradient_way_of(rows, classes, inner, threads):
    """The same for the gradients of softmax and log-softmax."""
    way = way_of(rows, classes, inner, threads)
    return ROWS_WAY if way == SHORT_WAY and classes > GRADIENT_CLASSES else way


def stats_way_of(rows, classes, inner, threads, top_k):
    """The same for statistics, and the `top_k` largest with them."""
    way = way_of(rows, classes, inner, threads)
    most = TOP_CLASSES if top_k > 0 and top_k <= COLUMN_K else STATS_CLASSES
    return SHORT_WAY if way == ROWS_WAY and classes <= most else way


def tile_lanes(classes, halves):
    """How many columns are handled at once: of half types as many as their exponentials fit the scratch tile."""
    if halves and classes * 64 <= TILE:
        return min(LANES, TILE // classes // 64 * 64)
    return LANES


def tiles_in(inner, lanes):
    """How many tiles the columns of one outer index make."""
    return (inner + lanes - 1) // lanes


def items_of(way, rows, classes, inner, halves):
    """How many items of work there are: rows, groups of SHORT rows, or tiles."""
    if way == COLUMNS_WAY:
        return rows * tiles_in(inner, tile_lanes(classes, halves))
    return (rows + SHORT - 1) // SHORT if way == SHORT_WAY else rows


def logits_of(way, classes, halves):
    """How many logits an item has."""
    if way == COLUMNS_WAY:
        return tile_lanes(classes, halves) * classes
    return SHORT * classes if way == SHORT_WAY else classes


def keep_of(way, classes, in_results):
    """Where the exponentials of rows stay: `in_results`, where they have room; nowhere if they do not fit the cache."""
    if in_results:
        return KEEP
    if (way == SHARED_WAY or way == ROWS_WAY) and classes > BLOCK and classes <= IN_CACHE:
        return KEEP_PADDED
    return DISCARD


def past_caches(way, nbytes, last_cache, halves):
    """Whether results go past the caches: where, with what is read, they would not fit the last of them; those of half
    types from three quarters on. Transposed rows come by way of scratch memory, shared ones stay in cache.
    """
    if way == SHORT_WAY or way == SHARED_WAY or last_cache == 0:
        return False
    return nbytes > (last_cache // 4 * 3 if halves else last_cache)


def parts_of(items, logits, threads):
    """Into how many parts the items are cut, for threads to take."""
    if threads == 1:
        return 1
    return min(items, max(8 * threads, items * logits // PART))


def sort_fields(classes):
    """How many numbers of scratch memory a radix sort takes: the counts of digits, and its entries twice."""
    return BUCKETS + 4 * classes


def room_of(classes):
    """How many survivors of the filters there is room for: all classes of rows that are not very long, a number for
    each span of a row, and a block of doubles.
    """
    spans = (classes + SPAN - 1) // SPAN
    return max(BLOCK, max(spans, min(classes, MOST_ROOM)))


def field_of(room):
    """How far apart the fields of the survivors lie: an odd number of cache lines."""
    return (room + 15) // 16 * 16 + 8


def few_lanes(classes):
    """How many rows of few classes are filtered together: whole vectors, as many as fit the tiles of doubles."""
    return SIEVE if classes <= 32 else SIEVE // 2 if classes <= 64 else SIEVE // 4


def few_items(rows, classes, inner):
    """How many tiles there are of them, or of columns."""
    return tiles_in(rows, few_lanes(classes)) if inner == 1 else rows * tiles_in(inner, few_lanes(classes))
