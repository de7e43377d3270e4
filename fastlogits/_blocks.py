"""What the reference functions share: blocks of rows, loaded as packed arrays of the dtype that is computed in."""

import functools

import numpy as np

BLOCK = 1 << 16  # logits at a time: temporaries stay in cache


def quiet(function):
    """Infinities and NaN are results here, not accidents."""

    @functools.wraps(function)
    def quietly(*args, **options):
        with np.errstate(all="ignore"):
            return function(*args, **options)

    return quietly


def blocks(outer, classes, inner, logits=BLOCK, columns=1):
    """Index pairs (outer, inner) that cut the rows, in order, into blocks of `logits`; of more for so many columns."""
    inner_step = min(inner, max(columns, logits // classes))
    outer_step = max(1, logits // (classes * inner_step))
    for o in range(0, outer, outer_step):
        for i in range(0, inner, inner_step):
            yield slice(o, o + outer_step), slice(i, i + inner_step)


def view(array, outer, classes, inner, stride):
    strides = (stride * array.itemsize, array.itemsize, inner * array.itemsize)
    return np.lib.stride_tricks.as_strided(array, (outer, inner, classes), strides)


def compute_dtype(array):
    return np.float64 if array.dtype == np.float64 else np.float32


def load(rows, block):
    return np.ascontiguousarray(rows[block], compute_dtype(rows))


def store(rows, block, values):
    """Rounds once; what is below the smallest normal number of the computing dtype becomes 0."""
    tiny = np.finfo(compute_dtype(rows)).tiny
    rows[block] = np.where(np.abs(values) < tiny, 0, values)


def scales_of(scale, scales, outer, inner, block):
    """What the rows of a block are multiplied by: `scale`, or if that is 0 each by its own, as a column."""
    return scale if scales is None else scales.reshape(outer, inner)[block][..., None]


def scaled_difference(z, m, scale):
    """scale (z - m), of halves: z - m may be too large where the result is not."""
    return z - m if np.ndim(scale) == 0 and scale == 1.0 else (z / 2 - m / 2) * np.float64(2 * scale)


def normalizer(z, scale=1.0):
    """z - m (times scale), its exp, and r."""
    shifted = scaled_difference(z, z.max(axis=-1, keepdims=True), scale)
    e = np.exp(shifted)
    others = e.copy()
    np.put_along_axis(others, z.argmax(axis=-1, keepdims=True), 0, axis=-1)
    r = others.sum(axis=-1, keepdims=True, dtype=np.float64)
    # The maximum of a row with NaN, or of all -inf, or with +inf, is no number to set aside.
    r = np.where(np.isnan(e).any(axis=-1, keepdims=True), np.nan, r)
    return shifted, e, r


def dominating(probs):
    """Where one class has most of a row whose probabilities add up to 1, as far as they are rounded."""
    return (probs > 0.75) & (abs(probs.sum(axis=-1, keepdims=True) - 1) < 0.01)
