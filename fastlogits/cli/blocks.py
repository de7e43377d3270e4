"""Logits in a file, with their labels, cut into blocks that some threads read and work on."""

import collections
import concurrent.futures
import contextlib
import math
import threading

import numpy as np

import fastlogits
from fastlogits import _checks, config
from fastlogits.cli import formats, interrupts
from fastlogits.cli.failures import Failure, named
from fastlogits.cli.plan import HELD, plan
from fastlogits.cli.workers import Workers

# Blocks on their way per worker: enough for a steady flow, few enough for Ctrl-C to be heard soon.
WAITING = 4
TICK = 0.05  # seconds between two looks for Ctrl-C


class Blocks:
    """Logits of `source` and perhaps `labels`, of which `ignore_index` may be one. Threads may share it.

    Results in `dtype` (None: that of the logits) are of blocks as wide before as after. `cut` makes the blocks.
    """

    def __init__(self, args, source, labels, ignore_index=None, dtype=None):
        self.source, self.labels, self.ignore_index = source, labels, ignore_index
        if args.source.format.ROWS and len(source.shape) == 1:
            example = f"{source.path}:{(args.source.key or 'logit')[:1]}*"
            raise Failure(source.path, f"expected a column per class, as {example}, or of lists; found one number")
        with named(source.path):
            self.axis = _checks.axes(args.axis, len(source.shape))[0]
            native = _native(source.dtype)
        self.dtype = native if dtype is None else dtype
        # Widened before, narrowed after.
        self.work = native if native.itemsize >= self.dtype.itemsize else self.dtype
        if labels is not None:
            self._check_labels()
        self.threads = args.threads or config.threads(config.SERIAL_BELOW)
        self.itemsize = max(source.dtype.itemsize, self.work.itemsize)
        self.memory = args.memory
        self._own, self._processors = threading.local(), threading.Semaphore(self.threads)
        self.stopped, self.seen = False, lambda amount: None

    def cut(self, what, *, in_pieces=False, copied=False):
        """Where `in_pieces` is False `what` cannot be done with pieces of rows; `copied` as of `plan`."""
        source, options = self.source, {"in_pieces": in_pieces, "copied": copied}
        self.plan = plan(source, self.axis, self.itemsize, self.memory, self.threads, **options)
        if not (in_pieces or self.plan.whole_rows):
            needed = HELD * source.shape[self.axis] * self.itemsize
            raise Failure(source.path, f"{what} needs whole rows in memory: at least --memory {needed}")

    def _check_labels(self):
        """Whole numbers of any type, of the shape of the rows, or with a class axis of length 1."""
        expected, labels = self._batch(self.source.shape), self.labels
        kept = (axis for axis in (self.axis, len(expected)) if labels.shape == self._with_axis(expected, axis, 1))
        self.label_axis = next(kept, None)
        fits = labels.shape == expected or self.label_axis is not None
        if labels.dtype.kind not in ("iuf" if fits else "iu"):
            raise Failure(labels.path, f"expected integer labels, found {labels.dtype}")
        if not fits:
            raise Failure(labels.path, f"expected labels of shape {expected}, found {labels.shape}")

    @staticmethod
    def _with_axis(batch, axis, entry):
        return (*batch[:axis], entry, *batch[axis:])

    def check_unchanged(self):
        """That nobody wrote to the files while they were read."""
        for array in filter(None, (self.source, self.labels)):
            if formats.state(array.path) != array.state:
                raise Failure(array.path, "changed while it was read")

    def each(self, call, regions):
        """call(region, logits, labels) of one block after the other; some threads do them, and read what is None."""
        with interrupts.held_back() as let_through, Workers(self.plan.workers) as pool:
            try:
                yield from self._in_order(pool, call, regions, let_through)
                self.check_unchanged()
            except BaseException:
                interrupts.heard()
                self.stopped = True
                pool.shutdown(cancel_futures=True)
                raise

    def _in_order(self, pool, call, regions, let_through):
        waiting = collections.deque()
        # What is read here has to be kept until a worker takes it.
        most = self.plan.workers + 1 if self.source.ordered else WAITING * self.plan.workers
        for region in regions:
            if len(waiting) >= most:
                yield _result(waiting.popleft(), let_through)
            read = self._read_in_order(region)
            waiting.append(pool.submit(call, region, *read))
        while waiting:
            yield _result(waiting.popleft(), let_through)

    def _read_in_order(self, region):
        """(logits, labels), what of them should be read before those of the next region; else None."""
        logits = self.read(region) if self.source.ordered and self.plan.whole_rows else None
        return logits, self.labels_of(region) if self.labels is not None and self.labels.ordered else None

    def read(self, region):
        """That part of the logits. Where it need not be kept in order, in memory that this thread will use again."""
        if self.stopped:
            raise KeyboardInterrupt
        buffer = getattr(self._own, "buffer", None)
        if buffer is None:
            buffer = self._own.buffer = np.empty(math.prod(self.plan.step) * self.source.dtype.itemsize, np.uint8)
        logits = self.source.read(region, buffer)
        self.seen(logits.nbytes)
        return logits

    @contextlib.contextmanager
    def at_work(self):
        """As one of the threads that compute."""
        threads = max(1, self.threads // self.plan.workers)
        with named(self.source.path), self._processors, fastlogits.settings(num_threads=threads):
            yield

    def ready(self, logits):
        """Logits that may be written over, in the dtype of the work."""
        return logits.astype(self.work, copy=False)

    def labels_of(self, region):
        batch, classes = self._batch(region), self.source.shape[self.axis]
        if self.label_axis is None:
            labels = self.labels.read(batch)
        else:
            labels = self.labels.read(self._with_axis(batch, self.label_axis, slice(0, 1))).squeeze(self.label_axis)
        if labels.dtype.kind == "f":
            self._refuse(labels, labels != np.trunc(labels), region, "whole numbers as labels")
        bad = ((labels < 0) | (labels >= classes)) & (labels != self.ignore_index)
        self._refuse(labels, bad, region, f"labels in [0, {classes})")
        return labels if labels.dtype.kind in "iu" else labels.astype(np.int64)

    def _refuse(self, labels, bad, region, expected):
        if bad.any():
            raise Failure(self.labels.path, f"expected {expected}, found {labels[bad][0]} at {self.first(bad, region)}")

    def first(self, bad, region):
        """The place in the file of the first of a region's rows that is bad."""
        place = np.unravel_index(np.argmax(bad), bad.shape)
        return tuple(int(i) + part.start for i, part in zip(place, self._batch(region), strict=True))

    def _batch(self, axes):
        return (*axes[: self.axis], *axes[self.axis + 1 :])


def _result(future, let_through):
    while concurrent.futures.wait([future], TICK).not_done:
        let_through()
    let_through()
    return future.result()


def _native(dtype):
    """The dtype of the results for logits of this one."""
    native = dtype.newbyteorder("=")
    if (native.kind == "f" and native.itemsize <= 8) or native.name == "bfloat16":
        return native
    return _checks.promoted("logits", dtype)
