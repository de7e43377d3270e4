"""The commands `info` and `bench`, and what all commands have in common."""

import importlib.metadata
import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import need
from subprocesses import environment, run

import fastlogits
from fastlogits.cli import arguments, bench, formats, main
from fastlogits.cli.failures import Failure
from fastlogits.cli.progress import bar


def said(capsys, *words, status=0):
    assert main([*words]) == status
    return capsys.readouterr().out


def test_info(capsys):
    need("h5py")
    told = json.loads(said(capsys, "info", "--json"))
    assert told.items() >= fastlogits.show_config("dicts").items()
    assert told[".npy"] == "nothing more"
    assert told[".hdf5"] == f"h5py {importlib.metadata.version('h5py')}"
    assert dict(line.split(maxsplit=1) for line in said(capsys, "info").splitlines() if line.startswith(".")) == {
        suffix: text for suffix, text in told.items() if suffix.startswith(".")
    }


def test_info_without_libraries(capsys, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert ".zarr            zarr is missing: pip install 'fastlogits[files]'" in said(capsys, "info")


def test_bench(capsys, monkeypatch):
    need("scipy")
    torch = need("torch")
    # The command has a process to itself, and sets this.
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(bench, "SECONDS", 0)
    told = json.loads(said(capsys, "bench", "--shapes", "30x7,5x60", "--threads", "1", "--json"))
    assert (told["dtype"], told["threads"]) == ("float32", 1)
    cells = told["milliseconds"]
    assert [cell["shape"] for cell in cells] == [[30, 7]] * 6 + [[5, 60]] * 6
    for cell in cells:
        assert {"fastlogits", "numpy", "torch"} <= cell.keys()
        assert ("scipy" in cell) == (cell["operation"] in ("softmax", "log_softmax", "logsumexp"))
        assert min(cell[name] for name in bench.LIBRARIES if name in cell) > 0
    title, *lines = bench.text(told).splitlines()
    assert title.split() == ["float32,", "1", "thread:", "milliseconds", *bench.LIBRARIES]
    assert len(lines) == 12 + any(cell["noisy"] for cell in cells)
    assert len({len(line) for line in (title, *lines[:12])}) == 1


def test_bench_quick(capsys, monkeypatch):
    monkeypatch.setattr(bench, "LIBRARIES", {name: bench.LIBRARIES[name] for name in ("fastlogits", "numpy")})
    told = json.loads(said(capsys, "bench", "--quick", "--json"))
    assert {tuple(cell["shape"]) for cell in told["milliseconds"]} == set(bench.QUICK_SHAPES)
    told = json.loads(said(capsys, "bench", "--quick", "--shapes", "3x4", "--json"))
    assert {tuple(cell["shape"]) for cell in told["milliseconds"]} == {(3, 4)}


@pytest.mark.parametrize(
    ("times", "switches", "noisy"),
    [
        ([1.0, 1.01, 1.05, 1.0, 3.0], [0, 0, 0, 0, 1], False),
        ([1.0, 1.0, 1.2, 1.3, 1.4], [0] * 5, True),
        ([12.0] * 5, [1, 1, 0, 1, 1], True),
    ],
    ids=["quiet", "spread", "a scheduler's slice"],
)
def test_bench_knows_a_busy_machine(times, switches, noisy):
    assert bench._noisy(times, switches) == noisy


def test_bench_marks_what_cannot_be_trusted(monkeypatch):
    monkeypatch.setattr(bench, "SECONDS", 0)
    cell = bench._race({"fastlogits": lambda: None, "numpy": Slower()}, bench.SECONDS)
    assert "numpy" in cell["noisy"]
    cell = {"operation": "softmax", "shape": [2, 3], "fastlogits": 2.0, "numpy": 12.0, "torch": 4.0, "noisy": ["numpy"]}
    title, line, note = bench.text({"dtype": "float32", "threads": 1, "milliseconds": [cell]}).splitlines()
    assert line.split() == ["softmax", "2", "x", "3", "2", "12?", "(6.0x?)", "4", "(2.0x)"]
    assert note.startswith("? 1 of 3 figures are too noisy to trust")
    cell["noisy"] = ["fastlogits"]
    _, line, _ = bench.text({"dtype": "float32", "threads": 1, "milliseconds": [cell]}).splitlines()
    assert line.split() == ["softmax", "2", "x", "3", "2?", "12", "(6.0x?)", "4", "(2.0x?)"]


class Slower:
    """Each call takes longer than the last."""

    seconds = 0.002

    def __call__(self):
        time.sleep(self.seconds)
        self.seconds *= 1.2


def test_bench_goes_without_what_is_missing(capsys, monkeypatch):
    for name in ("torch", "scipy.special"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(bench, "SECONDS", 0)
    title = said(capsys, "bench", "--shapes", "4x3", "--dtype", "float64").splitlines()[0]
    assert title.split()[-2:] == ["fastlogits", "numpy"]


def test_bench_checks_before_it_times(monkeypatch):
    monkeypatch.setattr(fastlogits, "softmax", lambda x: np.zeros_like(x))
    with pytest.raises(Failure, match="fastlogits: softmax differs"):
        list(bench._cells((3, 4), np.float32, 1, 0))


SIZES = {"1": 1, "512MB": 512_000_000, "1.5GiB": 3 << 29, "64 kib": 65536, "2t": 2 * 10**12, "10B": 10}


@pytest.mark.parametrize("text", SIZES)
def test_sizes(text):
    args = arguments.parse(["apply", "argmax", "a.npy", "b.npy", "--memory", text])
    assert args.memory == SIZES[text]


@pytest.mark.parametrize("words", ["bench --shapes 3", "bench --shapes 0x4", "apply argmax a.npy b.npy --memory -3"])
def test_sizes_that_make_no_sense(words):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2


def test_from_the_shell():
    """The command, the module, and that a question about the version loads no library of a format."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="fastlogits")
    assert script.load() is main
    command = [sys.executable, "-m", "fastlogits", "--version"]
    told = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    assert told == f"fastlogits {fastlogits.__version__}\n"
    code = """
        import sys
        from fastlogits.cli import arguments
        arguments.parse(["apply", "softmax", "a.zarr", "b.h5"])
        print(*{"zarr", "h5py", "pyarrow", "tqdm", "ml_dtypes"} & sys.modules.keys())
        """
    assert run(code) == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress(monkeypatch):
    need("tqdm")
    for wanted, shown in ((True, True), (False, False)):
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        with bar(1000, 250, wanted) as progress:
            progress.update(500)
        assert ("75%" in terminal.getvalue()) == shown
    monkeypatch.setattr(sys, "stderr", nowhere := io.StringIO())
    with bar(1000, 0, True) as progress:
        progress.update(500)
    assert nowhere.getvalue() == ""


def test_progress_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with bar(1000, 0, True) as progress:
        progress.update(500)
    assert terminal.getvalue() == ""


def test_progress_counts_what_is_read(tmp_path, monkeypatch):
    """Once for blocks of whole rows, more often for rows in pieces."""
    need("tqdm")
    np.save(tmp_path / "x.npy", np.zeros((40, 500), np.float32))
    for memory in ("1MB", "100KB", "1KB"):
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        words = "--memory", memory, "--force"
        assert main(["apply", "softmax", str(tmp_path / "x.npy"), str(tmp_path / "out.npy"), *words]) == 0
        assert "100%" in terminal.getvalue().splitlines()[-1]


PLACES = {
    "x.npy": ("x.npy", None),
    "a/b.c/x.h5:run/logits": ("a/b.c/x.h5", "run/logits"),
    "x.npz:y.npy": ("x.npz", "y.npy"),
    "x.npy.zarr:a:b": ("x.npy.zarr", "a:b"),
    "x:y.hdf5": ("x:y.hdf5", None),
}


@pytest.mark.parametrize("text", PLACES)
def test_places(text):
    place = formats.place(text)
    assert (place.path, place.key) == PLACES[text]


@pytest.mark.parametrize("words", ["apply softmax", "apply sample", "apply stats", "calibrate", "bench", "info"])
def test_every_option_has_help(words, capsys):
    with pytest.raises(SystemExit):
        main([*words.split(), "--help"])
    lines = capsys.readouterr().out.partition("options:\n")[2].splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("  -"):
            assert "  " in line.strip() or following.startswith(" " * 20), line
