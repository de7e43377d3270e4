"""Logits in a file, with their labels, cut into blocks that some threads read and work on."""

import collections
import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastlogits
from fastlogits import _checks, config
from fastlogits.cli import formats, interrupts
from fastlogits.cli.failures import Failure, named
from fastlogits.cli.plan import HELD, plan

# Blocks on their way per worker: enough for a steady flow, few enough for Ctrl-C to be heard soon.
WAITING = 4


class Blocks:
    """Logits of `source` and perhaps `labels`, of which `ignore_index` may be one. Threads may share it.

    Results in `dtype` (None: that of the logits) are of blocks as wide before as after.
    """

    def __init__(self, args, source, labels, ignore_index=None, dtype=None):
        self.source, self.labels, self.ignore_index = source, labels, ignore_index
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
        self.plan = plan(source, self.axis, self.itemsize, args.memory, self.threads)
        self._own, self._processors = threading.local(), threading.Semaphore(self.threads)
        self.stopped, self.seen = False, lambda amount: None

    def _check_labels(self):
        expected = self._batch(self.source.shape)
        if self.labels.dtype.kind not in "iu":
            raise Failure(self.labels.path, f"expected integer labels, found {self.labels.dtype}")
        if self.labels.shape != expected:
            raise Failure(self.labels.path, f"expected labels of shape {expected}, found {self.labels.shape}")

    def check_whole_rows(self, what):
        """For what cannot be done with pieces of rows."""
        if not self.plan.whole_rows:
            needed = HELD * self.source.shape[self.axis] * self.itemsize
            raise Failure(self.source.path, f"{what} needs whole rows in memory: at least --memory {needed}")

    def check_unchanged(self):
        """That nobody wrote to the files while they were read."""
        for array in filter(None, (self.source, self.labels)):
            if formats.state(array.path) != array.state:
                raise Failure(array.path, "changed while it was read")

    def each(self, call, regions):
        """call(region, logits, labels) of one block after the other; some threads do them, and read what is None."""
        with ThreadPoolExecutor(self.plan.workers) as pool:
            try:
                yield from self._in_order(pool, call, regions)
                self.check_unchanged()
            except BaseException:
                interrupts.heard()
                self.stopped = True
                pool.shutdown(cancel_futures=True)
                raise

    def _in_order(self, pool, call, regions):
        waiting = collections.deque()
        # What is read here has to be kept until a worker takes it.
        most = self.plan.workers + 1 if self.source.ordered else WAITING * self.plan.workers
        for region in regions:
            if len(waiting) >= most:
                yield waiting.popleft().result()
            waiting.append(pool.submit(call, region, *self._read_in_order(region)))
        while waiting:
            yield waiting.popleft().result()

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
        batch = self._batch(region)
        labels, classes = self.labels.read(batch), self.source.shape[self.axis]
        bad = ((labels < 0) | (labels >= classes)) & (labels != self.ignore_index)
        if bad.any():
            found, row = labels[bad][0], self.first(bad, region)
            raise Failure(self.labels.path, f"expected labels in [0, {classes}), found {found} at {row}")
        return labels

    def first(self, bad, region):
        """The place in the file of the first of a region's rows that is bad."""
        place = np.unravel_index(np.argmax(bad), bad.shape)
        return tuple(int(i) + part.start for i, part in zip(place, self._batch(region), strict=True))

    def _batch(self, axes):
        return (*axes[: self.axis], *axes[self.axis + 1 :])


def _native(dtype):
    """The dtype of the results for logits of this one."""
    native = dtype.newbyteorder("=")
    if (native.kind == "f" and native.itemsize <= 8) or native.name == "bfloat16":
        return native
    return _checks.promoted("logits", dtype)
