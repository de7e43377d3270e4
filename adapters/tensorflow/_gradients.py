"""The kernels as differentiable operations, eager and in graphs."""

import math

import numpy as np
import tensorflow as tf

import fastlogits
from fastlogits import _checks, _layout
from fastlogits.cross_entropy import evaluate
from fastlogits.tensorflow import _arrays, _calls, _formula, _native
from fastlogits.tensorflow._calls import as_dtype, run, threads


def differentiable(forward, backward, formula, tensors, others=None):
    """The first tensor of `forward(*tensors)`, with gradients of every order.

    What `forward` returns beside it is kept for `backward(upstream, *kept, *tensors)`, the gradient to the
    first of `tensors`. `formula(upstream, *tensors)` is the same in operators that can be differentiated.
    `others(upstream, *tensors)` gives the gradients to the other tensors.
    """
    if tf.executing_eagerly() and not _calls.is_recording():
        return forward(*tensors)[0]

    def function(*tensors):
        value, *kept = forward(*tensors)

        def first(upstream, *tensors):
            def second(upstream_of_gradient):
                return differentiate(formula, (upstream, *tensors), upstream_of_gradient)

            return backward(upstream, *kept, *tensors), second

        def gradients(upstream):
            if not tf.executing_eagerly():
                # A gradient may have a graph of its own, and what is differentiated again must lie there.
                gradient = _calls.recorded(first, [upstream, *map(tf.identity, tensors)])
            elif _calls.is_recording():
                gradient = _calls.recorded(first, [upstream, *tensors])
            else:
                gradient, _ = first(upstream, *tensors)
            return [gradient, *(others(upstream, *tensors) if others else ())]

        return value, gradients

    return _calls.recorded(function, tensors)


def differentiate(function, inputs, upstream, wanted=None):
    """Gradients of `function(*inputs)` to those inputs that are floating-point, or `wanted`; else None."""
    wanted = [t.dtype.is_floating for t in inputs] if wanted is None else wanted
    watched = [t for t, want in zip(inputs, wanted, strict=True) if want]
    if tf.executing_eagerly():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            value = function(*inputs)
        grads = tape.gradient(value, watched, upstream)
    else:
        # Not by a tape, which notes nothing where forward mode asks for the gradients of a function.
        grads = tf.gradients(function(*inputs), watched, upstream)
    found = iter(None if grad is None else tf.convert_to_tensor(grad) for grad in grads)
    return [next(found) if want else None for want in wanted]


def cross_entropy(tensors, options, dtype):
    """The loss, in `dtype`, of `tensors`: logits, labels, weight, sample_weight and normalizer, the last three or None.

    A normalizer, which a graph may know only when it runs, is no part of the options here.
    """
    if _calls.must_be_plain(*tensors):
        return _formula.cross_entropy(tensors, options, dtype)
    loss = _Loss(tensors, options, dtype)
    present = [t for t in tensors if t is not None]
    return differentiable(loss.forward, loss.backward, loss.formula, present, loss.others)


def cross_entropy_with_grad(tensors, grad_loss, options, dtype):
    """(loss in `dtype`, gradient to the logits), neither of them differentiable."""
    logits = tensors[0]
    loss = _Loss(tensors, options, dtype)
    present = [t for t in tensors if t is not None]
    if not tf.executing_eagerly() and _calls.must_be_plain(*tensors):
        value = _formula.cross_entropy(tensors, options, dtype)
        return value, loss.formula(tf.cast(grad_loss, value.dtype), *present)

    def both(grad_loss, *arrays):
        return loss.evaluate(arrays, grad_loss.astype(np.float64) if grad_loss.ndim else float(grad_loss))

    return run(both, [grad_loss, *present], [dtype, logits.dtype], [loss.shape, logits.shape])


# Eager losses by what they have in common -> the number that arrived at all their rows the last time, or None.
_usual = {}


