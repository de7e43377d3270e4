"""Interrupted runs of `fastlogits apply`: nothing looks whole that is not, and resumed runs come to the same bytes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import need
from files import FORMATS
from subprocesses import environment

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
        _, errors = process.communicate()
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
