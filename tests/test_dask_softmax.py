"""softmax of dask arrays whose rows are in pieces: the very bits of the whole."""

import ml_dtypes
import numpy as np
import pytest
from conftest import need

import fastlogits

dask = need("dask")
da = need("dask.array")
need("fastlogits.dask")


@pytest.fixture(autouse=True)
def one_scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def distance(a, b):
    """How many numbers of their type the values of a and b are apart, at most."""
    integers = np.dtype(f"i{a.itemsize}")
    a, b = (np.where(np.isnan(x), 0, x).astype(x.dtype).view(integers).astype(object) for x in (a, b))
    a, b = (np.where(v < 0, np.iinfo(integers).min - v, v) for v in (a, b))
    return np.abs(a - b).max()


def assert_same(ours, exact, backend):
    """Bit for bit; the readable reference adds up parts of a row in another order than the whole."""
    assert ours.dtype == exact.dtype
    rounded = 8 * float(ml_dtypes.finfo(exact.dtype).eps) if backend == "numpy" else 0
    np.testing.assert_allclose(ours.astype(float), exact.astype(float), rtol=rounded, atol=rounded)


@pytest.mark.parametrize("spread", [1, 15])
@pytest.mark.parametrize("chunks", [(7, 2048), (7, 700), ((20,), (3, 0, 996, 2000, 2))], ids=str)
def test_cut_along_classes(chunks, spread, dtype, backend, rng):
    x = (spread * rng.standard_normal((20, 3001))).astype(dtype)
    x[3, 1500], x[5, :2100], x[6, 1023], x[7, 40], x[8] = np.nan, -np.inf, 30 + x[6].max(), np.inf, -np.inf
    lazy = da.from_array(x, chunks=chunks)
    for options in ({}, {"temperature": 0.7}, {"where": rng.random(x.shape) > 0.3}):
        for function in (fastlogits.softmax, fastlogits.log_softmax):
            ours = function(lazy, **options)
            assert ours.chunks == lazy.chunks
            assert_same(ours.compute(), function(x, **options), backend)
    assert distance(fastlogits.logsumexp(lazy).compute(), fastlogits.logsumexp(x)) <= 1


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), None], ids=str)
def test_any_axis(axis, dtype, backend, rng):
    x = rng.standard_normal((40, 3, 1100)).astype(dtype)
    lazy = da.from_array(x, chunks=(11, 2, 300))
    for function in (fastlogits.softmax, fastlogits.log_softmax):
        assert_same(function(lazy, axis).compute(), function(x, axis), backend)


def test_more_classes_than_a_stack_holds(compiled_backend, rng):
    x = rng.standard_normal((2, 300_001)).astype(np.float32)
    lazy = da.from_array(x, chunks=(1, 130_000))
    assert_same(fastlogits.softmax(lazy).compute(), fastlogits.softmax(x), compiled_backend)
