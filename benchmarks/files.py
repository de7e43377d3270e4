"""`fastlogits apply softmax` on a .npy beside copying the file, in turn; and the memory that it takes.

    python benchmarks/files.py [--gigabytes 4] [--rounds 5] [--folder /tmp]

Both sides read a file that the system has in memory, write one that is not there yet, and end when the disk has it.
It takes twice the size on the disk.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES = 1000
GOAL = 1.5
GOAL_MB = 600

APPLY = """
import sys
from pathlib import Path
from fastlogits.cli import main

if status := main(["apply", "softmax", *sys.argv[1:]]):
    sys.exit(status)
print(*(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where there is room; default: that for temporary files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source, target = Path(folder, "x.npy"), Path(folder, "out.npy")
        make(source, round(args.gigabytes * 1e9 / 4 / CLASSES))
        sides = {"cp": (copy, []), "apply softmax": (apply, [])}
        most = 0
        # The first round finds memory that the machine has not touched yet.
        for turn in range(args.rounds + 1):
            for name, (call, seconds) in sides.items():
                target.unlink(missing_ok=True)
                os.sync()
                start = time.perf_counter()
                most = max(most, call(source, target))
                taken = time.perf_counter() - start
                print(f"round {turn}: {name} {taken:.2f} s", flush=True)
                if turn:
                    seconds.append(taken)
    medians = {name: statistics.median(seconds) for name, (_, seconds) in sides.items()}
    for name, (_, seconds) in sides.items():
        print(f"{name:<14} {medians[name]:6.2f} s   ({', '.join(f'{s:.2f}' for s in sorted(seconds))})")
    ratio = medians["apply softmax"] / medians["cp"]
    print(f"ratio {ratio:.2f} (goal: at most {GOAL}), peak of resident memory {most:.0f} MB (goal: under {GOAL_MB})")
    return ratio > GOAL or most >= GOAL_MB


def make(path, rows):
    x = np.lib.format.open_memmap(path, "w+", np.float32, (rows, CLASSES))
    some = 4 * np.random.default_rng(0).standard_normal((10_000, CLASSES), np.float32)
    for start in range(0, rows, len(some)):
        x[start : start + len(some)] = some[: rows - start]
    x.flush()


def copy(source, target):
    subprocess.run(["cp", source, target], check=True)
    descriptor = os.open(target, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)
    return 0


def apply(source, target):
    """The most resident memory that it had, in MB. It syncs by itself."""
    output = subprocess.check_output([sys.executable, "-c", APPLY, source, target], text=True)
    return int(output.split()[-2]) / 1000


if __name__ == "__main__":
    sys.exit(main())
