"""Prediction sets: the classes whose scores are within a threshold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _checks_conformal, dispatch
from fastlogits.conformal._rows import Rows
from fastlogits.row_stats import topk

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastlogits.conformal.methods import MethodName

# Classes ranked at first; most sets are smaller. Where one is not, as many times more.
FIRST, FACTOR = 32, 4


class PredictionSets(NamedTuple):
    """Sets as lists of classes, ascending: those of row r, in C order, are ``ids[offsets[r] : offsets[r + 1]]``."""

    ids: np.ndarray
    offsets: np.ndarray


@dispatch.by_array
def prediction_sets(
    logits: ArrayLike,
    threshold: ArrayLike,
    *,
    method: MethodName = "lac",
    penalty: float | None = None,
    k_reg: int | None = None,
    seed: int | np.random.Generator | None = None,
    rows: ArrayLike | None = None,
    temperature: float = 1.0,
    axis: int = -1,
    as_ids: bool = False,
) -> np.ndarray | PredictionSets:
    """The classes of each row whose score is at most the threshold.

    Parameters
    ----------
    logits, method, penalty, k_reg, temperature, axis
        As of `scores`, and the same as for the calibration rows.
    threshold : float or array_like, shape (C,)
        What `threshold` returned: one number, or one for each class.
    seed, rows
        As of `scores`. The random numbers of these rows are to be others than those of the calibration rows: give
        another seed, or the same one and rows that count on from theirs.
    as_ids : bool, default False
        Whether to list the classes instead, which takes less memory where they are few of many.

    Returns
    -------
    ndarray of bool of the shape of `logits`, or PredictionSets
        A mask of the classes that are in the set; or `ids` and `offsets`, two arrays of intp.

    Notes
    -----
    A class is in the set exactly where ``scores(logits, class, ...) <= threshold``, to the last bit. A set may be
    empty, and is so where scores are NaN: in a row with NaN or +inf, or of nothing but -inf.

    But for "lac", classes are ranked as far as the sets reach.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits import conformal
    >>> logits = np.log([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
    >>> conformal.prediction_sets(logits, 0.8, method="aps")
    array([[ True,  True, False],
           [False, False,  True]])
    >>> conformal.prediction_sets(logits, 0.8, method="aps", as_ids=True)
    PredictionSets(ids=array([0, 1, 2]), offsets=array([0, 2, 3]))
    """
    given = Rows.of(logits, method, penalty, k_reg, seed, rows, temperature, axis)
    limit = _checks_conformal.limits(threshold, given.classes)
    if as_ids:
        return _listed(given, limit)
    sets = np.zeros((*given.batch_shape, given.classes), bool)
    for block in given.blocks():
        part = sets[block.place]
        part[...] = _inside(given.method, block, limit).reshape(part.shape)
    return np.moveaxis(sets, -1, axis)


def _listed(given, limit):
    ids, sizes = [np.empty(0, np.intp)], np.zeros(math.prod(given.batch_shape), np.intp)
    for block in given.blocks():
        inside = _inside(given.method, block, limit)
        ids.append(np.nonzero(inside)[1])
        sizes[block.rows] = np.count_nonzero(inside, axis=1)
    return PredictionSets(np.concatenate(ids), np.concatenate(([0], np.cumsum(sizes))))


def _inside(method, block, limit):
    """The mask of a block's sets."""
    if method.name == "lac":
        return 1 - block.mass <= limit
    inside = np.zeros(block.x.shape, bool)
    classes = block.x.shape[1]
    left, count = np.arange(len(inside)), min(FIRST, classes)
    while len(left):
        ids = topk(block.x[left], count).indices
        mass = np.take_along_axis(block.mass[left], ids, axis=1)
        above = np.cumsum(mass, axis=1) - mass
        score = method.score(mass, above, np.arange(count), mass[:, :1], block.u[left, None])
        inside[left[:, None], ids] = score <= (limit[ids] if limit.ndim else limit)
        if count == classes:
            break
        # Scores ascend with the rank.
        left = left[score[:, -1] <= limit.max()]
        count = min(FACTOR * count, classes)
    return inside
