"""Filters of logits, as text generation uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlogits import _checks, _checks_filters, _layout, config, dispatch
from fastlogits._scaling import PLAIN, Scaling, is_number, number
from fastlogits.backends.numpy import NEAR

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastlogits._typing import Array, Fit, Lists


@dispatch.by_array
def filter_logits(
    logits: Array | Lists,
    *,
    temperature: ArrayLike | Fit = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    typical_p: ArrayLike | None = None,
    epsilon_cutoff: ArrayLike | None = None,
    eta_cutoff: ArrayLike | None = None,
    min_keep: ArrayLike = 1,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    axis: int = -1,
    out: Array | None = None,
) -> Array:
    """``logits / temperature + bias``, and -inf for the classes that the filters drop.

    The filters and their order are those of Hugging Face transformers. Each looks at what the ones before it
    have left, as probabilities that sum to 1 again. None is off, as is the value in brackets.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64. Not written to, unless it is `out`.
    temperature : float, array_like or fit, default 1.0
        Above 0. As all parameters of the filters one number, or an array that broadcasts to shape (...); or a fit, as
        of `row_stats`.
    top_k : int or array_like, optional
        Keeps the `top_k` largest logits, and those equal to the last of them. At least 1. [C or more]
    top_p : float or array_like, optional
        Drops the least probable classes as long as they have at most ``1 - top_p`` together. Of equal logits
        those with the lowest index go first. In (0, 1]. [1]
    min_p : float or array_like, optional
        Drops probabilities less than `min_p` times the largest. In [0, 1]. [0]
    typical_p : float or array_like, optional
        Keeps the classes whose ``-log(p)`` is nearest to the entropy: as few as have at least `typical_p`
        together, and those as near as the last of them. The likeliest class may go. In (0, 1]. [1]
    epsilon_cutoff : float or array_like, optional
        Drops probabilities less than this. In [0, 1). [0]
    eta_cutoff : float or array_like, optional
        Drops probabilities less than ``min(eta_cutoff, sqrt(eta_cutoff) * exp(-entropy))``. In [0, 1). [0]
    min_keep : int or array_like, default 1
        No filter leaves fewer classes, if it found as many: the largest logits stay, or for `typical_p` the
        nearest. Of equals those with the highest index stay for `top_p`, those with the lowest for `min_p` and
        `typical_p`, all of them for the others.
    bias : array_like of float, shape (C,), optional
        Added to the logits of each class, after the division and before the filters; -inf leaves the class out.
    where : array_like of bool, optional
        Classes that take part; broadcasts to `logits`. The others are not read, and are dropped before the filters.
    axis : int, default -1
        The class axis.
    out : ndarray, optional
        Where to write the result; `logits` itself for in place. Otherwise it must not overlap `logits`.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory order of `logits`; `out` where given.

    Notes
    -----
    A row with NaN or +inf is NaN; a row of nothing but -inf stays so.

    Half types are divided and filtered in float32, as transformers' ``generate`` does, and rounded at the end.
    Probabilities are formed and added up in double precision. What comes within 2**-42 of a limit is on it,
    whatever the backend: classes that have ``1 - top_p`` together are dropped, those with a probability of
    `min_p` times the largest, or at a cutoff, are kept, and `typical_p` is reached. `sample` draws from what is
    kept here. transformers computes in float32, and there decides otherwise in some rows. Which
    of equal logits stay for `top_p` and `min_p` it leaves to ``torch.sort`` and ``torch.topk``, which leave it
    open; here it is as if both were stable.

    Nothing is sorted: thresholds are found by histograms, and most of a long row is left out at first sight.

    References
    ----------
    Fan, Lewis, Dauphin (2018), Hierarchical neural story generation (top-k). Holtzman, Buys, Du, Forbes, Choi
    (2020), The curious case of neural text degeneration (top-p). Nguyen et al. (2024), Turning up the heat:
    min-p sampling for creative and coherent LLM outputs. Meister, Pimentel, Wiher, Cotterell (2023), Locally
    typical sampling. Hewitt, Manning, Liang (2022), Truncation sampling as language model desmoothing (epsilon
    and eta).

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.filter_logits([[1.0, 4.0, 3.0, 1.0]], temperature=0.5, top_k=3, min_p=0.1)
    array([[-inf,   8.,   6., -inf]])
    """
    x = _layout.floats(logits, "logits")
    axis = _checks.one_axis(axis)
    layout = _layout.of(x, axis)
    dtype = x.dtype
    if out is not None:
        _checks.out(out, x.shape, dtype, over={"logits": x}, apart={"bias": bias, "where": where})
    x, layout, scaling, temperature = scaled(x, layout, temperature, bias, where)
    parameters = (temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, min_keep)
    per_row = rules(layout, parameters)
    y, y_stride = layout.destination(out, dtype)
    if scaling.shifts or x.dtype != dtype:
        for rows, z in scaling.blocks(x, layout, y):
            n, classes = z.shape
            config.backend().filter_logits(
                z, z, of_rows(per_row, rows), n, classes, 1, classes, classes, config.threads(z.size)
            )
    elif x.size:
        backend = config.backend()
        copied = not layout.few_columns(backend.COLUMNS)
        parts = layout.parts((x, y), (layout.stride_of(x), y_stride), side_by_side=copied)
        for rows, outer, inner, (block, filtered), strides in parts:
            backend.filter_logits(
                block, filtered, of_rows(per_row, rows), outer, layout.classes, inner, *strides,
                config.threads(block.size),
            )  # fmt: skip
    return _layout.deliver(y, out)


def scaled(x, layout, temperature, bias, where):
    """(x, layout, scaling, temperature): what of these is done before the filters, and the temperature that is left to
    them. At temperature 0 the bias is added to the logits as they are.
    """
    fitted = hasattr(temperature, "temperature") or hasattr(temperature, "apply")
    if bias is None and where is None and not fitted:
        return x, layout, PLAIN, temperature
    left = 1.0
    if not fitted:
        values = _checks_filters.filter_parameter("temperature", temperature, layout.batch_shape, zero=True)
        left = np.where(values == 0, 0.0, 1.0)
        temperature = np.where(values == 0, 1.0, values)
    x, layout, scaling = Scaling.of(x, layout, temperature, bias, where)
    if fitted and not scaling.shifts and is_number(temperature):
        return x, layout, PLAIN, number(temperature)
    return x, layout, scaling, left


def rules(layout, parameters, greedy=False):
    """The parameters as the backends take them: a row of numbers for each row, or one for all.

    With `greedy` the temperature may be 0.
    """
    names = _checks_filters.PARAMETERS
    values = [
        _checks_filters.filter_parameter(name, value, layout.batch_shape, greedy and name == "temperature")
        for name, value in zip(names, parameters, strict=True)
    ]
    for place, name in enumerate(names):
        if name in ("top_k", "min_keep"):
            values[place] = np.minimum(values[place], max(1, layout.classes))
        elif name in ("top_p", "typical_p"):
            nearer = np.array(np.maximum(values[place] - NEAR, 0))
            nearer[values[place] >= 1] = 1
            values[place] = nearer
        elif name != "temperature":
            values[place] = values[place] * (1 - NEAR)
    if all(value.size == 1 for value in values):
        return np.array([[value.item() for value in values]])
    flat = [layout.flatten(np.broadcast_to(value, layout.batch_shape)) for value in values]
    return np.stack(flat, axis=-1)


def of_rows(per_row, rows):
    """What `rules` has for these rows."""
    return per_row[rows] if len(per_row) > 1 else per_row
