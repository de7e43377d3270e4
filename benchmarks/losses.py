"""Losses and softmax with their gradients, as users of a framework write them: with what the framework has itself, and
with ours instead.

A class for each framework, with its `ways` to run something, those of them that the whole grid is measured in, and
`call(side, way, function, arrays)`: a callable without arguments that returns the value and the gradient.
"""

import contextlib
import functools
import threading
from typing import NamedTuple

import frameworks
import numpy as np
from benchmarks.common import AXIS, SMOOTHING

import fastlogits

FUNCTIONS = ("loss", "weighted", "smoothed", "ignoring", "none", "distribution", "softmax", "log_softmax")
IGNORED = -100
STEPS, RATE = 20, 0.1


class Arrays(NamedTuple):
    """What a function takes. `grad` arrives at its result, where that is not a number."""

    logits: np.ndarray
    target: np.ndarray | None
    weight: np.ndarray
    grad: np.ndarray | None

    def exact(self):
        return Arrays(*map(exact, self))


def exact(array):
    return array if array is None or np.issubdtype(array.dtype, np.integer) else array.astype(np.float64)


def arrays_of(function, inputs, classes_last=False):
    logits, labels, target, grad = inputs.logits, inputs.labels, None, None
    if function == "distribution":
        target = inputs.targets
    elif function == "ignoring":
        target = np.where(np.arange(labels.size).reshape(labels.shape) % 4 == 3, IGNORED, labels)
    elif not function.endswith("softmax"):
        target = labels
    if function.endswith("softmax"):
        grad = inputs.grad
    elif function == "none":
        grad = inputs.grad[:, 0]
    weight = np.random.default_rng(1).uniform(0.5, 1.5, inputs.classes).astype(logits.dtype)
    arrays = Arrays(logits, target, weight, grad)
    return Arrays(*map(functools.partial(moved, shape=inputs.shape), arrays)) if classes_last else arrays


def moved(array, shape):
    """With the classes last, if it has them"""
    if array is None or array.shape != shape:
        return array
    return np.ascontiguousarray(np.moveaxis(array, AXIS, -1))


def options_of(function, weight):
    options = {"weighted": {"weight": weight}, "smoothed": {"label_smoothing": SMOOTHING}}
    return options.get(function, {"ignore_index": IGNORED} if function == "ignoring" else {})


class Library:
    classes_last = False
    gridded = ()

    def cells(self, way):
        """The functions of a way apart from the grid, and their only size, if there is one."""
        return ("loss",), None

    def reference(self, way, function, arrays):
        """What must come, from the framework's own function in float64."""
        return self.numpy(self.call("own", way, function, arrays.exact())())

    def beside(self, way):
        """What goes on meanwhile"""
        return contextlib.nullcontext()


class Torch(Library):
    ways = ("eager", "torch.compile")
    gridded = ("eager",)

    def __init__(self, threads):
        import fastlogits.torch

        self.sides = {"own": frameworks.Torch(threads), "ours": frameworks.Torch(threads, fastlogits.torch)}
        self.compiler = frameworks.TorchCompile(threads)
        self.numpy = self.sides["own"].numpy

    def reference(self, way, function, arrays):
        return super().reference("eager", function, arrays)

    def call(self, side, way, function, arrays):
        library = self.sides[side]
        x, target, weight, grad = (array if array is None else library.array(array) for array in arrays)
        x = x.detach().requires_grad_()
        if function.endswith("softmax"):
            normalized = getattr(library.F, function)

            def forward(x, target):
                return normalized(x, AXIS)
        else:
            options = options_of(function, weight) | ({"reduction": "none"} if function == "none" else {})
            forward = functools.partial(library.F.cross_entropy, **options)
        if way == "torch.compile":
            self.compiler.torch.compiler.reset()
            forward = self.compiler.compiled(forward)

        def call():
            result = forward(x, target)
            return result, *library.torch.autograd.grad(result, x, grad)

        return call


class Jax(Library):
    """Own are the formulas of optax, which JAX's users call."""

    ways = gridded = ("jax.jit",)

    def __init__(self, threads):
        import fastlogits.jax

        self.library = frameworks.Jax(threads)
        self.jax, self.numpy = self.library.jax, self.library.numpy
        self.functions = {"own": Optax(self.jax), "ours": fastlogits.jax}

    def call(self, side, way, function, arrays):
        functions, jnp = self.functions[side], self.jax.numpy
        x, target, weight, grad = (array if array is None else self.library.array(array) for array in arrays)
        grad = jnp.ones((), x.dtype) if grad is None else grad

        def rows(x, target):
            return functions.softmax_cross_entropy_with_integer_labels(x, target, axis=AXIS)

        def loss(x, target, weight):
            if function.endswith("softmax"):
                return getattr(functions, function)(x, axis=AXIS)
            if function == "none":
                return rows(x, target)
            if function == "distribution":
                return functions.softmax_cross_entropy(x, target, axis=AXIS).mean()
            if function == "loss":
                return rows(x, target).mean()
            if side == "ours":
                return fastlogits.cross_entropy(x, target, axis=AXIS, **options_of(function, weight))
            if function == "weighted":
                each = weight[target]
                return (each * rows(x, target)).sum() / each.sum()
            if function == "ignoring":
                valid = target != IGNORED
                return jnp.where(valid, rows(x, jnp.where(valid, target, 0)), 0).sum() / valid.sum()
            one_hot = self.jax.nn.one_hot(target, x.shape[AXIS], axis=AXIS, dtype=x.dtype)
            smoothed = (1 - SMOOTHING) * one_hot + SMOOTHING / x.shape[AXIS]
            return functions.softmax_cross_entropy(x, smoothed, axis=AXIS).mean()

        @self.jax.jit
        def step(x, target, weight, grad):
            value, backward = self.jax.vjp(lambda x: loss(x, target, weight), x)
            return value, *backward(grad.astype(value.dtype))

        return functools.partial(self.library.finished, step, x, target, weight, grad)


