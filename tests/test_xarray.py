"""Arrays of xarray: NumPy's numbers, matched by the names of dimensions, and back with coordinates."""

import inspect

import numpy as np
import pytest
from conftest import need
from refusals import refused
from test_adapters import IDS, LABELS, MASK, WEIGHT, X, each_call

import fastlogits
from fastlogits import calibration

xr = need("xarray")
LOGITS = "logits", "a", "probs", "log_probs"  # whose dimensions' order holds
DIMS = {4: "y", 5: "class", 3: "x", 2: "k"}
COORDS = {"y": [10, 20, 30, 40], "class": list("abcde"), "area": (("y", "x"), np.ones((4, 3))), "time": 7}


def held(array, kind=xr.DataArray, turned=False):
    """With dimensions named by their lengths; those of length 1 are left to broadcasting by name."""
    array = array.squeeze()
    dims = [DIMS[n] for n in array.shape]
    if kind is xr.DataArray:
        along = {"y": {"y"}, "class": {"class"}, "area": {"y", "x"}, "time": set()}
        array = xr.DataArray(array, {name: COORDS[name] for name in along if along[name] <= {*dims}}, dims, "z")
    else:
        array = kind(dims, array)
    return array.transpose(*dims[::-1]) if turned else array


def flat(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("kind", [xr.DataArray, xr.Variable], ids=["DataArray", "Variable"])
@pytest.mark.parametrize("lazy", [False, True], ids=["memory", "lazy"])
@each_call
def test_same_numbers_as_numpy(function, args, options, kind, lazy):
    """Whatever the order of the other arrays' dimensions; as lazily as what is inside."""
    arguments = inspect.signature(function).bind(*args).arguments
    ours = [held(array, kind, turned=name not in LOGITS) for name, array in arguments.items()]
    named = {name: held(a, kind, turned=True) if isinstance(a, np.ndarray) else a for name, a in options.items()}
    if lazy:
        need("dask.array")
        ours[0] = ours[0].chunk({ours[0].dims[0]: 2})
    results, expected = flat(function(*ours, **named)), flat(function(*args, **options))
    for result, exact in zip(results, expected, strict=True):
        assert not np.ndim(exact) or type(result) is kind
        np.testing.assert_allclose(np.asarray(result), exact, rtol=1e-13)
        if lazy and np.ndim(exact):
            assert result.chunks is not None


def test_coordinates_come_back():
    x = held(X)
    probs = fastlogits.softmax(x, "class")
    xr.testing.assert_identical(probs, x.copy(data=fastlogits.softmax(X, 1)))
    entropy = fastlogits.entropy(x, "class")
    assert entropy.dims == ("y", "x")
    assert {*entropy.coords} == {"y", "area", "time"}
    assert entropy.sel(y=30, x=1).item() == fastlogits.entropy(X, 1)[2, 1]
    for k in (2, 5):  # as many as there are classes, in another order
        top = fastlogits.topk(x, k, "class")
        assert top.indices.dims == x.dims
        assert {*top.indices.coords} == {"y", "area", "time"}
    assert fastlogits.softmax(x, ("y", "x")).coords.equals(x.coords)
    assert type(fastlogits.logsumexp(x, axis=None)) is np.float64
    assert {*fastlogits.logsumexp(x, "class", keepdims=True).coords} == {"y", "area", "time"}
    out = np.empty_like(X)
    assert fastlogits.softmax(x, "class", out=out) is out
    assert (out == probs).all()


def test_records_and_tuples():
    x, labels = held(X), held(LABELS, turned=True)
    stats = fastlogits.row_stats(x, labels, axis="class", top_k=2)
    exact = fastlogits.row_stats(X, LABELS, axis=1, top_k=2)
    for name, values in vars(exact).items():
        found = getattr(stats, name)
        np.testing.assert_array_equal(found, values)
        assert found.dims == (("y", "class", "x") if values.ndim == 3 else ("y", "x"))
        assert (found.y == COORDS["y"]).all()
    loss, grad = fastlogits.cross_entropy_with_grad(x, labels, axis="class")
    assert np.isscalar(loss)
    assert (grad["class"] == list("abcde")).all()
    picked = fastlogits.selective_log_softmax(x, held(IDS, turned=True), "class")
    assert picked.dims == ("y", "k", "x")
    ids = fastlogits.sample(x, axis="class", seed=0, temperature=xr.DataArray([1.0, 0.5, 2.0], dims="x")).ids
    np.testing.assert_array_equal(ids, fastlogits.sample(X, axis=1, seed=0, temperature=[1.0, 0.5, 2.0]).ids)
    by_y = fastlogits.filter_logits(x, axis="class", top_k=xr.DataArray([1, 2, 3, 4], dims="y"))
    np.testing.assert_array_equal(by_y, fastlogits.filter_logits(X, axis=1, top_k=np.arange(1, 5)[:, None]))


def test_documents():
    x, labels = held(X), held(LABELS, turned=True)
    found, exact = fastlogits.loglikelihood(x, labels, axis="class"), fastlogits.loglikelihood(X, LABELS, axis=1)
    for ours, expected in zip(found, exact, strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert ours.dims == ("y",)
        assert {*ours.coords} == {"y", "time"}
    bits = found.bits_per_byte(xr.DataArray([1, 2, 3, 4], dims="y"))
    np.testing.assert_array_equal(bits, exact.bits_per_byte([1, 2, 3, 4]))
    assert {*bits.coords} == {"y", "time"}
    for groups in (labels, LABELS):  # as many documents as y has places, but no places of it
        in_groups = fastlogits.loglikelihood(x, labels, axis="class", groups=groups % 4)
        assert all(type(part) is np.ndarray for part in in_groups)
        np.testing.assert_array_equal(in_groups, fastlogits.loglikelihood(X, LABELS, axis=1, groups=LABELS % 4))


def test_measures_of_all_rows():
    x, labels = held(X), held(LABELS, turned=True)
    assert fastlogits.accuracy(x, labels, axis="class") == fastlogits.accuracy(X, LABELS, axis=1)
    assert calibration.fit_temperature(x, labels, axis="class") == calibration.fit_temperature(X, LABELS, axis=1)
    for bins in (3, 12):  # as many as rows along a dimension, or in all
        curve = calibration.reliability_curve(x, labels, axis="class", bins=bins)
        exact = calibration.reliability_curve(X, LABELS, axis=1, bins=bins)
        assert all(type(values) is np.ndarray for values in curve)
        np.testing.assert_array_equal(curve, exact)


def test_beside_arrays_of_numpy():
    """In memory they are arrays like others, whichever argument they are."""
    x, labels = held(X), held(LABELS)
    expected = fastlogits.cross_entropy(X, LABELS, axis=1, weight=WEIGHT)
    for weight in (WEIGHT, held(WEIGHT), held(WEIGHT, xr.Variable)):
        assert fastlogits.cross_entropy(x, LABELS, axis=1, weight=weight) == expected
        assert fastlogits.cross_entropy(X, labels, axis=1, weight=weight) == expected
    np.testing.assert_array_equal(fastlogits.softmax(X, 1, where=held(MASK)), fastlogits.softmax(x, 1, where=MASK))
    need("dask.array")
    for lazily in ({"labels": labels.chunk()}, {"labels": LABELS, "weight": held(WEIGHT).chunk()}):
        with refused(TypeError, "lazy"):
            fastlogits.cross_entropy(X, axis=1, **lazily)
    with refused(TypeError, "where", "lazy"):
        fastlogits.softmax(X, 1, where=held(MASK).chunk())


def test_refused():
    x, labels = held(X), held(LABELS)
    with refused(ValueError, "labels", "coordinates of logits", "'y'"):
        fastlogits.cross_entropy(x, labels.assign_coords(y=[10, 20, 30, 41]), axis="class")
    with refused(ValueError, "labels", "'z'", r"\('y', 'class', 'x'\)"):
        fastlogits.cross_entropy(x, labels.rename(x="z"), axis="class")
    with refused(ValueError, "axis", "'klass'", "'class'"):
        fastlogits.softmax(x, "klass")
    with refused(TypeError, "logits", "xarray.Dataset"):
        fastlogits.softmax(x.to_dataset())
    with refused(ValueError, "labels", r"\(4, 3\)"):
        fastlogits.cross_entropy(x, labels[0], axis="class")
