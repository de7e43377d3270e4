"""Filters of logits, as text generation uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlogits import _checks, _layout, config, dispatch
from fastlogits._edits import some
from fastlogits._filters import Filters, Options

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastlogits._typing import Array, Lists, Temperature, TemperatureOrder


@dispatch.by_array
def filter_logits(
    logits: Array | Lists,
    *,
    temperature: Temperature = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    typical_p: ArrayLike | None = None,
    epsilon_cutoff: ArrayLike | None = None,
    eta_cutoff: ArrayLike | None = None,
    min_keep: ArrayLike = 1,
    top_n_sigma: ArrayLike | None = None,
    top_h: ArrayLike | None = None,
    xtc_threshold: ArrayLike | None = None,
    order: TemperatureOrder = "temperature_first",
    history: ArrayLike | None = None,
    repetition_penalty: ArrayLike | None = None,
    frequency_penalty: ArrayLike | None = None,
    presence_penalty: ArrayLike | None = None,
    logit_bias: Any = None,
    allowed: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    axis: int = -1,
    out: Array | None = None,
) -> Array:
    """``logits / temperature + bias``, and -inf for the classes that the filters drop.

    The filters and their order are those of Hugging Face transformers: `allowed`, `logit_bias` and penalties;
    temperature, `bias` and `where`; `top_n_sigma`, `top_h`, `top_k`, `top_p`, `min_p`, `typical_p`, `epsilon_cutoff`,
    `eta_cutoff`, `xtc_threshold`. Each looks at what the ones before it have left, as probabilities that sum to 1
    again. None is off, as is the value in brackets.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64. Not written to, unless it is `out`.
    temperature : float, array_like or fit, default 1.0
        Above 0. As all parameters of the filters one number, or an array that broadcasts to shape (...); or a fit, as
        of `row_stats`, of which one with `apply` comes before all else.
    top_k : int or array_like, optional
        Keeps the `top_k` largest logits, and those equal to the last of them. [C or more; 0 and -1]
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
        `typical_p`, all of them for the others. XTC leaves one at least.
    top_n_sigma : float or array_like, optional
        Drops logits that are less than the largest by more than `top_n_sigma` standard deviations of the row's
        finite logits (with n - 1, as torch). Above 0. [inf]
    top_h : float or array_like, optional
        Keeps the likeliest classes as long as their terms ``-p log(p)`` add up to at most `top_h` times the entropy,
        of the 100 likeliest classes alone, as in transformers. In (0, 1].
    xtc_threshold : float or array_like, optional
        Exclude top choices: of the classes with at least this probability all but the least likely are dropped, the
        last of equals stays. In (0, 1]. [above 0.5]
    order : {"temperature_first", "temperature_last"}, default "temperature_first"
        Whether the filters look at logits that are divided by the temperature, or only what they keep is divided.
    history : array_like of int, optional
        The ids that each row has had so far, for the penalties: an array of shape (..., T), in which negative ids are
        padding, or a sequence of one array for each row.
    repetition_penalty : float or array_like, optional
        Divides the positive logits of ids in `history`, and multiplies the others. Above 0. [1]
    frequency_penalty, presence_penalty : float or array_like, optional
        Subtracted from the logits of ids in `history`: the first as often as the id is there, the second once. [0]
    logit_bias : dict of float by id, sequence of dicts, or array_like, optional
        Added to logits: one dict for all rows, one for each row, or an array that broadcasts to `logits`. -inf forbids.
    allowed : array_like of bool or int32, optional
        Which classes there are, whatever stands in the others: bool that broadcasts to `logits`, or a mask of bits as
        of xgrammar and llguidance, of shape (..., ceil(C / 32)): class c is bit ``c % 32`` of word ``c // 32``.
    bias : array_like of float, shape (C,), optional
        Added to the logits of each class, after the division and before the filters; -inf leaves the class out. It
        goes with the temperature first.
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

    Penalties follow each other as in vLLM: repetition, frequency, presence. There the last two count the output
    alone, while the first counts the prompt too; so does a call with the prompt and `repetition_penalty` before one
    with the output and the others. Penalties and biases change a copy of a few rows at a time, in the computing dtype.

    Nothing is sorted: thresholds are found by histograms, and most of a long row is left out at first sight.

    References
    ----------
    Fan, Lewis, Dauphin (2018), Hierarchical neural story generation (top-k). Holtzman, Buys, Du, Forbes, Choi
    (2020), The curious case of neural text degeneration (top-p). Nguyen et al. (2024), Turning up the heat:
    min-p sampling for creative and coherent LLM outputs. Meister, Pimentel, Wiher, Cotterell (2023), Locally
    typical sampling. Hewitt, Manning, Liang (2022), Truncation sampling as language model desmoothing (epsilon
    and eta). Tang, Liu, Xu, Wang (2024), Top-n-sigma: not all logits are you need, arXiv 2411.07641. Potraghloo et al.
    (2025), Top-H decoding, arXiv 2509.02510. Keskar et al. (2019), CTRL (repetition penalty), arXiv 1909.05858.

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
    options = Options(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p,
        epsilon_cutoff=epsilon_cutoff, eta_cutoff=eta_cutoff, min_keep=min_keep, top_n_sigma=top_n_sigma,
        top_h=top_h, xtc_threshold=xtc_threshold, order=order, history=history,
        repetition_penalty=repetition_penalty, frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty, logit_bias=logit_bias, allowed=allowed, bias=bias, where=where,
    )  # fmt: skip
    x, layout, options = options.fitted(x, layout)
    filters = Filters.of(options, x, layout)
    y, y_stride = layout.destination(out, dtype)
    if x.size and filters.by_backend and x.dtype == dtype:
        backend = config.backend()
        copied = not layout.few_columns(backend.COLUMNS)
        parts = layout.parts((x, y), (layout.stride_of(x), y_stride), side_by_side=copied)
        for rows, outer, inner, (block, filtered), strides in parts:
            backend.filter_logits(
                block, filtered, some(filters.rules, rows), outer, layout.classes, inner, *strides,
                config.threads(block.size),
            )  # fmt: skip
    elif x.size:
        for rows, block, filtered in filters.blocks(x, layout, y):
            filters.cut(block, rows)
            filtered[...] = _layout.rounded(block, dtype)
    return _layout.deliver(y, out)
