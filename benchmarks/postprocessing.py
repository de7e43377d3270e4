"""What comes after the logits, as a grid: every function by shapes, dtypes, threads and backends, beside the same from
others; and what each costs beside logsumexp of the same array, which no machine changes.

    python benchmarks/postprocessing.py [--functions topk*,filter*] [--sizes 65536x2,2048x1000] [--peers none] [...]

Results are checked before they are timed. The classes are on axis 1 of a size, and any size may be asked for.
"""

import argparse
import contextlib
import functools
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import report
import timing
from benchmarks.common import AXIS, DTYPES, Inputs
from measure import Progress, matching

import fastlogits
from benchmarks import postprocessing as functions

FEW = ("65536x2", "65536x10", "16384x32", "8192x100", "4x21x128x128", "2048x1000")
LARGE = ("256x32000", "32x128256", "1x128256")

# At most so many times logsumexp's time on the same array, in every one of FEW, one thread, float32.
MOST = {
    "entropy": 1.6,
    "row_stats": 3.0,
    "selective_log_softmax": 1.4,
    "accuracy": 1.0,
    "accuracy of the top 5": 1.3,
    "topk 5": 3.0,
    "topk half": 10.0,
    "filter top_k 5": 4.0,
    "filter min_p": 3.0,
    "filter top_p": 10.0,
    "filter typical_p": 12.0,
    "sample": 3.0,
    "sample top_p": 11.0,
    "expected_calibration_error": 2.0,
    "brier_score": 2.0,
    "fit_temperature": 10.0,
}
PEERS = ("numpy", "torch", "torch.compile")


class NumPyFormulas:
    """The formulas of benchmarks/formulas.py, half types by way of float32."""

    def __init__(self, threads):
        self.context = None

    def call(self, name, inputs):
        x = inputs.logits
        if x.itemsize == 2:
            return lambda: functions.CALLS[name][1](x.astype(np.float32), inputs.drawn, AXIS)
        return functools.partial(functions.CALLS[name][1], x, inputs.drawn, AXIS)


class TorchFormulas:
    """The formulas of torch_formulas.py; the faster of half types as they are and by way of float32."""

    def __init__(self, threads, compiled=False):
        import torch
        import torch_formulas

        torch.set_num_threads(threads)
        self.torch, self.formulas, self.compiled = torch, torch_formulas.FORMULAS, compiled

    def call(self, name, inputs):
        from frameworks import Torch

        x = Torch.array(self, inputs.logits)
        labels = self.torch.from_numpy(inputs.drawn)
        formula = self.formulas[name]
        calls = [self.one(formula, x, labels)]
        if x.itemsize == 2:
            calls.append(self.one(lambda x, labels: formula(x.float(), labels), x, labels))
        for call in calls:
            call()
        return timing.fastest(calls)

    def one(self, formula, x, labels):
        function = self.torch.compile(formula, dynamic=False) if self.compiled else formula
        return functools.partial(function, x, labels)


def as_numpy(result):
    """Results of any library"""
    if hasattr(result, "compared"):
        result = result.compared
    if isinstance(result, (tuple, list)):
        return [as_numpy(value) for value in result]
    if hasattr(result, "detach"):
        result = result.detach()
        result = (result.float() if result.itemsize == 2 else result).numpy()
    return result


class Ours:
    def __init__(self, backend, threads):
        self.settings = {"backend": backend, "num_threads": threads}

    def call(self, name, inputs):
        if name == "logsumexp":
            return self.within(lambda: fastlogits.logsumexp(inputs.logits, AXIS))
        ours = functions.CALLS[name][0]
        return self.within(lambda: ours(fastlogits, inputs.logits, inputs.drawn, AXIS))

    def within(self, call):
        def settled():
            with fastlogits.settings(**self.settings):
                return call()

        return settled


def measure(name, inputs, backend, peers, args, cache):
    """The times of a cell: ours, our logsumexp as the unit, the peers whose result is right; and who was wrong."""
    ours = Ours(backend, args.thread)
    racing = {"unit": ours.call("logsumexp", inputs)}
    wrong = {}
    for who, library in {"ours": ours, **peers}.items():
        try:
            call = library.call(name, inputs)
            if name != "logsumexp":
                functions.check(name, as_numpy(call()), inputs, cache, peer=who != "ours")
            racing[who] = call
        except Exception as error:
            wrong[who] = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"
    racers = {who: timing.Contender(call, timer=CLOCKS[args.clock]) for who, call in racing.items()}
    timing.race(racers, list(peers), args.budget, (3, 15))
    return {who: racer.best for who, racer in racers.items()}, wrong


CLOCKS = {"cpu": time.thread_time, "wall": time.perf_counter}