class _Loss:
    """One loss, in the eager mode for one call, in a graph for all of them.

    The gradient of a mean or sum is computed with the loss, in one sweep. This takes the gradient that will
    arrive: what arrived the last time, at first that of a plain mean. Where something else arrives, the
    gradient is computed anew, so that the result never depends on the guess.
    """

    def __init__(self, tensors, options, dtype):
        self.options, self.dtype = options, dtype
        self.given = [t is not None for t in tensors]
        eager = tf.executing_eagerly()
        self.usual = _usual if eager else {}
        self.gradient_wanted = eager and _calls.is_recorded([tensors[0]])
        self.others_wanted = [_may_need_gradient(t) for t in tensors[1:] if t is not None]
        self.shape = () if eager or options.reduction != "none" else changed(tensors[0].shape, {options.axis: None})
        self.native = _native.serves_loss(options.axis, *tensors)

    def forward(self, *tensors):
        logits = tensors[0]
        if self.native:
            wanted = self.gradient_wanted if tf.executing_eagerly() else _calls.is_recorded([logits])
            return _native.loss(self._all(tensors), self.options, self.dtype, wanted, threads(), self.shape)
        dtypes = [self.dtype, logits.dtype, tf.float64]
        return run(self._forward, tensors, dtypes, [self.shape, None, ()])

    def backward(self, upstream, grad, expected, *tensors):
        self.gradient_wanted = True
        logits = tensors[0]
        if self.native:
            return _native.loss_grad(upstream, grad, expected, self._all(tensors), self.options, threads())
        return run(self._backward, [upstream, grad, expected, *tensors], [logits.dtype], [logits.shape])[0]

    def formula(self, upstream, *tensors):
        wanted = [True] + [False] * (len(tensors) - 1)
        return differentiate(self._formula, tensors, upstream, wanted)[0]

    def others(self, upstream, *tensors):
        if not any(self.others_wanted):
            return [None] * len(self.others_wanted)
        return differentiate(self._formula, tensors, upstream, [False, *self.others_wanted])[1:]

    def _formula(self, *tensors):
        return _formula.cross_entropy(self._all(tensors), self.options, self.dtype, logsumexp)

    def _all(self, present):
        present = iter(present)
        return [next(present) if given else None for given in self.given]

    def _forward(self, *arrays):
        logits = arrays[0]
        expected = None
        if self.gradient_wanted:
            expected = self.usual.get(self._kind(logits), self._mean(logits))
        loss, grad = self.evaluate(arrays, expected)
        return loss, grad, math.nan if expected is None else expected

    def _backward(self, upstream, grad, expected, *arrays):
        logits = arrays[0]
        number = _one_number(upstream)
        if len(self.usual) > 1000:
            self.usual.clear()
        self.usual[self._kind(logits)] = number
        if number is not None and number == expected:
            return (grad,)
        return self.evaluate(arrays, upstream.astype(np.float64) if number is None else number)[1:]

    def _kind(self, logits):
        return logits.shape, logits.dtype, self.options, self.dtype

    def _mean(self, logits):
        """What arrives where the losses are averaged next, as TensorFlow computes it."""
        if self.options.reduction != "none":
            return 1.0
        one = np.ones((), self.dtype.as_numpy_dtype)
        rows = logits.size // max(1, logits.shape[self.options.axis])
        return float(one / one.dtype.type(rows)) if rows else 1.0

    def evaluate(self, arrays, grad_loss=None):
        """(loss, gradient), the latter None unless a gradient arrives."""
        logits, labels, weight, sample_weight, normalizer = self._all(arrays)
        options = self.options
        if normalizer is not None:
            options = options._replace(normalizer=_checks.normalizer(normalizer, options.reduction))
        x, out = _layout.floats(logits, "logits"), None
        if grad_loss is not None:
            out = _arrays.empty(logits.shape, logits.dtype)
        loss, grad = evaluate(x, labels, weight, sample_weight, options, grad_loss, out)
        return as_dtype(loss, self.dtype), grad


def _may_need_gradient(tensor):
    if not tensor.dtype.is_floating:
        return False
    if tf.executing_eagerly():
        return _calls.is_recorded([tensor])
    operation = getattr(tensor, "op", None)  # an eager tensor within a graph has none
    return operation is None or operation.type != "StopGradient"


def _one_number(values):
    """The number that all of `values` are, or None."""
    first = float(values.flat[0]) if values.size else 1.0
    return first if values.ndim == 0 or (values == first).all() else None


def changed(shape, lengths):
    """`shape` with other lengths along some axes; None removes the axis."""
    if shape.rank is None:
        return shape
    lengths = {axis % shape.rank: length for axis, length in lengths.items()}
    sizes = [lengths.get(axis, size) for axis, size in enumerate(shape.as_list())]
    return tf.TensorShape([size for axis, size in enumerate(sizes) if lengths.get(axis, 1) is not None])


def ones_for_rows(logits, axis, dtype):
    shape = changed(logits.shape, {axis: None})
    if shape.is_fully_defined():
        return tf.ones(shape, dtype)
    sizes = tf.shape(logits)
    ones = tf.ones(tf.concat([sizes[:axis], sizes[axis:][1:]], 0), dtype)
    ones.set_shape(shape)
    return ones


def softmax(logits, axis, temperature=1.0):
    return _normalized("softmax", logits, axis, temperature)


def log_softmax(logits, axis, temperature=1.0):
    return _normalized("log_softmax", logits, axis, temperature)


