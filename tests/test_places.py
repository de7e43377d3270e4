"""The lists in CONTRIBUTING.md of what a new operation, option, dtype, ... touches are complete: a place that was
forgotten fails here, by name.
"""

import ast
import importlib
import inspect
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import oracle
import pytest
from conftest import BACKENDS, need, why_missing
from test_imports import ALLOWED, HEAVY, PACKAGE
from tolerance import DTYPES

import fastlogits
from fastlogits import _checks, backends, dispatch
from fastlogits._options import LossOptions
from fastlogits.formula import Targets

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]

SERVICES = ("empty_cache", "get_include", "settings", "show_config")
OPERATIONS = [
    name for name in fastlogits.__all__ if inspect.isfunction(getattr(fastlogits, name)) and name not in SERVICES
]
OPTIONS = [
    name
    for name, parameter in inspect.signature(fastlogits.cross_entropy).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name != "classes"  # their names, which adapters/numpy knows
]
ADAPTERS = sorted(path.parent.name for path in ROOT.glob("adapters/*/__init__.py"))
FRAMEWORKS = [name for name in ADAPTERS if name != "numpy"]
# Where an adapter has the losses under their own names and signatures
UNIFORM = {"torch": "uniform", "tensorflow": "uniform", "jax": "uniform", "dask": "cross_entropy"}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def says(path, pattern):
    """Whether the file has the pattern, with the name in place of NAME."""
    return lambda name: re.search(pattern.replace("NAME", re.escape(name)), text(path), re.MULTILINE)


def assigned(path, variable):
    """The names among the literals of a module's variable, without importing the module."""
    for node in ast.parse(text(path)).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == variable:
            values = ast.walk(node.value)
            return {value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}
    raise AssertionError(f"{path} has no {variable} any more: mend tests/test_places.py")


def dask_has(name):
    need("dask")
    return hasattr(importlib.import_module("fastlogits.dask"), name)


def takes(function):
    return lambda name: name in inspect.signature(function).parameters


def in_both_losses(adapter, module):
    def has(name):
        functions = ast.parse(text(f"adapters/{adapter}/{module}.py")).body
        options = [
            {argument.arg for argument in function.args.kwonlyargs}
            for function in functions
            if isinstance(function, ast.FunctionDef) and function.name in ("cross_entropy", "cross_entropy_with_grad")
        ]
        return len(options) == 2 and all(name in names for names in options)

    return has


@dataclass
class Place:
    where: str
    has: object

    def __str__(self):
        return self.where


