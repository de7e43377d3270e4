"""Fixtures: which backend, which dtype, and a fastlogits whose every call is watched."""

import functools
import importlib
import os

import numpy as np
import pytest
from tolerance import DTYPES

import fastlogits

BACKENDS = ("cython", "numba", "numpy")
CHOSEN = os.environ.get("FASTLOGITS_BACKEND", "auto")
REQUIRED = {name for name in os.environ.get("FASTLOGITS_REQUIRE", "").replace(" ", "").split(",") if name}


def pytest_configure(config):
    for name in ("array_api_backends", "skip_xp_backends", "xfail_xp_backends", "uses_xp_capabilities"):
        config.addinivalue_line("markers", f"{name}: of SciPy's own tests, without effect here")
    config.addinivalue_line("markers", "xdist_group: which tests go to one worker")  # as xdist has it


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items):
    """With several workers, all of Numba goes to one, which compiles each kernel once; of the rest each file."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        item.add_marker(pytest.mark.xdist_group("numba" if "numba" in map(str, values) else item.path.stem))


def missing(name, why):
    """Skip, or fail where FASTLOGITS_REQUIRE names `name`."""
    if name in REQUIRED:
        pytest.fail(f"{name} is in FASTLOGITS_REQUIRE but is not available: {why}", pytrace=False)
    return pytest.skip(f"{name} is not available: {why}", allow_module_level=True)


def need(name):
    """The module `name`, or the test is skipped (or fails, see `missing`)."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return missing(name, error)


@functools.cache
def why_missing(backend):
    try:
        with fastlogits.settings(backend=backend):
            fastlogits.argmax(np.zeros(1))
    except ImportError as error:
        return str(error)
    return None


def require_backend(name):
    if (why := why_missing(name)) is not None:
        missing(name, why)


@pytest.fixture(params=BACKENDS if CHOSEN == "auto" else [CHOSEN])
def backend(request):
    """The name of a backend, in force during the test."""
    require_backend(request.param)
    with fastlogits.settings(backend=request.param):
        yield request.param


@pytest.fixture(params=[name for name in BACKENDS if name != "numpy"] if CHOSEN == "auto" else [CHOSEN])
def compiled_backend(request):
    """As `backend`, for claims that the readable reference does not make: memory, threads, the GIL."""
    require_backend(request.param)
    if request.param == "numpy":
        pytest.skip("the NumPy backend holds the GIL, runs on one thread and makes temporary arrays")
    with fastlogits.settings(backend=request.param):
        yield request.param


@pytest.fixture(params=DTYPES.values(), ids=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture
def x64():
    """JAX as it is with 64 bits; without, it makes float64 arrays float32."""
    with need("jax").enable_x64(True):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


class Watched:
    """The fastlogits module, but after every call, failed ones too, the inputs must be bit-identical.

    An input that shares memory with `out` is the exception; if the call fails, `out` too must be untouched.
    """

    def __getattr__(self, name):
        function = getattr(fastlogits, name)
        return functools.partial(self._call, function) if callable(function) else function

    @staticmethod
    def _call(function, *args, **kwargs):
        arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
        before = [a.tobytes() for a in arrays]
        succeeded = False
        try:
            result = function(*args, **kwargs)
            succeeded = True
            return result
        finally:
            out = kwargs.get("out") if succeeded else None
            for array, content in zip(arrays, before, strict=True):
                if out is None or not np.may_share_memory(array, out):
                    assert array.tobytes() == content, f"{function.__name__} changed an input"


@pytest.fixture
def fl(backend):
    return Watched()