class Optax:
    def __init__(self, jax):
        self.jnp, self.nn = jax.numpy, jax.nn
        self.softmax, self.log_softmax = jax.nn.softmax, jax.nn.log_softmax

    def softmax_cross_entropy_with_integer_labels(self, logits, labels, axis):
        picked = self.jnp.take_along_axis(logits, self.jnp.expand_dims(labels, axis), axis).squeeze(axis)
        return self.nn.logsumexp(logits, axis=axis) - picked

    def softmax_cross_entropy(self, logits, labels, axis):
        return -(labels * self.nn.log_softmax(logits, axis=axis)).sum(axis)


class TensorFlow(Library):
    """The classes last, as TensorFlow's losses have them."""

    classes_last = True
    ways = ("eager", "tf.function", f"{STEPS} steps", f"{STEPS} steps, busy thread")
    gridded = ("tf.function",)

    def __init__(self, threads):
        import fastlogits.tensorflow

        self.library = frameworks.TensorFlow(threads)
        self.tf, self.numpy = self.library.tf, self.library.numpy
        self.functions = {"own": self.tf.nn, "ours": fastlogits.tensorflow}

    def cells(self, way):
        return ("loss",), "32x10" if "steps" in way else None

    def beside(self, way):
        return python_thread() if way.endswith("thread") else super().beside(way)

    def call(self, side, way, function, arrays):
        x, target, weight, grad = (array if array is None else self.library.array(array) for array in arrays)
        loss = self.loss(side, function, weight)

        def step(x, target):
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x, target)
            return value, tape.gradient(value, x, output_gradients=grad)

        def steps(x, target):
            for _ in range(STEPS):
                value, gradient = step(x, target)
                x -= RATE * gradient
            return value, x

        run = step if way == "eager" else self.tf.function(steps if "steps" in way else step)
        return functools.partial(run, x, target)

    def loss(self, side, function, weight):
        functions, tf = self.functions[side], self.tf

        def rows(x, target):
            return functions.sparse_softmax_cross_entropy_with_logits(target, x)

        def soft(x, target):
            return tf.reduce_mean(functions.softmax_cross_entropy_with_logits(target, x))

        def weighted(x, target):
            each = tf.gather(weight, target)
            return tf.reduce_sum(each * rows(x, target)) / tf.reduce_sum(each)

        def smoothed(x, target):
            one_hot = tf.one_hot(target, x.shape[-1], dtype=x.dtype)
            return soft(x, (1 - SMOOTHING) * one_hot + SMOOTHING / x.shape[-1])

        def ignoring(x, target):
            valid = target != IGNORED
            zero = tf.zeros((), x.dtype)
            losses = tf.where(valid, rows(x, tf.where(valid, target, tf.zeros((), target.dtype))), zero)
            return tf.reduce_sum(losses) / tf.reduce_sum(tf.cast(valid, x.dtype))

        by_name = {
            "loss": lambda x, target: tf.reduce_mean(rows(x, target)),
            "none": rows,
            "distribution": soft,
            "softmax": lambda x, target: functions.softmax(x),
            "log_softmax": lambda x, target: functions.log_softmax(x),
            "weighted": weighted,
            "smoothed": smoothed,
            "ignoring": ignoring,
        }
        if side == "ours" and (options := options_of(function, weight)):
            return lambda x, target: fastlogits.cross_entropy(x, target, **options)
        return by_name[function]


class Keras(Library):
    """A step of training a layer that makes the logits."""

    classes_last = True
    ways = ("train step",)

    def __init__(self, threads):
        self.tensorflow = frameworks.TensorFlow(threads)
        import keras

        import fastlogits.tensorflow.keras as ours

        self.keras = keras
        self.losses = {"own": keras.losses, "ours": ours}

    def call(self, side, way, function, arrays):
        *batch, classes = arrays.logits.shape
        features = np.random.default_rng(2).standard_normal((*batch, 16), np.float32)
        self.keras.utils.set_random_seed(0)
        layers = [self.keras.Input(features.shape[1:]), self.keras.layers.Dense(classes)]
        model = self.keras.Sequential(layers)
        loss = self.losses[side].SparseCategoricalCrossentropy(from_logits=True)
        model.compile(self.keras.optimizers.SGD(RATE), loss)
        step = self.tensorflow.tf.function(model.train_step)
        data = self.tensorflow.array(features), self.tensorflow.array(arrays.target)

        def call():
            step(data)
            return model

        return call

    def numpy(self, model):
        return tuple(np.asarray(weight) for weight in model.get_weights())

    def reference(self, way, function, arrays):
        return self.numpy(self.call("own", way, function, arrays)())


@contextlib.contextmanager
def python_thread():
    """A thread that holds the interpreter whenever it may."""
    ended = threading.Event()

    def count():
        while not ended.is_set():
            pass

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# Ours, which is imported where the framework is already
MODULES = {
    "torch": "fastlogits.torch",
    "tensorflow": "fastlogits.tensorflow",
    "keras": "fastlogits.tensorflow.keras",
    "jax": "fastlogits.jax",
}
LIBRARIES = {"torch": Torch, "tensorflow": TensorFlow, "keras": Keras, "jax": Jax}
