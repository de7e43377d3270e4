"""The command line in this process: what it refuses, who meddles with its files, and what an interruption leaves."""

import os
import signal

import pytest

from fastlogits.cli import main
from fastlogits.cli.job import Job

APPLY = ["apply", "softmax", "x.npy", "out.npy"]


def refused(capsys, words):
    """The one line on stderr."""
    capsys.readouterr()
    assert main(words.split() if isinstance(words, str) else words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def meddling(monkeypatch, meddle, after=3):
    """Let `meddle` happen among the blocks of a run in this process."""
    compute, left = Job.compute, [after]

    def meddled(job, *args):
        left[0] -= 1
        if not left[0]:
            meddle()
        return compute(job, *args)

    monkeypatch.setattr(Job, "compute", meddled)


def interrupt(words):
    """Leave what an interrupted run does."""
    with pytest.MonkeyPatch.context() as context:
        meddling(context, lambda: os.kill(os.getpid(), signal.SIGINT), after=25)
        assert main([*words, "--memory", "400"]) == 130
