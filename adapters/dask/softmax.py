"""softmax and its kin, and the backward functions, of dask arrays.

Rows in one piece are handed to the NumPy functions. Of rows in several, partial results are merged first, and a second
pass over the pieces is told what is known of their rows.
"""

import dask.array as da
import numpy as np

import fastlogits
from fastlogits import _checks, _layout
from fastlogits._scaling import is_number, number
from fastlogits.dask._blocks import chunked, lazily, merged
from fastlogits.dask._checks import stand_in
from fastlogits.dask._scaling import broadcast, scaled
from fastlogits.dask._states import row_states
from fastlogits.states import SoftmaxState, normalized


def softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None):
    """As `fastlogits.softmax`."""
    return _normalized("softmax", logits, axis, temperature, bias, where)


def log_softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None):
    """As `fastlogits.log_softmax`."""
    return _normalized("log_softmax", logits, axis, temperature, bias, where)


def _normalized(name, logits, axis, temperature, bias, where):
    x = chunked("logits", logits, axis, known=False)
    if bias is not None or not is_number(temperature):
        return _scaled(name, x, temperature, bias, where)
    return _of_rows(name, x, number(temperature), where)


def _scaled(name, x, temperature, bias, where):
    """As `_normalized`, with what more than one number is done to the logits."""
    kind = x.dtype
    taken = None if where is None else broadcast(where, x, _checks.where)
    if bias is not None:
        there = x.replaced(_there, x.aligned(da.asanyarray(bias), x.axes), taken, axis=x.axis, dtype=np.dtype(bool))
        taken = there.blocks
    z, left = scaled(x, temperature, bias, where)
    if isinstance(left, tuple):
        # In double, so that nothing is rounded on the way.
        z = z.replaced(_divided, left, axes=x.axes, dtype=np.dtype(np.float64))
        left = 1.0
    result = _of_rows(name, z, left, taken and taken[0]).astype(kind)
    return x.aligned(result, x.all)[0]


def _there(x, bias, where, *, axis):
    there = (bias > -np.inf).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.broadcast_to(there if where is None else there & where, x.shape)


def _divided(x, temperature, *, axes):
    batch = [n for i, n in enumerate(x.shape) if i not in axes]
    return x.astype(np.float64) / np.expand_dims(np.broadcast_to(temperature, batch), axes)


def _of_rows(name, x, temperature, where):
    scale = 1.0 / temperature
    cut = x.of_known_classes("logits").in_blocks() if x.in_pieces else x
    where = broadcast(where, cut, _checks.where)
    options = {"name": name, "axes": x.axes, "dtype": x.dtype}
    if cut.in_pieces:
        states = lazily(_state, cut.all, cut.blocks, where, scale=scale, dtype=object, chunks=cut.one_class)
        states = merged(_merged, states, cut.axes), cut.all
        rows = lazily(_settled, cut.all, states, scale=scale, dtype=object), cut.all
        result = lazily(_piece, cut.all, cut.blocks, rows, where, scale=scale, **options)
    else:
        result = lazily(_whole, cut.all, cut.blocks, where, temperature=temperature, **options)
    return x.aligned(result, x.all)[0]


def _masked(x, where):
    return x if where is None else x.replaced(_selected, where, dtype=x.dtype)


def _selected(x, where):
    x = _layout.floats(x, "logits")
    return x if where is None else _layout.selected(x, where)[0]


def _whole(x, where, *, name, axes, temperature):
    return getattr(fastlogits, name)(x, axes, temperature=temperature, where=where)


def _state(x, where, *, scale):
    return SoftmaxState.of(_selected(x, where), -1, scale)


def _merged(*states):
    return SoftmaxState.merge(*states)


def _settled(state, *, scale):
    return state.settled(scale)


def _piece(x, rows, where, *, name, axes, scale):
    result = normalized(_selected(x, where), -1, *rows, scale, name == "log_softmax")
    if where is not None:
        np.copyto(result, 0 if name == "softmax" else -np.inf, where=~where)
    return result


def logsumexp(a, axis=-1, *, b=None, keepdims=False, return_sign=False, where=None):
    """As `fastlogits.logsumexp`."""
    if b is not None:
        a, b = da.asanyarray(a), da.asanyarray(b)
        shapes = stand_in(a, b.shape).shape, stand_in(b, a.shape).shape
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise _checks.no_common_shape(a=a.shape, b=b.shape) from None
        if shape != shapes[0]:
            a = da.broadcast_to(a, shape)
    x = chunked("a", a, axis, known=False)
    where = broadcast(where, x, _checks.where)
    kind = _layout.COMPUTE[x.dtype if b is None else np.result_type(x.dtype, _layout.floats(b._meta, "b").dtype)]
    if b is None and x.in_pieces:
        states = row_states(_masked(x, where), want=("lse",))
        pairs = lazily(_logsumexp_of_state, x.all, states, axes=x.axes, dtype=object)
    else:
        b = broadcast(b, x, np.broadcast_to)
        function = _wide_logsumexp if x.in_pieces else _logsumexp
        pairs = lazily(function, x.all, x.blocks, b, where, axes=x.axes, dtype=object, chunks=x.one_class)
        pairs = merged(_added, pairs, x.axes)
    out, dropped = (x.all, ()) if keepdims else (x.batch, x.axes)
    results = [
        lazily(_delivered, out, (pairs, x.all), which=which, dropped=dropped, kind=kind, dtype=kind)
        for which in (("values", "sign") if return_sign else ("real",))
    ]
    return tuple(results) if return_sign else results[0]


