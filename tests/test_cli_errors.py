"""What `fastlogits` says when it cannot: one line with the file's name; and no file that looks like a result."""

import functools
import os
import resource
import shutil
import subprocess
import sys

import files
import numpy as np
import pytest
from conftest import need
from files import FORMATS
from subprocesses import environment

import fastlogits
from fastlogits.cli import main
from fastlogits.cli.job import Job


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", rng.normal(size=(6, 4)).astype(np.float32))
    np.save("y.npy", np.arange(6) % 4)
    np.savez("two.npz", a=np.zeros((2, 3)), b=np.zeros((2, 3)))
    return tmp_path


def complaint(capsys, words, status=1):
    """The one line on stderr."""
    try:
        found = main(words.split())
    except SystemExit as stop:
        found = stop.code
    output, errors = capsys.readouterr()
    assert found == status, errors
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith("fastlogits")
    return line


USAGE = {
    "apply": "required: OP",
    "apply softplus x.npy out.npy": "invalid choice: 'softplus'",
    "apply softmax x.npy": "required: TARGET",
    "apply softmax x.csv out.npy": "got 'x.csv'",
    "apply softmax x.npy out.txt": "got 'out.txt'",
    "apply softmax x.npy out.npz:probs": "names of their own",
    "apply softmax x.npy out.npy --top-k 3": "unrecognized arguments: --top-k",
    "apply softmax x.npy out.npy --temperature 0": "temperature: expected a number above 0",
    "apply softmax x.npy out.npy --temperature nan": "temperature: expected a number above 0",
    "apply softmax x.npy out.npy --memory much": "expected a size such as 512MB, got 'much'",
    "apply softmax x.npy out.npy --memory 0": "expected a size such as 512MB, got '0'",
    "apply softmax x.npy out.npy --threads 0": "expected an integer from 1 to",
    "apply softmax x.npy out.npy --threads 100000": "got '100000'",
    "apply softmax x.npy out.npy --threads 2147483648": "argument --threads: expected an integer from 1 to",
    "calibrate x.npy y.npy --threads 100000": "--threads: expected an integer from 1 to",
    "bench --threads 100000": "--threads: expected an integer from 1 to",
    "apply softmax x.npy out.npy --dtype int8": "invalid choice: 'int8'",
    "apply temperature x.npy out.npy": "required: --temperature",
    "apply topk x.npy out.npz": "required: --top-k",
    "apply topk x.npy out.npz --top-k -1": "top_k: expected an integer from 0",
    "apply sample x.npy out.npz --top-p 0": "top_p: expected a number above 0 and at most 1",
    "apply sample x.npy out.npz --top-k -2": "top_k: expected an integer of at least 1",
    "apply sample x.npy out.npz --temperature -1": "temperature: expected a number above 0",
    "apply sample x.npy out.npz --seed -1": "seed: expected an integer of at least 0",
    "apply stats x.npy out.npz --want lse,perplexity": "want: expected some of",
    "apply stats x.npy out.npz --want nll": "labels: expected, since 'nll' is wanted",
    "apply stats x.npy out.npz --want lse --labels y.npy": "labels: has no effect",
    "apply softmax x.npy out.npy --temperature hot": "could not convert string to float: 'hot'",
    "calibrate x.npy": "required: LABELS",
    "calibrate x.npy y.npy --bins 0": "--bins: expected an integer of at least 1, got '0'",
    "calibrate x.npy y.npy --plot a.xyz": "expected a file of .png, .pdf, .svg, got 'a.xyz'",
    "calibrate x.npy y.npy --save a.txt": "expected a file of .json, got 'a.txt'",
}


@pytest.mark.parametrize("words", USAGE)
def test_usage(words, folder, capsys):
    assert USAGE[words] in complaint(capsys, words, status=2)
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


