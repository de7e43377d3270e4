"""Filters of logits, and draws from what they leave, of dask arrays.

Both look at whole rows: of rows in several chunks, other chunks of about the same size are made that hold whole rows,
and the result is cut as the logits are.
"""

from collections.abc import Mapping

import dask.array as da
import numpy as np

import fastlogits
from fastlogits import Sample, _checks, _checks_filters, _layout
from fastlogits._filters import Options
from fastlogits._scaling import is_fit
from fastlogits.dask._blocks import chunked, lazily, pick
from fastlogits.dask._checks import not_per_row, stand_in, unnumbered_rows
from fastlogits.sampling import SHARED_KEY, Random, drawn


def filter_logits(
    logits, *, temperature=1.0, top_k=None, top_p=None, min_p=None, typical_p=None, epsilon_cutoff=None,
    eta_cutoff=None, min_keep=1, top_n_sigma=None, top_h=None, xtc_threshold=None, order="temperature_first",
    history=None, repetition_penalty=None, frequency_penalty=None, presence_penalty=None, logit_bias=None,
    allowed=None, bias=None, where=None, axis=-1,
):  # fmt: skip
    """As `fastlogits.filter_logits`; parameters of each row, `history`, biases and masks may be dask arrays.

    `history` is one array, in which negative ids are padding, and `logit_bias` one dict or an array.
    """
    x = chunked("logits", logits, _checks.one_axis(axis))
    options = Options(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p,
        epsilon_cutoff=epsilon_cutoff, eta_cutoff=eta_cutoff, min_keep=min_keep, top_n_sigma=top_n_sigma,
        top_h=top_h, xtc_threshold=xtc_threshold, order=order, history=history,
        repetition_penalty=repetition_penalty, frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty, logit_bias=logit_bias, allowed=allowed, bias=bias, where=where,
    )  # fmt: skip
    whole = x.in_whole_rows()
    arrays, rest = _parts(options, whole)
    filtered = lazily(
        _filtered, whole.all, whole.blocks, *arrays, options=rest, axis=x.axis, dtype=x.dtype, rows=whole.rows
    )
    return x.aligned(filtered, x.all)[0]


def sample(
    logits, *, seed=None, rows=None, draws=None, replacement=True, temperature=1.0, top_k=None, top_p=None,
    min_p=None, typical_p=None, epsilon_cutoff=None, eta_cutoff=None, min_keep=1, top_n_sigma=None, top_h=None,
    xtc_threshold=None, xtc_probability=None, order="temperature_first", history=None, repetition_penalty=None,
    frequency_penalty=None, presence_penalty=None, logit_bias=None, allowed=None, bias=None, where=None,
    axis=-1,
):  # fmt: skip
    """As `fastlogits.sample`, to the same draws: a chunk knows the numbers of its rows.

    Parameters of each row, seeds, `rows`, `history`, biases and masks may be dask arrays, as of `filter_logits`.
    """
    x = chunked("logits", logits, _checks.one_axis(axis))
    _checks.some_classes(x.array.shape, x.axis)
    options = Options(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p,
        epsilon_cutoff=epsilon_cutoff, eta_cutoff=eta_cutoff, min_keep=min_keep, top_n_sigma=top_n_sigma,
        top_h=top_h, xtc_threshold=xtc_threshold, xtc_probability=xtc_probability, order=order, history=history,
        repetition_penalty=repetition_penalty, frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty, logit_bias=logit_bias, allowed=allowed, bias=bias, where=where,
    )  # fmt: skip
    count = _checks_filters.draws(draws, replacement)
    whole = x.in_whole_rows()
    seeds = None
    if isinstance(seed, da.Array) or np.ndim(seed):
        seeds = da.asanyarray(seed)
        _checks_filters.form_of_row_seeds(stand_in(seeds, x.shape(x.batch)), x.seen(x.batch))
        seeds = whole.aligned(seeds, x.batch)
        first, rows = (None, None) if rows is None else _numbered(rows, whole)
    else:
        first, rows = _numbered(rows, whole)
    random = Random(_checks_filters.seed(seed) if seeds is None else SHARED_KEY, None, None, draws, replacement)
    arrays, rest = _parts(options, whole, greedy=True)
    objects = lazily(
        _drawn, whole.batch, whole.blocks, whole.rows, seeds, rows, *arrays, options=rest, axis=x.axis, first=first,
        shape=x.shape(x.batch), random=random, dtype=object, rows=whole.rows,
    ), whole.batch  # fmt: skip

    def result(field, kind):
        picked = [x.aligned(pick(objects, (field, d), x.batch, kind), x.batch)[0] for d in range(count)]
        return picked[0] if draws is None else da.stack(picked, axis=x.axis)

    return Sample(result(0, np.dtype(np.intp)), result(1, _layout.COMPUTE[x.dtype]))


