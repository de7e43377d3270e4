"""`apply` and `calibrate` keep to --memory, whatever the size of the file and of its rows."""

import numpy as np
import pytest
from conftest import need
from files import FORMATS
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


def test_memory_of_rows_without_classes(tmp_path):
    """What there are of them are results."""
    np.save(tmp_path / "x.npy", np.zeros((20_000_000, 0), np.float32))
    least, most = (
        peak("apply", "logsumexp", source, tmp_path / "out.npy", "--force", "--memory", MEMORY)
        for source in (sparse(tmp_path / "small.npy", (3, 2)), tmp_path / "x.npy")
    )
    assert most - least < MEMORY
    assert np.isneginf(np.load(tmp_path / "out.npy", mmap_mode="r")[::1000]).all()


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_chunks_larger_than_the_memory(suffix, tmp_path):
    """Each is decoded once, one at a time."""
    chunk = 1000 * 10_000 * 4
    source, target = tmp_path / f"x{suffix}", tmp_path / "out.npy"
    if suffix == ".zarr":
        array = need("zarr").create_array(source, shape=(4000, 10_000), dtype="f4", chunks=(1000, 10_000))
        array[:] = 1
    else:
        with need("h5py").File(source, "w") as file:
            file.create_dataset("x", data=np.ones((4000, 10_000), "f4"), chunks=(1000, 10_000), compression="gzip")
    FORMATS[suffix].write(tmp_path / f"small{suffix}", {"x": np.zeros((3, 2))})
    words = "--force", "--memory", 16 << 20
    least = peak("apply", "softmax", tmp_path / f"small{suffix}", target, *words)
    most = peak("apply", "softmax", source, target, *words)
    assert most - least < 4 * chunk
    np.testing.assert_array_equal(np.load(target), np.float32(1e-4))
