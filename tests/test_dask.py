"""dask arrays, by the schedulers of one process: chunks of rows give NumPy's bits, chunks of classes its accuracy."""

import inspect
import itertools

import ml_dtypes
import numpy as np
import oracle
import pytest
from conftest import need
from operations import OPERATIONS, call, case, labels_like, make_logits
from refusals import refused
from test_adapters import CALLS
from test_dask_unknown import unknown
from test_row_stats import ROWS, assert_stats
from test_states import assert_near
from tolerance import DTYPES, assert_close

import fastlogits
from fastlogits import calibration, config

dask = need("dask")
da = need("dask.array")
fd = need("fastlogits.dask")

RNG = np.random.default_rng(0)
CALLS = CALLS | {
    "argmax": (fastlogits.argmax, (CALLS["softmax"][1][0],), {"axis": 1}),
    "topk": (fastlogits.topk, (CALLS["softmax"][1][0], 3), {"axis": 0}),
    "topk of integers": (fastlogits.topk, (np.arange(60).reshape(4, 5, 3) % 7 + 2**60, 4), {"axis": 1}),
    "entropy": (fastlogits.entropy, (CALLS["softmax"][1][0],), {"axis": 1}),
    "perplexity": (fastlogits.perplexity, CALLS["cross_entropy"][1], {"axis": 1}),
    "accuracy": (fastlogits.accuracy, CALLS["cross_entropy"][1], {"axis": 1, "top_k": 2}),
    "loglikelihood": (fastlogits.loglikelihood, CALLS["cross_entropy"][1], {"axis": 1, "ignore_index": 3}),
    "loglikelihood of documents": (
        fastlogits.loglikelihood, CALLS["cross_entropy"][1], {"axis": 1, "lengths": [5, 0, 7]},
    ),
    "row_stats": (fastlogits.row_stats, CALLS["cross_entropy"][1], {"axis": 1, "top_k": 2}),
    "filter_logits": (
        fastlogits.filter_logits, (CALLS["softmax"][1][0],),
        {"axis": 1, "temperature": np.linspace(0.5, 2, 12).reshape(4, 3), "top_k": np.arange(1, 4), "min_p": 0.1},
    ),
    "sample": (fastlogits.sample, (CALLS["softmax"][1][0],), {"axis": 0, "seed": 3, "temperature": np.ones((5, 1))}),
    "sample of some rows": (
        fastlogits.sample, (CALLS["softmax"][1][0],),
        {"seed": 3, "rows": np.arange(20).reshape(4, 5) ** 5, "top_p": 0.9},
    ),
    "filter_logits of a history": (
        fastlogits.filter_logits, (CALLS["softmax"][1][0],),
        {
            "axis": 1, "history": np.arange(48).reshape(4, 3, 4) % 6 - 1, "repetition_penalty": 1.3, "top_n_sigma": 1.5,
            "presence_penalty": np.linspace(0, 1, 12).reshape(4, 3), "logit_bias": {1: -1.0}, "xtc_threshold": 0.3,
        },
    ),
    "filter_logits of what is allowed": (
        fastlogits.filter_logits, (CALLS["softmax"][1][0],),
        {
            "axis": 1, "allowed": np.arange(60).reshape(4, 5, 3) % 3 > 0,
            "logit_bias": np.linspace(0, 1, 15).reshape(5, 3),
        },
    ),
    "filter_logits by a packed mask": (
        fastlogits.filter_logits, (CALLS["softmax"][1][0],),
        {"axis": 1, "allowed": np.arange(1, 13, dtype=np.int32).reshape(4, 1, 3), "top_h": 0.9},
    ),
    "sample by seeds of rows": (
        fastlogits.sample, (CALLS["softmax"][1][0],),
        {"axis": 1, "seed": np.arange(12).reshape(4, 3), "rows": 4, "order": "temperature_last", "temperature": 2.0},
    ),
    "sample several of each": (fastlogits.sample, (CALLS["softmax"][1][0],), {"axis": 1, "seed": 3, "draws": 3}),
    "sample without replacement": (
        fastlogits.sample, (CALLS["softmax"][1][0],), {"axis": 0, "seed": 3, "draws": 3, "replacement": False},
    ),
    "sample from row 7 on": (fastlogits.sample, (CALLS["softmax"][1][0],), {"seed": 3, "rows": 7, "axis": 1}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_scheduler():
    with dask.config.set(scheduler="synchronous"):
        yield


def flat(result):
    if isinstance(result, fastlogits.RowStats):
        return list(vars(result).values())
    return list(result) if isinstance(result, tuple) else [result]


def chunked(values, chunks):
    """Every array with more than one number as a dask array, `chunks` (by length) along its axes."""
    if isinstance(values, dict):
        return {key: chunked([value], chunks)[0] for key, value in values.items()}
    return [
        da.from_array(v, chunks=[chunks.get(n, n) for n in v.shape]) if isinstance(v, np.ndarray) else v for v in values
    ]


def computed(result, expected):
    """Pairs (ours, NumPy's) of what was announced rightly."""
    lazy = flat(result)
    for announced, ours, exact in zip(lazy, dask.compute(*lazy), flat(expected), strict=True):
        ours, exact = np.asarray(ours), np.asarray(exact)
        assert announced.dtype == announced._meta.dtype == ours.dtype == exact.dtype
        assert announced.shape == ours.shape == exact.shape
        yield ours, exact


each_call = pytest.mark.parametrize(("function", "args", "options"), CALLS.values(), ids=CALLS)


@each_call
def test_chunks_of_rows_give_the_same_bits(function, args, options):
    """A mean of chunks' sums is another sum of the same numbers."""
    axes = range(3) if (axis := options.get("axis", -1)) is None else np.atleast_1d(axis) % 3
    chunks = {n: 2 for i, n in enumerate((4, 5, 3)) if i not in axes}
    result = function(*chunked(args, chunks), **chunked(options, chunks))
    for ours, exact in computed(result, function(*args, **options)):
        np.testing.assert_allclose(ours, exact, rtol=0 if exact.ndim else 1e-15)


@each_call
def test_chunks_of_everything(function, args, options):
    chunks = {4: 3, 5: 2, 3: 1}
    result = function(*chunked(args, chunks), **chunked(options, chunks))
    for ours, exact in computed(result, function(*args, **options)):
        np.testing.assert_allclose(ours, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("rows", "classes"), [(7, 1), (9, 7), (21, 1000), (14, 3001)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_pieces_are_as_exact_as_the_whole(name, rows, classes, dtype):
    arguments, exact = case(name, rows, classes, dtype)
    chunks = {classes: (classes + 2) // 3, rows: (rows + 1) // 2}
    lazy = call(fastlogits, name, *chunked(arguments, chunks))
    assert_close(lazy.compute(), exact, name)


@pytest.mark.parametrize("sizes", [(1000,), (1, 999), (500, 0, 500), (0, 3, 1, 596, 400), (50,) * 20], ids=str)
def test_row_stats_of_pieces(sizes, dtype):
    x = make_logits(21, 1000, dtype)
    labels = labels_like(x)
    stats = fastlogits.row_stats(da.from_array(x, chunks=((10, 0, 11), sizes)), labels, top_k=7)
    stats = fastlogits.RowStats(**dask.compute(vars(stats))[0])
    assert_near(stats, x, labels, 7)
    if len(sizes) == 1:
        for name, values in vars(fastlogits.row_stats(x, labels, top_k=7)).items():
            assert getattr(stats, name).tobytes() == values.tobytes()


@pytest.mark.parametrize("label", [0, 3])
def test_special_rows_in_pieces(label, dtype):
    x = np.array(ROWS).astype(dtype)
    labels = np.full(len(x), label)
    lazy = da.from_array(x, chunks=(4, (1, 2, 1)))
    stats = dask.compute(vars(fastlogits.row_stats(lazy, labels, top_k=4)))[0]
    assert_stats(fastlogits.RowStats(**stats), oracle.row_stats(x, labels, 4))
    rounded = 2 * float(ml_dtypes.finfo(dtype).eps)
    for function in [
        fastlogits.softmax,
        fastlogits.log_softmax,
        lambda x: fastlogits.selective_log_softmax(x, labels),
        lambda x: fastlogits.cross_entropy_with_grad(x, labels, reduction="none").loss,
        lambda x: fastlogits.cross_entropy_with_grad(x, labels, reduction="none").grad_logits,
    ]:
        ours, exact = function(lazy).compute(), function(x)
        np.testing.assert_allclose(ours.astype(float), exact.astype(float), rtol=rounded, atol=rounded)


OPTIONS = {
    "weight": [None, np.linspace(0, 1, 40, dtype=np.float32)],
    "sample_weight": [None, np.linspace(0.5, 2, 9)],
    "label_smoothing": [0.0, 0.1],
    "z_loss": [0.0, 0.01],
    "softcap, logit_scale": [(None, 1.0), (5.0, -0.7)],
    "reduction": ["mean", "sum", "none"],
}


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("chunks", [(4, 40), (5, 11)], ids=str)
def test_cross_entropy_options(chunks, soft, dtype, rng):
    x = (3 * rng.standard_normal((9, 40))).astype(dtype)
    labels = rng.random(x.shape).astype(dtype) if soft else rng.integers(0, 40, 9)
    if not soft:
        labels[4] = -100
        x[4, 3] = np.nan
    # A quarter of the combinations each, all of them together.
    for values in itertools.islice(itertools.product(*OPTIONS.values()), [*DTYPES].index(dtype.name), None, 4):
        options = dict(zip(OPTIONS, values, strict=True))
        options["softcap"], options["logit_scale"] = options.pop("softcap, logit_scale")
        options["grad_loss"] = np.linspace(-1, 1, 9) if options["reduction"] == "none" else 0.7
        result = fastlogits.cross_entropy_with_grad(da.from_array(x, chunks=chunks), labels, **options)
        pairs = list(computed(result, fastlogits.cross_entropy_with_grad(x, labels, **options)))
        exact = oracle.cross_entropy(x, labels, **options)
        for (ours, numpy), bound in zip(pairs, exact, strict=True):
            assert_close(ours, bound, options)
            if chunks[1] == 40 and options["weight"] is options["sample_weight"] is None:
                np.testing.assert_allclose(ours, numpy, rtol=0 if ours.ndim else 1e-15)


def test_nothing_counted():
    x, labels = da.ones((4, 6), chunks=(2, 3)), np.full(4, -100)
    loss, grad = dask.compute(*fastlogits.cross_entropy_with_grad(x, labels))
    assert np.isnan(loss)
    assert not grad.any()
    assert fastlogits.cross_entropy(x, labels, normalizer=2.0).compute() == 0
    assert np.isnan(fastlogits.accuracy(x, labels).compute())
    assert np.isnan(fastlogits.perplexity(x, labels).compute())


@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0, 0)])
def test_empty_arrays(shape):
    x = np.zeros(shape)
    lazy = da.from_array(x, chunks=(2, 3))
    for function in (fastlogits.softmax, fastlogits.log_softmax, fastlogits.logsumexp, fastlogits.entropy):
        for ours, exact in computed(function(lazy), function(x)):
            np.testing.assert_array_equal(ours, exact)
    with pytest.raises(ValueError, match="at least one class") if not shape[1] else pytest.MonkeyPatch.context():
        fastlogits.argmax(lazy)


def test_one_row():
    x = np.linspace(0, 5, 17)
    lazy = da.from_array(x, chunks=4)
    assert fastlogits.argmax(lazy).compute() == 16
    stats = dask.compute(vars(fastlogits.row_stats(lazy, 3, top_k=2)))[0]
    for name, exact in vars(fastlogits.row_stats(x, 3, top_k=2)).items():
        np.testing.assert_allclose(stats[name], exact, rtol=1e-15)
    loss = fastlogits.cross_entropy(lazy, 3)
    np.testing.assert_allclose(loss.compute(), fastlogits.cross_entropy(x, 3), rtol=1e-15)


def test_nothing_is_computed_when_called():
    def computing(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=computing):
        for function, args, options in CALLS.values():
            function(*chunked(args, {4: 2, 5: 2, 3: 2}), **chunked(options, {4: 2, 5: 2, 3: 2}))


def test_equal_calls_have_equal_keys():
    x = da.ones((4, 6), chunks=(2, 3))
    labels = np.zeros(4, int)
    assert fastlogits.loglikelihood(x, labels).mean.name == fastlogits.loglikelihood(x, labels).mean.name
    for function in (fastlogits.softmax, fastlogits.entropy, fastlogits.argmax):
        assert function(x).name == function(x).name
    assert fastlogits.softmax(x).name != fastlogits.softmax(x, temperature=2.0).name


def test_numpy_arrays_are_taken_too():
    np.testing.assert_array_equal(fd.softmax(np.zeros((2, 4))).compute(), np.full((2, 4), 0.25))


X, LABELS = da.zeros((6, 5), chunks=(2, 3)), np.arange(6) % 5

REFUSED = {
    "axis": (lambda: fastlogits.softmax(X, 2), ValueError, ["axis 2"]),
    "axes": (lambda: fastlogits.argmax(X, (0, 1)), TypeError, ["axis"]),
    "temperature": (lambda: fastlogits.softmax(X, temperature=0), ValueError, ["temperature"]),
    "dtype": (lambda: fastlogits.softmax(X + 0j), TypeError, ["logits", "complex128"]),
    "where": (lambda: fastlogits.softmax(X, where=X), TypeError, ["where", "bool"]),
    "where's shape": (lambda: fastlogits.softmax(X, where=np.ones(4, bool)), ValueError, ["where", r"\(4,\)"]),
    "out": (lambda: fastlogits.softmax(X, out=np.ones((6, 5))), TypeError, ["out"]),
    "k": (lambda: fastlogits.topk(X, 6), ValueError, ["k", "5", "6"]),
    "top_k": (lambda: fastlogits.row_stats(X, top_k=6), ValueError, ["top_k", "6"]),
    "want": (lambda: fastlogits.row_stats(X, want=["rank"]), ValueError, ["labels", "rank"]),
    "labels' shape": (lambda: fastlogits.cross_entropy(X, LABELS[1:]), ValueError, ["labels", r"\(5,\)"]),
    "labels' dtype": (lambda: fastlogits.row_stats(X, LABELS + 0.5), TypeError, ["labels", "float64"]),
    "reduction": (lambda: fastlogits.cross_entropy(X, LABELS, reduction="max"), ValueError, ["reduction", "max"]),
    "normalizer": (
        lambda: fastlogits.cross_entropy(X, LABELS, reduction="sum", normalizer=2), ValueError, ["normalizer"],
    ),
    "weight": (lambda: fastlogits.cross_entropy(X, LABELS, weight=np.ones(6)), ValueError, ["weight", r"\(6,\)"]),
    "sample_weight": (
        lambda: fastlogits.cross_entropy(X, LABELS, sample_weight=np.ones(5)), ValueError, ["sample_weight"],
    ),
    "grad_loss": (
        lambda: fastlogits.cross_entropy_with_grad(X, LABELS, grad_loss=np.ones(6)), ValueError, ["grad_loss", "mean"],
    ),
    "ignore_index": (lambda: fastlogits.cross_entropy(X, X, ignore_index=1), ValueError, ["ignore_index"]),
    "ids": (lambda: fastlogits.selective_log_softmax(X, LABELS[1:]), ValueError, ["ids", r"\(5,\)"]),
    "top_k's dtype": (lambda: fastlogits.filter_logits(X, top_k=2.5), TypeError, ["top_k", "2.5"]),
    "top_p": (lambda: fastlogits.sample(X, top_p=0), ValueError, ["top_p", "above 0"]),
    "temperature's shape": (
        lambda: fastlogits.sample(X, temperature=da.ones(5)), ValueError, ["temperature", r"\(5,\)", r"\(6,\)"],
    ),
    "rows": (lambda: fastlogits.sample(X, rows=-1), ValueError, ["rows", "-1"]),
    "rows' shape": (lambda: fastlogits.sample(X, rows=LABELS[1:]), ValueError, ["rows", r"\(6,\)", r"\(5,\)"]),
    "lengths": (lambda: fastlogits.loglikelihood(X, LABELS, lengths=[5]), ValueError, ["lengths", "6", "5"]),
    "groups": (
        lambda: fastlogits.loglikelihood(X, LABELS, groups=da.arange(6)), TypeError, ["groups", "lazy", "compute()"],
    ),
    "n_bytes": (
        lambda: fastlogits.loglikelihood(X[None], LABELS[None]).bits_per_byte([1, 2]), ValueError,
        ["n_bytes", r"\(1,\)", r"\(2,\)"],
    ),
    "seed": (lambda: fastlogits.sample(X, seed="x"), TypeError, ["seed", "x"]),
    "bins": (lambda: calibration.expected_calibration_error(X, LABELS, bins=0), ValueError, ["bins", "0"]),
    "calibration's temperature": (
        lambda: calibration.brier_score(X, LABELS, temperature=-1), ValueError, ["temperature", "-1"],
    ),
    "vector scaling": (
        lambda: calibration.fit_vector_scaling(X, LABELS), TypeError, ["fit_vector_scaling", "compute()"],
    ),
    "RowState": (lambda: fastlogits.RowState.of(X), TypeError, ["logits", "lazy", "compute()"]),
    "CalibrationState": (lambda: calibration.CalibrationState.of(X, LABELS), TypeError, ["logits", "compute()"]),
    "labels": (lambda: fastlogits.cross_entropy(np.zeros((6, 5)), X[:, 0]), TypeError, ["labels", "compute()"]),
    "probs": (lambda: fastlogits.softmax_backward(X[1:], X), ValueError, ["grad_probs", r"\(6, 5\)"]),
    "probs' dtype": (lambda: fastlogits.softmax_backward(X.astype("f4"), X), TypeError, ["grad_probs", "float32"]),
}  # fmt: skip


@pytest.mark.parametrize(("function", "error", "tokens"), REFUSED.values(), ids=REFUSED)
def test_refused_when_called(function, error, tokens):
    with refused(error, *tokens):
        function()


@pytest.mark.parametrize("classes", [5, 2])
def test_a_bad_label_is_named_when_computed(classes):
    x, labels = X.rechunk((2, classes)), LABELS.copy()
    labels[3] = 5
    several = np.zeros((6, 2), int)
    several[5, 1] = -1
    for lazy in [
        fastlogits.cross_entropy(x, labels),
        fastlogits.cross_entropy_with_grad(x, labels).grad_logits.sum() + fastlogits.cross_entropy(x, labels),
        fastlogits.row_stats(x, labels).nll,
        fastlogits.accuracy(x, labels),
        fastlogits.loglikelihood(x, labels, lengths=[4, 2]).tokens,
        fastlogits.selective_log_softmax(x, labels),
        calibration.expected_calibration_error(x, labels),
        calibration.risk_coverage_curve(x, labels).risk,
    ]:
        with refused(IndexError, r"expected values in \[0, 5\)", r"got 5 at \(3,\)"):
            lazy.compute()
    with refused(IndexError, "ids", r"got -1 at \(5, 1\)"):
        fastlogits.selective_log_softmax(x, several).compute()
    with refused(IndexError, r"got 5 at \(1,\)"):
        fastlogits.cross_entropy(unknown(np.zeros((6, 5)), chunks=(2, 5)), unknown(labels, chunks=2)).compute()


def test_every_function_is_lazy_or_says_why_not():
    functions = {
        **{name: getattr(fastlogits, name) for name in fastlogits.__all__},
        **{name: getattr(calibration, name) for name in calibration.__all__},
    }
    of_logits = {name for name, function in functions.items() if hasattr(function, "__wrapped__")} - {"settings"}
    assert of_logits - {*fd.__all__} == {
        "bootstrap", "classwise_reliability_curves", "fit_dirichlet", "fit_matrix_scaling", "fit_vector_scaling",
        "plot_classwise_reliability", "plot_entropy", "smooth_calibration_error",
    }  # fmt: skip


def test_no_lazy_form():
    def no_such_function(logits):
        pass

    with refused(TypeError, "fastlogits.no_such_function", "compute"):
        fastlogits.dispatch.by_array(no_such_function)(X)


def test_signatures_are_those_of_fastlogits_without_out():
    for name in fd.__all__:
        ours = inspect.signature(getattr(fd, name)).parameters.values()
        function = getattr(fastlogits, name, None) or getattr(calibration, name)
        theirs = inspect.signature(inspect.unwrap(function)).parameters.values()
        theirs = [(p.name, p.kind, p.default) for p in theirs if p.name not in ("out", "classes")]
        assert [(p.name, p.kind, p.default) for p in ours] == theirs
        assert getattr(fd, name).__doc__


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_tasks_use_one_thread_unless_told_otherwise(scheduler, monkeypatch):
    asked = []
    monkeypatch.setattr(config, "threads", lambda work: asked.append(config._num_threads.get()) or 1)
    x = da.zeros((4, 6), chunks=(2, 6))

    def compute(lazy):
        asked.clear()
        lazy.compute(scheduler=scheduler)
        return set(asked)

    assert compute(fastlogits.softmax(x)) == {1}
    with fastlogits.settings(num_threads=3):
        lazy = fastlogits.softmax(x)
    assert compute(lazy) == {3}
    monkeypatch.setattr(config, "environment_threads", lambda: 2)
    assert compute(fastlogits.softmax(x)) == {2}


def test_tasks_use_the_backend_chosen():
    x = make_logits(6, 40, np.float32)
    for backend in ("cython", "numpy"):
        with fastlogits.settings(backend=backend):
            lazy, exact = fastlogits.softmax(da.from_array(x, chunks=(2, 40))), fastlogits.softmax(x)
        assert lazy.compute(scheduler="threads").tobytes() == exact.tobytes()
