"""What can take part in a race: a class for each library, here ours and SciPy.

A peer is a class with a method for each operation of `common.OPERATIONS`, which returns the ways to do it: the
fastest with the right result is taken.
"""

import atexit
import contextvars
import functools

import numpy as np
from benchmarks.common import AXIS, OPERATIONS, SMOOTHING

import fastlogits


class Peer:
    ours = False

    def __init__(self):
        self.context = contextvars.copy_context()

    def ways(self, operation, arrays):
        """Calls without arguments; they raise where something is not supported."""
        method = getattr(self, operation, None)
        return [functools.partial(way, *arrays) for way in method()] if method else []

    def array(self, array):
        return array

    def numpy(self, result):
        return result


class Ours(Peer):
    """fastlogits' NumPy API on one of its backends."""

    ours = True

    def __init__(self, backend):
        super().__init__()
        settings = fastlogits.settings(backend=backend)
        self.context.run(settings.__enter__)
        atexit.register(self.context.run, settings.__exit__, None, None, None)

    def ways(self, operation, arrays):
        return [functools.partial(OPERATIONS[operation].call, fastlogits, *arrays)]


class SciPy(Peer):
    """scipy.special, NumPy where it has no such function, and NumPy that writes over its temporaries."""

    def __init__(self, threads, functions=None):
        super().__init__()
        from scipy import special

        self.special = special

    def ways(self, operation, arrays):
        calls = super().ways(operation, arrays)
        if arrays[0].itemsize == 2:
            calls += [functools.partial(self.by_float32, *arrays, way=call.func) for call in calls]
        return calls

    @staticmethod
    def by_float32(x, *others, way):
        arrays = (a.astype(np.float32) if a.itemsize == 2 else a for a in (x, *others))
        result = way(*arrays)
        results = result if isinstance(result, tuple) else (result,)
        return tuple(r.astype(x.dtype) if np.shape(r) == x.shape else r for r in results)

    @staticmethod
    def exponentials(x):
        e = np.subtract(x, x.max(axis=AXIS, keepdims=True))
        return np.exp(e, out=e)

    def softmax(self):
        def by_hand(x):
            e = self.exponentials(x)
            e /= e.sum(axis=AXIS, keepdims=True)
            return e

        return [lambda x: self.special.softmax(x, axis=AXIS), by_hand]

    def log_softmax(self):
        def by_hand(x):
            shifted = np.subtract(x, x.max(axis=AXIS, keepdims=True))
            shifted -= np.log(np.exp(shifted).sum(axis=AXIS, keepdims=True))
            return shifted

        return [lambda x: self.special.log_softmax(x, axis=AXIS), by_hand]

    def logsumexp(self):
        def by_hand(x):
            return np.log(self.exponentials(x).sum(axis=AXIS)) + x.max(axis=AXIS)

        return [lambda x: self.special.logsumexp(x, axis=AXIS), by_hand]

    def argmax(self):
        return [lambda x: np.argmax(x, axis=AXIS)]

    def loss(self):
        def loss(x, labels):
            picked = np.take_along_axis(x, np.expand_dims(labels, AXIS), AXIS)
            m = x.max(axis=AXIS, keepdims=True)
            wide = np.result_type(x.dtype, np.float32)
            lse = np.log(np.exp(x - m).sum(axis=AXIS, keepdims=True, dtype=wide))
            return (lse + m - picked).mean(dtype=np.float64)

        return [loss]

    def loss_grad(self, smoothing=0.0):
        def loss_grad(x, labels):
            picked = np.expand_dims(labels, AXIS)
            log_probs = self.log_softmax()[1](x)
            loss = -(1 - smoothing) * np.take_along_axis(log_probs, picked, AXIS).mean(dtype=np.float64)
            if smoothing:
                loss -= smoothing * log_probs.mean(dtype=np.float64)
            grad = np.exp(log_probs, out=log_probs)
            if smoothing:
                grad -= smoothing / x.shape[AXIS]
            target = np.take_along_axis(grad, picked, AXIS) - (1 - smoothing)
            np.put_along_axis(grad, picked, target.astype(x.dtype), AXIS)
            grad /= labels.size
            return loss, grad

        return [loss_grad]

    def loss_grad_in_place(self):
        return self.loss_grad()

    def loss_grad_smoothing(self):
        return self.loss_grad(SMOOTHING)

    def loss_grad_distribution(self):
        def loss_grad(x, targets):
            rows = x.size // x.shape[AXIS]
            log_probs = self.log_softmax()[1](x)
            loss = -(targets * log_probs).sum(dtype=np.float64) / rows
            grad = np.exp(log_probs, out=log_probs)
            grad -= targets
            grad /= rows
            return loss, grad

        return [loss_grad]

    def softmax_backward(self):
        def backward(g, p):
            product = g * p
            product -= p * product.sum(axis=AXIS, keepdims=True)
            return product

        return [backward]

    def log_softmax_backward(self):
        def backward(g, log_p):
            product = np.exp(log_p)
            product *= g.sum(axis=AXIS, keepdims=True)
            return np.subtract(g, product, out=product)

        return [backward]