FAILURES = {
    "apply softmax none.npy out.npy": "none.npy: no such file",
    "apply softmax x.npy none/out.npy": "fastlogits: none/out.npy: No such file or directory",
    "apply softmax x.npy none/out.npy --resume": "fastlogits: none/out.npy: No such file or directory",
    "apply softmax x.npy y.npy": "y.npy: exists already; --force replaces it",
    "apply softmax x.npy out.npy --axis 2": "x.npy: axis 2 is out of bounds",
    "apply softmax x.npy:a out.npy": "x.npy: has no array 'a'",
    "apply softmax two.npz out.npy": "two.npz: expected one array, found: a, b; name one, as two.npz:a",
    "apply softmax two.npz:c out.npy": "two.npz: has no array 'c', only: a, b",
    "apply topk x.npy out.npy --top-k 2": "out.npy: .npy holds one array, not values and indices",
    "apply topk x.npy out.npz --top-k 5": "x.npy: top_k: expected an integer from 0 to the number of classes, 4",
    "apply softmax x.npy out.npy --dtype bfloat16": "out.npy: .npy cannot hold bfloat16",
    "apply sample x.npy out.npz --memory 60": "x.npy: sample needs whole rows in memory: at least --memory 64",
    "apply stats x.npy out.parquet --axis 0 --top-k 2": "out.parquet: .parquet holds columns of equal length",
    "apply stats x.npy out.npz --labels none.npy": "none.npy: no such file",
    "apply stats x.npy out.npz --labels x.npy": "x.npy: expected integer labels, found float32",
    "apply stats x.npy out.npz --labels y.npy --axis 0": "y.npy: expected labels of shape (4,), found (6,)",
    "calibrate none.npy y.npy": "none.npy: no such file",
    "calibrate x.npy none.npy": "none.npy: no such file",
    "calibrate x.npy x.npy": "x.npy: expected integer labels, found float32",
    "calibrate two.npz:a y.npy": "y.npy: expected labels of shape (2,), found (6,)",
    "calibrate x.npy y.npy --axis 5": "x.npy: axis 5 is out of bounds",
    "calibrate x.npy y.npy --memory 60": "x.npy: calibrate needs whole rows in memory: at least --memory 64",
}


@pytest.mark.parametrize("words", FAILURES)
def test_failures(words, folder, capsys):
    assert FAILURES[words] in complaint(capsys, words)
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files(suffix, folder, capsys):
    """Cut short, empty, and of another format altogether."""
    need(FORMATS[suffix].library)
    path = folder / f"a{suffix}"
    FORMATS[suffix].write(path, {"x": np.arange(600.0).reshape(20, 30)})
    file = path / "x" / "zarr.json" if suffix == ".zarr" else path
    whole = file.read_bytes()
    for content in (whole[: len(whole) * 3 // 5], b"", b"a,b,c\n1,2,3\n" * 9):
        file.write_bytes(content)
        assert path.name in complaint(capsys, f"apply softmax {path} out.npy")
        assert not [name for name in os.listdir() if name.startswith("out")]


def test_truncated_files_are_named_so(folder, capsys):
    os.truncate("x.npy", 200)
    assert "x.npy: truncated: 224 bytes expected, 200 found" in complaint(capsys, "apply softmax x.npy out.npy")
    files.write_safetensors("a.safetensors", {"x": np.zeros((20, 30))})
    os.truncate("a.safetensors", 4000)
    assert "truncated" in complaint(capsys, "apply softmax a.safetensors out.npy")


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros((2, 3), complex), "expected float32, float64, float16 or bfloat16 (integers"),
        (np.zeros((2, 3), np.longdouble), "got float128"),
        (np.array([["a", "b"]]), "got <U1"),
        (np.array([[1, None]]), "expected numbers, found Python objects"),
        (np.zeros(3, [("a", "f4")]), "expected float32"),
        (np.float64(3), "axis -1 is out of bounds for array of dimension 0"),
        (np.zeros((2, 0)), "expected at least one class"),
    ],
)
def test_arrays_that_are_no_logits(array, what, folder, capsys):
    np.save("a.npy", array, allow_pickle=True)
    line = complaint(capsys, "apply argmax a.npy out.npy")
    assert "a.npy: " in line
    assert what in line


@pytest.mark.parametrize(("label", "what"), [(1.5, "whole"), (np.nan, "whole"), (np.inf, "labels in [0, 4)")])
def test_labels_that_are_no_classes(label, what, folder, capsys):
    labels = np.arange(6.0) % 4
    labels[4] = label
    np.save("y.npy", labels)
    line = complaint(capsys, "apply stats x.npy out.npz --labels y.npy")
    assert f"y.npy: expected {what}" in line
    assert line.endswith(f"found {label} at (4,)")


