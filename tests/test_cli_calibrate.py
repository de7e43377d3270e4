"""`fastlogits calibrate`: in blocks of any size it comes to what the functions say of the arrays in memory."""

import contextlib
import errno
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import need
from files import BFLOAT16, FORMATS
from subprocesses import environment
from tolerance import machine_epsilon

import fastlogits
from fastlogits import calibration
from fastlogits.cli import calibrate, main

MEASURES = {
    "nll": calibration.negative_log_likelihood,
    "brier": calibration.brier_score,
    "ece": calibration.expected_calibration_error,
    "mce": calibration.maximum_calibration_error,
}


def case(rng, shape, axis=-1, temperature=2.0):
    """Logits, and labels drawn with the probabilities at a temperature."""
    x = 3 * rng.normal(size=shape)
    # The largest of the logits with Gumbel noise.
    return x, (x / temperature + rng.gumbel(size=shape)).argmax(axis)


def calibrated(*words):
    """What the command says in JSON."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["calibrate", *map(str, words), "--json"]) == 0
    return json.loads(output.getvalue())


def assert_calibrated(summary, x, y, axis=-1, **options):
    """That the summary is of these rows."""
    fit, rel = calibration.fit_temperature(x, y, axis=axis), float(32 * machine_epsilon(x.dtype))
    assert summary["rows"] == y.size
    assert summary["temperature"] == pytest.approx(fit.temperature, rel=1e-6)
    for when, temperature in (("before", 1.0), ("after", summary["temperature"])):
        measures = summary[when]
        for name, function in MEASURES.items():
            given = options if name in ("ece", "mce") else {}
            expected = function(x, y, axis=axis, temperature=temperature, **given)
            assert measures[name] == pytest.approx(expected, rel=rel)
        assert measures["accuracy"] == pytest.approx(fastlogits.accuracy(x, y, axis=axis), rel=1e-12)
    assert summary["after"]["nll"] == pytest.approx(fit.nll, rel=rel)


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = case(rng, (300, 9))
    np.save("x.npy", x.astype(np.float32))
    np.save("y.npy", y)
    return tmp_path


def refused(capsys, words, status=1):
    """The one line on stderr."""
    assert main(words.split()) == status
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = errors.splitlines()
    return line


@pytest.mark.parametrize(("shape", "axis"), [((400, 7), -1), ((7, 400), 0), ((20, 5, 30), 1), ((500, 2), 1)])
@pytest.mark.parametrize("memory", ["512MB", "20KB", "2KB"])
def test_any_axis_in_blocks(shape, axis, memory, rng, tmp_path):
    """With 2KB the fit begins with a part of the blocks."""
    x, y = case(rng, shape, axis)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    summary = calibrated(tmp_path / "x.npy", tmp_path / "y.npy", "--axis", axis, "--memory", memory, "--bins", 10)
    assert_calibrated(summary, x, y, axis, bins=10)
    assert summary["shape"] == [*shape]


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(suffix, folder):
    need(FORMATS[suffix].library)
    x, y = np.load("x.npy"), np.load("y.npy")
    FORMATS[suffix].write(folder / f"a{suffix}", {"x": x})
    FORMATS[suffix].write(folder / f"b{suffix}", {"y": y})
    for memory in ("1MB", "4KB"):
        assert_calibrated(calibrated(f"a{suffix}", f"b{suffix}", "--memory", memory), x, y)


@pytest.mark.parametrize("dtype", ["float16", ">f4", "int8", BFLOAT16])
@pytest.mark.parametrize("kind", ["uint8", ">i2", "uint64"])
def test_dtypes(dtype, kind, folder):
    x, y = np.load("x.npy").astype(dtype), np.load("y.npy").astype(kind)
    np.save("a.npy", x)
    np.save("b.npy", y)
    assert_calibrated(calibrated("a.npy", "b.npy", "--memory", "4KB"), x, y)


@pytest.mark.parametrize("memory", ["1MB", "1KB"])
def test_rows_that_do_not_count(memory, folder, capsys):
    """Ignored ones, and those without probabilities, unless they are ignored as well."""
    x, y = np.load("x.npy"), np.load("y.npy")
    y[7:13] = -1
    x[3, 4] = x[7, 0] = x[290, 8] = np.nan
    x[5] = x[8] = -np.inf
    x[6, 2] = x[9, 1] = np.inf
    x[20, y[20] - 1] = -np.inf
    np.save("a.npy", x)
    np.save("b.npy", y)
    kept = np.delete(np.arange(300), [3, 290, 5, 6, *range(7, 13)])
    words = "a.npy", "b.npy", "--ignore-index", "-1", "--memory", memory
    summary = calibrated(*words)
    assert summary["nan_rows"] == 4
    assert_calibrated(summary, x[kept], y[kept])
    assert main(["calibrate", *words]) == 0
    assert "fitted to 290 rows of a.npy; 4 without probabilities (NaN, infinite) left out\n" in capsys.readouterr().out


def test_what_is_saved_is_a_temperature(folder, capsys):
    """For every operation that takes one."""
    x, temperature = np.load("x.npy"), calibrated("x.npy", "y.npy", "--save", "t.json")["temperature"]
    assert json.loads((folder / "t.json").read_text())["temperature"] == temperature
    for op, result in (
        ("softmax", fastlogits.softmax(x, temperature=temperature)),
        ("temperature", (x / np.float64(temperature)).astype(np.float32)),
        ("sample", fastlogits.sample(x, temperature=temperature, seed=0).ids),
    ):
        assert main(["apply", op, "x.npy", "out.npz", "--temperature", "t.json", "--force"]) == 0
        with np.load("out.npz") as found:
            np.testing.assert_array_equal(found[found.files[0]], result)
    capsys.readouterr()
    for text, what in (("[1]", "calibrate"), ('{"temperature": "hot"}', "calibrate"), ("{}", "calibrate"), ("{", "")):
        (folder / "t.json").write_text(text)
        line = refused(capsys, "apply softmax x.npy out.npy --temperature t.json")
        assert line.startswith("fastlogits: t.json: ")
        assert what in line
    assert "none.json: No such file" in refused(capsys, "apply softmax x.npy out.npy --temperature none.json")


@pytest.mark.parametrize(("label", "limit", "note"), [(0, 1e-36, "the lowest"), (1, 1e36, "the highest")])
def test_limits(label, limit, note, folder, capsys):
    """The best temperature may be 0 or infinite; what stands for it can be applied."""
    x = np.tile(np.array([[2.0, -1, 0]]), (5, 1))
    np.save("a.npy", x)
    np.save("b.npy", np.full(5, label))
    summary = calibrated("a.npy", "b.npy", "--save", "t.json")
    assert summary["temperature"] == pytest.approx(limit)
    assert summary["after"]["nll"] == pytest.approx([0, np.log(3)][label], abs=1e-9)
    assert main(["calibrate", "a.npy", "b.npy"]) == 0
    assert note in capsys.readouterr().out
    assert main(["apply", "softmax", "a.npy", "out.npy", "--temperature", "t.json"]) == 0
    np.testing.assert_allclose(np.load("out.npy")[0], [[1, 0, 0], [1 / 3] * 3][label])


def test_text(folder, capsys):
    summary = calibrated("x.npy", "y.npy")
    assert main(["calibrate", "x.npy", "y.npy"]) == 0
    first, titles, *lines = capsys.readouterr().out.splitlines()
    assert first == f"temperature {summary['temperature']:.6g}, fitted to 300 rows of x.npy"
    assert titles.split() == ["before", "after"]
    for line, name in zip(lines, ("nll", "brier", "ece", "mce", "accuracy"), strict=True):
        assert line.split() == [name, *(f"{summary[when][name]:.5f}" for when in ("before", "after"))]


def test_progress(folder, monkeypatch):
    """Every reading has a bar, which comes to its end."""
    need("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := io.StringIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    calibrated("x.npy", "y.npy", "--memory", "4KB")
    bars = terminal.getvalue().splitlines()
    assert {"before", "fit", "after"} == {line.split(":")[0].strip() for line in bars if "100%" in line}


PICTURES = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.mark.parametrize("suffix", PICTURES)
def test_plot(suffix, folder, monkeypatch):
    """The curves before and after, in a picture of the kind that its name says."""
    need("matplotlib")
    draw, drawn = calibrate.draw_reliability, []
    monkeypatch.setattr(calibrate, "draw_reliability", lambda curve, ax: draw(drawn.append(curve) or curve, ax))
    summary = calibrated("x.npy", "y.npy", "--plot", f"a{suffix}", "--bins", 5)
    assert (folder / f"a{suffix}").read_bytes().startswith(PICTURES[suffix])
    assert sorted(os.listdir()) == [f"a{suffix}", "x.npy", "y.npy"]
    for curve, temperature in zip(drawn, (1, summary["temperature"]), strict=True):
        exact = calibration.reliability_curve(np.load("x.npy"), np.load("y.npy"), bins=5, temperature=temperature)
        np.testing.assert_allclose(curve, exact, rtol=1e-12)


def test_pictures_and_saved_files_are_not_replaced(folder, capsys):
    need("matplotlib")
    for option, name in (("--plot", "a.png"), ("--save", "a.json")):
        (folder / name).write_text("of somebody else")
        words = f"calibrate x.npy y.npy {option} {name}"
        assert refused(capsys, words) == f"fastlogits: {name}: exists already; --force replaces it"
        assert (folder / name).read_text() == "of somebody else"
        assert main([*words.split(), "--force"]) == 0
        assert "of somebody else" not in (folder / name).read_text(errors="replace")
        capsys.readouterr()
    assert sorted(os.listdir()) == ["a.json", "a.png", "x.npy", "y.npy"]


def too_late(*args, **options):
    pytest.fail("too late")


def test_missing_matplotlib(folder, capsys, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(calibrate, "optimum", too_late)
    line = refused(capsys, "calibrate x.npy y.npy --plot a.png")
    assert line == "fastlogits: a.png: needs matplotlib, which is missing: pip install 'fastlogits[plot]'"
    assert sorted(os.listdir()) == ["x.npy", "y.npy"]


@pytest.mark.parametrize("option", ["--plot none/a.png", "--save none/a.json"])
def test_no_folder_for_the_files(option, folder, capsys, monkeypatch):
    need("matplotlib")
    monkeypatch.setattr(calibrate, "optimum", too_late)
    line = refused(capsys, f"calibrate x.npy y.npy {option}")
    assert line == f"fastlogits: {option.split()[1]}: No such file or directory"


def test_full_disk(folder, capsys, monkeypatch):
    """Found by whoever writes the picture: nothing is left."""
    matplotlib = need("matplotlib.figure")

    def full(figure, path, **options):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(matplotlib.Figure, "savefig", full)
    line = refused(capsys, "calibrate x.npy y.npy --plot a.png --save a.json")
    assert line == "fastlogits: a.png: No space left on device"
    assert sorted(os.listdir()) == ["x.npy", "y.npy"]


def test_interrupted(folder, capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "optimum", interrupt)
    assert refused(capsys, "calibrate x.npy y.npy --save a.json", 130) == "fastlogits: x.npy: interrupted"
    assert sorted(os.listdir()) == ["x.npy", "y.npy"]


@pytest.mark.parametrize("changed", ["x.npy", "y.npy"])
def test_files_that_change(changed, folder, capsys, monkeypatch):
    """Between two readings."""
    optimum = calibrate.optimum
    monkeypatch.setattr(calibrate, "optimum", lambda *args: os.utime(changed) or optimum(*args))
    line = refused(capsys, "calibrate x.npy y.npy --save a.json")
    assert line == f"fastlogits: {changed}: changed while it was read"
    assert sorted(os.listdir()) == ["x.npy", "y.npy"]


def test_labels_that_cannot_be(folder, capsys):
    """The row is named by its place in the file, whichever block it is in."""
    x, y = np.load("x.npy"), np.load("y.npy")
    x[250, y[250]] = -np.inf
    np.save("a.npy", x)
    y[200] = 9
    np.save("b.npy", y)
    for memory in ("1MB", "1KB"):
        line = refused(capsys, f"calibrate a.npy y.npy --memory {memory}")
        assert line == "fastlogits: a.npy: the label's logit is -inf in row (250,)"
        line = refused(capsys, f"calibrate x.npy b.npy --memory {memory}")
        assert line == "fastlogits: b.npy: expected labels in [0, 9), found 9 at (200,)"


@pytest.mark.parametrize("rows", [0, 4])
def test_no_row_counts(rows, folder, capsys):
    np.save("a.npy", np.zeros((rows, 3)))
    np.save("b.npy", np.full(rows, -100))
    line = refused(capsys, "calibrate a.npy b.npy")
    assert line == "fastlogits: b.npy: no row counts: all are ignored, or without probabilities"


def test_one_class(folder):
    np.save("a.npy", np.ones((5, 1)))
    np.save("b.npy", np.zeros(5, int))
    summary = calibrated("a.npy", "b.npy")
    assert summary["temperature"] == 1
    assert summary["after"] == {"nll": 0, "brier": 0, "ece": 0, "mce": 0, "accuracy": 1}


def test_the_example(tmp_path):
    """Of a classifier of digits, from its logits to samples."""
    need("sklearn")
    need("matplotlib")
    example = os.path.join(os.path.dirname(__file__), os.pardir, "examples", "digits_from_the_command_line.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", example, "--folder", tmp_path / "digits"],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("$ fastlogits ") == 4
    assert done.stdout.count("\nimage ") == 10
    summary = json.loads((tmp_path / "digits" / "temperature.json").read_text())
    assert summary["after"]["ece"] < summary["before"]["ece"] / 2
    assert (tmp_path / "digits" / "reliability.png").read_bytes().startswith(PICTURES[".png"])
    x = np.load(tmp_path / "digits" / "logits.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "digits" / "probabilities.npy"), fastlogits.softmax(x))