def _parts(options, x, greedy=False):
    """Arrays as of `lazily`, which have parts for the blocks of `x`, and the options without them."""
    _checks_filters.combination(options)
    arrays = []
    for name, value in options._asdict().items():
        if name == "temperature" and is_fit(value):
            arrays.append(None)
            continue
        lazy = value is not None and (isinstance(value, da.Array) or np.ndim(value) > 0)
        if name in _checks_filters.PARAMETERS:
            if not lazy:
                _checks_filters.filter_parameter(name, value, (), greedy and name == "temperature")
        elif name in ("history", "logit_bias", "allowed") and value is not None and not isinstance(value, Mapping):
            if not hasattr(value, "shape"):
                raise not_per_row(name, value)
            lazy = True
        array = None
        if lazy:
            array = _aligned(name, da.asanyarray(value), x)
            options = options._replace(**{name: None})
        arrays.append(array)
    return arrays, options


def _aligned(name, array, x):
    """(array, its axes) in the logits' chunks."""
    if name == "history":
        # An axis of its own, for the ids of a row.
        axes = (*x.batch, x.array.ndim)
        if array.shape[:-1] != x.shape(x.batch):
            _checks_filters.history(stand_in(array), x.seen(x.batch))
        return x.aligned(array, axes, whole=axes[-1:])
    if name == "bias":
        _checks.form_of_weights(name, stand_in(array), (x.classes,))
        return x.aligned(array, x.axes, whole=x.axes)
    batch = name in _checks_filters.PARAMETERS
    axes = x.batch if batch else x.all
    axes = axes[max(0, len(axes) - array.ndim) :]
    if batch:
        _checks_filters.form_of_parameter(name, stand_in(array, x.shape(axes)), x.seen(x.batch))
    elif name == "where":
        _checks.where(stand_in(array, x.shape(axes)), x.seen(x.all))
    else:
        length = array.shape[axes.index(x.axis)] if x.axis in axes else x.classes
        seen = stand_in(array, x.shape(axes)).shape
        _checks_filters.form_of_classes(name, seen, x.seen(x.all), x.axis, x.classes if length == 1 else length)
    return x.aligned(array, axes, whole=(x.axis,))


def _numbered(rows, x):
    """(the first row's number, None), or (None, the rows' numbers as of `lazily`)."""
    if rows is not None and np.ndim(rows):
        rows = da.asanyarray(rows)
        _checks_filters.form_of_row_numbers(stand_in(rows, x.shape(x.batch)), x.seen(x.batch))
        return None, x.aligned(rows, x.batch)
    if np.isnan(x.shape(x.batch)).any():
        raise unnumbered_rows(x.array.chunks)
    return int(_checks_filters.row_numbers(rows, ())), None


def _together(options, arrays):
    """The options, with the blocks of arrays in their places."""
    return options._replace(**{
        name: array for name, array in zip(Options._fields, arrays, strict=True) if array is not None
    })  # fmt: skip


def _filtered(x, *arrays, options, axis):
    named = _together(options, arrays)._asdict()
    del named["xtc_probability"]
    return fastlogits.filter_logits(x, **named, axis=axis)


def _drawn(x, spans, seeds, rows, *arrays, options, axis, first, shape, random):
    if rows is None and first is not None:
        rows = np.int64(0)
        for span, size in zip(spans, shape, strict=True):
            rows = rows[..., None] * size + np.arange(span.start, span.stop)
        rows = rows + first
    ids, log_probs = drawn(x, random._replace(seeds=seeds, rows=rows), _together(options, arrays), axis)
    if random.draws is None:
        return (ids,), (log_probs,)
    return tuple(np.moveaxis(ids, axis, 0)), tuple(np.moveaxis(log_probs, axis, 0))
