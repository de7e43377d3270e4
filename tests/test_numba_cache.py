"""Numba where its cache cannot be written or read, and "auto" where a backend fails."""

import pytest
from conftest import require_backend
from subprocesses import run

ARGMAX = """
    import warnings
    import fastlogits

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fastlogits.settings(backend="numba", num_threads=1):
            print(fastlogits.argmax([[0.0, 2.0, 1.0]] * 2), fastlogits.argmax([[0.0, 2.0, 1.0]] * 2, axis=0))
    for each in caught:
        print(each.category.__name__, each.message)
    """
RIGHT = "[1 1] [0 0 0]"

READ_ONLY = """
    import errno
    import tempfile

    def temporary_file(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    tempfile.TemporaryFile = temporary_file
    """
# Python ignores the signal; what is written fails with EFBIG, as it fails with ENOSPC on a full disk.
FULL_DISK = """
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
    """


@pytest.fixture
def folder(tmp_path):
    require_backend("numba")
    return tmp_path


@pytest.mark.parametrize("trouble", [READ_ONLY, FULL_DISK], ids=["read-only", "full"])
def test_without_a_cache(folder, trouble):
    """Compiled all the same, with one warning that names the way out."""
    result, *said = run(trouble + ARGMAX, NUMBA_CACHE_DIR=folder).splitlines()
    assert result == RIGHT
    assert len(said) == 1
    assert said[0].startswith("RuntimeWarning")
    assert "NUMBA_CACHE_DIR" in said[0]


def cut(content):
    return content[: len(content) // 2]


def one_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [cut, one_bit, lambda content: b""], ids=["cut", "one bit", "empty"])
def test_damaged_cache(folder, suffix, damage):
    """Compiled and written anew, without a word."""
    assert run(ARGMAX, NUMBA_CACHE_DIR=folder) == RIGHT
    files = [path for path in folder.rglob(f"*.{suffix}") if "argmax" in path.name]
    assert files
    sound = [path.read_bytes() for path in files]
    for path, content in zip(files, sound, strict=True):
        path.write_bytes(damage(content))
    assert run(ARGMAX, NUMBA_CACHE_DIR=folder) == RIGHT
    assert all(path.read_bytes() != damage(content) for path, content in zip(files, sound, strict=True))


WITHOUT_CYTHON = """
    import sys
    import warnings
    import fastlogits

    sys.modules["fastlogits.backends.cython"] = None
    {trouble}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print(fastlogits.show_config("dicts")["backend"], fastlogits.argmax([[0.0, 2.0, 1.0]]))
        with fastlogits.settings(backend="auto"):
            print(fastlogits.show_config("dicts")["backend"])
    for each in caught:
        print(each.category.__name__, each.message)
    """


@pytest.mark.parametrize(
    "trouble",
    [
        "import numba.core.caching; del numba.core.caching.FunctionCache",
        "import numba; numba.njit = None",
        "import numba.core.compiler as c; c.compile_extra = None",
        "import llvmlite.binding as b; b.get_host_cpu_name = lambda: 1 / 0",
    ],
    ids=["import", "decorator", "compiler", "processor"],
)
def test_auto_goes_on_where_a_backend_fails(folder, trouble):
    """At its import or its first call; what fails otherwise than by being absent is named."""
    first, second, *said = run(WITHOUT_CYTHON.format(trouble=trouble), NUMBA_CACHE_DIR=folder).splitlines()
    assert (first, second) == ("numpy [1]", "numpy")
    if "FunctionCache" not in trouble:
        assert len(said) == 1
        assert "'numba'" in said[0]


def test_backend_that_fails_by_name(folder):
    code = """
        import fastlogits, llvmlite.binding
        llvmlite.binding.get_host_cpu_name = None
        try:
            with fastlogits.settings(backend="numba"):
                pass
        except ImportError as error:
            print(error)
        """
    assert "'numba'" in run(code)


def test_wrong_instruction_set_is_no_backend_that_fails():
    code = """
        import fastlogits
        try:
            with fastlogits.settings(backend="auto"):
                pass
        except ValueError as error:
            print(error)
        """
    assert "avx9" in run(code, FASTLOGITS_ISA="avx9")
