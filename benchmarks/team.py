"""What sharing out a call costs, alone and beside busy neighbours: one thread, our team, OpenMP, and the hybrid.

    python benchmarks/team.py [--burners 0 1 2 4 8] [--work 5 20 100 1000] [--gap 0] [--beside] [--seconds 1]

benchmarks/team/calls.c is compiled with the team's sources and a C compiler's OpenMP. Each figure is from
ROUNDS runs that alternate with the others'. Work and times are in microseconds; a gap lies between two calls; with
--beside each call comes after a region of OpenMP, as between operations of torch.
"""

import argparse
import itertools
import os
import shlex
import statistics
import subprocess
import tempfile
from pathlib import Path

from processes import neighbours

HERE = Path(__file__).parent / "team"
SOURCES = Path(__file__).parents[1] / "fastlogits" / "backends" / "team"
VARIANTS = ("serial", "team", "openmp", "hybrid")
ROUNDS = 3
PARTS = 16
FIELDS = ("median", "mean", "p90", "p99", "processors")


def main():
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        calls = build(Path(folder))
        print("burners  work  variant " + "".join(f"{name:>11}" for name in FIELDS))
        for burners, work in itertools.product(options.burners, options.work):
            with neighbours(burners):
                for variant, figures in measured(calls, work, options).items():
                    print(f"{burners:7} {work:5g}  {variant:8}" + "".join(f"{figure:11.2f}" for figure in figures))


def build(folder):
    compiler = [*shlex.split(os.environ.get("CC", "cc")), "-O2"]
    team = [f"-I{SOURCES}", "-fopenmp", *sorted(SOURCES.glob("*.c")), "-lm", "-ldl", "-pthread"]
    subprocess.run([*compiler, HERE / "calls.c", *team, "-o", folder / "calls"], check=True)
    return folder / "calls"


def measured(calls, work, options):
    """The median over the rounds of each figure, by variant."""
    arguments = [work * 1000, PARTS, options.threads, options.gap * 1000, options.callers, int(options.beside)]
    command = [str(int(number)) for number in arguments]
    rounds = {variant: [] for variant in VARIANTS if options.beside or variant != "hybrid"}
    for _ in range(ROUNDS):
        for variant, figures in rounds.items():
            words = [calls, variant, *command, str(options.seconds)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            figures.append([float(word) for word in done.stdout.split()[: len(FIELDS)]])
    return {variant: map(statistics.median, zip(*figures, strict=True)) for variant, figures in rounds.items()}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--burners", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--work", type=float, nargs="+", default=[5, 20, 100, 1000])
    parser.add_argument("--gap", type=float, default=0)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--seconds", type=float, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
