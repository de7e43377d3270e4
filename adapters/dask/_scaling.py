"""Temperatures, biases and masks of the logits in dask arrays: what `fastlogits._scaling` is in memory."""

import dask.array as da
import numpy as np

from fastlogits import _checks, _checks_filters, _layout
from fastlogits._scaling import Scaling, applied, has_apply, is_number, number
from fastlogits.dask._checks import stand_in


def scaled(x, temperature=1.0, bias=None, where=None):
    """(x, temperature): the logits with their bias and mask, and what they are still to be divided by: a number, or one
    of each row as of `lazily`.
    """
    compute = _layout.COMPUTE[x.dtype]
    if has_apply(temperature):
        x = x.in_whole_rows().replaced(_applied, fit=temperature, axis=x.axis, dtype=compute)
        temperature = 1.0
    temperature = of_rows(temperature, x)
    if bias is None and where is None:
        return x, temperature
    if bias is not None:
        if not isinstance(bias, da.Array):
            bias = _checks.class_bias(bias, x.shape(x.all), x.axes)
        bias = x.aligned(da.asanyarray(bias), x.axes)
    each, number = (temperature, 1.0) if isinstance(temperature, tuple) else (None, temperature)
    where = broadcast(where, x, _checks.where)
    return x.replaced(_shifted, each, bias, where, number=number, axis=x.axis, dtype=compute), 1.0


def of_rows(temperature, x):
    """A temperature as `scaled` returns it."""
    if not is_number(temperature):
        array = da.asanyarray(temperature)
        axes = x.batch[max(0, len(x.batch) - array.ndim) :]
        _checks_filters.form_of_parameter("temperature", stand_in(array, x.shape(axes)), x.seen(x.batch))
        return x.aligned(array, axes)
    return number(temperature)


def broadcast(values, x, check):
    """`values`, which broadcast to the logits, as of `lazily`."""
    if values is None:
        return None
    values = da.asanyarray(values)
    axes = x.all[max(0, x.array.ndim - values.ndim) :]
    check(stand_in(values, x.shape(axes)), x.seen(x.all))
    return x.aligned(values, axes)


def _applied(x, *, fit, axis):
    return applied(fit, _layout.floats(x, "logits"), axis)


def _shifted(x, temperature, bias, where, *, number, axis):
    x = _layout.floats(x, "logits")
    layout = _layout.of(x, axis)
    scaling = Scaling.of(x, layout, number if temperature is None else temperature, bias, where)[2]
    result = np.empty(x.shape, _layout.COMPUTE[x.dtype])
    for _ in scaling.blocks(x, layout, result):
        pass
    return result
