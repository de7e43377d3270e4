"""The loss family, of dask arrays."""

import dask.array as da
import numpy as np

from fastlogits import CrossEntropy, _checks, _layout
from fastlogits._scaling import is_number, number
from fastlogits.cross_entropy import IGNORE_INDEX, evaluate
from fastlogits.dask._blocks import chunked, lazily, pick
from fastlogits.dask._checks import stand_in
from fastlogits.dask._losses import Formula, gradient, loss_states, losses
from fastlogits.dask.row_stats import row_stats


def cross_entropy(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
):  # fmt: skip
    """As `fastlogits.cross_entropy`."""
    options = _checks.loss_options(label_smoothing, z_loss, softcap, logit_scale)
    return _evaluate(logits, labels, axis, weight, sample_weight, ignore_index, options, reduction, normalizer)[0]


def cross_entropy_with_grad(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
    grad_loss=None,
):  # fmt: skip
    """As `fastlogits.cross_entropy_with_grad`: computed together, the two are one pass over the logits."""
    options = _checks.loss_options(label_smoothing, z_loss, softcap, logit_scale)
    grad_loss = 1.0 if grad_loss is None else grad_loss
    return CrossEntropy(
        *_evaluate(logits, labels, axis, weight, sample_weight, ignore_index, options, reduction, normalizer, grad_loss)
    )


def perplexity(
    logits, labels, *, axis=-1, ignore_index=IGNORE_INDEX, temperature=1.0, bias=None, where=None
):
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
    options = _checks.loss_options(0.0, 0.0, None, 1.0)
    return _evaluate(logits, labels, axis, None, None, ignore_index, options, "mean", None, then=np.exp)[0]


def _evaluate(
    logits, labels, axis, weight, sample_weight, ignore_index, options, reduction, normalizer,
    grad_loss=None, then=np.positive,
):  # fmt: skip
    """The pair (loss, gradient or None), of which each sum over rows is one of sums over blocks, in double."""
    x = chunked("logits", logits, _checks.one_axis(axis))
    labels = da.asanyarray(labels)
    axes = x.all if labels.ndim == x.array.ndim else x.batch
    soft = _checks.labels_are_targets(stand_in(labels, x.shape(axes)), stand_in(x.array), x.seen(x.batch))
    ignore_index = _checks.ignore_index(ignore_index, default=IGNORE_INDEX, soft=soft)
    _checks.one_of("reduction", reduction, ("mean", "sum", "none"))
    if normalizer is not None:
        normalizer = _checks.normalizer(normalizer, reduction)
    formula = Formula(x.axis, x.classes, soft, ignore_index, options, reduction == "none")
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
            _counted, x.batch, counted, weight, sample_weight, formula=formula, compute=compute, dtype=np.float64,
            chunks=x.one_row,
        )  # fmt: skip
        divisor = divisor.sum(), ()
    if arriving and divisor:
        arriving = lazily(_quotient, (), arriving, divisor, dtype=np.float64), ()

    arrays = labels, weight, sample_weight
    kind, sizes = (compute, {}) if formula.each else (np.float64, {"chunks": x.one_row})
    if x.in_pieces:
        known = loss_states(x, labels, weight, formula)
        loss = lazily(
            losses, x.batch, *known, None if soft else labels, weight, sample_weight, formula=formula, kind=kind,
            dtype=kind, rows=x.rows, **sizes,
        )  # fmt: skip
        grad = arriving and lazily(
            gradient, x.all, x.blocks, *known, *arrays, arriving, x.location, formula=formula, kind=x.dtype,
            dtype=x.dtype,
        )  # fmt: skip
    else:
        both = lazily(_both, x.all, x.blocks, *arrays, arriving, formula=formula, kind=kind, dtype=object, rows=x.rows)
        loss = pick((both, x.all), 0, x.batch, kind, **sizes)
        grad = arriving and pick((both, x.all), 1, x.all, x.dtype)
    if not formula.each:
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


def _counted(labels, weight, sample_weight, *, formula, compute):
    """What the rows of a block add to the divisor of "mean"."""
    if formula.soft:
        total = labels.size if sample_weight is None else sample_weight.sum(dtype=np.float64)
    else:
        valid = labels != formula.ignore_index
        total = np.count_nonzero(valid)
        if weight is not None or sample_weight is not None:
            # A label that is out of range is reported by the loss.
            weights = 1.0 if weight is None else weight.astype(compute).take(labels[valid], mode="clip")
            weights = weights * (1.0 if sample_weight is None else sample_weight[valid])
            total = np.sum(weights, dtype=np.float64)
    return np.full((1,) * (labels.ndim - formula.soft), total, np.float64)


@np.errstate(all="ignore")
def _quotient(grad_loss, divisor):
    # Nothing counted, nothing to learn: as in memory.
    return np.where(divisor == 0, 0.0, grad_loss / divisor)


def _both(x, labels, weight, sample_weight, arriving, *, formula, kind):
    x = _layout.floats(x, "logits")
    ignore_index = IGNORE_INDEX if formula.soft else formula.ignore_index
    loss, grad = evaluate(
        x, labels, formula.axis, weight, sample_weight, ignore_index, formula.options,
        "none" if formula.each else "sum", None, with_grad=arriving is not None, grad_loss=arriving,
    )  # fmt: skip
    return formula.delivered(loss, x.ndim - 1, kind), grad


@np.errstate(all="ignore")
def _reduced(total, divisor, *, given, then, kind):
    if divisor is not None:
        total = np.where(given and divisor == 0, 0.0, total / divisor)
    return _layout.rounded(then(total), kind)
