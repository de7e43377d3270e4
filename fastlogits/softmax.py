"""softmax and its kin, and the backward functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from fastlogits import _checks, _layout, config, dispatch
from fastlogits._scaling import Scaling
from fastlogits.backends import numpy as reference

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastlogits._typing import Array, Axis, Lists, Temperature


@dispatch.by_array
def softmax(
    logits: Array | Lists,
    axis: Axis = -1,
    *,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """Probabilities: ``exp(logits / temperature + bias)``, scaled so that each row sums to 1.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16
        Unnormalised log-probabilities. Integers become float64. Not written to, unless it is `out`.
    axis : int, tuple of ints or None, default -1
        The class axis or axes; None takes them all. No choice costs a copy of packed arrays.
    temperature : float, array_like or fit, default 1.0
        What the logits are divided by: a number above 0; or an array of them that broadcasts to the shape of the rows,
        that of `logits` without `axis`; or a fit, as of `row_stats`.
    bias : array_like of float, shape (C,), optional
        Added to the logits of each class, after the division; -inf leaves the class out. It goes with one class axis.
    where : array_like of bool, optional
        Classes that take part; broadcasts to `logits`. The others are not read, and get probability 0.
    out : ndarray, optional
        Where to write the result; `logits` itself for in place. Otherwise it must not overlap `logits`.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory order of `logits`; `out` where given.

    Notes
    -----
    A row with NaN or +inf, or of nothing but -inf, is NaN; a row of which `where` selects nothing is 0.
    Probabilities below the smallest normal number of the computing dtype (float32 for half types) are 0.

    References
    ----------
    Blanchard, Higham, Higham (2021), Accurately computing the log-sum-exp and softmax functions.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.softmax([[1.0, 1.0], [0.0, float("-inf")]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return _normalized("softmax", logits, axis, (temperature, bias, where), 0.0, out)


@dispatch.by_array
def log_softmax(
    logits: Array | Lists,
    axis: Axis = -1,
    *,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """Log-probabilities: ``z - logsumexp(z)`` of ``z = logits / temperature + bias``.

    Parameters and results as of `softmax`; classes that `where` leaves out get -inf. More accurate than
    ``log(softmax(logits))``, which loses small probabilities.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    return _normalized("log_softmax", logits, axis, (temperature, bias, where), -np.inf, out)


def _normalized(kernel, logits, axis, options, excluded, out):
    x = _layout.floats(logits, "logits")
    temperature, bias, where = options
    layout = _layout.of(x, axis)
    if out is not None:
        _checks.out(out, x.shape, x.dtype, over={"logits": x}, apart={"where": where, "bias": bias})
    if bias is not None or type(temperature) not in (float, int):
        return _scaled(kernel, x, layout, options, excluded, out)
    scale = 1.0 / _checks.scale("temperature", temperature)
    if where is not None:
        x, where = _layout.selected(x, where)
        layout = _layout.of(x, axis)
    stride = layout.stride
    y, y_stride = layout.destination(out, x.dtype)
    if x.size:
        run, threads = getattr(config.backend(), kernel), config.threads(x.size)
        # Small calls do without the loop, which would take a third of their time.
        if stride is not None and y_stride is not None:
            run(x, y, layout.outer, layout.classes, layout.inner, stride, y_stride, scale, threads)
        else:
            for _, outer, inner, arrays, strides in layout.parts((x, y), (stride, y_stride)):
                run(*arrays, outer, layout.classes, inner, *strides, scale, threads)
    if where is not None:
        np.copyto(y, excluded, where=~where)
    return _layout.deliver(y, out)


def _scaled(kernel, x, layout, options, excluded, out):
    """As `_normalized`, with what more than one number is done to the logits."""
    temperature, bias, where = options
    dtype = x.dtype
    x, layout, scaling = Scaling.of(x, layout, temperature, bias, where)
    y, y_stride = layout.destination(out, dtype)
    run = getattr(config.backend(), kernel)
    if scaling.shifts or x.dtype != dtype:
        for _, z in scaling.blocks(x, layout, y):
            run(z, z, len(z), layout.classes, 1, layout.classes, layout.classes, 1.0, config.threads(z.size))
    elif x.size:
        for rows, outer, inner, arrays, strides in layout.parts((x, y), (layout.stride_of(x), y_stride)):
            numbers = scaling.rows(rows)
            threads = config.threads(arrays[0].size)
            run(*arrays, outer, layout.classes, inner, *strides, scaling.scale, threads, numbers["scales"])
    if scaling.shifts:
        np.copyto(y, excluded, where=~scaling.taken(layout))
    return _layout.deliver(y, out)


@overload
def logsumexp(
    a: Array | Lists,
    axis: Axis = -1,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: Literal[False] = False,
    where: ArrayLike | None = None,
) -> Array: ...


@overload
def logsumexp(
    a: Array | Lists,
    axis: Axis = -1,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: Literal[True],
    where: ArrayLike | None = None,
) -> tuple[Array, Array]: ...


@dispatch.by_array
def logsumexp(
    a: Array | Lists,
    axis: Axis = -1,
    *,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
) -> Array | tuple[Array, Array]:
    """``log(sum(b * exp(a)))`` without overflow, as `scipy.special.logsumexp` of real input.

    Parameters
    ----------
    a : array_like of float32, float64, float16 or bfloat16
        Integers become float64.
    axis : int, tuple of ints or None, default -1
        What to sum over; None takes all axes (SciPy's default).
    b : array_like, optional
        Factors of any sign; `a` and `b` broadcast together. Where `b` is 0, `a` is not read.
    keepdims : bool, default False
        Whether the summed axes stay, with length 1.
    return_sign : bool, default False
        Whether to return the pair (log of the absolute value, sign).
    where : array_like of bool, optional
        Elements that take part; broadcasts to `a`. The others are not read.

    Returns
    -------
    ndarray or scalar
        Of the dtype of `a` (and `b`), or float32 if that is smaller; a NumPy scalar where all axes are summed over.
        -inf where there is nothing to sum. A negative sum is NaN without `return_sign`.

    Examples
    --------
    >>> import fastlogits
    >>> float(fastlogits.logsumexp([1000.0, 1000.0], b=[0.25, 0.75]))
    1000.0
    """
    if b is not None:
        values, sign = _weighted_logsumexp(a, b, axis, keepdims, where)
        if return_sign:
            return values, sign
        return np.where(sign < 0, values.dtype.type(np.nan), values)[()]
    x = _layout.floats(a, "a")
    if where is not None:
        x, where = _layout.selected(x, where)
    layout = _layout.of(x, axis)
    if x.size:
        lse = np.empty(layout.rows, _layout.COMPUTE[x.dtype])
        _per_row(config.backend().logsumexp, x, lse, layout)
    else:
        lse = np.full(layout.rows, -np.inf)
    values = layout.unflatten(_layout.rounded(lse, _layout.COMPUTE[x.dtype]))
    if keepdims:
        values = values.reshape(layout.kept_shape)
    if return_sign:
        sign = np.where(np.isnan(values), values, values > -np.inf).astype(values.dtype, copy=False)
        return values[()], sign[()]
    return values if values.ndim else values[()]


def _weighted_logsumexp(a, b, axis, keepdims, where):
    a, b = _layout.floats(a, "a"), _layout.floats(b, "b")
    dtype = np.result_type(a, b)
    try:
        a, b = np.broadcast_arrays(a, b)
    except ValueError:
        raise _checks.no_common_shape(a=a.shape, b=b.shape) from None
    if where is not None:
        b = np.where(_checks.where(where, a.shape), b, b.dtype.type(0))
    axes = _checks.axes(_checks.axis(axis), a.ndim)
    compute = _layout.COMPUTE[dtype]
    values, sign = reference.weighted_logsumexp(a.astype(compute), b.astype(compute), axes, keepdims)
    return _layout.rounded(values, compute)[()], _layout.rounded(sign, compute)[()]


@dispatch.by_array
def argmax(logits: Array | Lists, axis: int = -1) -> Array:
    """Index of the largest logit: the first of equals; the first NaN where there is one.

    Parameters
    ----------
    logits : array_like
        As for `softmax`; integers are compared exactly.
    axis : int, default -1
        The class axis, of length 1 at least.

    Returns
    -------
    ndarray of intp, or scalar
        Of the shape of `logits` without `axis`.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.argmax([[0.0, 2.0, 2.0], [3.0, 1.0, 2.0]])
    array([1, 0])
    """
    if type(axis) is not int:
        axis = _checks.one_axis(axis)
    array = logits if type(logits) is np.ndarray else _checks.as_array("logits", logits)
    layout = _layout.of(array, axis)
    if not layout.classes:
        _checks.some_classes(array.shape, axis)
    if array.dtype.kind in "biu":
        return np.argmax(array, axis)
    x = _layout.floats(array, "logits")
    if x is not array:
        layout = _layout.of(x, axis)
    indices = np.empty(layout.rows, np.intp)
    if x.size:
        _per_row(config.backend().argmax, x, indices, layout)
    return layout.unflatten(indices)[()]


def _per_row(run, x, results, layout):
    stride, threads = layout.stride, config.threads(x.size)
    if stride is not None:
        run(x, results, layout.outer, layout.classes, layout.inner, stride, threads)
    else:
        for rows, outer, inner, (part,), strides in layout.parts((x,), (stride,)):
            run(part, results[rows], outer, layout.classes, inner, *strides, threads)


@dispatch.by_array
def softmax_backward(
    grad_probs: Array | Lists, probs: Array | Lists, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """Gradient to the logits of `softmax`: ``probs * (grad_probs - sum(grad_probs * probs))``.

    Parameters
    ----------
    grad_probs : array_like
        Gradient arriving at `probs`, of its shape and dtype.
    probs : array_like
        What `softmax` returned.
    axis : int, tuple of ints or None, default -1
        As in `softmax`. For a temperature, divide the result by it.
    out : ndarray, optional
        Where to write the result; either input for in place.

    Returns
    -------
    ndarray
        Of the shape, dtype and memory order of `probs`; `out` where given.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.softmax_backward([1.0, 0.0], [0.5, 0.5])
    array([ 0.25, -0.25])
    """
    return _backward("softmax_backward", ("grad_probs", grad_probs), ("probs", probs), axis, out)


@dispatch.by_array
def log_softmax_backward(
    grad_log_probs: Array | Lists, log_probs: Array | Lists, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """Gradient to the logits of `log_softmax`: ``grad_log_probs - exp(log_probs) * sum(grad_log_probs)``.

    Parameters and result as of `softmax_backward`.

    Examples
    --------
    >>> import fastlogits
    >>> fastlogits.log_softmax_backward([1.0, 0.0], fastlogits.log_softmax([0.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _backward("log_softmax_backward", ("grad_log_probs", grad_log_probs), ("log_probs", log_probs), axis, out)


def _backward(kernel, named_grad, named_result, axis, out):
    grad_name, g = named_grad
    name, p = named_result
    g, p = _layout.floats(g, grad_name), _layout.floats(p, name)
    if g.shape != p.shape or g.dtype != p.dtype:
        _checks.alike(grad_name, g, name, p)
    if out is not None:
        _checks.out(out, p.shape, p.dtype, over={grad_name: g, name: p}, apart={})
    layout = _layout.of(p, axis)
    result, stride = layout.destination(out, p.dtype)
    if p.size:
        run, threads = getattr(config.backend(), kernel), config.threads(p.size)
        strides = layout.stride_of(g), layout.stride, stride
        if None not in strides:
            run(g, p, result, layout.outer, layout.classes, layout.inner, *strides, threads)
        else:
            for _, outer, inner, arrays, each in layout.parts((g, p, result), strides, reads=2):
                run(*arrays, outer, layout.classes, inner, *each, threads)
    return _layout.deliver(result, out)
