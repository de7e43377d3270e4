"""Interrupted runs of `fastlogits apply`: nothing looks whole that is not, and resumed runs come to the same bytes."""

import errno
import fcntl
import functools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import files
import kills
import numpy as np
import pytest
from conftest import need
from files import FORMATS
from subprocesses import environment

import fastlogits
from fastlogits.cli import formats, main, workers
from fastlogits.cli.job import Job
from fastlogits.cli.partial import Partial

COMMAND = sys.executable, "-m", "fastlogits", "apply"
# Small blocks, so that there are many moments to be interrupted at.
SLOW = "--memory", "6KB", "--threads", "2"


def start(*words, **options):
    command, pipe = [*COMMAND, *map(str, words)], subprocess.PIPE
    return subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True, **options)


def finished(process, expect=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == expect, err
    assert "Traceback" not in err
    return out, err


def content(path):
    """All bytes, of a folder by file."""
    if path.is_dir():
        return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return path.read_bytes()


def entries(target):
    """How many lines the journal has: one for the task, one at the start, one per look at the disk."""
    journal = target.with_name(f"{target.name}.partial.journal")
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for_blocks(process, target, before=0):
    """Until there are more blocks than before, or the process is done."""
    while process.poll() is None and entries(target) <= max(before, 2):
        time.sleep(0.001)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A file of thousands of blocks."""
    path = tmp_path_factory.mktemp("logits") / "x.npy"
    x = np.random.default_rng(1).normal(size=(15000, 80)).astype(np.float32)
    x[::1000, 3] = np.nan
    np.save(path, x)
    return path


def interrupt_until_done(words, target, rng, signals):
    """Run the command until it is done, ending it by these signals at random moments; how often that was in time."""
    interrupted, signals = 0, list(signals)
    while not target.exists():
        before = entries(target)
        process = start(*words, "--resume", "--json")
        if signals:
            wait_for_blocks(process, target, before)
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signals.pop())
        _, errors = process.communicate(timeout=300)
        assert process.returncode in (0, 130, -signal.SIGKILL, -signal.SIGTERM), errors
        assert "Traceback" not in errors
        interrupted += process.returncode != 0
    return interrupted


@pytest.mark.parametrize("suffix", FORMATS)
def test_killed_and_resumed(suffix, source, tmp_path, rng):
    need(FORMATS[suffix].library)
    whole, target = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    finished(start("softmax", source, whole, *SLOW))
    signals = signal.SIGKILL, signal.SIGINT, signal.SIGTERM
    assert interrupt_until_done(["softmax", source, target, *SLOW], target, rng, signals) > 0
    assert content(target) == content(whole)
    assert sorted(os.listdir(tmp_path)) == [target.name, whole.name]


def test_interrupted(source, tmp_path):
    """Ctrl-C: one line, status 130, and the next run is told what to do."""
    target = tmp_path / "out.npy"
    process = start("softmax", source, target, *SLOW)
    wait_for_blocks(process, target)
    process.send_signal(signal.SIGINT)
    output, errors = finished(process, expect=130)
    assert output == ""
    (line,) = errors.splitlines()
    expected = rf"fastlogits: {target}: interrupted after \d+ of \d+ blocks; --resume goes on from there"
    assert re.fullmatch(expected, line)
    left = sorted(os.listdir(tmp_path))
    assert left == ["out.npy.partial", "out.npy.partial.journal"]
    _, errors = finished(start("softmax", source, target, *SLOW), expect=1)
    assert errors.endswith("out.npy.partial: left by an interrupted run: --resume goes on, --force begins again\n")
    assert sorted(os.listdir(tmp_path)) == left
    output, _ = finished(start("softmax", source, target, *SLOW, "--resume", "--json"))
    summary = json.loads(output)
    assert 0 < summary["resumed_after_blocks"] < summary["blocks"]
    assert summary["nan_rows"] == 15
    np.testing.assert_array_equal(np.load(target), fastlogits.softmax(np.load(source)))


class Interruption:
    """Lets `Job.compute` fail after some blocks, in this process."""

    def __init__(self, monkeypatch, blocks, error):
        self.left, self.error, self.compute = blocks, error, Job.compute
        monkeypatch.setattr(Job, "compute", lambda job, *args: self(job, *args))

    def __call__(self, job, *args):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.compute(job, *args)


@pytest.fixture
def left(source, tmp_path, monkeypatch):
    """The command line of a run that was interrupted after some blocks."""
    with monkeypatch.context() as context:
        Interruption(context, 20, KeyboardInterrupt())
        words = ["apply", "log-softmax", str(source), str(tmp_path / "out.npy"), "--memory", "100KB"]
        assert main(words) == 130
    return words


def refused(words, capsys):
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_resume_takes_only_the_same_task(left, source, capsys):
    """Nothing is lost by asking for another one."""
    capsys.readouterr()
    for more, before, now in (("temperature", 1.0, 2.0), ("axis", 1, 0), ("dtype", None, "float64")):
        line = refused([*left, "--resume", f"--{more}", str(now)], capsys)
        assert f"out.npy.partial: was made with --{more} {before} instead of {now};" in line
    assert "was made with another operation" in refused(["apply", "softmax", *left[2:], "--resume"], capsys)
    with fastlogits.settings(backend="numpy"):
        assert "was made with another backend" in refused([*left, "--resume"], capsys)
    status = os.stat(source)
    os.utime(source)
    assert "was made with another source" in refused([*left, "--resume"], capsys)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main([*left, "--resume", "--memory", "1MB", "--threads", "1"]) == 0
    np.testing.assert_array_equal(np.load(left[3]), fastlogits.log_softmax(np.load(source)))


def test_force_begins_again(left, source):
    assert main([*left, "--force", "--temperature", "2"]) == 0
    np.testing.assert_array_equal(np.load(left[3]), fastlogits.log_softmax(np.load(source), temperature=2))
    assert os.listdir(os.path.dirname(left[3])) == ["out.npy"]


def test_force_and_resume_together(left, source):
    """The target that appeared since then is replaced."""
    np.save(left[3], np.zeros(3))
    assert main([*left, "--force", "--resume"]) == 0
    np.testing.assert_array_equal(np.load(left[3]), fastlogits.log_softmax(np.load(source)))


def test_resume_without_an_interrupted_run(source, tmp_path):
    assert main(["apply", "argmax", str(source), str(tmp_path / "out.npy"), "--resume"]) == 0


def test_damaged_remains(left, capsys):
    capsys.readouterr()
    os.truncate(f"{left[3]}.partial", 1000)
    assert "out.npy.partial: damaged" in refused([*left, "--resume"], capsys)


def test_journal_cut_short(left, source):
    """By a crash within a line: the lines before it count."""
    journal = f"{left[3]}.partial.journal"
    os.truncate(journal, os.path.getsize(journal) - 5)
    assert main([*left, "--resume"]) == 0
    np.testing.assert_array_equal(np.load(left[3]), fastlogits.log_softmax(np.load(source)))


def test_two_runs_at_once(left, capsys):
    capsys.readouterr()
    with open(f"{left[3]}.partial.journal") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        for more in ("--resume", "--force"):
            assert refused([*left, more], capsys).endswith("out.npy: another run is writing it")
    assert main([*left, "--resume"]) == 0


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".zarr"])
def test_full_disk(suffix, source, tmp_path, monkeypatch, capsys):
    """What was computed is kept until there is room."""
    need(FORMATS[suffix].library)
    words = ["apply", "softmax", str(source), str(tmp_path / f"out{suffix}"), "--memory", "100KB"]
    with monkeypatch.context() as context:
        Interruption(context, 20, OSError(errno.ENOSPC, "No space left on device", "out.partial"))
        assert refused(words, capsys) == (
            "fastlogits: out.partial: No space left on device; --resume goes on once that is mended"
        )
    assert not (tmp_path / f"out{suffix}").exists()
    assert main([*words, "--resume"]) == 0
    (found,) = files.read(tmp_path / f"out{suffix}").values()
    np.testing.assert_array_equal(found, fastlogits.softmax(np.load(source)))


def test_file_too_large(source, tmp_path):
    """For the limit of this process: said at once."""
    target = tmp_path / "out.npy"
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    _, errors = finished(start("softmax", source, target, preexec_fn=limit), expect=1)
    assert errors == f"fastlogits: {target}.partial: File too large\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".zarr", ".parquet"])
def test_interrupted_at_the_end(suffix, source, tmp_path, monkeypatch):
    """While TARGET is made of the results; what a kill leaves there does no harm."""
    need(FORMATS[suffix].library)
    target = tmp_path / f"out{suffix}"
    words = ["apply", "softmax", str(source), str(target), "--json"]
    with monkeypatch.context() as context:
        context.setattr(Partial, "finish", interrupted)
        assert main(words) == 130
    make = target.with_name(f"{target.name}.partial.whole")
    for remains in (make.mkdir, make.touch):
        with monkeypatch.context() as context:
            context.setattr(formats.place(str(target)).format, "assemble", interrupted)
            assert main([*words, "--resume"]) == 130
        assert sorted(os.listdir(tmp_path)) == [f"{target.name}.partial", f"{target.name}.partial.journal"]
        remains()
    assert main([*words, "--resume"]) == 0
    (found,) = files.read(target).values()
    np.testing.assert_array_equal(found, fastlogits.softmax(np.load(source)))
    assert os.listdir(tmp_path) == [target.name]


def interrupted(*args):
    raise KeyboardInterrupt


def test_no_lock_is_left_locked(source, tmp_path, monkeypatch):
    """Ctrl-C within what takes locks in Python is heard afterwards: else a thread might wait for one for ever."""
    submit, begun, submitted = workers.Workers.submit, [], []

    def interrupted_within(self, *args):
        begun.append(args)
        signal.raise_signal(signal.SIGINT)
        submitted.append(args)
        return submit(self, *args)

    monkeypatch.setattr(workers.Workers, "submit", interrupted_within)
    assert main(["apply", "softmax", str(source), str(tmp_path / "out.npy"), *SLOW]) == 130
    assert begun == submitted != []


def test_folders_are_replaced(source, tmp_path, monkeypatch):
    """By --force, also after a kill at the worst moment: the old one aside, the new one not yet in its place."""
    need("zarr")
    target = tmp_path / "out.zarr"
    words = ["apply", "softmax", str(source), str(target), "--force"]
    files.write_zarr(target, {"old": np.zeros(3)})
    replace = os.replace
    with monkeypatch.context() as context:
        context.setattr(os, "replace", lambda old, new: interrupted() if new == str(target) else replace(old, new))
        assert main(words) == 130
    assert sorted(os.listdir(tmp_path)) == [f"out.zarr.partial{end}" for end in ("", ".journal", ".replaced", ".whole")]
    assert main([*words, "--resume"]) == 0
    assert os.listdir(tmp_path) == ["out.zarr"]
    np.testing.assert_array_equal(files.read(target)["probs"], fastlogits.softmax(np.load(source)))
    assert main(words) == 0
    assert os.listdir(tmp_path) == ["out.zarr"]


@pytest.mark.parametrize(
    ("op", "gigabytes", "count"),
    [("softmax", 0.02, 2), *(pytest.param(op, 2, 20, marks=pytest.mark.slow) for op in ("softmax", "logsumexp"))],
)
def test_killed_at_any_moment(op, gigabytes, count, tmp_path):
    """From the first import on. What is killed runs at full speed, unlike above."""
    assert len([killed for killed in kills.rounds(tmp_path, op, gigabytes, count) if killed]) == count
