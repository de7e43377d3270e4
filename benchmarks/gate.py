"""The gate: has anything become slower by 15 % or more than it was at a base commit?

    python benchmarks/gate.py main                                  # this working tree against a commit
    python benchmarks/gate.py --callables old.py:run new.py:run     # any two callables, of anybody

Each side runs in a process of its own; the two take turns, so that what slows the machine slows both. What looks
slower is looked at again in fresh processes, twice. Kernels run on one thread, by the processor's clock. The
second witness is the number of instructions, counted by callgrind, with FASTLOGITS_ISA=v3 (Valgrind knows no
AVX-512).

Exit status: 0 nothing is slower, 1 something is, 2 the gate itself could not do its work.
"""

import argparse
import fnmatch
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import gate_worker
import processes
import timing
from processes import Failure

ROOT = Path(__file__).parents[1]
BUILDS = ROOT / "build" / "gate"

SLOWER = 1.15
SUSPECT = 1.1  # worth another look
ROUNDS = 9
LOOK = 0.001  # seconds


class Side(NamedTuple):
    """What a process needs to run one side: where its packages are, and which callables (see gate_worker)."""

    name: str
    spec: str
    path: str = ""
    clock: str = "wall"

    def environment(self, **variables):
        paths = filter(None, [self.path, os.environ.get("PYTHONPATH")])
        fixed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
        if self.clock == "cpu":
            fixed |= {"FASTLOGITS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        return os.environ | fixed | variables

    def command(self, *arguments):
        return [sys.executable, gate_worker.__file__, self.spec, *arguments]


def both(*sides):
    """A process for each side, which runs the callables when asked to."""
    return processes.workers(*((side.command("time", side.clock), side.environment()) for side in sides))


def seconds(worker, name, calls):
    return float(worker.ask(name, calls))


def paired_ratio(base, head, name):
    """head's best time over base's, from rounds in which they take turns and go first in turn."""
    calls = 1
    while (one := seconds(base, name, calls)) * calls < LOOK / 4:
        calls *= 4
    calls = max(1, round(LOOK / one))
    best = dict.fromkeys((base, head), math.inf)
    for turn in range(ROUNDS):
        for side in (base, head) if turn % 2 else (head, base):
            time.sleep(timing.PAUSE)
            best[side] = min(best[side], seconds(side, name, calls))
    return best[head] / best[base]


def time_ratios(base, head, patterns=("*",), say=print):
    """head's time over base's by name. What looks slower must do so in three pairs of processes."""
    with both(base, head) as pair:
        below, above = (side.ask("names").split("\t") for side in pair)
        if missing := set(below) ^ set(above):
            say(f"only on one side, not compared: {', '.join(sorted(missing))}")
        names = chosen([name for name in below if name in above], patterns)
        ratios = {name: paired_ratio(*pair, name) for name in names}
    for look in ("second", "third"):
        suspects = [name for name, ratio in ratios.items() if ratio > SUSPECT]
        if suspects:
            say(f"a {look} look at {len(suspects)} of {len(ratios)}, in fresh processes")
            # A process keeps its luck with addresses and pages: a coincidence does not come three times.
            with both(base, head) as pair:
                for name in suspects:
                    ratios[name] = min(ratios[name], paired_ratio(*pair, name))
    return ratios


def chosen(names, patterns):
    """Those that one of the patterns fits. A pattern that fits none is a mistake: what it meant would go unseen."""
    if not names:
        raise Failure("nothing is on both sides, so nothing can be compared")
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise Failure(f"--cases: {pattern!r} fits none of: {', '.join(names)}")
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def instructions(side, patterns=("*",)):
    """Instructions of one call by name; empty without Valgrind."""
    if not shutil.which("valgrind"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        callgrind.append(f"--dump-before={gate_worker.MARK}")
        environment = side.environment(FASTLOGITS_ISA="v3", FASTLOGITS_BACKEND="cython")
        command = [*callgrind, *side.command("count", *patterns)]
        done = subprocess.run(command, env=environment, text=True, capture_output=True)
        if done.returncode:
            raise Failure(f"callgrind: {done.stderr[-2000:]}")
        dumps = sorted(Path(folder).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = [int(re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)[1]) for dump in dumps]
    # The marks stand before and after each call, so every second dump is a call's.
    names = done.stdout.split("\n")[:-1]
    if len(totals) < 2 * len(names):
        raise Failure(f"callgrind wrote {len(totals)} dumps for {len(names)} calls")
    return dict(zip(names, totals[1::2], strict=False))


def run(base, head, patterns, count=True):
    """Print the findings; whether something is slower."""
    times = time_ratios(base, head, patterns)
    counts = {}
    if count:
        below, above = instructions(base, patterns), instructions(head, patterns)
        counts = {name: above[name] / below[name] for name in above if name in below}
        if not shutil.which("valgrind"):
            print("no instruction counts: Valgrind is not installed")
    slower = {name for name, ratio in times.items() if ratio >= SLOWER}
    # More instructions that cost no time are a choice, for example of a prefetch.
    slower |= {name for name, ratio in counts.items() if ratio >= SLOWER and times.get(name, SLOWER) > SUSPECT / 1.04}
    print(f"\n{head.name} over {base.name}{'':<30} {'time':>6}  instructions")
    for name in sorted(times | counts, key=lambda name: -times.get(name, 1)):
        if name in slower or max(times.get(name, 1), counts.get(name, 1)) > SUSPECT:
            figures = "".join(f"{ratios[name]:>8.2f}" if name in ratios else f"{'':>8}" for ratios in (times, counts))
            print(f"{name:<48} {figures}{'   SLOWER' if name in slower else ''}")
    mean = statistics.geometric_mean(times.values())
    print(f"{len(times)} timed, mean {mean:.3f}; {len(counts)} counted; {len(slower)} slower by 15 % or more")
    return bool(slower)


def installed(revision=None):
    """The folder with an installation of a commit, or of the working tree; built once for each commit."""
    if revision:
        commit = git("rev-parse", "--verify", f"{revision}^{{commit}}").strip()
        target = BUILDS / commit[:12]
    else:
        target = BUILDS / "tree"
        shutil.rmtree(target, ignore_errors=True)
    if (target / "fastlogits").is_dir():
        return str(target)
    print(f"* building {revision or 'the working tree'}")
    with tempfile.TemporaryDirectory() as source:
        if revision:
            archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
            subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        else:
            for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
                if (ROOT / name).is_file():
                    (Path(source) / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, Path(source) / name)
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--quiet"]
        done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{revision or 'the working tree'} does not build:\n{done.stderr[-3000:]}")
    return str(target)


def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="commit to compare with")
    parser.add_argument("--head", help="commit to judge; by default the working tree")
    parser.add_argument("--callables", nargs=2, metavar=("BASE", "HEAD"), help="FILE:NAME or MODULE:NAME")
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help="cpu: less noise, for one thread")
    parser.add_argument("--cases", default="*", metavar="A,B,...", help="names; * and ? are wildcards")
    parser.add_argument("--no-count", dest="count", action="store_false", help="leave callgrind out")
    args = parser.parse_args()
    if bool(args.base) == bool(args.callables):
        parser.error("name a base commit, or two callables")
    try:
        if args.callables:
            base, head = (Side(spec, spec, clock=args.clock) for spec in args.callables)
        else:
            base = Side(args.base, "kernels", installed(args.base), "cpu")
            head = Side(args.head or "working tree", "kernels", installed(args.head), "cpu")
        return int(run(base, head, args.cases.split(","), args.count))
    except Failure as failure:
        print(f"gate: {failure}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
