"""temperature, bias and where: the same in every function that takes them, and what is computed of z in double."""

import numpy as np
import oracle
import pytest
from conftest import need
from operations import LAYOUTS, make_logits
from refusals import refused
from tensors import ADAPTERS
from tolerance import Tolerance, compute_type

import fastlogits
from fastlogits import calibration
from fastlogits.states import RowState

RNG = np.random.default_rng(5)
SIZES = [(7, 2), (140, 10), (21, 100), (7, 1030), (3, 20_011)]
FIT = calibration.TemperatureFit(0.7, 0.0, 1)


class Doubled:
    """A fit of a kind of its own."""

    def apply(self, logits, axis=-1):
        return 2 * np.moveaxis(logits, axis, axis)


def vector_fit(classes):
    rng = np.random.default_rng(classes)
    return calibration.VectorScalingFit(rng.uniform(0.5, 2, classes), rng.normal(size=classes), 0.0, 1, True)


def options_of(kind, rows, classes, labels):
    """The options, and z = scale x + bias of them where `taken`."""
    rng = np.random.default_rng([rows, classes])
    by_row, by_class = rng.uniform(0.3, 3, rows), rng.normal(size=classes)
    mask = rng.random(classes) < 0.7
    masks = rng.random((rows, classes)) < 0.7
    mask[np.unique(labels)] = masks[np.arange(rows), labels] = True
    fit = vector_fit(classes)
    options, scale, bias, taken = {
        "number": ({"temperature": 2.5}, 1 / 2.5, 0, True),
        "of rows": ({"temperature": by_row}, 1 / by_row[:, None], 0, True),
        "fit": ({"temperature": FIT}, 1 / 0.7, 0, True),
        "vector fit": ({"temperature": fit}, fit.scale, fit.bias, True),
        "own fit": ({"temperature": Doubled()}, 2, 0, True),
        "bias": ({"bias": by_class}, 1, by_class, True),
        "bias that leaves out": ({"bias": np.where(mask, by_class, -np.inf)}, 1, by_class, mask),
        "mask of classes": ({"where": mask}, 1, 0, mask),
        "mask": ({"where": masks}, 1, 0, masks),
        "all": ({"temperature": by_row, "bias": by_class, "where": masks}, 1 / by_row[:, None], by_class, masks),
    }[kind]
    return options, scale, bias, np.broadcast_to(taken, (rows, classes))


KINDS = (
    "number", "of rows", "fit", "vector fit", "own fit", "bias", "bias that leaves out", "mask of classes", "mask",
    "all",
)  # fmt: skip


def case(kind, rows, classes, dtype):
    x = make_logits(rows, classes, dtype)
    x[~np.isfinite(x.astype(np.float64))] = -30
    labels = np.random.default_rng(1).integers(0, classes, rows)
    options, scale, bias, taken = options_of(kind, rows, classes, labels)
    return x, labels, options, np.where(taken, x.astype(np.float64) * scale + bias, -np.inf)


@np.errstate(invalid="ignore")
def near(actual, z, exact, dtype):
    """Within what z's own rounding makes of a result, and a few eps."""
    eps = Tolerance(dtype).eps
    size = np.abs(np.where(np.isfinite(z), z, 0)).max(-1) + 10
    room = eps * 8 * (size * (1 + np.abs(np.where(np.isfinite(exact), exact, 0)).T)).T
    actual, exact = np.asarray(actual, np.float64), np.asarray(exact, np.float64)
    same = (actual == exact) | (abs(actual - exact) <= np.broadcast_to(room.T, actual.T.shape).T)
    assert same.all(), (actual[~same][:3], exact[~same][:3])


