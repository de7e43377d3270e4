"""One text: Cython in its AVX-512 build, Numba and the interpreter give the same bits, whatever the function, the dtype
and the way through memory. (Other builds have shorter vectors and add in another order.)
"""

import pickle
import re
from pathlib import Path

import pytest
import text_cases
from conftest import need, require_backend
from subprocesses import run

import fastlogits
from fastlogits.kernels import unit as text

PACKAGE = Path(fastlogits.__file__).parent
FAMILIES = list(text_cases.FAMILIES)


def of_cython(family, dtype, shapes, threads):
    require_backend("cython")
    if need("fastlogits.backends.cython").isa != "v4":
        pytest.skip("the compiled kernels in use are not those for AVX-512")
    with fastlogits.settings(backend="cython", num_threads=threads):
        return text_cases.results(family, dtype.name, shapes)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert not [name for name, bits in found.items() if bits != expected[name]]


@pytest.mark.xdist_group("numba")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_numba_gives_the_bits_of_cython(family, threads, dtype):
    require_backend("numba")
    expected = of_cython(family, dtype, text_cases.SHAPES, threads)
    with fastlogits.settings(backend="numba", num_threads=threads):
        assert_same(text_cases.results(family, dtype.name, text_cases.SHAPES), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_interpreter_gives_the_bits_of_cython(family, dtype, tmp_path):
    require_backend("numba")
    expected = of_cython(family, dtype, text_cases.SMALL, 1)
    path = tmp_path / "results"
    code = f"""
        import pickle, text_cases
        from pathlib import Path
        found = text_cases.results({family!r}, {dtype.name!r}, text_cases.SMALL)
        Path({str(path)!r}).write_bytes(pickle.dumps(found))
        """
    run(code, timeout=600, FASTLOGITS_BACKEND="numba", FASTLOGITS_NUM_THREADS=1, NUMBA_DISABLE_JIT=1)
    assert_same(pickle.loads(path.read_bytes()), expected)


def lines_of(path):
    """How many lines there are without blank ones, comments and docstrings."""
    source = path.read_text(encoding="utf-8")
    comments = r"/\*.*?\*/" if path.suffix == ".h" else r'"""(?:[^"]|"(?!""))*"""|^[ \t]*#[^\n]*$'
    return sum(bool(line.strip()) for line in re.sub(comments, "", source, flags=re.M | re.S).splitlines())


def test_the_text_is_twice_as_long_as_what_is_written_for_each_compiler():
    folder = PACKAGE / "kernels"
    once = sum(lines_of(folder / f"{name}.py") for name in text.MODULES)
    twice = [folder / "machine.h", folder / "machine.py", PACKAGE / "backends" / "numba" / "machine.py"]
    assert once >= 2 * sum(map(lines_of, twice))


def test_the_machine_is_the_only_header():
    assert [path.name for path in (PACKAGE / "kernels").glob("*.h")] == ["machine.h"]
