"""What is measured: sizes, inputs, operations; and the check that comes before any timing.

The only table of sizes and the only table of operations; compare.py, gate.py and the asv suite read them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

# The class axis is axis 1 of all of them, which is where torch's cross_entropy expects it.
SIZES = {
    "1x3": (1, 3),  # a call's overhead and nothing else
    "32x10": (32, 10),
    "65536x10": (65536, 10),
    "8192x100": (8192, 100),
    "128x1000": (128, 1000),
    "4096x1000": (4096, 1000),
    "256x32000": (256, 32000),
    "256x128256": (256, 128256),
    "1x128256": (1, 128256),
    "8x21x256x256": (8, 21, 256, 256),
}
AXIS = 1

DTYPES = {"float32": np.float32, "bfloat16": bfloat16, "float16": np.float16, "float64": np.float64}
DTYPES = {name: np.dtype(dtype) for name, dtype in DTYPES.items() if dtype}

# Largest error of ours and of a peer, as a share of the largest value: enough to see that all compute the
# same thing. How exact ours are is for the tests to say.
TOLERANCES = {
    "float64": (1e-14, 1e-11),
    "float32": (2e-6, 1e-4),
    "float16": (2e-3, 2e-2),
    "bfloat16": (2e-2, 1e-1),
}

SMOOTHING = 0.1
CHUNK = 1 << 20  # logits taken to float64 at a time


class Inputs:
    """The arrays of one size and dtype, made when first asked for, and what exact results need of them."""

    def __init__(self, size, dtype, seed=0):
        self.size, self.dtype = size, dtype
        self.shape = SIZES.get(size) or tuple(map(int, size.split("x")))
        self.classes = self.shape[AXIS]
        self.batch_shape = self.shape[:AXIS] + self.shape[AXIS + 1 :]
        self.num_rows = int(np.prod(self.batch_shape))
        self._seed, self._compute = seed, np.float64 if dtype == "float64" else np.float32
        spread = np.random.default_rng(seed).choice(self.num_rows, min(self.num_rows, 64), replace=False)
        self.picked = np.sort(spread)

    def _normal(self, stream):
        rng = np.random.default_rng([self._seed, stream])
        return rng.standard_normal(self.shape, self._compute)

    @functools.cached_property
    def logits(self):
        return (4 * self._normal(0)).astype(DTYPES[self.dtype])

    @functools.cached_property
    def labels(self):
        return np.random.default_rng(self._seed).integers(0, self.classes, self.batch_shape)

    @functools.cached_property
    def drawn(self):
        """Labels as of a model that is too sure of itself."""
        noise = np.random.default_rng([self._seed, 3]).gumbel(size=self.shape).astype(self._compute)
        return (self.logits.astype(self._compute) / self._compute(1.7) + noise).argmax(AXIS)

    @functools.cached_property
    def targets(self):
        """A distribution for each row."""
        mass = self._normal(1) ** 2
        return (mass / mass.sum(axis=AXIS, keepdims=True)).astype(DTYPES[self.dtype])

    @functools.cached_property
    def grad(self):
        """What arrives at the result in a backward pass."""
        return self._normal(2).astype(DTYPES[self.dtype])

    @functools.cached_property
    def log_probs(self):
        log_probs = self.logits.astype(self._compute)
        log_probs -= np.expand_dims(self.lse.reshape(self.batch_shape), AXIS).astype(self._compute)
        return log_probs.astype(DTYPES[self.dtype])

    @functools.cached_property
    def probs(self):
        return np.exp(self.log_probs.astype(self._compute)).astype(DTYPES[self.dtype])

    def rows(self, name, index=None):
        """Some rows of an array (by default the picked ones) in float64, classes last."""
        rows = self.by_row(getattr(self, name))
        return rows[self.picked if index is None else index].astype(np.float64)

    def by_row(self, array):
        return np.moveaxis(array, AXIS, -1).reshape(-1, self.classes)

    def _over_rows(self, function, *names):
        step = max(1, CHUNK // self.classes)
        tables = [self.by_row(getattr(self, name)) for name in names]
        chunks = (slice(start, start + step) for start in range(0, self.num_rows, step))
        return np.concatenate([function(*(t[chunk].astype(np.float64) for t in tables)) for chunk in chunks])

    @functools.cached_property
    def lse(self):
        """log-sum-exp of every row, exact for our purposes."""

        def formula(x):
            m = x.max(axis=1, keepdims=True)
            return m[:, 0] + np.log(np.exp(x - m).sum(axis=1))

        return self._over_rows(formula, "logits")

    @functools.cached_property
    def mean_losses(self):
        """Mean loss for plain labels and for labels smoothed."""
        x = self.by_row(self.logits)
        picked = x[np.arange(self.num_rows), self.labels.ravel()].astype(np.float64)
        means = self._over_rows(lambda x: x.mean(axis=1), "logits")
        plain, uniform = np.mean(self.lse - picked), np.mean(self.lse - means)
        return plain, (1 - SMOOTHING) * plain + SMOOTHING * uniform

    @functools.cached_property
    def mean_soft_loss(self):
        cross = self._over_rows(lambda t, x: (t * x).sum(axis=1), "targets", "logits")
        mass = self._over_rows(lambda t: t.sum(axis=1), "targets")
        return np.mean(mass * self.lse - cross)


def exact_log_probs(inputs):
    return inputs.rows("logits") - inputs.lse[inputs.picked, None]


def exact_gradient(inputs, target):
    probs = np.exp(exact_log_probs(inputs))
    return (probs * target.sum(axis=1, keepdims=True) - target) / inputs.num_rows


def exact_hard_gradient(inputs, smoothing=0.0):
    one_hot = np.arange(inputs.classes) == inputs.labels.ravel()[inputs.picked, None]
    return exact_gradient(inputs, (1 - smoothing) * one_hot + smoothing / inputs.classes)


def exact_softmax_backward(inputs):
    g, p = inputs.rows("grad"), inputs.rows("probs")
    return p * (g - (g * p).sum(axis=1, keepdims=True))


def exact_log_softmax_backward(inputs):
    g, log_p = inputs.rows("grad"), inputs.rows("log_probs")
    return g - np.exp(log_p) * g.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Operation:
    """A row of the table: how we are called, what must come out, and the least work it can be done with.

    `takes` names arrays of `Inputs`; `call(fastlogits, *arrays)` is ours; `exact(inputs)` gives what the
    result must be in the picked rows. It must write `writes` arrays of the logits' size and take `exps`
    exponentials for each logit.
    """

    takes: tuple
    call: Callable
    exact: Callable
    writes: int = 1
    exps: int = 1
    in_place: bool = False

    @property
    def reads(self):
        return len(self.takes) - ("labels" in self.takes)


def with_grad(lib, x, labels, **options):
    return lib.cross_entropy_with_grad(x, labels, axis=AXIS, **options)


LABELLED = ("logits", "labels")

OPERATIONS = {
    "softmax": Operation(
        ("logits",),
        lambda lib, x: lib.softmax(x, AXIS),
        lambda inputs: np.exp(exact_log_probs(inputs)),
    ),
    "log_softmax": Operation(
        ("logits",),
        lambda lib, x: lib.log_softmax(x, AXIS),
        exact_log_probs,
    ),
    "logsumexp": Operation(
        ("logits",),
        lambda lib, x: lib.logsumexp(x, AXIS),
        lambda inputs: inputs.lse[inputs.picked],
        writes=0,
    ),
    "argmax": Operation(
        ("logits",),
        lambda lib, x: lib.argmax(x, AXIS),
        lambda inputs: inputs.rows("logits").max(axis=1),  # the logit found: `check` looks it up
        writes=0,
        exps=0,
    ),
    "loss": Operation(
        LABELLED,
        lambda lib, x, labels: lib.cross_entropy(x, labels, axis=AXIS),
        lambda inputs: (inputs.mean_losses[0],),
        writes=0,
    ),
    "loss_grad": Operation(
        LABELLED,
        with_grad,
        lambda inputs: (inputs.mean_losses[0], exact_hard_gradient(inputs)),
    ),
    "loss_grad_in_place": Operation(
        LABELLED,
        lambda lib, x, labels: with_grad(lib, x, labels, out=x),
        lambda inputs: (inputs.mean_losses[0], exact_hard_gradient(inputs)),
        in_place=True,
    ),
    "loss_grad_smoothing": Operation(
        LABELLED,
        lambda lib, x, labels: with_grad(lib, x, labels, label_smoothing=SMOOTHING),
        lambda inputs: (inputs.mean_losses[1], exact_hard_gradient(inputs, SMOOTHING)),
    ),
    "loss_grad_distribution": Operation(
        ("logits", "targets"),
        with_grad,
        lambda inputs: (inputs.mean_soft_loss, exact_gradient(inputs, inputs.rows("targets"))),
    ),
    "softmax_backward": Operation(
        ("grad", "probs"),
        lambda lib, g, p: lib.softmax_backward(g, p, AXIS),
        exact_softmax_backward,
        exps=0,
    ),
    "log_softmax_backward": Operation(
        ("grad", "log_probs"),
        lambda lib, g, log_p: lib.log_softmax_backward(g, log_p, AXIS),
        exact_log_softmax_backward,
    ),
}


# What a gradient is the difference of, where it may be far smaller: its error is measured by that.
SUBTRACTED = {
    "softmax_backward": lambda inputs: inputs.rows("grad") * inputs.rows("probs"),
    "log_softmax_backward": lambda inputs: inputs.rows("grad"),
}


def check(name, result, inputs, peer=False):
    """Raise AssertionError unless `result` (NumPy arrays, one or a tuple) is what the operation must give."""
    exact = OPERATIONS[name].exact(inputs)
    results, exacts = (r if isinstance(r, tuple) else (r,) for r in (result, exact))
    tolerance = TOLERANCES[inputs.dtype][peer]
    assert len(results) == len(exacts), f"{name}: {len(results)} results"
    for value, expected in zip(results, exacts, strict=True):
        value, expected = np.asarray(value), np.asarray(expected)
        if value.shape == inputs.shape:
            value = inputs.by_row(value)[inputs.picked]
        elif value.ndim:
            value = value.ravel()[inputs.picked]
        if name == "argmax":
            value = np.take_along_axis(inputs.rows("logits"), value[:, None].astype(np.int64), 1)[:, 0]
        largest = np.abs(expected).max()
        if name in SUBTRACTED:
            largest = max(largest, np.abs(SUBTRACTED[name](inputs)).max())
        # The mean's gradient of many rows is so small that float16 has few numbers for it.
        step = np.finfo(value.dtype).smallest_subnormal if value.dtype == np.float16 else 0.0
        error = max(0.0, np.abs(value.astype(np.float64) - expected).max() - step) / largest
        assert error <= tolerance, f"{name} is wrong: error {error:.1e} of the largest value"