HEADER = (
    f"{'function':<31} {'size':<13} {'dtype':<8} thr {'ours':<7} {'time':>8} {'/ lse':>7}       "
    f"{'best peer':<13} {'time':>8}  ratio"
)


def line(cell):
    """A row of the table"""
    peers = {who: seconds for who, seconds in cell["times"].items() if who not in ("ours", "unit")}
    peer = min(peers, key=peers.get, default=None)
    head = f"{cell['function']:<31} {cell['size']:<13} {cell['dtype']:<8} {cell['threads']:>3} {cell['backend']:<7}"
    if "ours" not in cell["times"]:
        return f"{head} FAILED: {cell['wrong']['ours']}"
    most = MOST.get(cell["function"]) if cell["size"] in FEW and cell["dtype"] == "float32" else None
    missed = f" > {most:g}" if most and cell["multiple"] > most else ""
    race = f"{peer:<13} {report.duration(peers[peer]):>8} {cell['ratio']:>6.2f}x" if peer else ""
    return f"{head} {report.duration(cell['times']['ours']):>8} {cell['multiple']:>7.2f}{missed:<6} {race}"


def grid(args):
    """The cells that were asked for, printed as they come."""
    names = matching(functions.CALLS, args.functions)
    print(HEADER)
    cells, jobs = [], list(itertools.product(args.sizes, args.dtypes, args.threads))
    progress = Progress(len(jobs) * len(names) * len(args.backends))
    for size, dtype, thread in jobs:
        args.thread, inputs, cache = thread, Inputs(size, dtype), {}
        peers = rivals(args)
        for backend, name in itertools.product(args.backends, names):
            progress.step(f"{name} {size} {dtype}")
            if name in functions.ROWS_ONLY and len(inputs.shape) > 2:
                continue
            times, wrong = measure(name, inputs, backend, peers, args, cache)
            cell = {"function": name, "size": size, "dtype": dtype, "threads": thread, "backend": backend}
            cell |= {"times": times, "wrong": wrong, "multiple": None, "ratio": None}
            if "ours" in times:
                cell["multiple"] = times["ours"] / times["unit"]
                others = [seconds for who, seconds in times.items() if who not in ("ours", "unit")]
                cell["ratio"] = min(others) / times["ours"] if others else None
            cells.append(cell)
            progress.clear()
            print(line(cell), flush=True)
            for who in set(wrong) - {"ours"}:
                print(f"    not timed, {who}: {wrong[who]}")
    return cells


def rivals(args):
    found = {}
    with contextlib.suppress(ImportError):
        if "numpy" in args.peers:
            found["numpy"] = NumPyFormulas(args.thread)
        if "torch" in args.peers:
            found["torch"] = TorchFormulas(args.thread)
        if "torch.compile" in args.peers:
            found["torch.compile"] = TorchFormulas(args.thread, compiled=True)
    return found


def summary(cells):
    """Means, what is slower than a peer, what costs more than it may, what failed."""
    lines = []
    for kind, group in itertools.groupby(
        sorted((c for c in cells if c["ratio"]), key=lambda c: (c["dtype"], c["threads"], c["backend"])),
        key=lambda c: f"{c['dtype']}, threads {c['threads']}, {c['backend']}",
    ):
        ratios = [cell["ratio"] for cell in group]
        lines.append(
            f"{kind}: best peer's time / ours in {len(ratios)} cells: mean {report.geometric_mean(ratios):.2f}, "
            f"lowest {min(ratios):.2f}, below 1.5 {sum(r < 1.5 for r in ratios)}, below 1 {sum(r < 1 for r in ratios)}"
        )
    lines += ["below 1: " + line(cell) for cell in cells if cell["ratio"] and cell["ratio"] < 1]
    lines += [line(cell) for cell in cells if "ours" not in cell["times"]]
    return "\n".join(lines)


def main():
    args = arguments()
    cells = grid(args)
    print("\n" + summary(cells))
    if args.json:
        report.save({"cells": cells}, args.json)
    return 1 if any("ours" not in cell["times"] for cell in cells) else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = {"type": lambda text: text.split(","), "metavar": "A,B,..."}
    parser.add_argument("--functions", default=["*"], **several, help="* and ? are wildcards")
    parser.add_argument("--sizes", default=[*FEW, *LARGE], **several, help="any, such as 4x21x128x128")
    parser.add_argument("--dtypes", default=["float32"], **several, help=", ".join(DTYPES))
    parser.add_argument("--threads", default=[1], type=lambda text: [*map(int, text.split(","))], metavar="A,B,...")
    parser.add_argument("--backends", default=["cython"], **several, help="of ours: cython, numba, numpy")
    parser.add_argument("--peers", default=[*PEERS], **several, help=f"of {', '.join(PEERS)}; or none")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for a cell, without preparations")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of the calling thread, on a busy machine")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the cells go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