def _logsumexp(a, b, where, *, axes):
    return fastlogits.logsumexp(a, axes, b=b, keepdims=True, return_sign=True, where=where)


def _wide_logsumexp(a, b, where, *, axes):
    """In double: the pieces may cancel each other."""
    return _logsumexp(a.astype(np.float64), b.astype(np.float64), where, axes=axes)


def _added(*pairs):
    values, signs = map(np.stack, zip(*pairs, strict=True))
    return fastlogits.logsumexp(values, 0, b=signs, return_sign=True)


def _logsumexp_of_state(state, *, axes):
    lse = np.expand_dims(state.results().lse, axes)
    return lse, np.where(np.isnan(lse), lse, lse > -np.inf)


@np.errstate(invalid="ignore")
def _delivered(pair, *, which, dropped, kind):
    values, sign = pair
    if which == "sign":
        values = sign
    elif which == "real":
        values = np.where(sign < 0, values.dtype.type(np.nan), values)
    return _layout.rounded(values, kind).squeeze(dropped)


def softmax_backward(grad_probs, probs, axis=-1):
    """As `fastlogits.softmax_backward`."""
    return _backward("softmax_backward", ("grad_probs", grad_probs), ("probs", probs), axis)


def log_softmax_backward(grad_log_probs, log_probs, axis=-1):
    """As `fastlogits.log_softmax_backward`."""
    return _backward("log_softmax_backward", ("grad_log_probs", grad_log_probs), ("log_probs", log_probs), axis)


def _backward(name, named_grad, named_result, axis):
    (grad_name, grad), (result_name, result) = named_grad, named_result
    p, g = chunked(result_name, result, axis, known=False), da.asanyarray(grad)
    empty = (_layout.floats(each._meta, what) for each, what in ((g, grad_name), (p.array, result_name)))
    _checks.same_dtype(*(part for pair in zip((grad_name, result_name), empty, strict=True) for part in pair))
    _checks.same_shape(grad_name, stand_in(g, p.array.shape), result_name, stand_in(p.array))
    arrays, options = (p.aligned(g, p.all), p.blocks), {"name": name, "axes": p.axes}
    if not p.in_pieces:
        return lazily(_backward_whole, p.all, *arrays, dtype=p.dtype, **options)
    total = _summed(_probs, p, *arrays, name=name)
    terms = (_lead, _other_grads, _other_probs) if name == "log_softmax_backward" else (_lead,)
    known = [_summed(function, p, *arrays, total, name=name) for function in terms]
    if name == "softmax_backward":
        known.append(_summed(_relative_terms, p, *arrays, *known, name=name))
    return lazily(_backward_piece, p.all, *arrays, total, *known, name=name, dtype=p.dtype)


def _summed(function, p, *arrays, name):
    """The sums over the classes of `function` of each piece of a row."""
    options = {"function": function, "axes": p.axes, "name": name, "dtype": np.float64, "chunks": p.one_class}
    return lazily(_sum_of, p.all, *arrays, **options).sum(p.axes, keepdims=True), p.all


def _backward_whole(g, p, *, name, axes):
    return getattr(fastlogits, name)(g, p, axes)


@np.errstate(all="ignore")
def _sum_of(g, p, *known, function, axes, name):
    return function(g.astype(np.float64), _doubles(p, name), *known).sum(axes, keepdims=True)


def _doubles(p, name):
    """The probabilities."""
    p = _layout.floats(p, "probs").astype(np.float64)
    return np.exp(p) if name == "log_softmax_backward" else p


def _probs(g, p):
    return p


# Of a class that dominates the gradient comes from the others' terms, and would be lost beside its own.


def _dominating(p, total):
    """Where one class has most of a row whose probabilities add up to 1, as far as they are rounded."""
    return (p > 0.75) & (abs(total - 1) < 0.01)


def _lead(g, p, total):
    return np.where(_dominating(p, total) & np.isfinite(g), g, 0)


def _relative_terms(g, p, lead):
    return (g - lead) * p


def _other_grads(g, p, total):
    return np.where(_dominating(p, total) & np.isfinite(g), 0, g)


def _other_probs(g, p, total):
    return np.where(_dominating(p, total), 0, p)


@np.errstate(all="ignore")
def _backward_piece(g, p, total, lead, *sums, name):
    kind, g = _layout.floats(p, "probs").dtype, g.astype(np.float64)
    p = _doubles(p, name)
    if name == "softmax_backward":
        return _layout.rounded(p * (g - lead - sums[0]), kind)
    other_grads, other_probs = sums
    plain = g - p * (lead + other_grads)
    return _layout.rounded(np.where(_dominating(p, total), g * other_probs - p * other_grads, plain), kind)
