"""What `apply` makes of logits.

An operation says which options it takes and needs, and of which shapes and dtypes its results are, given the dtype of
what has the logits' shape and that of numbers of rows. Called with a block of whole rows it returns the results and how
many rows have NaN; it may write over the logits. If it takes `integers`, they come as they are, and are compared
exactly; otherwise as float64.

Rows larger than the memory come in pieces along the class axis, if the operation has a `state`. The states of all
pieces are merged, and `from_state` makes of that results and NaN count; with it, `piece` makes each piece's results.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import fastlogits
from fastlogits import _checks, _layout
from fastlogits.cli.regions import regions, steps
from fastlogits.states import RowState, SoftmaxState, normalized

# Bytes of logits that are converted at once: the copies in float64 stay in cache.
TOGETHER = 1 << 16


class Block(NamedTuple):
    """Logits, their class axis, the labels and numbers of their rows; where in the class axis a piece begins.

    A piece is `aligned` if it is of whole blocks of the kernels: what they find in those is what they find in the row.
    """

    logits: np.ndarray
    axis: int
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None
    first_class: int = 0
    label_logits: np.ndarray | None = None
    aligned: bool = False


class Stats:
    """any of lse, nll, argmax, correct, entropy, max_prob, rank, margin, topk_ids and topk_log_probs"""

    takes, needs = ("want", "labels", "ignore_index", "top_k", "temperature", "ties"), ()

    def __init__(self, want=None, labels=None, ignore_index=-100, top_k=None, temperature=1.0, ties="first"):
        self.want, self.ignore_index, self.top_k = want, ignore_index, top_k
        self.temperature, self.ties = temperature, ties
        # What is wanted by default, and what cannot be had, shows in any state.
        self.want = self.state(Block(np.zeros((1, 1)), 1, None if labels is None else np.zeros(1, int))).want

    def results(self, shape, axis, dtype, numbers):
        _checks.top_k("top_k", self.top_k or 0, shape[axis])
        dtypes = dict.fromkeys(("argmax", "rank", "topk_ids"), np.dtype(np.int64)) | {"correct": np.dtype(bool)}
        batch, of_classes = (*shape[:axis], *shape[axis + 1 :]), (*shape[:axis], self.top_k, *shape[axis + 1 :])
        return {n: (of_classes if n.startswith("topk") else batch, dtypes.get(n, numbers)) for n in self.want}

    def state(self, block):
        return RowState.of(
            block.logits,
            block.labels,
            want=self.want,
            top_k=self.top_k,
            axis=block.axis,
            ignore_index=self.ignore_index,
            temperature=self.temperature,
            ties=self.ties,
            first_class=block.first_class,
            label_logits=block.label_logits,
        )

    def from_state(self, state):
        """The results, and how many rows have NaN."""
        results = vars(state.results())
        nan = np.isnan(state.parts["peak"])
        for name, values in results.items():
            if values.dtype.kind not in "biu":
                nan |= np.isnan(values).any(state.axis) if name.startswith("topk") else np.isnan(values)
        return results, int(nan.sum())

    def __call__(self, block):
        return self.from_state(self.state(block))


class LogSumExp(Stats):
    """the logarithm of the sum of exponentials"""

    takes = ()

    def __init__(self):
        super().__init__(["lse"])

    def __call__(self, block):
        lse = np.asarray(fastlogits.logsumexp(block.logits, block.axis))
        return {"lse": lse}, int(np.isnan(lse).sum())

    def state(self, block):
        return SoftmaxState.of(block.logits, block.axis, 1.0) if block.aligned else super().state(block)

    @np.errstate(all="ignore")
    def from_state(self, state):
        if isinstance(state, RowState):
            return super().from_state(state)
        peak, rest = state.settled(1.0)
        lse = np.where(np.isinf(peak), peak, peak + np.log1p(rest))
        return {"lse": lse}, int(np.isnan(lse).sum())


class ArgMax(Stats):
    """the index of the largest logit"""

    takes = ()
    integers = True

    def __init__(self):
        super().__init__(["argmax"])

    def __call__(self, block):
        found = np.asarray(fastlogits.argmax(block.logits, block.axis))
        largest = np.take_along_axis(block.logits, np.expand_dims(found, block.axis), block.axis)
        return {"argmax": found}, int(np.isnan(largest).sum())


class TopK(Stats):
    """the largest logits and their indices"""

    takes = needs = ("top_k",)
    integers = True

    def __init__(self, top_k):
        super().__init__(["topk_ids"], top_k=_checks.top_k("top_k", top_k))

    def results(self, shape, axis, dtype, numbers):
        ((shape, ids),) = super().results(shape, axis, dtype, numbers).values()
        return {"values": (shape, dtype), "indices": (shape, ids)}

    def __call__(self, block):
        if block.logits.dtype.kind == "f":
            return super().__call__(block)
        return fastlogits.topk(block.logits, self.top_k, block.axis)._asdict(), 0

    def from_state(self, state):
        results, nan_rows = super().from_state(state)
        values = np.moveaxis(state.parts["top_values"], -1, state.axis)
        return {"values": values, "indices": results["topk_ids"]}, nan_rows


class Temperature:
    """the logits divided by a temperature"""

    takes = needs = ("temperature",)
    want = ("argmax",)

    def __init__(self, temperature):
        self.temperature = _checks.scale("temperature", temperature)

    def results(self, shape, axis, dtype, numbers):
        return {"logits": (shape, dtype)}

    def __call__(self, block):
        x = self._scaled(block.logits)
        return {"logits": x}, int(np.isnan(x).any(block.axis).sum())

    def _scaled(self, x):
        if self.temperature != 1:
            # In float64, as much at a time as NumPy buffers: the quotient is rounded once.
            with np.errstate(all="ignore"):
                np.divide(x, self.temperature, out=x, dtype=np.float64, casting="unsafe")
        return x

    def state(self, block):
        return RowState.of(self._scaled(block.logits), want=self.want, axis=block.axis, first_class=block.first_class)

    def from_state(self, state):
        return {}, int(np.isnan(state.parts["peak"]).sum())

    def piece(self, block, state):
        return {"logits": self._scaled(block.logits)}


class Softmax(Temperature):
    """probabilities"""

    needs = ()
    want = ("lse",)
    name, function, log = "probs", staticmethod(fastlogits.softmax), False

    def __init__(self, temperature=1.0):
        super().__init__(temperature)

    def results(self, shape, axis, dtype, numbers):
        return {self.name: (shape, dtype)}

    def __call__(self, block):
        x, axis = block.logits, block.axis
        values = self.function(x, axis, temperature=self.temperature, out=x)
        first = values.take(range(min(1, x.shape[axis])), axis)
        return {self.name: values}, int(np.isnan(first).sum())

    def state(self, block):
        if block.aligned:
            return SoftmaxState.of(block.logits, block.axis, 1 / self.temperature)
        return super().state(block)

    def from_state(self, state):
        peak = state.parts["peak"] if isinstance(state, RowState) else state.settled(1 / self.temperature)[0]
        return {}, int((~np.isfinite(peak)).sum())

    @np.errstate(all="ignore")
    def piece(self, block, state):
        x, axis, scale = block.logits, block.axis, 1 / self.temperature
        if isinstance(state, SoftmaxState):
            return {self.name: normalized(x, axis, *state.settled(scale), scale, self.log)}
        x = self._scaled(x)
        peak, rest = (np.expand_dims(state.parts[name], axis) for name in ("peak", "rest"))
        for region in regions(x.shape, steps(x.shape, x.itemsize, TOGETHER)):
            row = (*region[:axis], slice(0, 1), *region[axis + 1 :])
            x[region] = self._from_log((x[region] - peak[row]) - np.log1p(rest[row]), x.dtype)
        return {self.name: x}

    def _from_log(self, log_probs, dtype):
        """Probabilities, as everywhere 0 below the smallest normal number."""
        probs = np.exp(log_probs)
        return np.where(probs < np.finfo(_layout.COMPUTE[dtype]).tiny, 0, probs)


class LogSoftmax(Softmax):
    """log-probabilities"""

    name, function, log = "log_probs", staticmethod(fastlogits.log_softmax), True

    def _from_log(self, log_probs, dtype):
        return log_probs


class Sample:
    """a class of each row, drawn by its probability, and the logarithm of that; -1 for rows with NaN or +inf"""

    takes = (
        "seed", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "min_keep",
    )  # fmt: skip
    needs = ()
    numbered = True

    def __init__(self, seed=0, **filters):
        self.seed, self.filters = seed, filters
        self(Block(np.zeros((1, 1)), 1, rows=np.zeros(1, int)))  # which checks them

    def results(self, shape, axis, dtype, numbers):
        batch = (*shape[:axis], *shape[axis + 1 :])
        return {"ids": (batch, np.dtype(np.int64)), "log_probs": (batch, numbers)}

    def __call__(self, block):
        x, axis = block.logits, block.axis
        bad = impossible(x, axis, self.filters.get("temperature") or 1)
        np.copyto(x, 0, where=np.expand_dims(bad, axis))
        ids, log_probs = fastlogits.sample(x, seed=self.seed, rows=block.rows, axis=axis, **self.filters)
        ids, log_probs = np.where(bad, -1, ids), np.where(bad, log_probs.dtype.type(np.nan), log_probs)
        return {"ids": ids, "log_probs": log_probs}, int(bad.sum())


@np.errstate(all="ignore")
def impossible(logits, axis, temperature=1):
    """Rows without probabilities: the largest logit is not finite, or not after the division by the temperature."""
    peak = RowState.of(logits, want=["argmax"], axis=axis).parts["peak"] / temperature
    return ~np.isfinite(peak.astype(_layout.COMPUTE[logits.dtype]))


OPERATIONS = {
    "softmax": Softmax,
    "log-softmax": LogSoftmax,
    "logsumexp": LogSumExp,
    "argmax": ArgMax,
    "topk": TopK,
    "stats": Stats,
    "sample": Sample,
    "temperature": Temperature,
}
