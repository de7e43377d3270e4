"""One side of the gate: a process with callables by name, which it times or counts when asked to.

    gate_worker.py SPEC time CLOCK          answers the lines "names" and "NAME<TAB>CALLS" on stdin
    gate_worker.py SPEC count PATTERN...    calls each once, with a mark for callgrind before and after

SPEC is FILE:NAME or MODULE:NAME, where NAME is a callable without arguments or a dict of them; "kernels" are ours.
"""

import fnmatch
import functools
import importlib
import importlib.util
import os
import sys
import time
import timeit
from pathlib import Path

import contenders
import peers
from benchmarks.common import OPERATIONS, Inputs

LOOKS = 7
# The processor's time, unlike the wall's, does not pass while somebody else has the processor; but it says nothing
# about several threads, or about waiting.
CLOCKS = {"cpu": time.thread_time, "wall": time.perf_counter}

# os.getppid calls the C function of this name, which nothing else does: callgrind writes a dump when it begins.
MARK = "getppid"

# Short rows, rows in cache, rows in memory, the class axis not last; every dtype, since kernels differ by it.
CASES = [
    ("cython", "float32", ("32x10", "65536x10", "128x1000", "256x32000", "8x21x256x256")),
    ("cython", "bfloat16", ("65536x10", "128x1000", "4096x1000")),
    ("cython", "float16", ("128x1000",)),
    ("cython", "float64", ("128x1000",)),
    ("numba", "float32", ("128x1000",)),
]
# What callgrind runs fifty times slower must be small, and not ask for a compiler.
COUNTED = ("* 32x10 * cython", "* 128x1000 * cython")


class Kernels(dict):
    """Calls of every kernel of the fastlogits that this process imports; each is made when looked up."""

    counted = COUNTED

    def __init__(self):
        table = ((op, size, dtype, who) for who, dtype, sizes in CASES for size in sizes for op in OPERATIONS)
        super().__init__((" ".join(case), case) for case in table)

    def __getitem__(self, name):
        return prepared(*super().__getitem__(name))


@functools.lru_cache(maxsize=1)
def inputs_of(size, dtype):
    return Inputs(size, dtype)


@functools.cache
def library(backend):
    return peers.Ours(backend)


@functools.lru_cache(maxsize=1)
def prepared(op, size, dtype, backend):
    contender = contenders.enter(library(backend), op, inputs_of(size, dtype), {})
    return functools.partial(contender.context.run, contender.call)


def load(spec):
    """The callables of a SPEC by name."""
    if spec == "kernels":
        return Kernels()
    place, _, name = spec.rpartition(":")
    if place.endswith(".py"):
        sys.path.insert(0, str(Path(place).parent))
        module_spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    found = getattr(module, name)
    return found if isinstance(found, dict) else {"callable": found}


def serve(table, clock):
    for line in sys.stdin:
        name, _, calls = line.rstrip("\n").partition("\t")
        if not calls:
            print("\t".join(table), flush=True)
            continue
        call, number = table[name], int(calls)
        call()
        # The best of several short looks: whoever else runs here runs in bursts.
        print(min(timeit.repeat(call, number=number, repeat=LOOKS, timer=CLOCKS[clock])) / number, flush=True)


def count(table, patterns):
    for name in table:
        wanted = (patterns, getattr(table, "counted", ("*",)))
        if all(any(fnmatch.fnmatch(name, pattern) for pattern in group) for group in wanted):
            call = table[name]
            call()
            os.getppid()
            call()
            os.getppid()
            print(name, flush=True)


if __name__ == "__main__":
    callables = load(sys.argv[1])
    if sys.argv[2] == "count":
        count(callables, sys.argv[3:])
    else:
        serve(callables, sys.argv[3])