def test_columns_that_are_no_classes(folder, capsys):
    """Nobody is advised to take the softmax of the rows of a column, nor told the names of 20,000."""
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    columns = {f"c{i}": [0.5, 1.5] for i in range(20_000)}
    parquet.write_table(arrow.table(columns | {"label": [1, 2]}), "wide.parquet")
    line = complaint(capsys, "apply softmax wide.parquet out.npy")
    assert "... (20,001 in all); name one, as wide.parquet:c*" in line
    assert len(line) < 300
    assert len(complaint(capsys, "apply softmax wide.parquet:d out.npy")) < 300
    assert "expected a column per class" in complaint(capsys, "apply softmax wide.parquet:c0 out.npy")
    assert "of one type" in complaint(capsys, "apply softmax wide.parquet:* out.npy")
    lists = {"id": [1, 2], "a": [[1.0, 2.0]] * 2, "b": [[1.0, 2.0]] * 2}
    parquet.write_table(arrow.table(lists), "lists.parquet")
    assert "name one, as lists.parquet:a" in complaint(capsys, "apply softmax lists.parquet out.npy")
    assert "of one type" in complaint(capsys, "apply softmax lists.parquet:? out.npy")
    twice = arrow.table([[1.0], [2.0]], names=["c0", "c0"])
    parquet.write_table(twice, "twice.parquet")
    assert "several columns of one name" in complaint(capsys, "apply softmax twice.parquet out.npy")


