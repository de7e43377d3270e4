"""Running a piece of Python in a process of its own, for what cannot be undone or may hang."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parent


def environment(**variables):
    """This process's environment without our own variables, with the test helpers importable."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FASTLOGITS_")}
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return inherited | {"PYTHONPATH": path, **{k: str(v) for k, v in variables.items()}}


def start(code, **variables):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(
        command, env=environment(**variables), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(code, timeout=120, **variables):
    """What the code prints; it must end by itself, in time and without an error."""
    process = start(code, **variables)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"still running after {timeout} s\n{output}\n{errors}") from None
    assert process.returncode == 0, f"exit status {process.returncode}\n{output}\n{errors}"
    return output.strip()
