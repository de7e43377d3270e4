"""Our time over everybody else's, in one run.

    python benchmarks/compare.py [--quick] [--ops softmax,loss*] [--sizes 256x*] [--dtypes float32] [...]

Every result is checked before it is timed. Each operation, size and dtype is a cell, in which all contenders
take turns; the machine's limits are measured in the same process. Each number of threads and each instruction
set has a process of its own, since most libraries read them once. Then comes a second table, of a busy machine
(busy.py).
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import busy
import processes
import report
import targets

HERE = Path(__file__).parent
DEFAULT_OUTPUT = HERE.parent / "build" / "compare" / "compare.json"

# How other libraries are held to AVX2, for a fair match with our v3 kernels.
AVX2_ONLY = {
    "FASTLOGITS_ISA": "v3",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "NUMBA_CPU_NAME": "x86-64-v3",
    "NUMBA_CPU_FEATURES": "",
}


def main():
    args = arguments()
    if args.readme:
        return report.write_readme(args.readme, HERE)
    if args.report:
        results = report.load(args.report)
        print(report.table(results), report.busy_table(results), sep="\n\n")
        return conclude(results, args.report)
    if args.worker:
        import measure  # loads every library

        return measure.work(args)
    output = Path(args.json)
    output.parent.mkdir(parents=True, exist_ok=True)
    if not (args.add or args.resume):
        output.unlink(missing_ok=True)
    try:
        for isa in args.isa:
            for threads in args.threads:
                run_worker(isa, threads)
        on_a_busy_machine(args, output)
    except KeyboardInterrupt:
        print("\ninterrupted: --resume goes on from here", file=sys.stderr)
        return 130
    return conclude(report.load(output), output)


def on_a_busy_machine(args, output):
    """The second table, where all of the first was asked for."""
    results = report.load(output)
    whole = args.ops == args.sizes == ["*"] and not (args.resume and "busy" in results)
    if whole if args.busy is None else args.busy:
        print()
        try:
            results["busy"] = busy.measure(budget=busy.QUICK if args.quick else busy.BUDGET)
        except processes.Failure as failure:
            print(f"FAILED, on a busy machine: {failure}")
        report.save(results, output)


def conclude(results, path):
    print("\n" + report.summary(results))
    for picture in report.pictures(results, Path(path).parent):
        print(f"* {picture}")
    print("\n" + targets.table(results))
    return 1 if any(map(report.failures, results["cells"])) else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = {"type": lambda text: text.split(","), "metavar": "A,B,..."}
    parser.add_argument("--ops", default=["*"], **several, help="operations; * and ? are wildcards")
    parser.add_argument("--sizes", default=["*"], **several, help="sizes, such as 256x*")
    parser.add_argument("--dtypes", default=["*"], **several)
    parser.add_argument("--backends", default=["cython", "numba"], **several, help="of ours: cython, numba, numpy")
    parser.add_argument("--peers", default=["*"], **several, help="such as torch,jax")
    parser.add_argument("--threads", default=["2"], **several, help="numbers of threads, such as 1,2")
    parser.add_argument("--isa", default=["auto"], **several, help="auto, v3 (everybody held to AVX2)")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for a cell, without warm-up")
    parser.add_argument("--quick", action="store_true", help="few rounds, small sizes, no torch.compile")
    both = argparse.BooleanOptionalAction
    parser.add_argument("--busy", action=both, help="beside processes that compute; by default after a whole table")
    parser.add_argument("--json", default=DEFAULT_OUTPUT, metavar="FILE", help="where the results go")
    parser.add_argument("--add", action="store_true", help="to the results in FILE, replacing the same cells")
    parser.add_argument("--resume", action="store_true", help="measure only the cells that FILE lacks")
    parser.add_argument("--report", metavar="FILE", help="measure nothing, print these results")
    parser.add_argument("--readme", metavar="FILE", help="measure nothing, write README's figures from these")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_worker(isa, threads):
    environment = os.environ | {"OMP_NUM_THREADS": threads, "FASTLOGITS_NUM_THREADS": threads}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if isa != "auto":
        environment |= AVX2_ONLY | {"FASTLOGITS_ISA": isa}
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", "--threads", threads, "--isa", isa]
    try:
        # XLA's pool has as many threads as the process may use processors.
        with processes.held_to(int(threads)):
            code = subprocess.run(command, env=environment).returncode
    except processes.Failure as failure:
        raise SystemExit(f"--threads: {failure}") from None
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    sys.exit(main())