PLACES = {
    "operation": (
        OPERATIONS,
        Place("adapters/dask/__init__.py: an import", dask_has),
        Place("tests/test_adapters.py: CALLS or AFTERWARDS, which hold each adapter to NumPy's results",
              says("tests/test_adapters.py", r"fastlogits\.NAME[,(]")),
    ),
    "module of the package": (
        [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")],
        Place("tests/test_imports.py: ALLOWED, which says what it may import", ALLOWED.__contains__),
    ),
    "option of cross_entropy": (
        OPTIONS,
        Place("docs/loss.md: the table of options", says("docs/loss.md", r"^\| `NAME` \|")),
        Place("fastlogits/cross_entropy.py: cross_entropy_with_grad", takes(fastlogits.cross_entropy_with_grad)),
        Place("fastlogits/_options.py: LossOptions, or if it is an array Targets in formula.py", lambda name: (
            name in LossOptions._fields + Targets._fields
        )),
        Place("fastlogits/formula.py: what it does to the loss of a row", says("fastlogits/formula.py", r"\bNAME\b")),
        *(
            Place(f"adapters/{name}/{module}.py: both losses", in_both_losses(name, module))
            for name, module in UNIFORM.items()
        ),
        Place("tests/oracle.py: cross_entropy", lambda name: name == "axis" or takes(oracle.cross_entropy)(name)),
    ),
    "dtype": (
        [str(name) for name in DTYPES],
        Place("fastlogits/_checks.py: FLOATS, which messages list", lambda name: name in _checks.FLOATS),
        Place("docs/outputs.md: the table of dtypes", says("docs/outputs.md", r"^\|.*NAME.*\|.*float(32|64)")),
        Place("benchmarks/compare.py or a module of it", lambda name: any(
            name in path.read_text(encoding="utf-8") for path in ROOT.glob("benchmarks/*.py")
        )),
    ),
    "instruction set": (
        ["generic", *sorted(assigned("setup.py", "LEVELS") & {"v2", "v3", "v4"})],
        Place("fastlogits/_checks.py: INSTRUCTION_SETS", _checks.INSTRUCTION_SETS.__contains__),
        Place("fastlogits/backends/cython/__init__.py: LEVELS",
              assigned("fastlogits/backends/cython/__init__.py", "LEVELS").__contains__),
        Place("fastlogits/backends/cython/_cpu.pyx: best",
              says("fastlogits/backends/cython/_cpu.pyx", 'return "NAME"')),
        Place("docs/install.md: FASTLOGITS_ISA", says("docs/install.md", r"^\|.* `FASTLOGITS_ISA` \|.*`NAME`")),
    ),
    "backend": (
        list(backends.NAMES),
        Place("tests/conftest.py: BACKENDS", BACKENDS.__contains__),
        Place("docs/choose.md: the table of backends", says("docs/choose.md", r"^\| `NAME` \|")),
        Place("docs/install.md: FASTLOGITS_BACKEND", says("docs/install.md", r"^\|.*`FASTLOGITS_BACKEND` \|.*`NAME`")),
        Place("fastlogits/config.py: settings' docstring", lambda name: f'"{name}"' in fastlogits.settings.__doc__),
    ),
    "adapter": (
        FRAMEWORKS,
        Place("fastlogits/dispatch.py: FRAMEWORKS", lambda name: name in dispatch.FRAMEWORKS.values()),
        Place("pyproject.toml: an extra", EXTRAS.__contains__),
        Place("pyproject.toml: the extra `all`", lambda name: name in re.split(r"[\[\],]", EXTRAS["all"][0])),
        Place("pyproject.toml: known-third-party, since the folder's name is the framework's",
              PROJECT["tool"]["ruff"]["lint"]["isort"]["known-third-party"].__contains__),
        Place("README.md", says("README.md", r"`fastlogits\.NAME`")),
        Place("docs/frameworks/<name>.md", lambda name: (ROOT / f"docs/frameworks/{name}.md").exists()),
        Place("docs/api/<name>.rst: the reference", lambda name: (ROOT / f"docs/api/{name}.rst").exists()),
        Place("Makefile: REQUIRE", says("Makefile", r"^REQUIRE := .*\bNAME\b")),
        Place("tests/test_imports.py: HEAVY, which `import fastlogits` must not load", HEAVY.__contains__),
        Place("tests/test_<name>.py: one or several", lambda name: any(ROOT.glob(f"tests/test_{name}*.py"))),
    ),
}  # fmt: skip
CASES = [(kind, name, place) for kind, (names, *places) in PLACES.items() for name in names for place in places]


@pytest.mark.parametrize(("kind", "name", "place"), CASES, ids=lambda value: str(value).partition(": ")[0])
def test_no_place_is_forgotten(kind, name, place):
    assert place.has(name), f"the {kind} {name!r} is missing from {place}"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", sorted(assigned("fastlogits/backends/cython/__init__.py", "__all__") - {"isa"}))
def test_every_backend_has_every_function(backend, function):
    if why := why_missing(backend):
        pytest.skip(why)
    module = importlib.import_module(f"fastlogits.backends.{backend}")
    assert hasattr(module, function), f"{function} is missing from fastlogits/backends/{backend}.py"


@pytest.mark.parametrize("kind", PLACES)
def test_contributing_names_every_place(kind):
    contributing = text("CONTRIBUTING.md")
    for place in PLACES[kind][1:]:
        file = place.where.partition(":")[0].split(" ")[0]
        assert f"`{file}`" in contributing, f"CONTRIBUTING.md does not name {place}, which a new {kind} touches"


def test_pins_agree():
    (ruff,) = PROJECT["dependency-groups"]["lint"]
    assert f'"{ruff}"' in text(".pre-commit-config.yaml"), f".pre-commit-config.yaml has another ruff than {ruff}"


def test_classifiers_follow_the_lowest_python():
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=3.")
    named = re.findall(r"Python :: 3\.(\d+)'", str(PROJECT["project"]["classifiers"]))
    assert [int(minor) for minor in named] == list(range(int(lowest), int(named[-1]) + 1))
