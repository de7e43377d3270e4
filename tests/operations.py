"""One table of the public operations, so that a claim about all of them is written once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import oracle
from tolerance import BFLOAT16, Exact


def make_logits(rows, classes, dtype, seed=0):
    """Rows of every kind: plain, equal, shifted far up and down, masked, dominated, spread wide."""
    rng = np.random.default_rng([seed, rows, classes])
    x = 4 * rng.standard_normal((rows, classes))
    kind = np.arange(rows) % 7
    x[kind == 1] = 0.25
    x[kind == 2] += 1e4
    x[kind == 3] -= 1e4
    masked = (kind[:, None] == 4) & (rng.random(x.shape) < 0.5)
    masked[:, -1] = False
    x[masked] = -np.inf
    x[kind == 5, classes // 2] = 40
    x[kind == 6] = rng.choice([-1e4, 0, 1e4], x[kind == 6].shape)
    return x.astype(dtype)


def plain_softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def plain_log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def plain_logsumexp(x):
    m = x.max(axis=-1, keepdims=True)
    return (m + np.log(np.exp(x - m).sum(axis=-1, keepdims=True)))[..., 0]


def plain_entropy(x):
    p = plain_softmax(x)
    return -(p * np.where(p == 0, 0, plain_log_softmax(x))).sum(axis=-1)


def plain_loss_and_gradient(x, labels):
    picked = labels[..., None]
    loss = -np.take_along_axis(plain_log_softmax(x), picked, -1)[..., 0]
    grad = plain_softmax(x)
    np.put_along_axis(grad, picked, np.take_along_axis(grad, picked, -1) - 1, -1)
    return loss, grad


def row_losses(module, x, labels, **options):
    return module.cross_entropy(x, labels, reduction="none", **options)


def gradient_of_sum(module, x, labels, **options):
    return module.cross_entropy_with_grad(x, labels, reduction="sum", **options).grad_logits


@dataclass(frozen=True)
class Operation:
    """How to call one public function on logits, and what it must return.

    `arguments(x)` gives the arrays it takes for logits x (classes last), the logits or what stands in their
    place first; `exact(*arguments)` is the oracle; `plain(*arguments)` what users write today.
    """

    arguments: Callable
    exact: Callable
    plain: Callable
    has_out: bool = False
    call: Callable = None


def gradient_like(x):
    return np.random.default_rng(x.shape[-1]).standard_normal(x.shape).astype(x.dtype)


def labels_like(x):
    """The largest class in every other row, the last one in the rest."""
    largest = np.argmax(x.astype(np.float64), axis=-1)
    odd = np.arange(largest.size).reshape(largest.shape) % 2
    return np.where(odd, x.shape[-1] - 1, largest)


def just_logits(x):
    return (x,)


OPERATIONS = {
    "softmax": Operation(just_logits, oracle.softmax, plain_softmax, has_out=True),
    "log_softmax": Operation(just_logits, oracle.log_softmax, plain_log_softmax, has_out=True),
    "logsumexp": Operation(just_logits, oracle.logsumexp, plain_logsumexp),
    "argmax": Operation(
        just_logits,
        lambda x: Exact(oracle.argmax(x), np.zeros(())),
        lambda x: np.argmax(x, axis=-1),
    ),
    "entropy": Operation(
        just_logits,
        lambda x: oracle.row_stats(x, np.zeros(x.shape[:-1], int), 1)["entropy"],
        plain_entropy,
    ),
    "softmax_backward": Operation(
        lambda x: (gradient_like(x), oracle.softmax(x).value.astype(x.dtype)),
        oracle.softmax_backward,
        lambda g, p: p * (g - (g * p).sum(axis=-1, keepdims=True)),
        has_out=True,
    ),
    "log_softmax_backward": Operation(
        lambda x: (gradient_like(x), oracle.log_softmax(x).value.astype(x.dtype)),
        oracle.log_softmax_backward,
        lambda g, log_p: g - np.exp(log_p) * g.sum(axis=-1, keepdims=True),
        has_out=True,
    ),
    "cross_entropy": Operation(
        lambda x: (x, labels_like(x)),
        lambda x, labels: oracle.cross_entropy(x, labels, reduction="none").loss,
        lambda x, labels: plain_loss_and_gradient(x, labels)[0],
        call=row_losses,
    ),
    "cross_entropy_with_grad": Operation(
        lambda x: (x, labels_like(x)),
        lambda x, labels: oracle.cross_entropy(x, labels, reduction="none").grad,
        lambda x, labels: plain_loss_and_gradient(x, labels)[1],
        has_out=True,
        call=gradient_of_sum,
    ),
}
PER_ROW = {"logsumexp", "entropy", "cross_entropy"}  # in float32 at least
LABELLED = ["cross_entropy", "cross_entropy_with_grad"]
WITH_OUT = [name for name, operation in OPERATIONS.items() if operation.has_out]


def call(module, name, *arguments, **options):
    """The named operation of `module`; losses and gradients come back per row and as one array."""
    special = OPERATIONS[name].call
    return special(module, *arguments, **options) if special else getattr(module, name)(*arguments, **options)


def unaligned(x):
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    view = buffer[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def spaced(x, rows=1, classes=1):
    """The same values in an array with room between its rows or its classes, filled with NaN."""
    room = np.full((x.shape[0] * rows, x.shape[1] * classes + 3), np.nan, x.dtype)
    view = room[::rows, : x.shape[1] * classes : classes]
    view[...] = x
    return view


def read_only(x):
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def byte_swapped(x):
    return x if x.dtype == BFLOAT16 else x.astype(x.dtype.newbyteorder())


# Each takes logits (6, C) and gives the array to hand over, and its class axis.
LAYOUTS = {
    "rows": lambda x: (x, -1),
    "axis 0": lambda x: (np.ascontiguousarray(x.T), 0),
    "axis 0 of Fortran": lambda x: (x.T, 0),
    "Fortran": lambda x: (np.asfortranarray(x), 1),
    "one axis": lambda x: (x[0], 0),
    "middle axis": lambda x: (np.ascontiguousarray(x.reshape(2, 3, -1).swapaxes(1, 2)), 1),
    "middle axis of Fortran": lambda x: (np.asfortranarray(x.reshape(2, 3, -1).swapaxes(1, 2)), -2),
    "leading axes swapped": lambda x: (x.reshape(2, 3, -1).swapaxes(0, 1), 2),
    "axis 0 of three": lambda x: (np.ascontiguousarray(np.moveaxis(x.reshape(2, 3, -1), -1, 0)), -3),
    "gaps between rows": lambda x: (spaced(x), -1),
    "every other row": lambda x: (spaced(x, rows=2), -1),
    "every other class": lambda x: (spaced(x, classes=2), -1),
    "columns of wider rows": lambda x: (spaced(x.T.copy()), 0),
    "negative strides": lambda x: (x[::-1, ::-1].copy()[::-1, ::-1], -1),
    "negative row stride": lambda x: (x[::-1].copy()[::-1], -1),
    "one row for all": lambda x: (np.broadcast_to(x[3], x.shape), -1),
    "one class for all": lambda x: (np.broadcast_to(x[:, :1], x.shape), -1),
    "read-only": lambda x: (read_only(x), -1),
    "unaligned": lambda x: (unaligned(x), -1),
    "byte-swapped": lambda x: (byte_swapped(x), -1),
}


def laid_out(arguments, layout):
    """The arguments in a layout, their class axis, and the same arguments plain with the classes last."""
    shape = arguments[0].shape
    views, axis = [], -1
    for argument in arguments:
        if argument.ndim == 2:
            view, axis = LAYOUTS[layout](argument)
        else:
            spread, axis = LAYOUTS[layout](np.broadcast_to(argument[:, None], shape).astype(np.float64))
            view = np.take(spread, 0, axis).astype(argument.dtype)
        views.append(view)
    rank, native = views[0].ndim, arguments[0].dtype
    plain = [np.moveaxis(v, axis, -1).astype(native) if v.ndim == rank else v.copy() for v in views]
    return views, axis, plain


@functools.cache
def case(name, rows, classes, dtype):
    """Arguments of an operation on `make_logits` and the exact answer; shared by the backends, read-only."""
    arguments = OPERATIONS[name].arguments(make_logits(rows, classes, dtype))
    for argument in arguments:
        argument.flags.writeable = False
    return arguments, OPERATIONS[name].exact(*arguments)
