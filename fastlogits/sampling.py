"""Draws from the probabilities that logits stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple

import numpy as np

from fastlogits import _checks, _checks_filters, _layout, config, dispatch
from fastlogits._typing import Array
from fastlogits.filters import of_rows, rules, scaled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastlogits._typing import Fit, Lists


class Sample(NamedTuple, Generic[Array]):
    """What `sample` returns."""

    ids: Array
    log_probs: Array


@dispatch.by_array
def sample(
    logits: Array | Lists,
    *,
    seed: int | np.random.Generator | None = None,
    rows: ArrayLike | None = None,
    temperature: ArrayLike | Fit = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    typical_p: ArrayLike | None = None,
    epsilon_cutoff: ArrayLike | None = None,
    eta_cutoff: ArrayLike | None = None,
    min_keep: ArrayLike = 1,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    axis: int = -1,
) -> Sample[Array]:
    """One class of each row, drawn with the probabilities that the filters leave.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    seed : int, numpy.random.Generator or None, optional
        At least 0; or what two 32-bit numbers are drawn from; or None for fresh entropy.
    rows : int or array_like of int, shape (...), optional
        The number of each row, or of the first of them, from 0 to 2**63 - 1; counted from 0 by default. What is
        drawn depends on the row's logits and parameters, on `seed` and on this number alone: a part of an
        array, given the numbers that its rows have in the whole, draws what the whole would.
    temperature : float, array_like or fit, default 1.0
        As of `filter_logits`; or 0, which takes the largest of ``logits + bias``, the first of equals, with
        probability 1.
    top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, min_keep, bias, where, axis
        As of `filter_logits`: drawn is one of the classes that it keeps.

    Returns
    -------
    Sample
        The named tuple (ids, log_probs), each of shape (...): ids of intp, and the logarithms of the
        probabilities with which they were drawn, in the dtype of `logits` (float32 for half types).

    Raises
    ------
    ValueError
        If a row has NaN or +inf, or nothing but -inf, or there are no classes; the first such row is named.

    Notes
    -----
    Drawn is the first class at which the probabilities, added up in double precision, the largest first and
    then by index, exceed a random multiple of 2**-53 in [0, 1). So no probability is off by more than 2**-53,
    and what has none is never drawn. The random number is Philox4x32-10 of the row's number under a key that
    ``numpy.random.SeedSequence`` makes of the seed.

    The same is drawn whatever the number of threads. Backends and instruction sets round differently in the
    last bits of a sum, which may change one draw in 10**12 or so.

    References
    ----------
    Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.

    Examples
    --------
    >>> import fastlogits
    >>> logits = [[0.0, 1.0, 2.0]] * 4
    >>> fastlogits.sample(logits, seed=0).ids
    array([2, 1, 1, 1])
    >>> fastlogits.sample(logits[2:], seed=0, rows=2).ids
    array([1, 1])
    """
    parameters = (temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, min_keep)
    return drawn(logits, _checks_filters.seed(seed), rows, parameters, axis, bias, where)


def drawn(logits, key, rows, parameters, axis, bias=None, where=None):
    """The `Sample` under a generator's key, with the parameters in the order of `sample`."""
    x = _layout.floats(logits, "logits")
    axis = _checks.one_axis(axis)
    _checks.some_classes(x.shape, axis)
    dtype = _layout.COMPUTE[x.dtype]
    x, layout, scaling, temperature = scaled(x, _layout.of(x, axis), parameters[0], bias, where)
    per_row = rules(layout, (temperature, *parameters[1:]), greedy=True)
    numbers = layout.flatten(_checks_filters.row_numbers(rows, layout.batch_shape))
    ids = np.empty(layout.rows, np.intp)
    log_probs = np.empty(layout.rows)
    if scaling.shifts:
        for place, z in scaling.blocks(x, layout):
            config.backend().sample(
                z, of_rows(per_row, place), numbers[place], *key, ids[place], log_probs[place], len(z), layout.classes,
                1, layout.classes, config.threads(z.size),
            )  # fmt: skip
    elif x.size:
        backend = config.backend()
        copied = not layout.few_columns(backend.COLUMNS)
        parts = layout.parts((x,), (layout.stride_of(x),), side_by_side=copied)
        for place, outer, inner, (block,), (stride,) in parts:
            backend.sample(
                block, of_rows(per_row, place), numbers[place], *key, ids[place], log_probs[place], outer,
                layout.classes, inner, stride, config.threads(block.size),
            )  # fmt: skip
    ids = layout.unflatten(ids)
    if (ids < 0).any():
        raise _checks_filters.not_to_be_sampled(ids)
    log_probs = layout.unflatten(_layout.rounded(log_probs, dtype))
    return Sample(ids[()], log_probs[()])
