"""Filters of logits, and draws from what they leave, of dask arrays.

Both look at whole rows: of rows in several chunks, other chunks of about the same size are made that hold whole rows,
and the result is cut as the logits are.
"""

import dask.array as da
import numpy as np

import fastlogits
from fastlogits import Sample, _checks, _checks_filters, _layout
from fastlogits.dask._blocks import chunked, lazily, pick
from fastlogits.dask._checks import stand_in, unnumbered_rows
from fastlogits.dask._scaling import scaled
from fastlogits.sampling import drawn


def filter_logits(
    logits, *, temperature=1.0, top_k=None, top_p=None, min_p=None, typical_p=None, epsilon_cutoff=None,
    eta_cutoff=None, min_keep=1, bias=None, where=None, axis=-1,
):  # fmt: skip
    """As `fastlogits.filter_logits`; parameters of each row, bias and mask may be dask arrays."""
    x = chunked("logits", logits, _checks.one_axis(axis))
    kind = x.dtype
    x, temperature = _scaled(x, temperature, bias, where)
    parameters = (temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, min_keep)
    whole = x.in_whole_rows()
    arrays, numbers = _parameters(parameters, whole)
    filtered = lazily(
        _filtered, whole.all, whole.blocks, *arrays, numbers=numbers, axis=x.axis, dtype=x.dtype, rows=whole.rows
    )
    return x.aligned(filtered, x.all)[0].astype(kind)


def sample(
    logits, *, seed=None, rows=None, temperature=1.0, top_k=None, top_p=None, min_p=None, typical_p=None,
    epsilon_cutoff=None, eta_cutoff=None, min_keep=1, bias=None, where=None, axis=-1,
):  # fmt: skip
    """As `fastlogits.sample`, to the same draws: a chunk knows the numbers of its rows.

    Parameters of each row, and `rows`, may be dask arrays.
    """
    x = chunked("logits", logits, _checks.one_axis(axis))
    _checks.some_classes(x.array.shape, x.axis)
    x, temperature = _scaled(x, temperature, bias, where)
    parameters = (temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, min_keep)
    whole = x.in_whole_rows()
    first, rows = _numbered(rows, whole)
    arrays, numbers = _parameters(parameters, whole, greedy=True)
    draws = lazily(
        _drawn, whole.batch, whole.blocks, whole.rows, rows, *arrays, numbers=numbers, axis=x.axis, first=first,
        shape=x.shape(x.batch), key=_checks_filters.seed(seed), dtype=object, rows=whole.rows,
    ), whole.batch  # fmt: skip
    kinds = np.dtype(np.intp), _layout.COMPUTE[x.dtype]
    return Sample(*(x.aligned(pick(draws, i, x.batch, kind), x.batch)[0] for i, kind in enumerate(kinds)))


def _scaled(x, temperature, bias, where):
    """(x, temperature) with bias and mask in the logits, where there are any."""
    fitted = hasattr(temperature, "temperature") or hasattr(temperature, "apply")
    if bias is None and where is None and not fitted:
        return x, temperature
    if not fitted and np.ndim(temperature) == 0 and temperature == 0:
        return scaled(x, 1.0, bias, where)[0], 0.0
    return scaled(x, temperature, bias, where)


def _parameters(parameters, x, greedy=False):
    """Arrays of one number a row as of `lazily`, and the rest: all parameters, None for an array."""
    arrays, numbers = [], []
    for name, value in zip(_checks_filters.PARAMETERS, parameters, strict=True):
        array = None
        if np.ndim(value) or isinstance(value, da.Array):
            array = da.asanyarray(value)
            axes = x.batch[max(0, len(x.batch) - array.ndim) :]
            _checks_filters.form_of_parameter(name, stand_in(array, x.shape(axes)), x.seen(x.batch))
            array, value = x.aligned(array, axes), None
        else:
            _checks_filters.filter_parameter(name, value, (), greedy and name == "temperature")
        arrays.append(array)
        numbers.append(value)
    return arrays, numbers


def _numbered(rows, x):
    """(the first row's number, None), or (None, the rows' numbers as of `lazily`)."""
    if rows is not None and np.ndim(rows):
        rows = da.asanyarray(rows)
        _checks_filters.form_of_row_numbers(stand_in(rows, x.shape(x.batch)), x.seen(x.batch))
        return None, x.aligned(rows, x.batch)
    if np.isnan(x.shape(x.batch)).any():
        raise unnumbered_rows(x.array.chunks)
    return int(_checks_filters.row_numbers(rows, ())), None


def _together(arrays, numbers):
    return [number if array is None else array for array, number in zip(arrays, numbers, strict=True)]


def _filtered(x, *arrays, numbers, axis):
    parameters = zip(_checks_filters.PARAMETERS, _together(arrays, numbers), strict=True)
    return fastlogits.filter_logits(x, **dict(parameters), axis=axis)


def _drawn(x, spans, rows, *arrays, numbers, axis, first, shape, key):
    if rows is None:
        rows = np.int64(0)
        for span, size in zip(spans, shape, strict=True):
            rows = rows[..., None] * size + np.arange(span.start, span.stop)
        rows = rows + first
    return drawn(x, key, rows, _together(arrays, numbers), axis)
