"""All cells for one number of threads and one instruction set: what compare.py runs in another process."""

import datetime
import fnmatch
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

import contenders
import limits
import peers
import processes
import report
import timing

import fastlogits
from benchmarks import common


def work(args):
    """Measure the cells that were asked for; every one is saved as soon as it is there."""
    threads, isa = int(args.threads[0]), args.isa[0]
    quick_out = ("torch.compile",) if args.quick else ()
    chosen = [name for name in matching(contenders.PEERS, args.peers) if name not in quick_out]
    rivals = contenders.installed(chosen, threads)
    ours = {name: peers.Ours(name) for name in args.backends} | contenders.adapters(threads)
    libraries = ours | rivals
    bounds = limits.Limits(threads)
    output = Path(args.json)
    results = report.load(output) if output.exists() else {"cells": []}
    results["machine"] = machine()
    measured = {report.key(cell) for cell in results["cells"]} if args.resume else set()

    sizes = [size for size in matching(common.SIZES, args.sizes) if not args.quick or len(size) < 9]
    grid = [(size, dtype) for size in sizes for dtype in matching(common.DTYPES, args.dtypes)]
    operations = matching(common.OPERATIONS, args.ops)
    progress = Progress(len(grid) * len(operations))
    for size, dtype in grid:
        inputs, cache = common.Inputs(size, dtype), {}
        for name in operations:
            cell = {"op": name, "size": size, "dtype": dtype, "threads": threads, "isa": isa}
            progress.step(f"{name} {size} {dtype}")
            if report.key(cell) in measured:
                continue
            cell |= measure(name, inputs, libraries, list(rivals), cache, args)
            cell["limits"] = bounds.of(common.OPERATIONS[name], inputs.logits.size, inputs.logits.itemsize)
            progress.clear()
            print(*map(report.line, report.rows_of(cell)), *report.wrong_peers(cell), sep="\n", flush=True)
            results["cells"] = [c for c in results["cells"] if report.key(c) != report.key(cell)] + [cell]
            report.save(results, output)
    results.setdefault("limits", {})[f"{isa}, threads {threads}"] = bounds.summary()
    report.save(results, output)


def measure(name, inputs, libraries, rivals, cache, args):
    """The times of all contenders, or why there is none."""
    racing, absent = {}, {}
    for who, library in libraries.items():
        try:
            racing[who] = contenders.enter(library, name, inputs, cache.setdefault(who, {}))
        except Exception as error:
            absent[who] = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"
    rounds = (3, 3) if args.quick else (5, 15)
    timing.race(racing, rivals, 0.2 if args.quick else args.budget, rounds)
    times = {
        who: {"seconds": racer.seconds, "spread": racer.spread, "samples": len(racer.samples)}
        for who, racer in racing.items()
    }
    return {"times": times, "absent": absent}


def matching(names, patterns):
    """Those of the names that one of the patterns fits; a pattern that fits none is a mistake."""
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise SystemExit(f"{pattern!r} fits none of: {', '.join(names)}")
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def machine():
    """What the figures depend on, besides the code."""
    text = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    versions = {}
    for package in ("numpy", "scipy", "numba", "torch", "jax", "tensorflow", "tensorflow_cpu"):
        try:
            versions[package.removesuffix("_cpu")] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "measured": datetime.date.today().isoformat(),
        "processor": models[0] if models else platform.processor(),
        "processors": os.cpu_count(),
        "instruction set": fastlogits.show_config("dicts")["instruction set"],
        "versions": {"fastlogits": fastlogits.__version__, **versions},
        "import_ms": processes.import_milliseconds("fastlogits", "numpy"),
    }


class Progress:
    """A bar on a terminal; nothing elsewhere."""

    def __init__(self, steps):
        self.steps, self.done, self.start = steps, 0, time.perf_counter()

    def step(self, text):
        left = (time.perf_counter() - self.start) / max(1, self.done) * (self.steps - self.done) / 60
        bar = "#" * (30 * self.done // self.steps)
        estimate = f", {left:.0f} min left" if self.done else ""
        self._write(f"[{bar:<30}] {self.done}/{self.steps}  {text}{estimate}")
        self.done += 1

    def clear(self):
        self._write("")

    def _write(self, text):
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
