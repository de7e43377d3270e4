"""`fastlogits calibrate`: the temperature that fits the labels, and what it does for the confidences.

The logits are read block by block, several times: once for each look at the likelihood, and for the measures before
and after. Rows without probabilities (NaN or +inf, or nothing but -inf) are counted and left out.
"""

import contextlib
import functools
import itertools
import json
import math
import time

import numpy as np

from fastlogits import _checks
from fastlogits.calibration import CalibrationState, draw_reliability
from fastlogits.calibration._rows import inverse, labelled_rows
from fastlogits.calibration.temperature import Likelihood, optimum
from fastlogits.cli.blocks import Blocks
from fastlogits.cli.failures import Failure, library, named
from fastlogits.cli.operations import impossible
from fastlogits.cli.progress import bar
from fastlogits.cli.regions import lengths
from fastlogits.cli.whole import appearing
from fastlogits.states import label_logits

MEASURES = {
    "nll": CalibrationState.negative_log_likelihood,
    "brier": CalibrationState.brier_score,
    "ece": CalibrationState.expected_calibration_error,
    "mce": CalibrationState.maximum_calibration_error,
    "accuracy": CalibrationState.accuracy,
}
# So many blocks, spread evenly, give a starting point.
SAMPLE = 32


def run(args):
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if args.plot:
            figure = library("matplotlib.figure", args.plot, "plot").Figure(figsize=(10, 5.5), layout="constrained")
        plot, save = (path and stack.enter_context(appearing(path, args.force)) for path in (args.plot, args.save))
        source, labels = (stack.enter_context(contextlib.closing(place.open())) for place in (args.source, args.labels))
        try:
            summary, states = _calibrated(LabelledBlocks(args, source, labels), args)
        except KeyboardInterrupt:
            raise Failure(source.path, "interrupted", status=130) from None
        summary["seconds"] = round(time.perf_counter() - start, 3)
        if plot:
            _draw(figure, states, plot, args.plot)
        if save:
            with named(args.save), open(save, "w") as file:
                file.write(json.dumps(summary) + "\n")
    return summary


class LabelledBlocks(Blocks):
    """Rows with labels, to be read again and again."""

    def __init__(self, args, source, labels):
        super().__init__(args, source, labels, args.ignore_index)
        self.cut("calibrate")
        self.bins, self.progress = args.bins, args.progress

    def total(self, call, regions, what):
        """The sum of what `call(logits, labels)` returns for all these blocks, each a tuple of things to be added."""
        regions = list(regions)
        size = sum(math.prod(lengths(region)) for region in regions) * self.source.dtype.itemsize
        with (
            bar(size, 0, self.progress, what) as shown,
            contextlib.closing(self.each(functools.partial(self._of, call), regions)) as found,
        ):
            self.seen = shown.update
            return functools.reduce(_added, found)

    def _of(self, call, region, logits=None, labels=None):
        labels = self.labels_of(region) if labels is None else labels
        logits = self.read(region) if logits is None else logits
        with self.at_work():
            return call(*self._usable(self.ready(logits), labels, region))

    def _usable(self, logits, labels, region):
        """(logits, labels), -1 in rows that do not count, and how many rows are without probabilities."""
        counted = labels != self.ignore_index
        left_out = counted & impossible(logits, self.axis)
        labels = np.where(counted & ~left_out, labels.astype(np.int64), -1)
        never = np.isneginf(label_logits(logits, labels, self.axis))
        if never.any():
            raise Failure(self.source.path, f"the label's logit is -inf in row {self.first(never, region)}")
        return logits, labels, int(left_out.sum())

    def state(self, temperature, what):
        """The `CalibrationState` of all rows, and how many are without probabilities."""

        def call(logits, labels, left_out):
            options = {"bins": self.bins, "axis": self.axis, "ignore_index": -1}
            return CalibrationState.of(logits, labels, temperature=temperature, **options), left_out

        return self.total(call, self.plan.blocks(), what)


class LikelihoodOfBlocks(Likelihood):
    """From every `step`-th of the blocks."""

    def __init__(self, blocks, step=1):
        self.blocks, self.step = blocks, step

    def means(self, beta):
        def call(logits, labels, left_out):
            rows = labelled_rows(logits, labels, self.blocks.axis, ignore_index=-1)
            results = rows.empty()
            rows.moments(beta, results)
            rest, *moments, _ = results
            return rows.total, *(float(np.add.reduce(values)) for values in (np.log1p(rest), *moments))

        regions = itertools.islice(self.blocks.plan.blocks(), None, None, self.step)
        rows, *sums = self.blocks.total(call, regions, "fit")
        self.mean_log_norm, *means = (value / max(1, rows) for value in sums)
        return means

    def log_norm(self):
        return self.mean_log_norm


def _added(these, those):
    return [a.merge(b) if hasattr(a, "merge") else a + b for a, b in zip(these, those, strict=True)]


def _calibrated(blocks, args):
    """(summary, the states before and after)"""
    before, nan_rows = blocks.state(1.0, "before")
    if not before.rows:
        raise Failure(blocks.labels.path, "no row counts: all are ignored, or without probabilities")
    step, sample = blocks.plan.count // SAMPLE, None
    # What is decoded in order would be decoded as a whole for a part of it.
    if step >= 8 and not blocks.source.ordered:
        sample = LikelihoodOfBlocks(blocks, step)
    fit = optimum(LikelihoodOfBlocks(blocks), sample)
    after, _ = blocks.state(fit.temperature, "after")
    summary = {
        "source": args.source.path,
        "labels": args.labels.path,
        "shape": blocks.source.shape,
        "dtype": str(blocks.source.dtype),
        "axis": blocks.axis,
        "rows": before.rows,
        "nan_rows": nan_rows,
        "temperature": 1 / inverse(fit.temperature),
        "passes": fit.iterations,
        "bins": args.bins,
        "before": {name: measure(before) for name, measure in MEASURES.items()},
        "after": {name: measure(after) for name, measure in MEASURES.items()},
        "plot": args.plot,
    }
    return summary, {"before": before, "after": after}


def _draw(figure, states, partial, path):
    for ax, (when, state) in zip(figure.subplots(1, 2), states.items(), strict=True):
        draw_reliability(state.reliability_curve(), ax)
        ax.set_xlabel(f"Confidence {when} temperature scaling")
    with named(path):
        figure.savefig(partial, format=path.rpartition(".")[2].lower())


def text(summary):
    lowest, highest = (1 / beta for beta in reversed(_checks.SCALE_RANGE))
    limits = {lowest: "the lowest: all labels have the largest logits", highest: "the highest: labels are no likelier"}
    temperature = summary["temperature"]
    nan = f"; {summary['nan_rows']} without probabilities (NaN, infinite) left out" if summary["nan_rows"] else ""
    limit = f" ({limits[temperature]})" if temperature in limits else ""
    return "\n".join(
        [
            f"temperature {temperature:.6g}{limit}, fitted to {summary['rows']} rows of {summary['source']}{nan}",
            f"{'':<10}{'before':>10}{'after':>10}",
            *(f"{name:<10}{summary['before'][name]:>10.5f}{summary['after'][name]:>10.5f}" for name in MEASURES),
        ]
    )
