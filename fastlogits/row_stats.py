"""What one wants to know about rows of logits, from one sweep over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from fastlogits import _checks, _layout, dispatch
from fastlogits._options import IGNORE_INDEX, LossOptions
from fastlogits._scaling import Scaling
from fastlogits._typing import Array
from fastlogits.cross_entropy import evaluate, int64
from fastlogits.likelihood import likelihoods
from fastlogits.states import TIES, RowState, RowStats, asked, count_labels, sweep, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from fastlogits._typing import Lists, Temperature
    from fastlogits.states import Ties


class TopK(NamedTuple, Generic[Array]):
    """What `topk` returns."""

    values: Array
    indices: Array


@dispatch.by_array
def row_stats(
    logits: Array | Lists,
    labels: ArrayLike | None = None,
    *,
    want: Iterable[str] | None = None,
    top_k: int | None = None,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    ties: Ties = "first",
    classes: Iterable[Any] | None = None,
) -> RowStats:
    """Any of ten answers about each row of logits, from a single sweep over them.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    labels : array_like of integers of any width, shape (...), optional
        Class indices.
    want : iterable of str, optional
        Fields to return, see below; by default all that `labels` and `top_k` allow.
    top_k : int, optional
        How many classes `topk_ids` and `topk_log_probs` have.
    axis : int, default -1
        The class axis.
    ignore_index : int, default -100
        Rows with this label have nll 0, correct False and rank -1, whatever their logits.
    temperature : float, array_like or fit, default 1.0
        What the logits are divided by: a number above 0; or an array of them that broadcasts to shape (...); or what
        `fastlogits.calibration.fit_temperature` found. A fit of another kind makes new logits of them by its method
        ``apply(logits, axis)``, as that of `fastlogits.calibration.fit_vector_scaling` does.
    bias : array_like of float, shape (C,), optional
        Added to the logits of each class, after the division; -inf leaves the class out.
    where : array_like of bool, optional
        Classes that take part; broadcasts to `logits`. The others are not read, and count as logits of -inf.
    ties : {"first", "min"}, default "first"
        What becomes of the label's equals in `rank`: "first" counts those with a lower index, so that ``rank < k``
        says whether the label is among ``topk(logits, k)``; "min" counts none.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    RowStats
        With the wanted fields as attributes, of shape (...) and, if not noted otherwise, the dtype of `logits`, or
        float32 if that is smaller. They are those of ``logits / temperature + bias``:

        lse
            log of the sum of exp(logits)
        nll
            -log of the label's probability
        argmax : intp
            the most probable class, the first of equals
        correct : bool
            whether that is the label
        entropy
            of the probabilities, in nats
        max_prob
            the largest probability
        rank : intp
            how many classes come before the label in the order of `topk`: 0 is best
        margin
            the largest logit minus the second largest; inf where there is one class
        topk_ids : intp, topk_log_probs
            the `top_k` most probable classes, as of `topk`, in the place of the class axis; their log-probabilities

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; the first is named.

    Notes
    -----
    NaN counts as the largest logit: a row with NaN has the first NaN as argmax and NaN in all its floats. A row of
    nothing but -inf, or of no classes, has lse -inf and NaN in the others.

    See Also
    --------
    fastlogits.states.RowState : the same for logits in pieces.

    Examples
    --------
    >>> import fastlogits
    >>> stats = fastlogits.row_stats([[0.0, 4.0, 2.0]], [2], want=["argmax", "rank", "margin"])
    >>> stats.argmax, stats.rank, stats.margin
    (array([1]), array([1]), array([2.]))
    """
    x = _layout.floats(logits, "logits")
    layout = _layout.of(x, _checks.one_axis(axis))
    if not x.size:
        Scaling.of(x, layout, temperature, bias, where)  # which checks them
        return RowState.of(x, labels, want=want, top_k=top_k, axis=axis, ignore_index=ignore_index, ties=ties).results()
    want, _ = asked(want, labels is not None, top_k is not None, ties)
    top_k = 0 if top_k is None else _checks.top_k("top_k", top_k, layout.classes)
    if labels is not None:
        labels = _checks.class_indices(labels, layout.batch_shape)
    ignore_index = _checks.ignore_index(ignore_index, labelled=labels is not None)
    indices = None
    if labels is not None:
        indices = int64(labels, ignore_index)
        count_labels(labels, indices, layout, ignore_index)
    x, layout, scaling = Scaling.of(x, layout, temperature, bias, where)
    return whole(x, layout, want, top_k, indices, ignore_index, scaling, ties)


@dispatch.by_array
def topk(logits: Array | Lists, k: int, axis: int = -1, *, sorted: bool = True) -> TopK[Array]:
    """The `k` largest logits of each row, and where they are.

    Parameters
    ----------
    logits : array_like
        As for `softmax`; integers are compared exactly.
    k : int
        From 0 to the number of classes.
    axis : int, default -1
        The class axis.
    sorted : bool, default True
        Whether the largest comes first; otherwise the order is any.

    Returns
    -------
    TopK
        The named tuple (values, indices), with `k` numbers in the place of the class axis: values of the dtype of
        `logits`, indices of intp.

    Notes
    -----
    Of equal logits those with the lowest index come first, also where not all of them are among the `k`. NaN counts
    as the largest logit, as in torch.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.topk([[3.0, 1.0, 3.0, 2.0]], 3)
    TopK(values=array([[3., 3., 2.]]), indices=array([[0, 2, 3]]))
    """
    array = _checks.as_array("logits", logits)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    axis = _checks.axes(_checks.one_axis(axis), array.ndim)[0]
    k = _checks.top_k("k", k, array.shape[axis])
    if array.dtype.kind in "biu":
        # Of integers, ~x is the mirror image: -x without its overflow.
        indices = np.argsort(~array, axis, kind="stable").take(range(k), axis)
        return TopK(np.take_along_axis(array, indices, axis), indices)
    x = _layout.floats(array, "logits")
    top = sweep(x, _layout.of(x, axis), {"top_ids"}, k, ordered=sorted)
    values, indices = (np.moveaxis(top[name], -1, axis) for name in ("top_values", "top_ids"))
    return TopK(_layout.rounded(values, x.dtype), indices)


@dispatch.by_array
def entropy(
    logits: Array | Lists,
    axis: int = -1,
    *,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Entropy of ``softmax(logits)`` in nats: ``-sum(p * log(p))`` without forming either.

    Parameters as of `row_stats`, the result as of `logsumexp`. 0 times log 0 is 0. A row with NaN or +inf, or of
    nothing but -inf, gives NaN.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.entropy([[0.0, 0.0], [0.0, float("-inf")]])
    array([0.69314718, 0.        ])
    """
    options = {"temperature": temperature, "bias": bias, "where": where}
    return row_stats(logits, want=("entropy",), axis=axis, **options).entropy


