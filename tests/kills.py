"""`fastlogits apply --resume` on a sparse file of any size: killed at random moments, it comes to the same bytes.

    python tests/kills.py [--gigabytes 20] [--rounds 20] [--op logsumexp] [--folder /tmp]

A round ends when the file of results is there. Until then each run, the first and those that resume, gets SIGKILL
after a random part of the time that an uninterrupted one took, if it is not done by then; at least one is not. After
each kill the next run has more time, so that a machine that has become busy comes to an end as well.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from subprocesses import environment

CLASSES = 1000


def sparse(path, gigabytes):
    """Zeros that take no room on the disk, with some numbers among them."""
    x = np.lib.format.open_memmap(path, "w+", np.float32, (round(gigabytes * 1e9 / 4 / CLASSES), CLASSES))
    x[::97, 0] = 9 * np.random.default_rng(0).normal(size=len(x[::97]))
    x.flush()
    return path


def start(op, source, target, *more):
    words = [sys.executable, "-m", "fastlogits", "apply", op, source, target, *more]
    return subprocess.Popen([*map(str, words)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until_there(target, command, longest):
    """Run the command until it ends by itself, after it was killed; how often that was."""
    kills = 0
    while not kills or not target.exists():
        target.unlink(missing_ok=True)
        process = start(*command, "--resume")
        time.sleep(random.uniform(0, longest))
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -9), errors.decode()
        if process.returncode == -9:
            kills, longest = kills + 1, 1.2 * longest
    return kills


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rounds(folder, op, gigabytes, count, *more):
    """The kills of each round; what comes out of it must be what comes out of an uninterrupted run."""
    source, target = sparse(folder / "x.npy", gigabytes), folder / "out.npy"
    command = op, source, target, *more
    begin = time.monotonic()
    process = start(*command)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    longest, expected = time.monotonic() - begin, digest(target)
    target.unlink()
    for _ in range(count):
        kills = until_there(target, command, longest)
        assert digest(target) == expected
        target.unlink()
        yield kills


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--op", default="logsumexp", help="one with a single result; default: logsumexp")
    parser.add_argument("--folder", help="where there is room; default: that for temporary files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        kills, begin = [], time.monotonic()
        for found in rounds(Path(folder), args.op, args.gigabytes, args.rounds):
            kills.append(found)
            print(f"round {len(kills)}: killed {found} times, then the same bytes", flush=True)
    seconds = time.monotonic() - begin
    print(f"{args.op}, {args.gigabytes} GB: {len(kills)} of {args.rounds} rounds, {sum(kills)} kills, {seconds:.0f} s")


if __name__ == "__main__":
    main()
