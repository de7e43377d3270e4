"""dask arrays after the model: filters, draws and calibration."""

import numpy as np
import pytest
from conftest import need
from refusals import refused
from test_dask import X, computed, flat

import fastlogits
from fastlogits import calibration

dask = need("dask")
da = need("dask.array")


@pytest.fixture(autouse=True)
def one_scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize("chunks", [(40, -1), (90, 7), ((0, 150, 200), -1)], ids=str)
def test_draws_do_not_depend_on_chunks(chunks, dtype, rng):
    x = (3 * rng.standard_normal((350, 30))).astype(dtype)
    lazy, hot = da.from_array(x, chunks=chunks), rng.uniform(0, 2, 350)
    for ours, exact in computed(
        fastlogits.sample(lazy, seed=np.random.default_rng(5), temperature=hot, top_p=0.9),
        fastlogits.sample(x, seed=np.random.default_rng(5), temperature=hot, top_p=0.9),
    ):
        np.testing.assert_array_equal(ours, exact)
    filtered = fastlogits.filter_logits(lazy, top_k=da.from_array(np.arange(1, 351), chunks=77))
    assert filtered.chunks == lazy.chunks
    assert filtered.compute().tobytes() == fastlogits.filter_logits(x, top_k=np.arange(1, 351)).tobytes()
    assert fastlogits.sample(lazy).ids.name != fastlogits.sample(lazy).ids.name


MEASURES = [
    calibration.expected_calibration_error,
    calibration.maximum_calibration_error,
    calibration.adaptive_calibration_error,
    calibration.classwise_calibration_error,
    calibration.brier_score,
    calibration.negative_log_likelihood,
    calibration.reliability_curve,
    calibration.risk_coverage_curve,
]


def labelled(rng, dtype=np.float32):
    x = (2 * rng.standard_normal((9, 40, 12))).astype(dtype)
    labels = fastlogits.sample(x, seed=1, temperature=2.0, axis=1).ids
    labels[4, 3] = -100
    x[4, :, 3] = np.nan
    return x, labels


@pytest.mark.parametrize("chunks", [(2, -1, 5), (4, 9, 12), ((0, 9), -1, -1)], ids=str)
@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.__name__)
def test_calibration(measure, chunks, dtype, rng):
    x, labels = labelled(rng, dtype)
    for options in ({"axis": 1}, {"axis": 1, "temperature": 2.0, "ignore_index": 3}):
        if "ignore_index" in options:
            labels[4, 3] = 3
        lazy = measure(da.from_array(x, chunks=chunks), da.from_array(labels, chunks=4), **options)
        exact = measure(x, labels, **options)
        assert type(lazy) is (type(exact) if isinstance(exact, tuple) else da.Array)
        for announced, ours, numpy in zip(flat(lazy), dask.compute(*flat(lazy)), flat(exact), strict=True):
            assert announced.dtype == ours.dtype == np.asarray(numpy).dtype
            assert np.isnan(announced.shape).any() or announced.shape == np.shape(numpy)
            np.testing.assert_allclose(ours, numpy, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("chunks", [(2, -1, 5), (1, 9, 12)], ids=str)
def test_fit_temperature(chunks, dtype, rng):
    x, labels = labelled(rng, dtype)
    lazy, weight = da.from_array(x, chunks=chunks), rng.random((9, 12))
    for options in ({}, {"sample_weight": weight}):
        ours = calibration.fit_temperature(lazy, labels, axis=1, **options)
        exact = calibration.fit_temperature(x, labels, axis=1, **options)
        np.testing.assert_allclose(ours[:2], exact[:2], rtol=1e-7)
        assert ours.iterations <= exact.iterations
    hits = fastlogits.argmax(x, 1)
    hits[4, 3] = -100
    for limit in (hits, labels * 0 - 100):
        limit[0, 0] = hits[0, 0]
        assert calibration.fit_temperature(lazy, limit, axis=1).temperature == 0


def test_temperatures_that_cannot_be_fitted():
    x = da.zeros((40, 3), chunks=(2, 2))
    assert calibration.fit_temperature(x, np.zeros(40, int)).temperature == 1
    with refused(ValueError, "labels", r"none .* of shape \(40,\)"):
        calibration.fit_temperature(x, np.full(40, -100))
    with refused(ValueError, "NaN", r"at \(32,\)", "1 of 40"):
        calibration.fit_temperature(da.where(np.arange(40)[:, None] == 32, np.nan, x), np.zeros(40, int))
    with refused(IndexError, r"got 3 at \(35,\)"):
        calibration.fit_temperature(x, 3 * (np.arange(40) == 35))


def test_plots(rng):
    need("matplotlib").use("agg")
    x, labels = labelled(rng)
    lazy = da.from_array(x, chunks=(2, 20, 5))
    for plot in (calibration.plot_reliability, calibration.plot_risk_coverage):
        ours, exact = plot(lazy, labels, axis=1), plot(x, labels, axis=1)
        for line, expected in zip(ours.get_lines(), exact.get_lines(), strict=True):
            np.testing.assert_allclose(line.get_xydata(), expected.get_xydata())


@pytest.mark.parametrize("classes", [5, 2])
def test_bad_values_are_named_when_computed(classes):
    x = X.rechunk((2, classes))
    with refused(ValueError, r"cannot sample from row \(3,\)", "nothing but -inf"):
        fastlogits.sample(da.where(np.arange(6)[:, None] == 3, -np.inf, x)).ids.compute()
    with refused(ValueError, "top_p", r"got 1.5 at \(4,\)"):
        fastlogits.filter_logits(x, top_p=np.where(np.arange(6) == 4, 1.5, 1.0)).compute()


def test_measures_compute_nothing_when_called():
    def computing(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=computing):
        for measure in MEASURES:
            measure(X, da.zeros(6, dtype=int, chunks=1))
