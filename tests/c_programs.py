"""C programs of the tests, compiled, with the team's sources or without."""

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import missing
from subprocesses import TESTS, environment

import fastlogits

TEAM = Path(fastlogits.__file__).parent / "backends" / "team"
COMPILER = shlex.split(os.environ.get("CC", "cc"))


@functools.cache
def built(program, *flags, team=True, folder="team"):
    """The path of tests/<folder>/<program>.c, compiled; skips where there is no compiler, or no sources."""
    if not shutil.which(COMPILER[0]) or not TEAM.is_dir():
        missing("cython", "no C compiler, or no sources of the team")
    sources = [TESTS / folder / f"{name}.c" for name in program.split("+")]
    target = Path(_folder().name, "-".join([program, *flags]).replace("/", "_"))
    sources += sorted(TEAM.glob("*.c")) if team else []
    command = [*COMPILER, "-g", "-O1", "-Wall", "-Werror", "-DTEAM_COUNTS", f"-I{TEAM}", *flags]
    done = subprocess.run([*command, *sources, "-o", target, "-pthread", "-ldl"], text=True, capture_output=True)
    if done.returncode and any(flag.startswith("-fsanitize") for flag in flags) and "cannot find" in done.stderr:
        pytest.skip("the compiler has no sanitizer")
    assert done.returncode == 0, done.stderr
    return target


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="fastlogits-")


def output(*command, **variables):
    """What it prints; it must end by itself, in time and without an error."""
    words = [str(word) for word in command]
    done = subprocess.run(words, text=True, capture_output=True, timeout=120, env=environment(**variables))
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
