"""One `apply`: what is computed from what, block by block, whoever runs it."""

import contextlib
import functools
import math
import threading

import numpy as np

import fastlogits
from fastlogits import _checks, _layout, config
from fastlogits.cli import formats
from fastlogits.cli.failures import Failure, named
from fastlogits.cli.operations import Block
from fastlogits.cli.plan import HELD, plan
from fastlogits.states import RowState, label_logits


class Job:
    """The operation, its source and labels, its results and the plan. Threads may share it."""

    def __init__(self, args, source, labels):
        self.operation, self.source, self.labels = args.operation, source, labels
        with named(source.path):
            self.axis = _checks.axes(args.axis, len(source.shape))[0]
            native = _native(source.dtype)
            dtype = _dtype(args.dtype, args.target.path) if args.dtype else native
            self.results = self.operation.results(source.shape, self.axis, dtype)
        # Widened before, narrowed after.
        self.work = native if native.itemsize >= dtype.itemsize else dtype
        formats.check_holds(args.target, self.results)
        if labels is not None:
            self._check_labels()
        self.threads = args.threads or config.threads(config.SERIAL_BELOW)
        itemsize = max(source.dtype.itemsize, self.work.itemsize)
        self.plan = plan(source, self.axis, itemsize, args.memory, self.threads)
        if not self.plan.whole_rows and not hasattr(self.operation, "state"):
            needed = HELD * source.shape[self.axis] * itemsize
            raise Failure(source.path, f"{args.op} needs whole rows in memory: at least --memory {needed}")
        self._own, self._processors = threading.local(), threading.Semaphore(self.threads)
        self.stopped, self.seen = False, lambda amount: None

    def _check_labels(self):
        expected = self._batch(self.source.shape)
        if self.labels.dtype.kind not in "iu":
            raise Failure(self.labels.path, f"expected integer labels, found {self.labels.dtype}")
        if self.labels.shape != expected:
            raise Failure(self.labels.path, f"expected labels of shape {expected}, found {self.labels.shape}")

    def task(self, args):
        """What a run that goes on must have in common with the one that was interrupted."""
        backend = config.backend()
        return {
            "fastlogits": fastlogits.__version__,
            "operation": args.op,
            "options": vars(self.operation) | {"axis": self.axis, "dtype": args.dtype},
            "source": self._identity(args.source, self.source),
            "labels": self.labels and self._identity(args.labels, self.labels),
            "target": args.target.suffix,
            "backend": backend.__name__,
            "instruction set": getattr(backend, "isa", None),
            "step": self.plan.step,
        }

    @staticmethod
    def _identity(place, array):
        return place.key, array.shape, array.dtype.str, array.state

    def check_unchanged(self):
        """That nobody wrote to the files while they were read."""
        for array in filter(None, (self.source, self.labels)):
            if formats.state(array.path) != array.state:
                raise Failure(array.path, "changed while it was read")

    @property
    def bytes(self):
        """How many are read: rows in pieces more than once."""
        passes = 1
        if not self.plan.whole_rows:
            passes += ("rank" in self.operation.want) + hasattr(self.operation, "piece")
        return passes * math.prod(self.source.shape) * self.source.dtype.itemsize

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

    def read_in_order(self, region):
        """(logits, labels), what of them should be read before those of the next region; else None."""
        logits = self.read(region) if self.source.ordered and self.plan.whole_rows else None
        return logits, self._labels(region) if self.labels is not None and self.labels.ordered else None

    def compute(self, region, write, logits=None, labels=None):
        """Write the results for these rows, of which some may be read; returns how many have NaN."""
        if labels is None and self.labels is not None:
            labels = self._labels(region)
        if not self.plan.whole_rows:
            return self._compute_in_pieces(region, write, labels)
        if logits is None:
            logits = self.read(region)
        with self._at_work():
            logits = self._ready(logits)
            results, nan_rows = self.operation(Block(logits, self.axis, labels, self._rows(region)))
        self._deliver(results, region, write)
        return nan_rows

    def _compute_in_pieces(self, region, write, labels):
        with self._at_work():
            known = None
            if "rank" in self.operation.want:
                found = (
                    label_logits(piece.logits, labels, self.axis, first_class=piece.first_class)
                    for _, piece in self._pieces(region)
                )
                known = functools.reduce(np.fmax, found)
            states = (
                self.operation.state(piece._replace(labels=labels, label_logits=known))
                for _, piece in self._pieces(region)
            )
            state = functools.reduce(RowState.merge, states)
            results, nan_rows = self.operation.from_state(state)
            self._deliver(results, region, write)
            if hasattr(self.operation, "piece"):
                for part, piece in self._pieces(region):
                    self._deliver(self.operation.piece(piece, state), part, write)
        return nan_rows

    @contextlib.contextmanager
    def _at_work(self):
        threads = max(1, self.threads // self.plan.workers)
        with named(self.source.path), self._processors, fastlogits.settings(num_threads=threads):
            yield

    def _pieces(self, region):
        """(region, Block) of each piece of these rows."""
        classes, step = self.source.shape[self.axis], self.plan.step[self.axis]
        for start in range(0, classes, step):
            part = (*region[: self.axis], slice(start, min(start + step, classes)), *region[self.axis + 1 :])
            yield part, Block(self._ready(self.read(part)), self.axis, first_class=start)

    def _deliver(self, results, region, write):
        for name, values in results.items():
            shape, dtype = self.results[name]
            write(name, self._place(region, shape), _layout.rounded(values, dtype))

    def _ready(self, logits):
        """Logits that may be written over, in the dtype of the work."""
        return logits.astype(self.work, copy=False)

    def _labels(self, region):
        batch = self._batch(region)
        labels, classes = self.labels.read(batch), self.source.shape[self.axis]
        bad = ((labels < 0) | (labels >= classes)) & (labels != self.operation.ignore_index)
        if bad.any():
            place = np.unravel_index(np.argmax(bad), bad.shape)
            row = tuple(int(i) + part.start for i, part in zip(place, batch, strict=True))
            raise Failure(self.labels.path, f"expected labels in [0, {classes}), found {labels[place]} at {row}")
        return labels

    def _rows(self, region):
        """The number of each row among all rows of the file, for operations that ask for it."""
        if not getattr(self.operation, "numbered", False):
            return None
        places = np.ix_(*(range(part.start, part.stop) for part in self._batch(region)))
        return np.ravel_multi_index(places, self._batch(self.source.shape))

    def _place(self, region, shape):
        """Where the results for that part stand in an array of this shape."""
        if shape == self.source.shape:
            return region
        if len(shape) < len(region):
            return self._batch(region)
        return (*region[: self.axis], slice(0, shape[self.axis]), *region[self.axis + 1 :])

    def _batch(self, axes):
        return (*axes[: self.axis], *axes[self.axis + 1 :])


def _native(dtype):
    """The dtype of the results for logits of this one."""
    native = dtype.newbyteorder("=")
    if (native.kind == "f" and native.itemsize <= 8) or native.name == "bfloat16":
        return native
    return _checks.promoted("logits", dtype)


def _dtype(name, path):
    return formats.bfloat16(path) if name == "bfloat16" else np.dtype(name)
