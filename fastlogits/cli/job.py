"""One `apply`: what is computed from what, block by block, whoever runs it."""

import functools
import math

import numpy as np

import fastlogits
from fastlogits import _layout, config
from fastlogits.cli import formats
from fastlogits.cli.blocks import Blocks
from fastlogits.cli.failures import named
from fastlogits.cli.operations import Block
from fastlogits.states import BLOCK, label_logits


class Job(Blocks):
    """The operation, its results, and the blocks of its source."""

    def __init__(self, args, source, labels):
        self.operation = args.operation
        dtype = args.dtype and _dtype(args.dtype, args.target.path)
        super().__init__(args, source, labels, getattr(self.operation, "ignore_index", None), dtype)
        with named(source.path):
            numbers = self.dtype if dtype else _layout.COMPUTE.get(self.dtype, np.dtype(np.float32))
            self.results = self.operation.results(source.shape, self.axis, self.dtype, numbers)
        formats.check_holds(args.target, self.results)
        copied = any(shape == source.shape for shape, _ in self.results.values())
        self.cut(args.op, in_pieces=hasattr(self.operation, "state"), copied=copied)
        if not any(math.prod(shape) for shape, _ in self.results.values()):
            # Nothing to compute, of whatever shape that is.
            self.plan = self.plan._replace(step=source.shape)

    def task(self, args):
        """What a run that goes on must have in common with the one that was interrupted."""
        backend = config.backend()
        return {
            "fastlogits": fastlogits.__version__,
            "operation": args.op,
            "options": self._options() | {"axis": self.axis, "dtype": args.dtype},
            "source": self._identity(args.source, self.source),
            "labels": self.labels and self._identity(args.labels, self.labels),
            "target": args.target.suffix,
            "backend": backend.__name__,
            "instruction set": getattr(backend, "isa", None),
            "step": self.plan.step,
        }

    def _options(self):
        options = dict(vars(self.operation))
        return options | options.pop("filters", {})

    @staticmethod
    def _identity(place, array):
        return place.key, array.shape, array.dtype.str, array.state

    @property
    def bytes(self):
        """How many are read: rows in pieces more than once."""
        passes = 1
        if not self.plan.whole_rows:
            passes += ("rank" in self.operation.want) + hasattr(self.operation, "piece")
        return passes * math.prod(self.source.shape) * self.source.dtype.itemsize

    def compute(self, write, region, logits=None, labels=None):
        """Write the results for these rows, of which some may be read; returns how many have NaN."""
        if labels is None and self.labels is not None:
            labels = self.labels_of(region)
        if not self.plan.whole_rows:
            return self._compute_in_pieces(region, write, labels)
        if logits is None:
            logits = self.read(region)
        with self.at_work():
            if not (getattr(self.operation, "integers", False) and logits.dtype.kind in "iu"):
                logits = self.ready(logits)
            results, nan_rows = self.operation(Block(logits, self.axis, labels, self._rows(region)))
        self._deliver(results, region, write)
        return nan_rows

    def _compute_in_pieces(self, region, write, labels):
        with self.at_work():
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
            state = functools.reduce(lambda state, following: state.merge(following), states)
            results, nan_rows = self.operation.from_state(state)
            self._deliver(results, region, write)
            if hasattr(self.operation, "piece"):
                for part, piece in self._pieces(region):
                    self._deliver(self.operation.piece(piece, state), part, write)
        return nan_rows

    def _pieces(self, region):
        """(region, Block) of each piece of these rows."""
        classes, step = self.source.shape[self.axis], self.plan.step[self.axis]
        for start in range(0, classes, step):
            part = (*region[: self.axis], slice(start, min(start + step, classes)), *region[self.axis + 1 :])
            # Where the classes do not lie side by side, the kernels for whole rows have no such blocks.
            aligned = step % BLOCK == 0 and self.plan.order[-1] == self.axis
            yield part, Block(self.ready(self.read(part)), self.axis, first_class=start, aligned=aligned)

    def _deliver(self, results, region, write):
        for name, values in results.items():
            shape, dtype = self.results[name]
            write(name, self._place(region, shape), _layout.rounded(values, dtype))

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


def _dtype(name, path):
    return formats.bfloat16(path) if name == "bfloat16" else np.dtype(name)