def _normalized(name, logits, axis, temperature):
    plain = _calls.must_be_plain(logits)
    native = not plain and temperature == 1 and _native.serves_rows(axis, logits)
    function, gradient = getattr(fastlogits, name), getattr(fastlogits, f"{name}_backward")

    def compute(x):
        return (function(x, axis, temperature=temperature, out=_arrays.empty(x.shape, x.dtype)),)

    def compute_gradient(upstream, result):
        grad = gradient(upstream, result, axis, out=_arrays.empty(result.shape, result.dtype))
        return (grad if temperature == 1 else np.divide(grad, grad.dtype.type(temperature), out=grad),)

    def forward(x):
        if plain:
            result = _formula.normalized(name, x, axis, temperature)
        elif native:
            result = _native.rows(name, x, axis, threads())
        else:
            (result,) = run(compute, [x], [x.dtype], [x.shape])
        return result, result

    def backward(upstream, result, x):
        if plain:
            return _formula.backward(name, upstream, result, axis) / temperature
        if native:
            return _native.rows_grad(name, upstream, result, axis, threads())
        return run(compute_gradient, [upstream, result], [x.dtype], [x.shape])[0]

    def formula(upstream, x):
        return _formula.backward(name, upstream, _normalized(name, x, axis, temperature), axis) / temperature

    return differentiable(forward, backward, formula, [logits])


def softmax_backward(grad, probs, axis):
    return _backward("softmax", grad, probs, axis)


def log_softmax_backward(grad, log_probs, axis):
    return _backward("log_softmax", grad, log_probs, axis)


def _backward(name, grad, result, axis):
    def formula(grad, result):
        return _formula.backward(name, grad, result, axis)

    if _calls.must_be_plain(grad, result):
        return formula(grad, result)
    native = grad.dtype == result.dtype and _native.serves_rows(axis, result)
    function = getattr(fastlogits, f"{name}_backward")

    def compute(grad, result):
        return (function(grad, result, axis, out=_arrays.empty(result.shape, result.dtype)),)

    def forward(grad, result):
        if native:
            return [_native.rows_grad(name, grad, result, axis, threads())]
        return run(compute, [grad, result], [result.dtype], [result.shape])

    def gradient(upstream, grad, result):
        return differentiate(formula, (grad, result), upstream)[0]

    def other(upstream, grad, result):
        return differentiate(formula, (grad, result), upstream)[1:]

    return differentiable(forward, gradient, gradient, [grad, result], other)


def logsumexp(logits, axis, keepdims=False, dtype=None):
    """In `dtype`, or that of the logits."""
    dtype = dtype or logits.dtype
    if _calls.must_be_plain(logits):
        return _formula.logsumexp(tf.cast(logits, dtype), axis, keepdims)
    if not keepdims:
        return _formula.squeeze(logsumexp(logits, axis, True, dtype), axis)

    def compute(x):
        return (as_dtype(fastlogits.logsumexp(x, axis, keepdims=True), dtype),)

    def compute_gradient(upstream, lse, x):
        probs = fastlogits.softmax(x, axis, out=_arrays.empty(x.shape, x.dtype))
        probs *= upstream.astype(probs.dtype)
        nothing = lse == -math.inf
        if nothing.any():
            np.copyto(probs, 0, where=nothing)
        return (probs,)

    def forward(x):
        axes = range(x.shape.rank or 0) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        (lse,) = run(compute, [x], [dtype], [changed(x.shape, dict.fromkeys(axes, 1))])
        return lse, lse

    def backward(upstream, lse, x):
        return run(compute_gradient, [upstream, lse, x], [x.dtype], [x.shape])[0]

    def formula(upstream, x):
        nothing, zero = tf.reduce_all(x == -math.inf, axis, keepdims=True), tf.zeros((), x.dtype)
        return tf.where(nothing, zero, softmax(tf.where(nothing, zero, x), axis) * tf.cast(upstream, x.dtype))

    return differentiable(forward, backward, formula, [logits])


def selective_log_softmax(logits, ids, axis, dtype):
    if _calls.must_be_plain(logits):
        return _formula.selective_log_softmax(tf.cast(logits, dtype), ids, axis)

    def compute(x, ids):
        return (as_dtype(fastlogits.selective_log_softmax(x, ids, axis), dtype),)

    def forward(x, ids):
        return run(compute, [x, ids], [dtype], [ids.shape])

    def backward(upstream, x, ids):
        return selective_log_softmax_backward(upstream, x, ids, axis)

    return differentiable(forward, backward, backward, [logits, ids], lambda *_: [None])


def selective_log_softmax_backward(grad, logits, ids, axis):
    def gather(x, ids):
        return tf.cast(_formula.selective_log_softmax(x, ids, axis, log_softmax), grad.dtype)

    def formula(grad, x, ids):
        return differentiate(gather, (x, ids), grad)[0]

    if _calls.must_be_plain(grad, logits):
        return formula(grad, logits, ids)

    def compute(grad, x, ids):
        out = _arrays.empty(x.shape, x.dtype)
        return (fastlogits.selective_log_softmax_backward(grad, x, ids, axis, out=out),)

    def forward(grad, x, ids):
        return run(compute, [grad, x, ids], [x.dtype], [x.shape])

    def gradient(upstream, grad, x, ids):
        return differentiate(formula, (grad, x, ids), upstream)[0]

    def others(upstream, grad, x, ids):
        return differentiate(formula, (grad, x, ids), upstream)[1:]

    return differentiable(forward, gradient, gradient, [grad, logits, ids], others)
