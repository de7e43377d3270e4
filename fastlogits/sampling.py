"""Draws from the probabilities that logits stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from fastlogits import _checks, _checks_filters, _layout, config, dispatch
from fastlogits._edits import some
from fastlogits._filters import RULES_OFF, Filters, Options
from fastlogits._typing import Array
from fastlogits.backends.numpy import philox, uniform

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastlogits._typing import Lists, Temperature, TemperatureOrder

# Of rows that have seeds of their own.
SHARED_KEY = (0, 0)
# Draws of a row work on what is left of it, if that is at most so much of the row.
SURVIVORS = 1 / 4


class Sample(NamedTuple, Generic[Array]):
    """What `sample` returns."""

    ids: Array
    log_probs: Array


@dispatch.by_array
def sample(
    logits: Array | Lists,
    *,
    seed: ArrayLike | np.random.Generator | None = None,
    rows: ArrayLike | None = None,
    draws: int | None = None,
    replacement: bool = True,
    temperature: Temperature = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    typical_p: ArrayLike | None = None,
    epsilon_cutoff: ArrayLike | None = None,
    eta_cutoff: ArrayLike | None = None,
    min_keep: ArrayLike = 1,
    top_n_sigma: ArrayLike | None = None,
    top_h: ArrayLike | None = None,
    xtc_threshold: ArrayLike | None = None,
    xtc_probability: ArrayLike | None = None,
    order: TemperatureOrder = "temperature_first",
    history: ArrayLike | None = None,
    repetition_penalty: ArrayLike | None = None,
    frequency_penalty: ArrayLike | None = None,
    presence_penalty: ArrayLike | None = None,
    logit_bias: Any = None,
    allowed: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    axis: int = -1,
) -> Sample[Array]:
    """One class of each row, or several, drawn with the probabilities that the filters leave.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    seed : int, array_like of int, numpy.random.Generator or None, optional
        At least 0; or what two 32-bit numbers are drawn from; or None for fresh entropy. An array of shape (...)
        gives each row a seed of its own: what it draws then depends on neither its place nor other rows.
    rows : int or array_like of int, shape (...), optional
        The number of each row, or of the first of them, from 0 to 2**63 - 1; counted from 0 by default. What is
        drawn depends on the row's logits and parameters, on `seed` and on this number alone: a part of an
        array, given the numbers that its rows have in the whole, draws what the whole would. Of rows with seeds of
        their own all are 0 by default: numbers tell draws of one seed apart, as the steps of a sequence.
    draws : int, optional
        How many classes to draw of each row. The first is the one that is drawn by default.
    replacement : bool, default True
        Whether a class may be drawn again. If not, each draw is from the classes that are left, with their
        probabilities: the distribution of Gumbel top-k.
    temperature : float, array_like or fit, default 1.0
        As of `filter_logits`; or 0, which takes the largest of ``logits + bias``, the first of equals, with
        probability 1, whatever the filters drop (but not what `allowed`, biases and penalties make of it).
    xtc_probability : float or array_like, optional
        With what probability `xtc_threshold` holds for a row, each time it is drawn from. [1]
    top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, min_keep, top_n_sigma, top_h, xtc_threshold, order
        As of `filter_logits`: drawn is one of the classes that it keeps.
    history, repetition_penalty, frequency_penalty, presence_penalty, logit_bias, allowed, bias, where, axis
        As of `filter_logits`.

    Returns
    -------
    Sample
        The named tuple (ids, log_probs), each of shape (...), with `draws` in the place of the class axis where given:
        ids of intp, and the logarithms of the probabilities that the filters leave them, in the dtype of `logits`
        (float32 for half types). Of draws without replacement they are those in the whole row, not among the classes
        left.

    Raises
    ------
    ValueError
        If a row has NaN or +inf, or nothing but -inf, or fewer classes than are drawn without replacement, or there
        are no classes; the first such row is named.

    Notes
    -----
    Drawn is the first class at which the probabilities, added up in double precision, the largest first and
    then by index, exceed a random multiple of 2**-53 in [0, 1). So no probability is off by more than 2**-53,
    and what has none is never drawn. The random number is Philox4x32-10 of the row's number under a key that
    ``numpy.random.SeedSequence`` makes of the seed. Further draws, and XTC, have keys that the first makes; a row with
    a seed of its own has a number that Philox makes of its seed and its number.

    The same is drawn whatever the number of threads. Backends and instruction sets round differently in the
    last bits of a sum, which may change one draw in 10**12 or so.

    References
    ----------
    Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3. Kool, van Hoof, Welling (2019),
    Stochastic beams and where to find them (Gumbel top-k).

    Examples
    --------
    >>> import fastlogits
    >>> logits = [[0.0, 1.0, 2.0]] * 4
    >>> fastlogits.sample(logits, seed=0).ids
    array([2, 1, 1, 1])
    >>> fastlogits.sample(logits[2:], seed=0, rows=2).ids
    array([1, 1])
    """
    options = Options(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p,
        epsilon_cutoff=epsilon_cutoff, eta_cutoff=eta_cutoff, min_keep=min_keep, top_n_sigma=top_n_sigma,
        top_h=top_h, xtc_threshold=xtc_threshold, xtc_probability=xtc_probability, order=order, history=history,
        repetition_penalty=repetition_penalty, frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty, logit_bias=logit_bias, allowed=allowed, bias=bias, where=where,
    )  # fmt: skip
    own = seed is not None and np.ndim(seed) > 0
    key = SHARED_KEY if own else _checks_filters.seed(seed)
    return drawn(logits, Random(key, seed if own else None, rows, draws, replacement), options, axis)


class Random(NamedTuple):
    """What chance there is in draws, as a caller asks for it."""

    key: tuple  # two 32-bit words
    seeds: Any = None  # one for each row, or None
    rows: Any = None
    draws: int | None = None
    replacement: bool = True

    def numbers(self, layout):
        """One for each row, which its draws are made of."""
        shape = layout.batch_shape
        if self.seeds is None:
            return layout.flatten(_checks_filters.row_numbers(self.rows, shape))
        seeds = layout.flatten(_checks_filters.row_seeds(self.seeds, shape))
        rows = np.zeros(shape, np.int64) if self.rows is None else _checks_filters.row_numbers(self.rows, shape)
        words = philox(seeds & np.uint64(0xFFFFFFFF), seeds >> np.uint64(32), layout.flatten(rows))
        return (words[0] << np.uint64(31) | words[1] >> np.uint64(1)).astype(np.int64)

    def other_key(self, number):
        """The key of what is drawn beside the first class: of XTC (0), of the second (1), ..."""
        return tuple(int(word) for word in philox(*self.key, number)[2:])


def drawn(logits, random, options, axis):
    """The `Sample` of `Options`."""
    x = _layout.floats(logits, "logits")
    axis = _checks.one_axis(axis)
    _checks.some_classes(x.shape, axis)
    count = _checks_filters.draws(random.draws, random.replacement)
    dtype = _layout.COMPUTE[x.dtype]
    x, layout, options = options.fitted(x, _layout.of(x, axis))
    filters = Filters.of(options, x, layout, greedy=True)
    numbers = random.numbers(layout)
    ids = np.empty((layout.rows, count), np.intp)
    log_probs = np.empty((layout.rows, count))
    if x.size and filters.by_rules and random.draws is None:
        _draw_by_rules(x, layout, filters, (random.key, numbers), (ids[:, 0], log_probs[:, 0]))
    elif x.size:
        chosen = None
        if filters.xtc_probability is not None:
            chosen = uniform(*random.other_key(0), numbers) < filters.xtc_probability
        for rows, block, _ in filters.blocks(x, layout):
            filters.cut(block, rows, None if chosen is None else chosen[rows])
            _draw_several(block, random, numbers[rows], ids[rows], log_probs[rows])
    if (ids[:, 0] < 0).any():
        raise _checks_filters.not_to_be_sampled(layout.unflatten(ids[:, 0]))
    if (ids < 0).any():
        raise _checks_filters.too_few_classes(layout.unflatten(ids))
    log_probs = _layout.rounded(log_probs, dtype)
    if random.draws is None:
        return Sample(layout.unflatten(ids[:, 0])[()], layout.unflatten(log_probs[:, 0])[()])
    return Sample(*(np.moveaxis(layout.unflatten(found), -1, axis) for found in (ids, log_probs)))


def _draw_by_rules(x, layout, filters, stream, results):
    """One class of each row: the backend filters and draws at once."""
    (key, numbers), (ids, log_probs) = stream, results
    backend = config.backend()
    if filters.by_backend:
        copied = not layout.few_columns(backend.COLUMNS)
        parts = (
            (place, block, (outer, layout.classes, inner, stride))
            for place, outer, inner, (block,), (stride,) in layout.parts(
                (x,), (layout.stride_of(x),), side_by_side=copied
            )
        )
    else:
        parts = (
            (place, block, (len(block), layout.classes, 1, layout.classes))
            for place, block, _ in filters.blocks(x, layout)
        )
    for place, block, shape in parts:
        backend.sample(
            block, some(filters.rules, place), numbers[place], *key, ids[place], log_probs[place], *shape,
            config.threads(block.size),
        )  # fmt: skip


def _draw_several(block, random, numbers, ids, log_probs):
    """Classes of each row of a block of filtered logits, which is written to."""
    block, places = _survivors(block) if ids.shape[1] > 1 else (block, None)
    rows = np.arange(len(block))
    shape = len(block), block.shape[1], 1, block.shape[1]
    norm = None
    for draw in range(ids.shape[1]):
        key = random.other_key(draw) if draw else random.key
        found, log_p = np.empty(len(block), np.intp), np.empty(len(block))
        config.backend().sample(block, RULES_OFF, numbers, *key, found, log_p, *shape, config.threads(block.size))
        if not random.replacement:
            z = block[rows, found].astype(np.float64)
            norm = z - log_p if norm is None else norm  # of all classes, whatever has been drawn
            log_p = z - norm
            block[rows, found] = -np.inf
        log_probs[:, draw] = log_p
        ids[:, draw] = np.where(found < 0, found, found if places is None else places[rows, found])


def _survivors(block):
    """(logits, their classes): those that are left, side by side and padded with -inf, if most are gone."""
    left = ~(block == -np.inf)
    counts = np.count_nonzero(left, axis=1)
    most = max(1, counts.max())
    if most > SURVIVORS * block.shape[1]:
        return block, None
    row, classes = np.nonzero(left)
    at = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    logits = np.full((len(block), most), -np.inf, block.dtype)
    places = np.zeros((len(block), most), np.intp)
    logits[row, at], places[row, at] = block[row, classes], classes
    return logits, places
