"""The loss family."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlogits import _checks, _layout, config, dispatch
from fastlogits._options import IGNORE_INDEX, NOTHING, LossArrays, LossOptions
from fastlogits._results import CrossEntropy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from fastlogits._typing import Array, Lists, Reduction


@dispatch.by_array
def cross_entropy(
    logits: Array | Lists,
    labels: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    reduction: Reduction = "mean",
    normalizer: float | None = None,
    classes: Iterable[Any] | None = None,
) -> Any:
    """Cross-entropy of `labels` under ``softmax(logits)``, without forming the probabilities.

    With ``z = logit_scale * softcap * tanh(logits / softcap)`` and ``lse = logsumexp(z)``, the loss of a row
    is ``sample_weight * (weight[label] * (lse - z[label]) + z_loss * lse**2)``. Options mean what they mean
    in PyTorch, where it has them.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    labels : array_like
        Class indices, integers of any width and shape (...); or a distribution, floats of the shape of
        `logits`, taken as it is, whatever its sum.
    axis : int, default -1
        The class axis.
    weight : array_like of float32 or float64, shape (C,), optional
        Weight of each class.
    sample_weight : array_like of float32 or float64, shape (...), optional
        Weight of each row.
    ignore_index : int, default -100
        Rows with this label are not read, and their loss is 0. For class indices only.
    label_smoothing : float in [0, 1], default 0.0
        Share of the loss that goes to the uniform distribution, that is, to
        ``sum(weight * (lse - z)) / C``.
    z_loss : float, default 0.0
        Factor of the ``lse**2`` penalty.
    softcap : float, optional
        Above 0; no soft cap by default.
    logit_scale : float, default 1.0
        Multiplies the logits after the soft cap.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the sum of ``sample_weight * weight[label]`` over the rows that are not ignored;
        with a distribution, by the sum of `sample_weight`.
    normalizer : float, optional
        What "mean" divides by instead. 0, in a step in which no label counts, makes the loss and its gradient 0.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    scalar, or ndarray of shape (...) for "none"
        Of the dtype of `logits`, or float32 if that is smaller. The mean of no rows
        is NaN.

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; the first is named.

    Notes
    -----
    Sums over classes and rows are formed in double precision. A label at a logit of -inf gives +inf; a row
    with NaN, or of nothing but -inf, gives NaN.

    Examples
    --------
    >>> import fastlogits
    >>> float(fastlogits.cross_entropy([[1000.0, 1000.0], [1000.0, 0.0]], [0, 1], reduction="sum"))
    1000.6931471805599
    """
    x = _layout.floats(logits, "logits")
    options = LossOptions(
        axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer
    ).checked()  # fmt: skip
    loss, _ = evaluate(x, labels, weight, sample_weight, options)
    return _rounded(loss, x.dtype)


@dispatch.by_array
def cross_entropy_with_grad(
    logits: Array | Lists,
    labels: ArrayLike,
    *,
    axis: int = -1,
    weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    reduction: Reduction = "mean",
    normalizer: float | None = None,
    grad_loss: ArrayLike | None = None,
    out: Array | None = None,
    classes: Iterable[Any] | None = None,
) -> CrossEntropy[Array]:
    """`cross_entropy` and its gradient with respect to the logits, in one pass over them.

    Parameters
    ----------
    logits, labels, **options
        As of `cross_entropy`.
    grad_loss : array_like, optional
        Gradient arriving at the returned loss: a number (default 1), or for "none" also an array of
        shape (...).
    out : ndarray, optional
        Where to write the gradient; `logits` itself for in place. Otherwise it must overlap no argument.

    Returns
    -------
    CrossEntropy
        The named tuple (loss, grad_logits); the gradient has the shape, dtype and memory order of `logits`,
        and is exactly 0 in ignored rows.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.cross_entropy_with_grad([[0.0, 0.0]], [1]).grad_logits
    array([[ 0.5, -0.5]])
    """
    x = _layout.floats(logits, "logits")
    options = LossOptions(
        axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer
    ).checked()  # fmt: skip
    loss, grad = evaluate(x, labels, weight, sample_weight, options, 1.0 if grad_loss is None else grad_loss, out)
    return CrossEntropy(_rounded(loss, x.dtype), grad)


def _rounded(loss, dtype):
    if type(loss) is float:
        return _layout.scalar(loss, _layout.COMPUTE[dtype])
    return _layout.rounded(loss, _layout.COMPUTE[dtype])[()]


def evaluate(x, labels, weight, sample_weight, options, grad_loss=None, out=None):
    """(loss, gradient) of an array that `_layout.floats` has passed; the loss a float, or float64.

    The options have been checked. There is a gradient if one arrives at the loss, `grad_loss`; else it is None.
    """
    dtype, name = x.dtype, options.label_name
    layout = _layout.of(x, options.axis)
    if type(labels) is not np.ndarray:
        labels = _checks.as_array(name, labels)
    soft = _checks.labels_are_targets(labels, x, layout.batch_shape, name)
    options.check_labels(soft)
    if out is not None:
        apart = {"labels": labels, "weight": weight, "sample_weight": sample_weight, "grad_loss": grad_loss}
        _checks.out(out, x.shape, dtype, over={"logits": x}, apart=apart)

    targets, target_stride = None, 0
    if soft:
        x, targets = _promoted(x, _layout.floats(labels, "labels"))
        layout = _layout.of(x, options.axis)
        target_stride = layout.stride_of(targets)
    if weight is not None:
        weight = _checks.weights("weight", weight, (layout.classes,), _layout.COMPUTE[x.dtype]).ravel()
    if sample_weight is not None:
        sample_weight = _checks.weights("sample_weight", sample_weight, layout.batch_shape, np.float64)
        sample_weight = layout.flatten(sample_weight)
    with_grad, grad_scale = grad_loss is not None, 1.0
    if with_grad:
        grad_scale, grad_loss = _checks.grad_loss(grad_loss, layout.batch_shape, options.reduction)
        if grad_loss is not None:
            grad_loss = layout.flatten(grad_loss)

    backend = config.backend()
    if soft:
        indices, total = None, layout.rows if sample_weight is None else float(np.add.reduce(sample_weight))
    else:
        indices, total = _counted(backend, labels, weight, sample_weight, layout, options)
    divisor = options.normalizer
    if divisor is None:
        divisor = total if options.reduction == "mean" else 1.0

    grad, grad_stride = None, 0
    if with_grad:
        # Nothing counted, nothing to learn: without this, 0 / 0 would be the gradient of rows of weight 0.
        grad_scale = grad_scale / divisor if divisor else 0.0
        grad, grad_stride = layout.destination(out if x.dtype == dtype else None, x.dtype)
    losses = np.zeros(layout.rows)
    if x.size:
        strides, threads = (layout.stride, target_stride, grad_stride), config.threads(x.size)
        by_row = indices, sample_weight, grad_loss, losses
        for rows, outer, inner, arrays, each in layout.parts((x, targets, grad), strides, reads=2):
            own = by_row
            if outer * inner < layout.rows:
                own = [None if values is None else values[rows] for values in by_row]
            arrays = LossArrays._make((*arrays, *own, weight))
            backend.cross_entropy(arrays, outer, layout.classes, inner, each, options, grad_scale, threads)
    if with_grad:
        grad = _layout.deliver(_layout.rounded(grad, dtype), out)

    if options.reduction == "none":
        return layout.unflatten(losses), grad
    loss = float(np.add.reduce(losses))
    if options.normalizer is not None and not divisor:
        return 0.0, grad
    # IEEE division: 0 / 0 is NaN.
    return loss / divisor if divisor else loss * math.inf, grad


def _counted(backend, labels, weight, sample_weight, layout, options):
    """Class indices for the kernels, all of them good, and what their mean divides by."""
    ignore_index = options.ignore_index
    indices = layout.flatten(int64(labels, ignore_index))
    bad, total = -1, 0.0
    if layout.rows:
        bad, total = backend.count_labels(indices, weight, sample_weight, layout.classes, ignore_index)
    if bad >= 0 or (ignore_index is NOTHING and labels.itemsize == 8 and NOTHING in indices):
        raise _checks.bad_label(labels, layout.classes, options.named_index, options.label_name)
    return indices, total


def _promoted(x, targets):
    """Both in the wider of their dtypes: a float64 distribution beside float32 logits loses nothing."""
    if x.dtype == targets.dtype:
        return x, targets
    if x.itemsize == targets.itemsize:
        wider = np.float32  # float16 and bfloat16
    else:
        wider = max(x.dtype, targets.dtype, key=lambda dtype: dtype.itemsize)
    return x.astype(wider, copy=False), targets.astype(wider, copy=False)


def int64(labels, ignore_index):
    """A copy of class indices: what is checked must be what is used, whoever else writes to `labels` meanwhile."""
    indices = labels.astype(np.int64)
    if labels.dtype.kind == "u" and labels.itemsize == 8:
        # What does not fit must not wrap around into ignore_index.
        indices[indices < 0] = -1 if ignore_index != -1 else -2
    return indices
