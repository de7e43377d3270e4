"""Each framework's own losses beside ours: value and gradient, eager, in graphs, compiled, in a train step.

    python benchmarks/compare_frameworks.py [--quick] [--frameworks torch,jax] [--ways eager] [--functions loss] [...]

Both results are checked against the framework's own in float64 before they are timed; the two take turns, and single
calls are timed. Each framework has a process of its own; what is missing is left out.
"""

import argparse
import fnmatch
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import report
import timing
from benchmarks.common import TOLERANCES, Inputs
from losses import FUNCTIONS, LIBRARIES, MODULES, arrays_of

DEFAULT_OUTPUT = Path(__file__).parents[1] / "build" / "compare" / "frameworks.json"

# Of the loss alone, in every way; of every function, in those ways that have the grid.
SIZES = ("1x2", "8x3", "32x10", "256x10", "64x100", "256x1000", "2048x100", "64x32000", "256x32000", "8x21x64x64")
GRID = (
    "32x10", "65536x2", "65536x10", "16384x32", "8192x100", "4x21x128x128", "64x1000", "512x512", "2048x1000",
    "256x32000",
)  # fmt: skip
GRID_DTYPES = ("float32", "bfloat16")
BUDGET, QUICK = 0.5, 0.05

# Own time over ours, at least; a little less where there are fewer logits than this.
LEAST, LEAST_OF_FEW, FEW = 1.0, 0.95, 64 * 100


def cells_of(library, args):
    """(way, function, size, dtype), each once."""
    found = {}
    for way in library.ways:
        functions, size = library.cells(way)
        found |= dict.fromkeys(itertools.product([way], functions, [size] if size else SIZES, ["float32"]))
        if way in library.gridded:
            found |= dict.fromkeys(itertools.product([way], FUNCTIONS, GRID, GRID_DTYPES))
    wanted = (args.ways, args.functions, args.sizes, args.dtypes)
    return [cell for cell in found if all(map(fits, cell, wanted)) and not (args.quick and large(cell[2]))]


def fits(name, patterns):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def logits_of(size):
    return int(np.prod([*map(int, size.split("x"))]))


def large(size):
    return logits_of(size) > 1 << 18


