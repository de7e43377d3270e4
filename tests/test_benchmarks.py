"""The benchmarks tell the truth: a planted fault is seen, and what says nothing is no success."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import need, require_backend
from subprocesses import environment, run, start

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


def within_benchmarks(code):
    """The code, where the modules of the benchmarks can be imported."""
    return f"import sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n" + textwrap.dedent(code)


def test_neighbours_end_with_a_failure():
    """And compute until then."""
    output = run(
        within_benchmarks("""
            import os, resource, time
            import processes

            try:
                with processes.neighbours(2) as running:
                    time.sleep(0.5)
                    raise KeyError
            except KeyError:
                print([process.returncode for process in running])
            print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > 0)
        """)
    )
    assert output.split("\n") == ["[-9, -9]", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_neighbours_end_with_a_killed_parent():
    parent = start(
        within_benchmarks("""
            import time
            import processes

            with processes.neighbours(2) as running:
                print(*(process.pid for process in running), flush=True)
                time.sleep(60)
        """)
    )
    neighbours = [Path("/proc") / pid for pid in parent.stdout.readline().split()]
    assert len(neighbours) == 2
    assert all(neighbour.exists() for neighbour in neighbours)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while any(map(computing, neighbours)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(computing, neighbours))


def computing(process):
    """Whether it is there, and no zombie that nobody has asked for yet."""
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("size", ["6x5", "2x7x3x4"])
def test_models_of_onnx_runtime(size):
    """Those that the benchmarks write by themselves compute what they should."""
    need("onnxruntime")
    output = run(
        within_benchmarks(f"""
            import contenders, onnx_runtime
            from benchmarks.common import Inputs

            library = onnx_runtime.OnnxRuntime(1)
            for operation in ("softmax", "loss_grad"):
                contenders.enter(library, operation, Inputs({size!r}, "float32"), {{}})
                print(operation)
        """)
    )
    assert output.split() == ["softmax", "loss_grad"]


def test_table_of_a_busy_machine():
    """Beside a peer that is missing; and README has it where it was measured."""
    output = run(
        within_benchmarks("""
            import report

            times = {"one thread": {"seconds": 1e-3, "rare": 2e-3}, "fastlogits": {"seconds": 5e-4, "rare": 3e-3}}
            cell = {"op": "softmax", "size": "128x1000", "burners": 4, "times": times}
            print(report.busy_line(cell))
            print(report.busy_markdown([cell]).splitlines()[-1])
            print(report.busy_line(cell | {"times": {"torch": times["fastlogits"]}}))
        """)
    )
    plain, markdown, lonely = output.split("\n")
    assert plain.split() == "4 softmax 128x1000 1 ms, 2 ms 500 us, 3 ms 0.50, 1.50".split()
    assert markdown == "| 4 | `softmax` | 128x1000 | 1 ms, 2 ms | 500 us, 3 ms | 0.50, 1.50 |"
    assert lonely.split() == "4 softmax 128x1000 torch 500 us, 3 ms".split()


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "keras", "jax"])
def test_losses_of_frameworks(framework):
    """Own and ours agree in every way and function; a wrong result is not timed; what is slower is listed."""
    for name in {"keras": ("tensorflow", "keras")}.get(framework, (framework,)):
        need(name)
    output = run(
        within_benchmarks(f"""
            import compare_frameworks as program
            import losses

            library = losses.LIBRARIES[{framework!r}](1)
            functions = [(library.ways[0], name) for name in losses.FUNCTIONS] if library.gridded else []
            ways = [way for way in library.ways if "compile" not in way and "thread" not in way]
            for way, name in [*functions, *((way, "loss") for way in ways)]:
                cell = {{"framework": {framework!r}, "way": way, "function": name, "size": "6x5", "dtype": "float32"}}
                cell |= program.measure(library, way, name, "6x5", "float32", 0)
                assert "times" in cell, program.line(cell)
            cell["ratios"]["seconds"] = 0.5
            assert "below: " + program.line(cell) in program.summary([cell])

            call = library.call
            library.call = lambda side, way, name, arrays: call(
                side, way, name, arrays if side == "own" else arrays._replace(target=arrays.target[::-1].copy())
            )
            print(program.measure(library, library.ways[0], "loss", "6x5", "float32", 0))
        """),
        timeout=300,
        KERAS_BACKEND="tensorflow",
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    assert "{'absent': {'why': 'AssertionError: wrong: error" in output
    assert "'who': 'ours'}}" in output


@pytest.mark.parametrize("asked", [("--frameworks", "torch,keras2"), ("--frameworks", "torch", "--sizes", "3x3")])
def test_nothing_to_compare(asked, tmp_path):
    need("torch")
    command = [sys.executable, BENCHMARKS / "compare_frameworks.py", "--threads", "1"]
    done = subprocess.run(
        [*command, "--json", tmp_path / "cells.json", *asked], capture_output=True, text=True, env=environment()
    )
    assert done.returncode
    assert "keras2" in done.stderr or "nothing was measured" in done.stderr


def test_cost_curve(tmp_path):
    """Measured, in times of ours at the most classes, and drawn."""
    need("matplotlib")
    command = [sys.executable, BENCHMARKS / "curve.py", "--functions", "softmax,entropy", "--peers", "numpy"]
    files = ["--json", tmp_path / "curve.json", "--picture", tmp_path / "curve.svg"]
    size = ["--classes", "2,5,8", "--logits", "64", "--budget", "0", "--backend", "numpy"]
    done = subprocess.run([*command, *files, *size], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("softmax", "entropy"))]
    assert [row[:2] for row in rows] == [[name, who] for name in ("softmax", "entropy") for who in ("ours", "numpy")]
    assert rows[0][4] == "1.00"
    picture = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert all(f">{text}<" in picture for text in ("softmax", "entropy", "fastlogits", "numpy", "classes"))
