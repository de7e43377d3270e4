"""Nonconformity scores: how badly a label agrees with the logits of its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from fastlogits import _checks_conformal, dispatch
from fastlogits.conformal._rows import Rows
from fastlogits.softmax import argmax

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike

    MethodName = Literal["lac", "aps", "raps", "saps"]


@dispatch.by_array
def scores(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    method: MethodName = "lac",
    penalty: float | None = None,
    k_reg: int | None = None,
    seed: int | np.random.Generator | None = None,
    rows: ArrayLike | None = None,
    temperature: float = 1.0,
    axis: int = -1,
    classes: Iterable[Any] | None = None,
) -> np.ndarray:
    """Nonconformity score of each row's label: the larger, the worse it agrees with the logits.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    labels : array_like of integers, shape (...)
        Class indices in [0, C).
    method : {"lac", "aps", "raps", "saps"}, default "lac"
        See Notes.
    penalty : float, optional
        What each further rank costs, at least 0: with "raps" 0.01 by default, with "saps" 0.2.
    k_reg : int, optional
        How many classes are free of the penalty of "raps", at least 0; by default 5.
    seed : int, numpy.random.Generator or None, optional
        Draws the random part of all methods but "lac", as of `fastlogits.sample`. None does without: each class counts
        whole, which makes the sets larger, and their coverage higher than asked for.
    rows : int or array_like of int, shape (...), optional
        Beside a seed: the number of each row, or of the first, as of `fastlogits.sample`. A row's random number depends
        on the seed and on this number alone, so that blocks of an array, given the numbers that their rows have in the
        whole, get the scores of the whole.
    temperature : float, default 1.0
        Divides the logits; what `fastlogits.calibration.fit_temperature` found.
    axis : int, default -1
        The class axis.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    ndarray of float64, shape (...)
        NaN for a row with NaN or +inf, or of nothing but -inf.

    Raises
    ------
    IndexError
        If a label is not in [0, C); the first is named.

    Notes
    -----
    With p the probability of the label, `above` that of the classes ranked above it (larger logits, and of equal ones
    the lower index), r how many these are, and u uniform in [0, 1), or 1 without a seed:

    ======  =====================================================================
    lac     1 - p; also known as THR and LABEL
    aps     above + u p
    raps    above + u p + penalty max(0, r + 1 - k_reg)
    saps    u p where r = 0, and elsewhere max_prob + (r - 1 + u) penalty
    ======  =====================================================================

    Probabilities are formed in double precision, a block of rows at a time, and rounded to multiples of 2**-52, which
    makes their sums exact: `prediction_sets` has the very bits of these scores. Nothing is sorted.

    References
    ----------
    Sadinle, Lei, Wasserman (2019), Least ambiguous set-valued classifiers with bounded error levels.
    Romano, Sesia, Candès (2020), Classification with valid and adaptive coverage.
    Angelopoulos, Bates, Malik, Jordan (2021), Uncertainty sets for image classifiers using conformal prediction.
    Huang, Xi, Zhang, Yao, Qiu, Wei (2024), Conformal prediction for deep classifier via label ranking.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits import conformal
    >>> logits = np.log([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    >>> conformal.scores(logits, [1, 1]).round(6)
    array([0.75, 0.75])
    >>> conformal.scores(logits, [1, 1], method="aps").round(6)
    array([0.75, 1.  ])
    """
    given = Rows.of(logits, method, penalty, k_reg, seed, rows, temperature, axis)
    labels = _checks_conformal.row_labels(labels, given.batch_shape, given.classes).ravel()
    found = np.empty(len(labels))
    for block in given.blocks():
        found[block.rows] = _of_labels(given.method, block, labels[block.rows])
    return found.reshape(given.batch_shape)[()]


def _of_labels(method, block, labels):
    at = np.arange(len(labels)), labels
    mass = block.mass[at]
    if method.name == "lac":
        return 1 - mass
    logit = block.x[at][:, None]
    ahead = block.x > logit
    tied = block.x == logit
    if np.count_nonzero(tied) > len(labels):
        ahead |= tied & (np.arange(block.x.shape[1]) < labels[:, None])
    # 0.6 ns a class whatever the mask; a sum with where= takes up to 6.
    above = np.einsum("ij,ij->i", block.mass, ahead)
    rank, top = None, None
    if method.name != "aps":
        rank, top = np.count_nonzero(ahead, axis=1), block.mass[at[0], argmax(block.x)]
    return method.score(mass, above, rank, top, block.u)
