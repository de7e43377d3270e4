"""The loss family, of dask arrays."""

import dask.array as da
import numpy as np

from fastlogits import CrossEntropy, _checks, _layout, formula
from fastlogits._options import IGNORE_INDEX, LossOptions
from fastlogits._scaling import is_number, number
from fastlogits.cross_entropy import evaluate
from fastlogits.dask._blocks import chunked, lazily, pick
from fastlogits.dask._checks import stand_in
from fastlogits.dask._losses import Loss, gradient, loss_states, losses
from fastlogits.dask.row_stats import row_stats
from fastlogits.formula import NUMPY, Targets


def cross_entropy(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
):  # fmt: skip
    """As `fastlogits.cross_entropy`."""
    options = LossOptions(
        axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer
    ).checked()  # fmt: skip
    return _evaluate(logits, labels, weight, sample_weight, options)[0]


def cross_entropy_with_grad(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
    grad_loss=None,
):  # fmt: skip
    """As `fastlogits.cross_entropy_with_grad`: computed together, the two are one pass over the logits."""
    options = LossOptions(
        axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer
    ).checked()  # fmt: skip
    grad_loss = 1.0 if grad_loss is None else grad_loss
    return CrossEntropy(*_evaluate(logits, labels, weight, sample_weight, options, grad_loss))


def perplexity(logits, labels, *, axis=-1, ignore_index=IGNORE_INDEX, temperature=1.0, bias=None, where=None):
    """As `fastlogits.perplexity`."""
    if bias is not None or where is not None or not is_number(temperature) or number(temperature) != 1:
        options = {"temperature": temperature, "bias": bias, "where": where}
        rows = row_stats(logits, labels, want=("nll", "rank"), axis=axis, ignore_index=int(ignore_index), **options)
        total, count = rows.nll.sum(dtype=np.float64), (rows.rank >= 0).sum()
        kind = rows.nll.dtype
        return lazily(_reduced, (), (total, ()), (count, ()), given=False, then=np.exp, kind=kind, dtype=kind)
    labels = da.asanyarray(labels)
    x = chunked("logits", logits, _checks.one_axis(axis))
    _checks.class_indices(stand_in(labels, x.shape(x.batch)), x.seen(x.batch))
    return _evaluate(logits, labels, None, None, LossOptions(axis, ignore_index).checked(), then=np.exp)[0]


def _evaluate(logits, labels, weight, sample_weight, options, grad_loss=None, then=np.positive):
    """The pair (loss, gradient or None), of which each sum over rows is one of sums over blocks, in double."""
    x = chunked("logits", logits, options.axis)
    labels = da.asanyarray(labels)
    axes = x.all if labels.ndim == x.array.ndim else x.batch
    soft = _checks.labels_are_targets(stand_in(labels, x.shape(axes)), stand_in(x.array), x.seen(x.batch))
    options.check_labels(soft)
    reduction, normalizer = options.reduction, options.normalizer
    # Of a block that is summed, all else comes later.
    by_block = options._replace(axis=x.axis, reduction="none" if reduction == "none" else "sum", normalizer=None)
    common = Loss(by_block, x.classes, soft)
    labels = x.aligned(labels, axes)
    weight, sample_weight = _class_weight(weight, x), row_weight("sample_weight", sample_weight, x)
    arriving = None if grad_loss is None else _arriving(grad_loss, x, reduction)

    compute = _layout.COMPUTE[x.dtype]
    divisor = None
    if normalizer is not None:
        divisor = da.asarray(normalizer), ()
    elif reduction == "mean":
        counted = x.first_of(labels) if soft else labels
        divisor = lazily(
            _counted, x.batch, counted, weight, sample_weight, loss=common, compute=compute, dtype=np.float64,
            chunks=x.one_row,
        )  # fmt: skip
        divisor = divisor.sum(), ()
    if arriving and divisor:
        arriving = lazily(_quotient, (), arriving, divisor, dtype=np.float64), ()

    arrays = labels, weight, sample_weight
    kind, sizes = (compute, {}) if reduction == "none" else (np.float64, {"chunks": x.one_row})
    if x.in_pieces:
        known = loss_states(x, labels, weight, common)
        loss = lazily(
            losses, x.batch, *known, None if soft else labels, weight, sample_weight, loss=common, kind=kind,
            dtype=kind, rows=x.rows, **sizes,
        )  # fmt: skip
        grad = arriving and lazily(
            gradient, x.all, x.blocks, *known, *arrays, arriving, x.location, loss=common, kind=x.dtype,
            dtype=x.dtype,
        )  # fmt: skip
    else:
        both = lazily(_both, x.all, x.blocks, *arrays, arriving, loss=common, kind=kind, dtype=object, rows=x.rows)
        loss = pick((both, x.all), 0, x.batch, kind, **sizes)
        grad = arriving and pick((both, x.all), 1, x.all, x.dtype)
    if reduction != "none":
        loss = lazily(
            _reduced, (), (loss.sum(), ()), divisor, given=normalizer is not None, then=then, kind=compute,
            dtype=compute,
        )  # fmt: skip
    return loss, grad


def _class_weight(weight, x):
    if weight is None:
        return None
    weight = da.asanyarray(weight)
    _checks.form_of_weights("weight", stand_in(weight), (x.classes,))
    return weight.rechunk(-1), (x.array.ndim,)  # an axis of its own: every block gets all of it


def row_weight(name, values, x):
    if values is None:
        return None
    values = da.asanyarray(values)
    _checks.form_of_weights(name, stand_in(values, x.shape(x.batch)), x.seen(x.batch))
    return x.aligned(values, x.batch)


def _arriving(grad_loss, x, reduction):
    if np.ndim(grad_loss):
        if reduction != "none":
            _checks.grad_loss(stand_in(da.asanyarray(grad_loss)), (), reduction)
        return row_weight("grad_loss", grad_loss, x)
    if not isinstance(grad_loss, da.Array):
        grad_loss = da.asarray(_checks.real("grad_loss", grad_loss))
    return grad_loss, ()


def _counted(labels, weight, sample_weight, *, loss, compute):
    """What the rows of a block add to the divisor of "mean"; a label out of range is reported by the loss."""
    if loss.soft:
        labels = np.moveaxis(labels, loss.options.axis, -1)
    weight = None if weight is None else weight.astype(compute).astype(np.float64)
    sample_weight = None if sample_weight is None else sample_weight.astype(np.float64)
    targets = Targets(labels, loss.soft, weight, sample_weight)
    total = formula.divisor(NUMPY, targets, loss.options)
    return np.full((1,) * (labels.ndim - loss.soft), total, np.float64)


@np.errstate(all="ignore")
def _quotient(grad_loss, divisor):
    # Nothing counted, nothing to learn: as in memory.
    return np.where(divisor == 0, 0.0, grad_loss / divisor)


def _both(x, labels, weight, sample_weight, arriving, *, loss, kind):
    x = _layout.floats(x, "logits")
    value, grad = evaluate(x, labels, weight, sample_weight, loss.options, arriving)
    return loss.delivered(value, x.ndim - 1, kind), grad


@np.errstate(all="ignore")
def _reduced(total, divisor, *, given, then, kind):
    if divisor is not None:
        total = formula.over(NUMPY, total, divisor) if given else total / divisor
    return _layout.rounded(then(total), kind)
