"""The benchmarks tell the truth: a planted fault is seen, and what says nothing is no success."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import require_backend
from subprocesses import environment, run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def sides(tmp_path):
    """Two files of callables, of which `same` and `slow` are in both."""
    text = "import time\ncalls = {{'same': lambda: sum(range(100)), 'slow': lambda: time.sleep({0}), '{1}': int}}\n"
    for name, seconds, own in (("base", 0.001, "a"), ("head", 0.002, "b")):
        (tmp_path / f"{name}.py").write_text(text.format(seconds, own))
    (tmp_path / "other.py").write_text("calls = {'elsewhere': int}")
    return tmp_path


def judged(*arguments):
    """(exit status, what was said)"""
    command = [sys.executable, BENCHMARKS / "gate.py", "--callables", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("cases", ["sofmax*", "same,sofmax*", "a"])
def test_gate_that_compares_nothing(sides, cases):
    """Also of one pattern among several, and of what only one side has."""
    status, said = judged(f"{sides}/base.py:calls", f"{sides}/head.py:calls", "--cases", cases)
    assert status == 2
    assert repr(cases.split(",")[-1]) in said
    assert "same, slow" in said
    assert "Valgrind" not in said


def test_gate_with_nothing_in_common(sides):
    status, said = judged(f"{sides}/base.py:calls", f"{sides}/other.py:calls")
    assert status == 2
    assert "nothing" in said


def test_gate_still_sees(sides):
    status, said = judged(f"{sides}/base.py:calls", f"{sides}/head.py:calls", "--cases", "slow", "--no-count")
    assert status == 1
    assert "SLOWER" in said


def test_peer_with_a_wrong_result_is_named():
    """In its cell and in the summary, unlike one that does not offer the operation."""
    output = run(
        f"""
        import sys
        sys.path.insert(0, {str(BENCHMARKS)!r})
        import argparse
        import contenders, measure, peers, report
        from benchmarks import common

        class Wrong(peers.SciPy):
            def ways(self, name, arrays):
                if name == "argmax":
                    raise NotImplementedError("not offered")
                return [lambda: arrays[0] + 1]

        inputs, args = common.Inputs("32x10", "float32"), argparse.Namespace(quick=True, budget=0.1)
        libraries = {{"numpy": peers.Ours("numpy"), "scipy": Wrong(1)}}
        for name in ("softmax", "argmax"):
            cell = {{"op": name, "size": "32x10", "dtype": "float32", "threads": 1, "isa": "auto"}}
            cell |= measure.measure(name, inputs, libraries, ["scipy"], {{}}, args) | {{"limits": {{"read": 1e-6}}}}
            print(*report.wrong_peers(cell), sep="\\n")
            print(report.summary({{"cells": [cell]}}).count("WRONG"))
        """
    )
    wrong, in_summary, *offered = output.splitlines()
    assert wrong.startswith("WRONG RESULT, not timed: softmax 32x10 float32 1 auto scipy: ")
    assert in_summary == "1"
    assert [line for line in offered if line] == ["0"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak")
@pytest.mark.parametrize("operation", ["logsumexp", "softmax"])
def test_memory_benchmark_sees_a_planted_copy(operation):
    require_backend("cython")
    code = f"""
        import sys
        sys.path.insert(0, {str(BENCHMARKS)!r})
        import numpy as np
        import fastlogits
        from benchmarks.memory import Memory

        case = {operation!r}, "cython", "float32"
        own = fastlogits.{operation}

        def copying(x, *args):
            return own(np.array(x), *args)

        for function in (own, copying):
            fastlogits.{operation} = function
            memory = Memory()
            memory.setup(*case)
            print(memory.track_beyond_the_inputs(*case))
        """
    plain, planted = map(float, run(code).split())
    size = 256 * 32000 * 4 / 2**20
    assert plain == pytest.approx(size * (operation == "softmax"), abs=3)
    assert planted - plain == pytest.approx(size, abs=3)


@pytest.mark.parametrize("size", ["60x5", "7x130", "2x9x4x3"])
def test_formulas_of_the_grid_agree_with_ours(size):
    """NumPy's and torch's, so that the grid compares the same thing; and a planted fault is seen."""
    pytest.importorskip("scipy")
    output = run(
        f"""
        import sys
        sys.path.insert(0, {str(BENCHMARKS)!r})
        import postprocessing as grid
        from benchmarks import postprocessing as functions
        from benchmarks.common import Inputs

        inputs, cache = Inputs({size!r}, "float64"), {{}}
        libraries = [grid.Ours(None, 1), grid.NumPyFormulas(1)]
        try:
            libraries.append(grid.TorchFormulas(1))
        except ImportError:
            pass
        for name in functions.CALLS:
            if name in functions.ROWS_ONLY and len(inputs.shape) > 2:
                continue
            for library in libraries:
                try:
                    call = library.call(name, inputs)
                except KeyError:
                    continue
                functions.check(name, grid.as_numpy(call()), inputs, cache, peer=True)
        try:
            functions.check("entropy", grid.as_numpy(libraries[0].call("entropy", inputs)()) + 0.1, inputs, cache)
        except AssertionError as error:
            print(error)
        """
    )
    assert output.startswith("entropy is wrong in")