def test_no_more_threads(folder, monkeypatch):
    """Who asks does the work where the system starts none."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    assert main("apply softmax x.npy out.npy --threads 4".split()) == 0
    np.testing.assert_array_equal(np.load("out.npy"), fastlogits.softmax(np.load("x.npy")))


def test_journal_that_cannot_be_written(folder):
    """The file is named, also by what happens while it is closed."""
    words = [sys.executable, "-m", "fastlogits", "apply", "softmax", "x.npy", "out.npy"]
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (200, 200))
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, preexec_fn=limit)
    assert (done.returncode, done.stderr) == (1, "fastlogits: out.npy.partial.journal: File too large\n")
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


def test_labels_out_of_range(folder, capsys):
    """Found in whichever block they are; the position is that in the file."""
    np.save("a.npy", np.zeros((50, 3, 4), np.float32))
    labels = np.zeros((50, 3), np.int8)
    labels[5, 0] = -100
    labels[41, 2] = 4
    np.save("b.npy", labels)
    for memory in ("1MB", "600", "100"):
        line = complaint(capsys, f"apply stats a.npy out.npz --labels b.npy --memory {memory}")
        assert line.endswith("b.npy: expected labels in [0, 4), found 4 at (41, 2)")
    assert sorted(os.listdir()) == ["a.npy", "b.npy", "two.npz", "x.npy", "y.npy"]


def test_lists_of_different_lengths(folder, capsys):
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    rows = [[1.0, 2.0]] * 100
    for row, what in (([1.0], "not of length 2"), (None, "is missing"), ([1.0, None], "has a missing number")):
        parquet.write_table(arrow.table({"x": [*rows, row, *rows]}), "a.parquet", row_group_size=30)
        line = complaint(capsys, "apply softmax a.parquet out.npy --memory 2KB")
        assert "a.parquet: row 100 of column x" in line
        assert what in line


LIBRARIES = {".h5": "h5py", ".zarr": "zarr", ".parquet": "pyarrow"}


@pytest.mark.parametrize("suffix", LIBRARIES)
def test_missing_library(suffix, folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, LIBRARIES[suffix], None)
    path = folder / f"a{suffix}"
    path.touch()
    expected = f"needs {LIBRARIES[suffix]}, which is missing: pip install 'fastlogits[files]'"
    assert expected in complaint(capsys, f"apply softmax {path} out.npy")
    path.unlink()
    monkeypatch.setattr(Job, "compute", lambda *args: pytest.fail("too late"))
    assert expected in complaint(capsys, f"apply softmax x.npy {path}")
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


def test_missing_bfloat16(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    line = complaint(capsys, "apply softmax x.npy out.safetensors --dtype bfloat16")
    assert line.endswith("out.safetensors: needs ml_dtypes, which is missing: pip install 'fastlogits[bf16]'")


@pytest.mark.parametrize("variable", ["FASTLOGITS_NUM_THREADS", "FASTLOGITS_BACKEND"])
def test_settings_from_the_environment(variable, folder):
    words = [sys.executable, "-m", "fastlogits", "apply", "softmax", "x.npy", "out.npy"]
    done = subprocess.run(words, env=environment(**{variable: "many"}), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"fastlogits: {variable}: expected ")
    assert done.stderr.count("\n") == 1
    assert not os.path.exists("out.npy")


@pytest.mark.parametrize("changed", ["x.npy", "y.npy"])
def test_source_that_changes(changed, folder, capsys, monkeypatch):
    compute = Job.compute

    def meddling(job, *args):
        os.utime(changed)
        return compute(job, *args)

    monkeypatch.setattr(Job, "compute", meddling)
    line = complaint(capsys, "apply stats x.npy out.npz --labels y.npy")
    assert line.endswith(f"{changed}: changed while it was read")
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


def test_source_that_shrinks(folder, capsys, monkeypatch):
    compute = Job.compute

    def meddling(job, *args):
        os.truncate("x.npy", 140)
        return compute(job, *args)

    monkeypatch.setattr(Job, "compute", meddling)
    assert "x.npy: became shorter" in complaint(capsys, "apply softmax x.npy out.npy")
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


def test_target_that_appears_meanwhile(folder, capsys, monkeypatch):
    compute = Job.compute

    def meddling(job, *args):
        (folder / "out.npy").write_text("of somebody else")
        return compute(job, *args)

    monkeypatch.setattr(Job, "compute", meddling)
    assert "out.npy: exists already" in complaint(capsys, "apply softmax x.npy out.npy")
    assert (folder / "out.npy").read_text() == "of somebody else"


def test_no_room(folder, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 50, 50))
    assert "out.npy: needs 96 bytes, but only 50 are free" in complaint(capsys, "apply softmax x.npy out.npy")
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


def test_no_file_to_read_from_any_place(folder, capsys):
    """A pipe, which nobody may ever write to."""
    os.mkfifo("a.npy")
    assert "a.npy: expected a file that can be read from any place" in complaint(capsys, "apply softmax a.npy out.npy")


def test_names_in_lines(folder, capsys):
    assert main(["apply", "softmax", "a\nb.npy", "out.npy"]) == 1
    assert capsys.readouterr().err == "fastlogits: a\\nb.npy: no such file\n"


@pytest.mark.parametrize("words", ["apply softmax x.npy out.npy", "calibrate x.npy y.npy --save out.json"])
def test_folders_are_not_replaced(words, folder, capsys):
    target = words.split()[-1]
    (folder / target).mkdir()
    (folder / target / "precious").touch()
    assert complaint(capsys, f"{words} --force").endswith(f"{target}: is a folder")
    assert (folder / target / "precious").exists()


@pytest.mark.parametrize("words", ["apply softmax x.npy out.npy", "calibrate x.npy y.npy --save out.json"])
def test_links_are_followed(words, folder, capsys):
    """To where there is room; the link stays, and what it leads to is minded."""
    (folder / "far").mkdir()
    target = words.split()[-1]
    os.symlink(folder / "far" / "result", target)
    assert main(words.split()) == 0
    assert os.path.islink(target)
    assert os.listdir("far") == ["result"]
    capsys.readouterr()
    assert complaint(capsys, words).endswith("far/result: exists already; --force replaces it")
    (folder / "far" / "result").write_text("old")
    assert main([*words.split(), "--force"]) == 0
    assert (folder / "far" / "result").read_bytes() != b"old"
    assert os.path.islink(target)


def test_files_give_way_to_folders(folder):
    need("zarr")
    (folder / "out.zarr").write_text("old")
    assert main(["apply", "softmax", "x.npy", "out.zarr", "--force"]) == 0
    assert sorted(os.listdir()) == ["out.zarr", "two.npz", "x.npy", "y.npy"]
    assert files.read(folder / "out.zarr")["probs"].shape == (6, 4)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(closed, folder):
    """No file of ours takes their numbers, to be written to by whoever prints."""
    words = sys.executable, "-m", "fastlogits", "apply", "softmax", "x.npy", "out.npy"
    for status in (0, 1):
        done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], env=environment(), capture_output=True)
        assert done.returncode == status
        assert done.stdout.startswith(b"out.npy: softmax") == (status == 0 and ">&-" not in closed.split())
        assert done.stderr.startswith(b"fastlogits: out.npy: exists already") == (status == 1 and "2>&-" not in closed)
    np.testing.assert_array_equal(np.load("out.npy"), fastlogits.softmax(np.load("x.npy")))


def test_full_standard_output(folder):
    words = [sys.executable, "-m", "fastlogits", "info"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "fastlogits: standard output: No space left on device\n"