def measure(library, way, function, size, dtype, budget):
    """The figures of both sides, or why there are none."""
    arrays = arrays_of(function, Inputs(size, dtype), library.classes_last)
    racing, absent = {}, {}
    try:
        exact = library.reference(way, function, arrays)
        for side in ("own", "ours"):
            call = library.call(side, way, function, arrays)
            check(library.numpy(call()), exact, TOLERANCES[dtype][side == "own" or "train" in way])
            racing[side] = timing.Contender(call).singly
    except Exception as error:
        absent = {"why": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"}
        absent["who"] = "own" if not racing else "ours"
        return {"absent": absent}
    with library.beside(way):
        times = timing.take_turns(racing, budget)
    ratios = {figure: times["own"][figure] / times["ours"][figure] for figure in ("seconds", "rare")}
    return {"times": times, "ratios": ratios}


def check(result, exact, tolerance):
    assert len(result) == len(exact), f"{len(result)} results"
    for value, expected in zip(result, exact, strict=True):
        value, expected = (np.asarray(array).astype(np.float64) for array in (value, expected))
        assert value.shape == expected.shape, f"of shape {value.shape}"
        error = np.abs(value - expected).max() / np.abs(expected).max()
        assert error <= tolerance, f"wrong: error {error:.1e} of the largest value"


def work(args):
    """All cells of one framework; every one is saved as soon as it is there."""
    (name,), threads = args.frameworks, int(args.threads)
    try:
        library = LIBRARIES[name](threads)
    except ImportError as error:
        print(f"{name} is left out: {error}")
        return
    if not args.quick and args.functions == args.sizes == ["*"]:
        milliseconds = processes.import_milliseconds(MODULES[name], name, runs=3)
        print(f"import {MODULES[name]}, beyond {name}: {milliseconds:.1f} ms", flush=True)
    for way, function, size, dtype in cells_of(library, args):
        cell = {"framework": name, "way": way, "function": function, "size": size, "dtype": dtype}
        cell |= measure(library, way, function, size, dtype, args.budget)
        print(line(cell), flush=True)
        report.save([*report.load(args.json), cell], args.json)


HEADER = (
    f"{'framework':<10} {'way':<22} {'function':<12} {'size':<12} {'dtype':<8} {'own':>17} {'ours':>18} {'ratios':>15}"
    f"\n{'':<68} {'median, 99 % below':>18}"
)


def line(cell):
    head = f"{cell['framework']:<10} {cell['way']:<22} {cell['function']:<12} {cell['size']:<12} {cell['dtype']:<8}"
    if "absent" in cell:
        return f"{head} FAILED: {cell['absent']['who']}: {cell['absent']['why']}"
    own, ours = (report.both(cell["times"][side]) for side in ("own", "ours"))
    return f"{head} {own:>17} {ours:>18} {cell['ratios']['seconds']:>6.2f}x {cell['ratios']['rare']:>6.2f}x"


def least(cell):
    return LEAST_OF_FEW if logits_of(cell["size"]) < FEW else LEAST


def summary(cells):
    """Means of own time over ours by framework and way, the loss alone and the grid; the cells below; what failed."""
    timed, lines, groups = [cell for cell in cells if "times" in cell], [], {}
    for cell in timed:
        loss = cell["function"] == "loss" and cell["dtype"] == "float32"
        gridded = cell["way"] in LIBRARIES[cell["framework"]].gridded
        for table, within in (("loss", loss and cell["size"] in SIZES), ("grid", gridded and cell["size"] in GRID)):
            if within:
                groups.setdefault((table, cell["framework"], cell["way"]), []).append(cell)
    for names, group in sorted(groups.items()):
        ratios = [cell["ratios"]["seconds"] for cell in group]
        below = sum(cell["ratios"]["seconds"] < least(cell) for cell in group)
        lines.append(
            f"{', '.join(names)}: own time / ours in {len(ratios)} cells: mean {report.geometric_mean(ratios):.2f}, "
            f"lowest {min(ratios):.2f}, below {LEAST:g} ({LEAST_OF_FEW:g} of less than 64x100): {below}"
        )
    lines += ["below: " + line(cell) for cell in timed if cell["ratios"]["seconds"] < least(cell)]
    lines += [line(cell) for cell in cells if "absent" in cell]
    return "\n".join(lines)


def run_worker(name, args):
    threads = str(args.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "FASTLOGITS_NUM_THREADS": threads}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", "--frameworks", name]
    return subprocess.run(command, env=environment).returncode


def main():
    args = arguments()
    if args.worker:
        return work(args)
    if args.report:
        cells = report.load(args.report)
        print("\n".join([HEADER, *map(line, cells)]))
    else:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report.save([], args.json)
        print(HEADER, flush=True)
        try:
            with processes.held_to(args.threads):
                codes = [run_worker(name, args) for name in args.frameworks]
        except processes.Failure as failure:
            return f"--threads: {failure}"
        except KeyboardInterrupt:
            return 130
        if any(codes):
            return max(codes)
        cells = report.load(args.json)
    if not cells:
        return "compare-frameworks: nothing was measured: nothing that is installed fits what was asked for"
    print("\n" + summary(cells))
    return int(any(cell.get("absent", {}).get("who") == "ours" for cell in cells))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = {"type": lambda text: text.split(","), "metavar": "A,B,..."}
    parser.add_argument("--frameworks", default=[*LIBRARIES], **several, help=f"of {', '.join(LIBRARIES)}")
    parser.add_argument("--ways", default=["*"], **several, help="such as eager, tf.function; * and ? are wildcards")
    parser.add_argument("--functions", default=["*"], **several, help=f"of {', '.join(FUNCTIONS)}")
    parser.add_argument("--sizes", default=["*"], **several, help="such as 256x*")
    parser.add_argument("--dtypes", default=["*"], **several, help=f"of {', '.join(GRID_DTYPES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, help=f"seconds for each side of a cell; {BUDGET}, {QUICK} with --quick")
    parser.add_argument("--quick", action="store_true", help="few calls, and no large sizes")
    parser.add_argument("--json", type=Path, default=DEFAULT_OUTPUT, metavar="FILE", help="where the cells go")
    parser.add_argument("--report", metavar="FILE", help="measure nothing, print these cells")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.frameworks) - set(LIBRARIES):
        parser.error(f"--frameworks: {', '.join(sorted(unknown))}: not of {', '.join(LIBRARIES)}")
    args.budget = args.budget or (QUICK if args.quick else BUDGET)
    return args


if __name__ == "__main__":
    sys.exit(main())