@dispatch.by_array
def perplexity(
    logits: Array | Lists,
    labels: ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = IGNORE_INDEX,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    classes: Iterable[Any] | None = None,
) -> Any:
    """exp of the mean negative log-likelihood of the labels.

    Parameters
    ----------
    logits, labels, axis, ignore_index, classes
        As of `cross_entropy`, with labels that are class indices. Ignored rows do not count.
    temperature, bias, where
        As of `row_stats`.

    Returns
    -------
    scalar
        Of the dtype of `logits`, or float32 if that is smaller. NaN where no row counts.

    Examples
    --------
    >>> import fastlogits
    >>> float(fastlogits.perplexity([[0.0, 0.0], [0.0, 0.0]], [0, 1]))
    2.0
    """
    x = _layout.floats(logits, "logits")
    layout = _layout.of(x, _checks.one_axis(axis))
    labels = _checks.class_indices(labels, layout.batch_shape)
    dtype = _layout.COMPUTE[x.dtype]
    x, layout, scaling = Scaling.of(x, layout, temperature, bias, where)
    if scaling.is_plain:
        mean, _ = evaluate(x, labels, None, None, LossOptions(axis, ignore_index).checked())
    else:
        losses, counted, _ = likelihoods(x, layout, labels, _checks.ignore_index(ignore_index), scaling)
        mean = np.divide(losses.sum(), np.count_nonzero(counted))
    with np.errstate(over="ignore"):
        return _layout.rounded(np.exp(np.float64(mean)), dtype)


@dispatch.by_array
def accuracy(
    logits: Array | Lists,
    labels: ArrayLike,
    *,
    top_k: int = 1,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    ties: Ties = "first",
    classes: Iterable[Any] | None = None,
) -> Any:
    """Share of the rows whose label is among the `top_k` most probable classes.

    Parameters
    ----------
    logits, labels, axis
        As of `row_stats`.
    top_k : int, default 1
        From 0 to the number of classes.
    ignore_index : int, default -100
        Rows with this label do not count.
    temperature, bias, where
        As of `row_stats`. A temperature changes no order; a bias, a mask and other fits do.
    ties : {"first", "min"}, default "first"
        As of `row_stats`: of equal logits those with the lowest index come first, as in `topk`; or with "min" the label
        does.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    float64
        NaN where no row counts.

    Examples
    --------
    >>> import fastlogits
    >>> float(fastlogits.accuracy([[0.0, 4.0, 2.0], [1.0, 0.0, 0.0]], [2, 0]))
    0.5
    >>> float(fastlogits.accuracy([[0.0, 4.0, 2.0], [1.0, 0.0, 0.0]], [2, 0], top_k=2))
    1.0
    """
    x = _layout.floats(logits, "logits")
    layout = _layout.of(x, _checks.one_axis(axis))
    _checks.one_of("ties", ties, TIES)
    if x.size:
        top_k = _checks.top_k("top_k", top_k, layout.classes)
        labels = _checks.class_indices(labels, layout.batch_shape)
        ignore_index = _checks.ignore_index(ignore_index)
        indices = int64(labels, ignore_index)
        rows = count_labels(labels, indices, layout, ignore_index)
        x, layout, scaling = Scaling.of(x, layout, temperature, bias, where)
        right = sweep(x, layout, {TIES[ties]}, labels=indices, scaling=scaling)[TIES[ties]] < top_k
        if rows < indices.size:
            right &= indices != ignore_index
        hit = np.count_nonzero(right)
    else:
        Scaling.of(x, layout, temperature, bias, where)  # which checks them
        state = RowState.of(x, labels, want=HITS, top_k=top_k, axis=axis, ignore_index=ignore_index)
        hit, rows = hits(state, top_k)
    return np.float64(hit / rows if rows else np.nan)


HITS = ("correct", "topk_ids")  # the first for its check of the labels


def hits(state, top_k):
    """How many rows have their label among the top classes, and how many have one; the state is of HITS or rank."""
    labels = state.parts["label"]
    counted = labels != state.ignore_index
    stats = state.results()
    if state.want == HITS:
        among = (stats.topk_ids == np.expand_dims(labels, state.axis)).any(state.axis)
    else:
        among = stats.rank < top_k
    return np.count_nonzero(among & counted), np.count_nonzero(counted)
