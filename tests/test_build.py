"""What the build says before it takes a minute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def setup(*command, **variables):
    done = subprocess.run(
        [sys.executable, "setup.py", *command], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["build_ext", "bdist_wheel", "editable_wheel"])
@pytest.mark.parametrize("compiler", ["no-such-compiler", "no-such-ccache cc"])
def test_a_missing_compiler_is_named_before_anything_is_translated(command, compiler):
    code, output = setup(command, CC=compiler)
    assert code == 1
    assert output.count("\n") == 1
    assert f"no C compiler ({compiler.split()[0]})" in output
    assert "FASTLOGITS_SKIP_EXTENSION=1" in output


def test_metadata_needs_no_compiler():
    assert setup("--name", CC="no-such-compiler") == (0, "fastlogits\n")


def test_an_unknown_instruction_set_is_named():
    code, output = setup("--name", FASTLOGITS_BUILD_ISA="v4,v5")
    assert code == 1
    assert output.endswith(", not v5\n")