@pytest.mark.parametrize(("rows", "classes"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_statistics(fl, kind, rows, classes, dtype):
    x, labels, options, z = case(kind, rows, classes, dtype)
    exact = oracle.row_stats(z, labels, 2)
    for array, axis in ((x, -1), (np.ascontiguousarray(x.T), 0)):
        turned = dict(options)
        if axis == 0 and "where" in options:
            turned["where"] = np.broadcast_to(options["where"], x.shape).T
        for top_k in (None, 2):
            stats = fl.row_stats(array, labels, top_k=top_k, axis=axis, **turned)
            assert stats.nll.dtype == compute_type(dtype)
            for name in ("lse", "nll", "entropy", "max_prob", "margin"):
                near(getattr(stats, name), z, exact[name].value, dtype)
        log_probs = np.moveaxis(stats.topk_log_probs, axis, -1)
        near(log_probs[:, 0], z, exact["topk_log_probs"].value[:, 0], dtype)


@pytest.mark.parametrize(("rows", "classes"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_other_function(fl, kind, rows, classes, dtype):
    x, labels, options, z = case(kind, rows, classes, dtype)
    exact = oracle.row_stats(z, labels, 1)
    nll = exact["nll"].value
    near(fl.entropy(x, **options), z, exact["entropy"].value, dtype)
    near(-fl.selective_log_softmax(x, labels, **options), z, nll, dtype)
    near(-fl.selective_log_softmax(x, np.stack([labels, labels], 1), **options)[:, 1], z, nll, dtype)
    found = fl.loglikelihood(x, labels, lengths=np.ones(rows, int), **options)
    near(-found.log_prob, z, nll, dtype)
    finite = nll < 50
    if finite.any():
        perplexity = fl.perplexity(x, np.where(finite, labels, -100), **options)
        np.testing.assert_allclose(np.log(perplexity), nll[finite].mean(), 2e-3, 1e-5)
    rank = fl.row_stats(x, labels, want=["rank"], **options).rank
    for k in {1, min(3, classes)}:
        assert fl.accuracy(x, labels, top_k=k, **options) == np.mean(rank < k)


@pytest.mark.parametrize(("rows", "classes"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_softmaxes(fl, kind, rows, classes, dtype):
    x, _, options, z = case(kind, rows, classes, dtype)
    log_probs = oracle.log_softmax(z).value
    tolerance = 4e-3 if dtype.itemsize == 2 and dtype.kind != "f" else 1e-3 if dtype.itemsize == 2 else 1e-5
    tolerance += float(16 * Tolerance(dtype).eps * np.abs(z[np.isfinite(z)]).max())
    probs = fl.softmax(x, **options)
    assert probs.dtype == fl.log_softmax(x, **options).dtype == dtype
    np.testing.assert_allclose(probs.astype(float), np.exp(log_probs.astype(float)), tolerance * 5, tolerance)
    ours = fl.log_softmax(x, **options).astype(float)
    np.testing.assert_allclose(ours, log_probs.astype(float), tolerance * 5, tolerance * 5)
    out = np.empty_like(x)
    assert fl.softmax(x, out=out, **options) is out
    np.testing.assert_array_equal(out, probs)


@pytest.mark.parametrize(("rows", "classes"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_filters_and_draws(fl, kind, rows, classes):
    """Exactly those of z, where z is an array of the caller's."""
    x, _, options, z = case(kind, rows, classes, np.dtype(np.float64))
    z = np.asarray(z)
    y = fl.filter_logits(x, top_k=min(3, classes), **options)
    np.testing.assert_allclose(y, fl.filter_logits(z, top_k=min(3, classes)), 1e-13, 1e-13)
    drawn = fl.sample(x, seed=4, top_p=0.9, **options)
    expected = fl.sample(z, seed=4, top_p=0.9)
    np.testing.assert_array_equal(drawn.ids, expected.ids)
    np.testing.assert_allclose(drawn.log_probs, expected.log_probs, 1e-11, 1e-11)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_filters_of_what_is_rounded_at_the_end(fl, dtype):
    x = make_logits(9, 40, np.dtype(dtype))
    bias = RNG.normal(size=40)
    wide = x.astype(np.float32) + bias.astype(np.float32)
    expected = fl.filter_logits(wide, top_k=5).astype(dtype)
    out = x.copy()
    assert fl.filter_logits(out, top_k=5, bias=bias, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("classes", [3, 100, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_temperature_rounds_nothing(fl, dtype, classes):
    """Differences of logits are multiplied, not logits: far from 0 they keep their digits."""
    x = make_logits(7, classes, np.dtype(dtype))[2:3]
    near_zero = (x.astype(np.float64) - x.astype(np.float64).max()).astype(dtype)
    temperature = np.array([1.7])
    for options in ({"temperature": 1.7}, {"temperature": temperature}):
        np.testing.assert_array_equal(fl.softmax(x, **options), fl.softmax(near_zero, **options))
        one, other = (fl.row_stats(a, [0], want=["nll", "entropy"], **options) for a in (x, near_zero))
        assert (one.nll, one.entropy) == (other.nll, other.entropy)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", [fastlogits.softmax, fastlogits.log_softmax])
def test_rows_of_one_temperature_are_those_of_a_number(backend, function, layout):
    x, axis = LAYOUTS[layout](make_logits(6, 40, np.dtype(np.float32)))
    rows = np.full([n for i, n in enumerate(x.shape) if i != axis % x.ndim], 0.6)
    expected = function(x, axis, temperature=0.6)
    np.testing.assert_array_equal(function(x, axis, temperature=rows), expected)
    stats = fastlogits.row_stats(x, axis=axis, temperature=rows)
    for name, values in vars(fastlogits.row_stats(x, axis=axis, temperature=0.6)).items():
        np.testing.assert_array_equal(getattr(stats, name), values)


@pytest.mark.parametrize("shape", [(3, 50_021), (1, 300_007), (67, 4099)])
def test_same_bits_for_any_number_of_threads(compiled_backend, shape):
    x = make_logits(*shape, np.dtype(np.float32))
    kinds = {"temperature": RNG.uniform(0.5, 2, shape[0])}, {"bias": RNG.normal(size=shape[1])}
    for options in kinds:
        results = []
        for threads in (1, 2, 5):
            with fastlogits.settings(num_threads=threads):
                stats = fastlogits.row_stats(x, np.zeros(shape[0], int), **options)
                results.append([values.tobytes() for values in vars(stats).values()])
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("classes", [5, 200, 3000])
@pytest.mark.parametrize("where", ["classes", "logits"])
def test_what_is_left_out_is_not_read(fl, dtype, classes, where):
    x = RNG.normal(size=(6, classes)).astype(dtype)
    mask = np.arange(classes) % 3 != 1
    labels = np.full(6, 1)
    labels[:3] = 0
    cut = np.where(mask, x, np.asarray(-np.inf, dtype))
    spoilt = np.where(mask, x, np.asarray([[np.nan], [np.inf]] * 3, dtype))
    given = mask if where == "classes" else np.broadcast_to(mask, x.shape).copy()
    for want in (["nll", "entropy", "lse"], ["argmax", "rank", "margin"]):
        labelled = {"labels": labels} if {"nll", "rank"} & {*want} else {}
        found = fl.row_stats(spoilt, want=want, where=given, **labelled)
        for name, values in vars(fl.row_stats(cut, want=want, **labelled)).items():
            np.testing.assert_allclose(getattr(found, name), values, 1e-6)
    np.testing.assert_array_equal(fl.sample(spoilt, seed=1, where=given).ids, fl.sample(cut, seed=1).ids)
    assert np.isneginf(fl.selective_log_softmax(spoilt, labels, where=given)[3:]).all()


def test_a_row_of_which_nothing_is_left(fl):
    x, where = np.zeros((2, 3)), [[True, True, False], [False, False, False]]
    assert fl.softmax(x, where=where, temperature=[1.0, 2.0])[1].tolist() == [0, 0, 0]
    assert fl.row_stats(x, where=where).lse.tolist() == [np.log(2), -np.inf]
    with refused(ValueError, r"logits: cannot sample from row \(1,\): it has nothing but -inf"):
        fl.sample(x, where=where)


def test_temperature_zero_takes_the_largest_with_its_bias(fl):
    drawn = fl.sample([[1.0, 0.0, 0.5]] * 2, temperature=[0.0, 0.0], bias=[-9.0, 0.0, 0.0])
    assert (drawn.ids.tolist(), drawn.log_probs.tolist()) == ([2, 2], [0, 0])


def test_the_limits_of_a_fit(fl):
    x = np.array([[0.0, 1.0, 1.0]])
    cold, hot = (calibration.TemperatureFit(t, 0.0, 1) for t in (0.0, np.inf))
    np.testing.assert_allclose(fl.softmax(x, temperature=cold), [[0, 0.5, 0.5]])
    np.testing.assert_allclose(fl.softmax(x, temperature=hot), [[1 / 3] * 3])
    np.testing.assert_allclose(fl.entropy(x, temperature=cold), np.log(2))


def test_a_fit_that_was_fitted(fl, rng):
    x, labels = 3 * rng.normal(size=(500, 5)), rng.integers(0, 5, 500)
    fit = calibration.fit_temperature(x, labels)
    assert np.isclose(fl.row_stats(x, labels, want=["nll"], temperature=fit).nll.mean(), fit.nll)
    vector = calibration.fit_vector_scaling(x, labels)
    assert np.isclose(fl.row_stats(x, labels, want=["nll"], temperature=vector).nll.mean(), vector.nll)
    applied = vector.apply(np.ascontiguousarray(x.T), axis=0)
    np.testing.assert_array_equal(applied.T, vector.apply(x))
    assert np.isneginf(vector.apply([[-np.inf] * 5])).all()


@pytest.mark.parametrize("ties", ["first", "min"])
def test_states_with_a_temperature(backend, ties):
    x = make_logits(14, 3000, np.dtype(np.float32))
    labels = RNG.integers(0, 3000, 14)
    temperature = RNG.uniform(0.5, 2, 14)
    options = {"temperature": temperature, "ties": ties, "top_k": 3}
    whole = fastlogits.row_stats(x, labels, **options)
    at = np.take_along_axis(x, labels[:, None], 1)[:, 0].astype(np.float64)
    options["label_logits"] = at
    pieces = [RowState.of(x[:, i : i + 1000], labels, first_class=i, **options) for i in (0, 1000, 2000)]
    merged = pieces[0].merge(*pieces[1:])
    for name, values in vars(merged.results()).items():
        np.testing.assert_allclose(values, getattr(whole, name), 2e-5, 2e-5, err_msg=name)
    probs = fastlogits.softmax(x, temperature=temperature)
    np.testing.assert_allclose(merged.softmax(x[:, 1000:2000]), probs[:, 1000:2000], 2e-5, 1e-7)
    other = RowState.of(x[:, 2000:], labels, first_class=2000, **options | {"temperature": 2.0})
    with refused(ValueError, "states: expected one temperature for all pieces of a row, got others"):
        pieces[0].merge(pieces[1], other)


def test_after_penalties_and_before_the_cuts(fl):
    x = make_logits(6, 9, np.dtype(np.float64))
    temperature, bias, where = RNG.uniform(0.5, 2, 6), RNG.normal(size=9), RNG.random((6, 9)) < 0.8
    history = RNG.integers(0, 9, (6, 3))
    options = {"temperature": temperature, "bias": bias, "where": where, "top_n_sigma": 1.5, "top_p": 0.9}
    found = fl.filter_logits(x, history=history, repetition_penalty=1.3, logit_bias={2: 1.5}, **options)
    y = x.copy()
    y[:, 2] += 1.5
    at = np.arange(6)[:, None], history
    y[at] = np.where(y[at] < 0, y[at] * 1.3, y[at] / 1.3)
    z = np.where(where, y / temperature[:, None] + bias, -np.inf)
    np.testing.assert_allclose(found, fl.filter_logits(z, top_n_sigma=1.5, top_p=0.9), 1e-12)
    found = fl.filter_logits(x, where=where, temperature=temperature, order="temperature_last", top_k=4)
    kept = fl.filter_logits(np.where(where, x, -np.inf), top_k=4)
    np.testing.assert_allclose(found, kept / temperature[:, None], 1e-12)
    with refused(ValueError, "bias: is added after the division by the temperature, which order has come last"):
        fl.filter_logits(x, bias=bias, temperature=2.0, order="temperature_last")


@pytest.mark.parametrize("lazy", [False, True])
def test_filters_of_dask(lazy):
    da = need("dask.array")
    x = make_logits(6, 9, np.dtype(np.float32))
    x[~np.isfinite(x)] = 0
    rows, bias, where = RNG.uniform(0.5, 2, 6), RNG.normal(size=9), RNG.random((6, 9)) < 0.8
    where[:, 0] = True
    for options in (
        {"temperature": rows, "bias": bias, "where": where, "top_k": 3},
        {"temperature": vector_fit(9), "top_p": 0.8},
        {"temperature": FIT, "where": where[0], "top_n_sigma": 1.0},
    ):
        arrays = {name: v for name, v in options.items() if lazy and isinstance(v, np.ndarray)}
        given = options | {name: da.from_array(v, chunks=-1) for name, v in arrays.items()}
        chunked = da.from_array(x, chunks=(2, 4))
        found = fastlogits.filter_logits(chunked, **given).compute()
        np.testing.assert_array_equal(found, fastlogits.filter_logits(x, **options))
        ids = fastlogits.sample(chunked, seed=1, **given).ids.compute()
        np.testing.assert_array_equal(ids, fastlogits.sample(x, seed=1, **options).ids)


@pytest.mark.parametrize("function", [fastlogits.row_stats, fastlogits.softmax, fastlogits.sample, fastlogits.entropy])
def test_refusals(function):
    x = np.zeros((2, 3))
    for options, error, message in (
        ({"temperature": [1.0, -1.0]}, ValueError, "temperature: expected a number above 0"),
        ({"temperature": [1.0, 1.0, 1.0]}, ValueError, "temperature: expected a number or a shape that broadcasts"),
        ({"bias": [1.0, 2.0]}, ValueError, "bias: expected shape (3,), got (2,)"),
        ({"bias": [1.0, 2.0, np.nan]}, ValueError, "bias: expected numbers, or -inf for a class that is left out"),
        ({"where": [1, 0, 1]}, TypeError, "where: expected bool, got int64"),
        ({"temperature": vector_fit(4)}, ValueError, "logits: expected 4 classes, as the fit has, got 3"),
    ):
        with pytest.raises(error) as refusal:
            function(x, **options)
        assert str(refusal.value).startswith(message)


# Frameworks


@pytest.fixture(params=ADAPTERS, scope="module")
def framework(request):
    return ADAPTERS[request.param]()


FUNCTIONS = {
    "softmax": {}, "log_softmax": {}, "entropy": {}, "row_stats": {"top_k": 2},
    "selective_log_softmax": {"ids": np.array([0, 1, 2, 3, 4])}, "accuracy": {"labels": np.arange(5)},
    "perplexity": {"labels": np.arange(5)}, "loglikelihood": {"labels": np.arange(5)},
    "filter_logits": {"top_k": 2}, "sample": {"seed": 3},
}  # fmt: skip
FRAMEWORK_OPTIONS = {
    "number": {"temperature": 2.0},
    "of rows": {"temperature": np.linspace(0.5, 2, 5)},
    "bias": {"temperature": 0.5, "bias": np.linspace(-1, 1, 7)},
    "mask": {"where": np.arange(7) != 6},
    "fit": {"temperature": FIT},
    "vector fit": {"temperature": vector_fit(7)},
}
X = np.random.default_rng(0).normal(size=(5, 7))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("options", FRAMEWORK_OPTIONS.values(), ids=FRAMEWORK_OPTIONS)
def test_frameworks(framework, name, options):
    function = getattr(fastlogits, name)
    arrays = FUNCTIONS[name] | options
    tensors = {key: framework.tensor(v) if isinstance(v, np.ndarray) else v for key, v in arrays.items()}
    found, expected = function(framework.tensor(X), **tensors), function(X, **arrays)
    for ours, exact in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_allclose(framework.array(ours) if hasattr(ours, "shape") else ours, exact, 1e-12, 1e-14)


def parts(result):
    if isinstance(result, fastlogits.RowStats):
        return list(vars(result).values())
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "selective_log_softmax"])
@pytest.mark.parametrize("options", FRAMEWORK_OPTIONS.values(), ids=FRAMEWORK_OPTIONS)
def test_gradients(framework, name, options):
    """Those of the same function on z, with what differentiation makes of z by hand."""
    function = getattr(fastlogits, name)
    arrays = FUNCTIONS[name] | options
    tensors = {key: framework.tensor(v) if isinstance(v, np.ndarray) else v for key, v in arrays.items()}
    weights = framework.tensor(np.random.default_rng(1).random((5, 7) if name != "selective_log_softmax" else 5))
    value, grad = framework.value_and_gradient(
        lambda x: framework.where_finite(function(x, **tensors)) * weights, framework.tensor(X)
    )
    step = 1e-6

    def total(x):
        values = function(x, **arrays)
        return np.sum(np.where(np.isfinite(values), values, 0) * framework.array(weights))

    numeric = np.zeros_like(X)
    for place in np.ndindex(*X.shape):
        away = np.zeros_like(X)
        away[place] = step
        numeric[place] = (total(X + away) - total(X - away)) / (2 * step)
    np.testing.assert_allclose(framework.array(grad), numeric, 1e-6, 1e-7)
