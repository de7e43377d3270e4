"""What an import costs, and which way imports run."""

import ast
from pathlib import Path

import pytest
from subprocesses import run

import fastlogits

HEAVY = {
    "torch",
    "tensorflow",
    "jax",
    "jaxlib",
    "dask",
    "numba",
    "llvmlite",
    "scipy",
    "sklearn",
    "pandas",
    "polars",
    "pyarrow",
    "xarray",
    "ml_dtypes",
    "matplotlib",
    "Cython",
}
PACKAGE = Path(fastlogits.__file__).parent

# Who may import whom, besides NumPy and the standard library: each only from what stands to its right.
ALLOWED = {
    "_typing.py": set(),
    "_options.py": {"_checks"},
    "formula.py": {"_options"},
    "_checks.py": set(),
    "_blocks.py": set(),
    "_layout.py": {"_checks", "_memory", "backends"},
    "_memory.py": {"backends"},
    "config.py": {"_checks", "_typing", "backends"},
    "_results.py": {"_checks_results", "_typing", "dispatch"},
    "_checks_results.py": set(),
    "dispatch.py": {"_checks", "config"},
    "backends/__init__.py": set(),
    "backends/threads.py": {"backends"},
    "backends/numpy/__init__.py": {"_blocks", "_options", "backends", "formula"},
    "backends/numpy/_moments.py": {"_blocks", "backends"},
    "backends/numpy/_row_stats.py": {"_blocks", "backends"},
    "_scaling.py": {"_checks", "_checks_filters", "_layout"},
    "softmax.py": {"_typing", "_checks", "_layout", "_scaling", "config", "dispatch", "backends"},
    "cross_entropy.py": {"_results", "_typing", "_checks", "_options", "_layout", "config", "dispatch", "backends"},
    "states.py": {"_typing", "_checks", "_layout", "_results", "_scaling", "config"},
    "_checks_likelihood.py": {"_checks"},
    "likelihood.py": {
        "_typing",
        "_checks",
        "_checks_likelihood",
        "_layout",
        "_scaling",
        "cross_entropy",
        "dispatch",
        "states",
    },
    "_checks_calibration.py": {"_checks"},
    "calibration/__init__.py": {"_checks_calibration", "calibration"},
    "calibration/_rows.py": {"_checks", "_checks_calibration", "_layout", "config", "cross_entropy"},
    "calibration/temperature.py": {"_checks", "_checks_calibration", "dispatch", "calibration"},
    "calibration/state.py": {"_checks_calibration", "calibration"},
    "calibration/measures.py": {"_checks_calibration", "dispatch", "_blocks", "calibration", "softmax"},
    "calibration/vector.py": {
        "_blocks",
        "_checks",
        "_checks_calibration",
        "_layout",
        "calibration",
        "config",
        "cross_entropy",
        "dispatch",
    },
    "calibration/matrix.py": {
        "_blocks",
        "_checks",
        "_checks_calibration",
        "_layout",
        "calibration",
        "config",
        "cross_entropy",
        "dispatch",
        "softmax",
    },
    "calibration/uncertainty.py": {"_blocks", "_checks", "_checks_calibration", "calibration", "dispatch", "softmax"},
    "calibration/binning.py": {"_checks", "_checks_calibration", "calibration", "softmax"},
    "calibration/plots.py": {"_checks_calibration", "dispatch", "calibration", "row_stats"},
    "calibration/estimator.py": {"_checks", "_checks_calibration", "calibration", "softmax"},
    "_checks_conformal.py": {"_checks"},
    "conformal/__init__.py": {"_checks_calibration", "conformal"},
    "conformal/_rows.py": {"_checks", "_checks_conformal", "_checks_filters", "_layout", "backends", "softmax"},
    "conformal/methods.py": {"_checks_conformal", "dispatch", "conformal", "softmax"},
    "conformal/quantiles.py": {"_checks", "_checks_conformal", "dispatch"},
    "conformal/sets.py": {"_checks_conformal", "dispatch", "conformal", "row_stats"},
    "conformal/measures.py": {"_checks", "_checks_conformal", "dispatch", "conformal"},
    "conformal/plots.py": {"_checks", "calibration", "dispatch", "conformal"},
    "conformal/estimator.py": {"_checks", "_checks_calibration", "calibration", "conformal", "softmax"},
    "row_stats.py": {
        "_typing",
        "_checks",
        "_options",
        "_layout",
        "_scaling",
        "cross_entropy",
        "dispatch",
        "likelihood",
        "states",
    },
    "_checks_filters.py": {"_checks"},
    "backends/numpy/_filters.py": {"_blocks", "backends"},
    "_edits.py": {"_checks", "_checks_filters"},
    "_filters.py": {"_checks_filters", "_edits", "_layout", "_scaling", "backends", "config", "states"},
    "filters.py": {"_typing", "_checks", "_edits", "_filters", "_layout", "config", "dispatch"},
    "sampling.py": {
        "_typing",
        "_checks",
        "_checks_filters",
        "_edits",
        "_filters",
        "_layout",
        "backends",
        "config",
        "dispatch",
    },
    "selective.py": {"_typing", "_checks", "_options", "_layout", "_scaling", "cross_entropy", "dispatch", "states"},
}


def test_import_loads_nothing_heavy():
    code = """
        import sys
        import numpy
        before = set(sys.modules)
        import fastlogits
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
        """
    loaded = set(run(code).split())
    assert "fastlogits" in loaded
    assert not loaded & HEAVY


def test_numpy_arrays_load_no_framework():
    """Nor does the first call, of which only the backend in force may load its compiler."""
    code = """
        import sys
        import numpy
        import fastlogits
        before = set(sys.modules)
        fastlogits.cross_entropy_with_grad([[1.0, 2.0]], [0])
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
        """
    assert not set(run(code, FASTLOGITS_BACKEND="numpy").split()) & HEAVY


def imported(path):
    """Names of the modules of ours that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "fastlogits":
            names |= {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastlogits."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fastlogits.")}
    return names


@pytest.mark.parametrize("file", ALLOWED)
def test_imports_run_one_way(file):
    assert imported(PACKAGE / file) <= ALLOWED[file]


CLI = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("cli/**/*.py"))


@pytest.mark.parametrize("file", CLI)
def test_the_command_line_stands_on_top(file):
    """It knows no backend, and nobody knows it."""
    assert imported(PACKAGE / file) <= {"cli", "_checks", "_layout", "config", "states", "calibration"}
    assert not any("cli" in imported(PACKAGE / name) for name in ALLOWED)


KERNELS = PACKAGE / "kernels"
# The machine for the interpreter, and what makes one file of the text
SEAM = {"machine.py", "unit.py"}


@pytest.mark.parametrize("file", sorted({path.name for path in KERNELS.glob("*.py")} - SEAM))
def test_the_kernel_text_knows_no_compiler(file):
    """Neither NumPy nor Numba nor Cython: what two compilers and the interpreter read alike."""
    modules = set()
    for node in ast.walk(ast.parse((KERNELS / file).read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").partition(".")[0])
    assert modules <= {"math", "fastlogits"}


def test_public_names():
    assert sorted(fastlogits.__all__) == fastlogits.__all__
    for name in fastlogits.__all__:
        assert getattr(fastlogits, name).__doc__
