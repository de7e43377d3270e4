"""What one wants to know about rows of logits, of dask arrays."""

import functools

import dask.array as da
import numpy as np

import fastlogits
from fastlogits import TopK, _checks, _layout
from fastlogits.dask._blocks import chunked, lazily, merged, pick
from fastlogits.dask._checks import stand_in
from fastlogits.dask._results import RowStats
from fastlogits.dask._scaling import scaled
from fastlogits.dask._states import row_states
from fastlogits.row_stats import HITS, hits
from fastlogits.states import asked

WITHOUT_CLASSES = {"lse", "entropy", "max_prob", "margin"}  # name none, so that their numbers need not be known
KINDS = {"argmax": np.intp, "rank": np.intp, "topk_ids": np.intp, "correct": bool}


def row_stats(
    logits, labels=None, *, want=None, top_k=None, axis=-1, ignore_index=-100, temperature=1.0, bias=None, where=None,
    ties="first",
):  # fmt: skip
    """As `fastlogits.row_stats`; temperatures, bias and mask may be dask arrays."""
    want, _ = asked(want, labels is not None, top_k is not None, ties)
    x = chunked("logits", logits, _checks.one_axis(axis), known=not WITHOUT_CLASSES.issuperset(want))
    if {"argmax", "correct"} & {*want}:
        _checks.some_classes(x.array.shape, x.axis)
    if top_k is not None:
        _checks.top_k("top_k", top_k, x.classes)
    ignore_index = _checks.ignore_index(ignore_index)
    x, temperature = scaled(x, temperature, bias, where)
    options = {"top_k": top_k, "ignore_index": ignore_index, "temperature": temperature, "ties": ties}
    states = row_states(x, class_indices(labels, x), want=want, **options)
    stats = lazily(_results, x.all, states, dtype=object, rows=x.rows), x.all
    fields = {}
    for name in want:
        shape = {"axes": x.all, "chunks": {x.axis: top_k}} if name.startswith("topk") else {"axes": x.batch}
        fields[name] = _field(x, stats, name, **shape)
    return RowStats(x.axis, **fields)


def class_indices(labels, x):
    """Labels, one a row, as of `lazily`."""
    if labels is None:
        return None
    labels = da.asanyarray(labels)
    _checks.class_indices(stand_in(labels, x.shape(x.batch)), x.seen(x.batch))
    return x.aligned(labels, x.batch)


def _field(x, stats, name, axes, **chunks):
    return lazily(_attribute, axes, stats, name=name, dtype=KINDS.get(name, _layout.COMPUTE[x.dtype]), **chunks)


def _results(state):
    return state.results()


def _attribute(stats, *, name):
    return getattr(stats, name)


def argmax(logits, axis=-1):
    """As `fastlogits.argmax`."""
    x = chunked("logits", logits, _checks.one_axis(axis))
    _checks.some_classes(x.array.shape, x.axis)
    if not x.in_pieces:
        return lazily(fastlogits.argmax, x.batch, x.blocks, axis=x.axis, dtype=np.intp)
    return lazily(_best, x.batch, (_top(x, 1), x.all), axis=x.axis, dtype=np.intp)


def _best(top, *, axis):
    return top.indices.squeeze(axis)


def topk(logits, k, axis=-1, *, sorted=True):
    """As `fastlogits.topk`."""
    x = chunked("logits", logits, _checks.one_axis(axis))
    k = _checks.top_k("k", k, x.classes)
    best, chunks = (_top(x, k, sorted=sorted), x.all), {x.axis: k}
    dtype = x.array.dtype if x.array.dtype.kind in "biu" else x.dtype
    return TopK(pick(best, 0, x.all, dtype, chunks=chunks), pick(best, 1, x.all, np.intp, chunks=chunks))


def _top(x, k, *, sorted=True):
    """A lazy array of `TopK`s, one for each block of rows."""
    options = {"k": k, "axis": x.axis}
    # Of equal logits in one piece, the first must come first among those of all pieces.
    best = lazily(
        _top_of_piece, x.all, x.blocks, x.location, sorted=sorted or x.in_pieces, dtype=object,
        chunks=x.one_class, **options,
    )  # fmt: skip
    return merged(functools.partial(_top_of_pieces, **options), best, x.axes)


def _top_of_piece(x, location, *, k, axis, sorted):
    values, indices = fastlogits.topk(x, min(k, x.shape[axis]), axis, sorted=sorted)
    return TopK(values, indices + location[axis].start)


def _top_of_pieces(*pieces, k, axis):
    values, indices = (np.concatenate(parts, axis) for parts in zip(*pieces, strict=True))
    best = fastlogits.topk(values, min(k, values.shape[axis]), axis)
    return TopK(best.values, np.take_along_axis(indices, best.indices, axis))


def entropy(logits, axis=-1, *, temperature=1.0, bias=None, where=None):
    """As `fastlogits.entropy`."""
    options = {"temperature": temperature, "bias": bias, "where": where}
    return row_stats(logits, want=("entropy",), axis=axis, **options).entropy


def accuracy(
    logits, labels, *, top_k=1, axis=-1, ignore_index=-100, temperature=1.0, bias=None, where=None, ties="first"
):
    """As `fastlogits.accuracy`."""
    x = chunked("logits", logits, _checks.one_axis(axis))
    top_k = _checks.top_k("top_k", top_k, x.classes)
    ignore_index = _checks.ignore_index(ignore_index)
    x, _ = scaled(x, temperature, bias, where)
    # Of equals the first are known without the label's logit, which may lie in another piece.
    want = {"want": HITS, "top_k": top_k} if ties == "first" else {"want": ("rank",), "ties": ties}
    states = row_states(x, class_indices(labels, x), ignore_index=ignore_index, **want)
    counts = lazily(_hits, x.batch, states, top_k=top_k, dtype=object, chunks=x.one_row, rows=x.rows), x.batch
    hits, rows = ((pick(counts, i, x.batch, np.int64).sum(), ()) for i in (0, 1))
    return lazily(_share, (), hits, rows, dtype=np.float64)


def _hits(state, *, top_k):
    return tuple(np.full((1,) * state.parts["peak"].ndim, count) for count in hits(state, top_k))


@np.errstate(invalid="ignore")
def _share(hits, rows):
    return np.divide(hits, rows)
