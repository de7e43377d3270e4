"""What runs when XLA reaches one of our kernels: the NumPy functions, on XLA's own buffers."""

import functools
import json

import numpy as np

import fastlogits
from fastlogits import _checks
from fastlogits._layout import floats
from fastlogits._options import LossOptions
from fastlogits.cross_entropy import evaluate


def described(name, params):
    """The call `name` with its static parameters as text, such as a compiled program can hold."""
    return json.dumps([name, params])


@functools.cache
def call(text):
    """The function of (*operands, result) that `text` describes."""
    name, params = json.loads(text)
    settings = dict(params.pop("settings"))
    if "options" in params:
        params["options"] = LossOptions.of_plain(params["options"])
    function = functools.partial(globals()[name], **params)
    if not settings:
        return function

    def within_settings(*arrays):
        with fastlogits.settings(**settings):
            function(*arrays)

    return within_settings


def softmax(x, out, *, axis):
    fastlogits.softmax(x, axis, out=out)


def log_softmax(x, out, *, axis):
    fastlogits.log_softmax(x, axis, out=out)


def logsumexp(x, out, *, axis):
    out[...] = fastlogits.logsumexp(x, axis)


def softmax_backward(g, p, out, *, axis):
    fastlogits.softmax_backward(g, p, axis, out=out)


def log_softmax_backward(g, log_p, out, *, axis):
    fastlogits.log_softmax_backward(g, log_p, axis, out=out)


def cross_entropy(x, labels, *others, options):
    *weight, out = others
    for batch, weights in _by_weight(*weight):
        out[batch], _ = evaluate(floats(x[batch], "logits"), labels[batch], weights, None, options)


def cross_entropy_with_grad(x, labels, *others, options):
    """The losses, and no gradient."""
    *weight, losses, _, expected = others
    cross_entropy(x, labels, *weight, losses, options=options)
    expected[...] = np.frombuffer(np.float64(np.nan).tobytes(), np.uint8)


def cross_entropy_kept(g, x, labels, *others, options):
    *weight, losses, _, _, out = others
    cross_entropy_backward(g, x, labels, *weight, losses, out, options=options)


def cross_entropy_backward(g, x, labels, *others, options):
    *weight, _, out = others
    for batch, weights in _by_weight(*weight):
        arriving = g[batch].astype(np.float64)
        evaluate(floats(x[batch], "logits"), labels[batch], weights, None, options, arriving, out[batch])


def _by_weight(weight=None):
    """Index pairs (part of the batch, its class weights): `vmap` over the weights puts axes in front."""
    if weight is not None:
        weight = weight.astype(np.float64)
    if weight is None or weight.ndim == 1:
        yield ..., weight
    else:
        for batch in np.ndindex(weight.shape[:-1]):
            yield batch, weight[batch]


def divisor(labels, *others, options):
    *weight, out = others
    rows = tuple(range(-options.axis, 0))
    valid = labels != options.ignore_index
    if weight:
        batch = labels.reshape(*labels.shape[: labels.ndim - options.axis], -1)
        each = [np.take(w, batch[i], mode="clip") for i, w in _by_weight(*weight)]
        valid = np.where(valid, np.reshape(each, labels.shape), 0)
    valid.sum(rows, out=out, dtype=np.float64)


def selective_log_softmax(x, ids, out, *, axis):
    out[...] = fastlogits.selective_log_softmax(x, ids, axis)


def selective_log_softmax_backward(g, x, ids, log_probs, out, *, axis):
    fastlogits.selective_log_softmax_backward(g, x, ids, axis, out=out)


def labels_in_range(labels, out, *, classes):
    out[...] = labels
    if out.size and (out.min() < 0 or out.max() >= classes):
        raise _checks.bad_label(out, classes, None)


def call_back(text, shape, dtype, *operands):
    """The call that `text` describes where there is no handler: the result is new memory."""
    out = np.empty(shape, dtype)
    call(text)(*map(np.asarray, operands), out)
    return out
