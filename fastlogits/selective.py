"""Log-probabilities of a few classes of each row, and their gradient: cross-entropy with several labels a row.

Of a row's ids, take the one with the largest logit as the label: its loss, lse - x_label, is exact to a few eps even
where it is tiny, and so then are the log-probabilities x_id - x_label - loss of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlogits import _checks, _layout, dispatch
from fastlogits._options import LossOptions
from fastlogits._scaling import Scaling
from fastlogits.cross_entropy import evaluate
from fastlogits.states import sweep

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastlogits._typing import Array, Lists, Temperature

NOTHING_IGNORED = -1  # an id that has passed its check is none


@dispatch.by_array
def selective_log_softmax(
    logits: Array | Lists,
    ids: ArrayLike,
    axis: int = -1,
    *,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """``log_softmax(logits)`` at `ids` alone, without forming the rest of it.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    ids : array_like of integers of any width
        Class indices: one a row, shape (...); or several, shape (..., K), with `axis` as in `logits`. They may repeat.
    axis : int, default -1
        The class axis.
    temperature, bias, where
        As of `row_stats`: the log-probabilities are those of ``logits / temperature + bias``.

    Returns
    -------
    ndarray
        Of the shape of `ids` and the dtype of `logits`, or float32 if that is smaller.

    Raises
    ------
    IndexError
        If an id is not in [0, C); the first is named.

    Notes
    -----
    An id at a logit of -inf has -inf; a row with NaN or +inf, or of nothing but -inf, is NaN.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.selective_log_softmax([[0.0, 0.0], [1000.0, 0.0]], [1, 1])
    array([-6.93147181e-01, -1.00000000e+03])
    >>> fastlogits.selective_log_softmax([[1000.0, 0.0]], [[1, 0, 1]])
    array([[-1000.,     0., -1000.]])
    """
    return log_probs_at(logits, ids, axis, temperature=temperature, bias=bias, where=where)


def log_probs_at(logits, ids, axis, ids_name="ids", **options):
    """`selective_log_softmax`, whose errors call the ids by the name that they have for the caller."""
    x = _layout.floats(logits, "logits")
    shape, many, axis = _class_ids(ids, x, axis, ids_name)
    dtype = _layout.COMPUTE[x.dtype]
    x, layout, scaling = Scaling.of(x, _layout.of(x, axis), **options)
    log_probs = _log_probs(x, layout, many, axis, scaling) if many.size else np.empty(many.shape)
    return _layout.rounded(log_probs.reshape(shape), dtype)[()]


@dispatch.by_array
def selective_log_softmax_backward(
    grad: Array | Lists, logits: Array | Lists, ids: ArrayLike, axis: int = -1, *, out: Array | None = None
) -> Array:
    """Gradient to the logits of `selective_log_softmax`: ``scatter(grad, ids) - softmax(logits) * sum(grad)``.

    Parameters
    ----------
    grad : array_like
        Gradient arriving at the log-probabilities: of the shape of `ids`, and of the dtype of `logits` or of the
        log-probabilities. What arrives at an id that repeats adds up.
    logits, ids, axis
        As of `selective_log_softmax`.
    out : ndarray, optional
        Where to write the result; `logits` itself for in place. Otherwise it must overlap no argument.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory order of `logits`; `out` where given.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.selective_log_softmax_backward([1.0], [[0.0, 0.0]], [1])
    array([[-0.5,  0.5]])
    """
    x, g = _layout.floats(logits, "logits"), _layout.floats(grad, "grad")
    ids = _checks.as_array("ids", ids)
    _, many, axis = _class_ids(ids, x, axis)
    _checks.same_shape("grad", g, "ids", ids)
    if g.dtype != _layout.COMPUTE[x.dtype]:
        _checks.same_dtype("grad", g, "logits", x)
    if out is not None:
        _checks.out(out, x.shape, x.dtype, over={"logits": x}, apart={"grad": g, "ids": ids})
    if not many.size:
        result = np.zeros_like(x) if out is None else out
        result[...] = 0
        return result
    g = g.reshape(many.shape).astype(np.float64)
    total = g.sum(axis)
    log_probs, result = _evaluate(x, many, axis, -total, out)
    if many.shape[axis] > 1:
        own = _added_by_class(g, many, axis, x.shape[axis])
        # 1 - p without its cancellation, for a class that dominates its row.
        values = -np.expm1(log_probs) * own - np.exp(log_probs) * (np.expand_dims(total, axis) - own)
        np.put_along_axis(result, many, _layout.rounded(values, x.dtype), axis)
    return result


def _class_ids(ids, x, axis, name="ids"):
    """The shape of the ids, checked copies of them as int64 with the axis of `x` for the classes, and that axis."""
    axis = _checks.axes(_checks.one_axis(axis), x.ndim)[0]
    ids = _checks.class_ids(ids, x.shape, axis, name)
    many = ids.astype(np.int64, copy=False)
    return ids.shape, many if ids.ndim == x.ndim else np.expand_dims(many, axis), axis


@np.errstate(invalid="ignore")
def _log_probs(x, layout, ids, axis, scaling):
    """x_id - lse as (x_id - m) - log(1 + rest), two terms of one sign."""
    if ids.shape[axis] == 1:
        options = {"labels": ids.squeeze(axis), "ignore_index": NOTHING_IGNORED, "scaling": scaling}
        return 0 - sweep(x, layout, {"nll"}, **options)["nll"]
    row = sweep(x, layout, {"peak", "rest"}, scaling=scaling)
    peak, rest = (np.expand_dims(row[name], axis) for name in ("peak", "rest"))
    scale = scaling.rest(layout)
    scale = scale if np.ndim(scale) == 0 else np.expand_dims(scale, axis)
    return scale * (scaling.at(x, layout, ids, axis) - peak) - np.log1p(rest)


@np.errstate(invalid="ignore")
def _evaluate(x, ids, axis, grad_loss, out):
    """(log-probabilities at `ids` in double, gradient): the loss of the likeliest id gives them all."""
    logits = np.take_along_axis(x, ids, axis).astype(np.float64)
    best = logits.argmax(axis, keepdims=True)
    label, label_logit = (np.take_along_axis(a, best, axis) for a in (ids, logits))
    options = LossOptions(axis, NOTHING_IGNORED, reduction="none")
    losses, grad = evaluate(x, label.squeeze(axis), None, None, options, grad_loss, out)
    gaps = np.where(logits == label_logit, 0, logits - label_logit)
    return gaps - np.expand_dims(losses, axis), grad


def _added_by_class(grad, ids, axis, classes):
    """For each id the sum of what arrives at its class in its row."""
    rows = np.arange(ids.size // ids.shape[axis]).reshape([n if i != axis else 1 for i, n in enumerate(ids.shape)])
    _, place = np.unique(ids + classes * rows, return_inverse=True)
    return np.bincount(place.ravel(), grad.ravel())[place].reshape(ids.shape)
