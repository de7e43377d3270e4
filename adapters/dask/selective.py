"""Log-probabilities of a few classes of each row, and their gradient, of dask arrays."""

import dask.array as da
import numpy as np

import fastlogits
from fastlogits import _checks, _layout
from fastlogits.dask._blocks import chunked, lazily, location, merged
from fastlogits.dask._checks import stand_in
from fastlogits.dask._pieces import by_rows, probabilities, softmax_gradient, store
from fastlogits.dask._scaling import scaled
from fastlogits.dask._states import largest, row_states


def selective_log_softmax(logits, ids, axis=-1, *, temperature=1.0, bias=None, where=None):
    """As `fastlogits.selective_log_softmax`."""
    x = chunked("logits", logits, _checks.one_axis(axis))
    kind = _layout.COMPUTE[x.dtype]
    x, temperature = scaled(x, temperature, bias, where)
    ids, several = _class_ids(ids, x)
    options = {"axis": x.axis, "dtype": kind, "chunks": several, "rows": location(ids)}
    if not x.in_pieces and temperature == 1:
        return lazily(_whole, ids[1], x.blocks, ids, **options)
    picked = lazily(_picked, x.all, x.blocks, ids, x.location, axis=x.axis, dtype=np.float64, chunks=x.one_class)
    picked = merged(largest, picked, x.axes), x.all
    states = row_states(x, want=("max_prob",), temperature=temperature)
    return lazily(_log_probs, ids[1], states, picked, ids, kind=kind, shape=x.seen(x.all), **options)


def _class_ids(ids, x):
    """The ids as of `lazily`, and the chunk sizes of what has as many numbers a row, where they are several."""
    ids = da.asanyarray(ids)
    if ids.ndim != x.array.ndim:
        _checks.form_of_ids(stand_in(ids, x.shape(x.batch)), x.seen(x.all), x.axis)
        return x.aligned(ids, x.batch), {}
    shape = tuple(ids.shape[i] if i == x.axis else n for i, n in enumerate(x.array.shape))
    _checks.form_of_ids(stand_in(ids, shape), x.seen(x.all), x.axis)
    return x.aligned(ids, x.all, whole=x.axes), {x.axis: ids.shape[x.axis]}


def _whole(x, ids, *, axis):
    return np.asarray(fastlogits.selective_log_softmax(x, ids, axis))


def _picked(x, ids, location, *, axis):
    """The logits at the ids, with the class axis; NaN where they lie in other pieces."""
    places = _places(ids, x, location, axis)
    here = (places >= 0) & (places < x.shape[axis])
    if not here.any():
        return np.full(places.shape, np.nan)
    return np.where(here, np.take_along_axis(x, np.where(here, places, 0), axis).astype(np.float64), np.nan)


def _places(ids, x, location, axis):
    ids = ids if ids.ndim == x.ndim else np.expand_dims(ids, axis)
    return ids.astype(np.int64) - location[axis].start


@np.errstate(all="ignore")
def _log_probs(state, picked, ids, *, axis, kind, shape):
    peak = np.expand_dims(state.parts["peak"], axis)
    _checks.class_ids(ids, tuple(shape[i] if i == axis else n for i, n in enumerate(peak.shape)), axis)
    scale = np.expand_dims(state.scale, axis) if np.ndim(state.scale) else state.scale
    gaps = np.where(picked == peak, 0, picked - peak) * scale
    return _layout.rounded((gaps - np.expand_dims(state.log_sum, axis)).reshape(ids.shape), kind)


def selective_log_softmax_backward(grad, logits, ids, axis=-1):
    """As `fastlogits.selective_log_softmax_backward`."""
    x, g = chunked("logits", logits, _checks.one_axis(axis)), da.asanyarray(grad)
    ids, _ = _class_ids(ids, x)
    _checks.same_shape("grad", stand_in(g, ids[0].shape), "ids", stand_in(ids[0]))
    empty = _layout.floats(g._meta, "grad"), np.empty(0, x.dtype)
    if empty[0].dtype != _layout.COMPUTE[x.dtype]:
        _checks.same_dtype("grad", empty[0], "logits", empty[1])
    g = x.aligned(g, ids[1], whole=x.axes)
    options = {"axis": x.axis, "dtype": x.dtype, "rows": location(ids)}
    if not x.in_pieces:
        return lazily(_backward_whole, x.all, x.blocks, g, ids, **options)
    states = row_states(x, want=("max_prob",))
    return lazily(_backward_piece, x.all, x.blocks, g, ids, states, x.location, classes=x.classes, **options)


def _backward_whole(x, g, ids, *, axis):
    return fastlogits.selective_log_softmax_backward(g, x, ids, axis)


@np.errstate(all="ignore")
def _backward_piece(x, g, ids, state, location, *, axis, classes):
    x = _layout.floats(x, "logits")
    _checks.class_ids(ids, tuple(classes if i == axis else n for i, n in enumerate(x.shape)), axis)
    places = _places(ids, x, location, axis)
    g = g.astype(np.float64).reshape(places.shape)
    probs, result = probabilities(x, state, x.dtype)
    rows = places, g, state.parts["peak"], state.log_sum, g.sum(axis)
    for out, p, z, place, g, peak, log_sum, total in by_rows((axis,), result, probs, x, *rows):
        softmax_gradient(p, z, peak, log_sum, -total, place, -g)
        store(out, p)
    return result
