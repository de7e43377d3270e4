"""The package as others get it: an sdist, the wheel built from it, and that wheel beside NumPy alone."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import documents
import pytest

import fastlogits

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = [block.text for block in documents.blocks("pycon") if block.page == "README.md" and "torch" not in block.text]
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", "*.so")

PIP_WHEEL = sys.executable, "-m", "pip", "wheel", "--no-deps", "-w"

BUILD_SDIST = """
import os, sys
from setuptools import build_meta

os.chdir(sys.argv[1])
build_meta.build_sdist(sys.argv[2])
"""

USE = """
import sys
import numpy as np
import fastlogits

with fastlogits.settings(backend=sys.argv[1]):
    for dtype in (np.float16, np.float32, np.float64):
        logits = np.array([[2.0, 1.0, 0.1]], dtype)
        assert np.abs(fastlogits.softmax(logits) - [[0.659, 0.242, 0.099]]).max() < 6e-4
        loss, grad_logits = fastlogits.cross_entropy_with_grad(logits, [0], out=logits)
        assert grad_logits is logits and abs(loss - 0.417) < 1e-3 and abs(logits[0, 0] + 0.341) < 1e-3
    print(fastlogits.show_config("dicts")["backend"])
"""


def run(*command, **environment):
    # Run elsewhere and without our variables, or the source tree could stand in for what was installed.
    kept = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "FASTLOGITS_"))}
    done = subprocess.run(command, env=kept | environment, cwd=sys.prefix, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def succeed(*command, **environment):
    code, output = run(*command, **environment)
    assert code == 0, output
    return output


def wheel_of(source, folder, **environment):
    succeed(*PIP_WHEEL, folder, source, **environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Built from a copy, so that the tree stays as it is."""
    tree, folder = (tmp_path_factory.mktemp(name) for name in ("tree", "sdist"))
    shutil.copytree(ROOT, tree, ignore=NOT_SOURCE, dirs_exist_ok=True)
    succeed(sys.executable, "-c", BUILD_SDIST, tree, folder)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(request, tmp_path_factory):
    """FASTLOGITS_WHEEL, where `make wheels` has built one."""
    built = os.environ.get("FASTLOGITS_WHEEL")
    return Path(built) if built else wheel_of(request.getfixturevalue("sdist"), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of an environment with the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    succeed(python, "-m", "pip", "install", wheel)
    return python


def test_wheel_needs_numpy_only(python):
    listed = succeed(python, "-m", "pip", "list", "--format=freeze", "--exclude=pip", "--exclude=setuptools")
    assert {line.partition("==")[0] for line in listed.split()} == {"fastlogits", "numpy"}


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_wheel_works(python, backend):
    assert succeed(python, "-c", USE, backend).split() == [backend]


@pytest.mark.parametrize("example", README, ids=range(len(README)))
def test_wheel_runs_readme_examples(python, example):
    code = "".join(re.findall(r"(?:>>>|\.\.\.) (.*\n)", example))
    succeed(python, "-c", code)


def test_wheel_has_the_command(python, tmp_path):
    source, target = tmp_path / "logits.npy", tmp_path / "probs.npy"
    succeed(python, "-c", f"import numpy; numpy.save({str(source)!r}, numpy.zeros((3, 4)))")
    succeed(python.parent / "fastlogits", "apply", "softmax", source, target)
    assert succeed(python, "-c", f"import numpy; print(numpy.load({str(target)!r}).sum())").split() == ["3.0"]
    assert "softmax" in succeed(python, "-m", "fastlogits", "bench", "--quick")


def test_wheel_is_small(wheel):
    assert wheel.stat().st_size <= 8_000_000


def test_missing_numba_is_named(python):
    code, output = run(python, "-c", USE, "numba")
    assert code == 1
    assert output.splitlines()[-1].startswith("ImportError: backend 'numba' cannot be loaded")
    assert "pip install numba" in output


def test_wheel_has_the_kernel_text_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for path in (ROOT / "fastlogits").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    assert "fastlogits/py.typed" in names
    # fastlogits.libs has what auditwheel adds.
    folders = {name.split("/")[0] for name in names} - {"fastlogits.libs"}
    assert folders == {"fastlogits", f"fastlogits-{fastlogits.__version__}.dist-info"}
    assert not [name for name in names if name.endswith((".c", ".h", ".pxd", ".pyx"))]
    for licence in ("LICENSE", "NOTICE", "adapters/jax/LICENSE-Apache-2.0"):
        assert f"fastlogits-0.1.0.dist-info/licenses/{licence}" in names


def test_without_the_extension(sdist, python, tmp_path):
    wheel = wheel_of(sdist, tmp_path, FASTLOGITS_SKIP_EXTENSION="1")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    succeed(python, "-m", "pip", "install", "--no-deps", "--target", tmp_path / "site", wheel)
    assert succeed(python, "-c", USE, "auto", PYTHONPATH=str(tmp_path / "site")).split() == ["numpy"]


def test_without_a_compiler(sdist, tmp_path):
    code, output = run(*PIP_WHEEL, tmp_path, sdist, CC="no-such-compiler")
    assert code != 0
    (line,) = [line for line in output.splitlines() if "C compiler" in line]
    assert "FASTLOGITS_SKIP_EXTENSION=1" in line
