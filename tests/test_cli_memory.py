"""`apply` and `calibrate` keep to --memory, whatever the size of the file and of its rows."""

import numpy as np
import pytest
from subprocesses import run

COMMAND = """
    import sys
    from pathlib import Path
    from fastlogits.cli import main

    assert main({words}) == 0
    print(*(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
    """


def peak(*words):
    """The most memory that the command held, in bytes."""
    return int(run(COMMAND.format(words=[*map(str, words)])).split()[-1]) * 1024


def sparse(path, shape, dtype=np.float32):
    """Zeros that take no room on the disk."""
    np.lib.format.open_memmap(path, "w+", dtype, shape).flush()
    return path


MEMORY = 48 << 20
SHAPES = {"rows": (200, 200_000), "long rows": (2, 20_000_000), "columns": (1000, 40_000), "tall": (4_000_000, 10)}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("op", ["softmax", "logsumexp"])
def test_memory(name, op, tmp_path):
    source, shape = tmp_path / "x.npy", SHAPES[name]
    axis = int("rows" in name)
    least = peak("apply", op, sparse(tmp_path / "small.npy", (3, 2)), tmp_path / "out.npy")
    most = peak("apply", op, sparse(source, shape), tmp_path / "out.npy", "--force", "--axis", axis, "--memory", MEMORY)
    assert most - least < MEMORY
    probability = 1 / shape[axis] if op == "softmax" else np.log(shape[axis])
    found = np.load(tmp_path / "out.npy", mmap_mode="r")
    np.testing.assert_allclose(found.ravel()[:: max(1, found.size // 1000)], probability, rtol=1e-6)


def test_memory_of_calibrate(tmp_path):
    most, least = (
        peak(
            "calibrate", sparse(tmp_path / f"{rows}.npy", (rows, 1000)), sparse(tmp_path / "y.npy", (rows,), np.int64),
            "--memory", MEMORY,
        )
        for rows in (100_000, 3)
    )  # fmt: skip
    assert most - least < MEMORY
