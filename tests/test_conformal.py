"""Conformal prediction: by its definitions, to the bit where sets and scores must agree, and at every corner."""

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from calibration_cases import drawn, exact_probs
from operations import LAYOUTS, laid_out, make_logits
from refusals import refused
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from subprocesses import run
from test_imports import HEAVY
from tolerance import Tolerance

from fastlogits import conformal
from fastlogits.calibration import fit_temperature
from fastlogits.conformal import _rows

NAN, INF = np.nan, np.inf
METHODS = {
    "lac": {},
    "aps": {},
    "aps, randomized": {"method": "aps", "seed": 3},
    "raps": {"penalty": 0.02, "k_reg": 2},
    "raps, randomized": {"method": "raps", "seed": 3},
    "saps": {},
    "saps, randomized": {"method": "saps", "penalty": 0.05, "seed": 3},
}
METHODS = {name: {"method": name} | options for name, options in METHODS.items()}
every_method = pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)


# The definitions, by sorting


def exact_scores(x, method, penalty=None, k_reg=5, seed=None):
    """Of all classes: (N, C)."""
    p = exact_probs(x.astype(np.longdouble))
    order = np.argsort(-x.astype(np.float64), axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    ranked = np.take_along_axis(p, order, axis=1)
    above = np.take_along_axis(np.cumsum(ranked, axis=1) - ranked, rank, axis=1)
    u = 1.0
    if seed is not None:  # of one class, the score is the random number
        u = conformal.scores(np.zeros((len(x), 1)), np.zeros(len(x), int), method="aps", seed=seed)[:, None]
    if method == "lac":
        return 1 - p
    if method == "saps":
        penalty = 0.2 if penalty is None else penalty
        return np.where(rank == 0, u * p, p.max(axis=1, keepdims=True) + (rank - 1 + u) * penalty)
    excess = np.maximum(0, rank + 1 - k_reg) if method == "raps" else 0
    return above + u * p + (0.01 if penalty is None else penalty) * excess


def all_scores(x, **options):
    return np.stack([conformal.scores(x, np.full(len(x), c), **options) for c in range(x.shape[1])], axis=1)


@pytest.mark.parametrize("shape", [(14, 1), (21, 3), (40, 40), (7, 300)])
@every_method
def test_by_definition(backend, dtype, shape, options):
    """In double precision, whatever the logits: ties, -inf, dominated rows and all."""
    x = make_logits(*shape, dtype)
    error = (16 + shape[1]) * float(Tolerance(np.float64).eps)
    before = x.tobytes()
    found = all_scores(x, **options)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, exact_scores(x, **options).astype(float), rtol=0, atol=error)
    assert x.tobytes() == before


def test_by_hand():
    x = np.log([[0.5, 0.25, 0.125, 0.125]])
    exact = {
        ("lac",): [0.5, 0.75, 0.875, 0.875],
        ("aps",): [0.5, 0.75, 0.875, 1.0],
        ("raps", 0.1, 1): [0.5, 0.85, 1.075, 1.3],
        ("saps", 0.1): [0.5, 0.6, 0.7, 0.8],
    }
    for (method, *rest), scores in exact.items():
        options = dict(zip(("penalty", "k_reg"), rest, strict=False))
        np.testing.assert_allclose(all_scores(x, method=method, **options), [scores], rtol=1e-15)


def test_temperature_divides_the_logits(backend):
    x, labels = drawn(50, 20, 1.0)
    for options in METHODS.values():
        hot = conformal.scores(x, labels, temperature=2.5, **options)
        np.testing.assert_allclose(hot, conformal.scores(x / 2.5, labels, **options), rtol=1e-12)


# Sets are the classes with such scores


@pytest.mark.parametrize("shape", [(40, 3), (40, 300)])
@every_method
def test_sets_have_the_bits_of_the_scores(backend, shape, options):
    """At each threshold, those equal to a score among them: of all classes and of each."""
    x = make_logits(*shape, np.dtype(np.float32))
    x[35:, :] = np.round(x[35:, :])
    found = all_scores(x, **options)
    rng = np.random.default_rng(0)
    some = rng.choice(found.ravel(), 30)
    by_class = np.where(rng.random(shape[1]) < 0.1, INF, rng.choice(found.ravel(), shape[1]))
    for threshold in (-INF, 0, 1, INF, *some, *np.nextafter(some, -1), by_class, np.minimum(by_class, 0.9)):
        expected = found <= threshold
        sets = conformal.prediction_sets(x, threshold, **options)
        np.testing.assert_array_equal(sets, expected)
        ids, offsets = conformal.prediction_sets(x, threshold, as_ids=True, **options)
        np.testing.assert_array_equal(ids, np.nonzero(expected)[1])
        np.testing.assert_array_equal(np.diff(offsets), expected.sum(axis=1))
    assert ids.dtype == offsets.dtype == np.intp


@every_method
def test_blocks_do_not_matter(monkeypatch, backend, options):
    """A row has the bits that it has alone, and the random number of its own."""
    for shape in ((50, 7), (50, 70)):
        x = make_logits(*shape, np.dtype(np.float32))
        labels = np.arange(50) % 7
        whole = conformal.scores(x, labels, **options)
        sets = conformal.prediction_sets(x, 0.7, **options)
        monkeypatch.setattr(_rows, "BLOCK", 3 * shape[1])
        np.testing.assert_array_equal(conformal.scores(x, labels, **options), whole)
        np.testing.assert_array_equal(conformal.prediction_sets(x, 0.7, **options), sets)
        monkeypatch.undo()
        parts = []
        for part in (slice(0, 1), slice(1, 20), slice(20, 50)):
            rows = {"rows": part.start} if "seed" in options else {}
            parts.append(conformal.scores(x[part], labels[part], **rows, **options))
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("layout", LAYOUTS)
@every_method
def test_layouts(layout, options):
    x = make_logits(6, 33, np.dtype(np.float32))
    labels = np.arange(6)
    views, axis, plain = laid_out((x, labels), layout)
    exact = conformal.scores(*plain, **options)
    np.testing.assert_array_equal(conformal.scores(*views, axis=axis, **options), exact)
    sets = conformal.prediction_sets(views[0], 0.8, axis=axis, **options)
    expected = conformal.prediction_sets(plain[0], 0.8, **options)
    assert sets.shape == views[0].shape
    np.testing.assert_array_equal(np.moveaxis(sets, axis, -1), expected)
    assert conformal.coverage(sets, views[1], axis=axis) == np.mean(exact <= 0.8)
    np.testing.assert_array_equal(conformal.set_sizes(sets, axis=axis), expected.sum(axis=-1))
    listed = conformal.prediction_sets(views[0], 0.8, axis=axis, as_ids=True, **options)
    np.testing.assert_array_equal(listed.ids, np.nonzero(expected.reshape(-1, 33))[1])


def test_random_numbers():
    """Uniform, and others with another seed or number."""
    logits, labels = np.zeros((4000, 1)), np.zeros(4000, int)
    u = conformal.scores(logits, labels, method="aps", seed=0)
    assert u.min() >= 0
    assert u.max() < 1
    np.testing.assert_allclose(np.quantile(u, np.linspace(0, 1, 11)), np.linspace(0, 1, 11), atol=0.03)
    assert not np.isin(u, conformal.scores(logits, labels, method="aps", seed=1)).any()
    assert not np.isin(u, conformal.scores(logits, labels, method="aps", seed=0, rows=4000)).any()
    backwards = conformal.scores(logits, labels, method="aps", seed=0, rows=np.arange(4000)[::-1])
    np.testing.assert_array_equal(backwards, u[::-1])


@every_method
def test_nothing_of_the_size_of_the_logits(options):
    x, labels = np.zeros((2000, 1500), np.float32), np.zeros(2000, int)
    x[:, :10] = 8
    conformal.scores(x, labels, **options)
    tracemalloc.start()
    try:
        conformal.scores(x, labels, **options)
        conformal.prediction_sets(x, 0.9, as_ids=True, **options)
        assert tracemalloc.get_traced_memory()[1] < x.nbytes / 2
    finally:
        tracemalloc.stop()


# Rows that are not numbers, and no rows


@pytest.mark.parametrize("bad", [[NAN, 0, 1], [INF, 0, 1], [-INF, -INF, -INF]])
@every_method
def test_a_row_without_probabilities(backend, options, bad):
    """Its score is NaN, its set empty, and its neighbours are what they were."""
    x = np.array([[1.0, 2, 3], bad, [0, 1, 0]])
    good = np.array([[1.0, 2, 3], [0, 0, 0], [0, 1, 0]])
    for label in range(3):
        found = conformal.scores(x, [label] * 3, **options)
        assert np.isnan(found).tolist() == [False, True, False]
        np.testing.assert_array_equal(found[::2], conformal.scores(good, [label] * 3, **options)[::2])
    for threshold in (0.9, INF):
        sets = conformal.prediction_sets(x, threshold, **options)
        assert not sets[1].any()
        np.testing.assert_array_equal(sets[::2], conformal.prediction_sets(good, threshold, **options)[::2])


def test_a_label_at_minus_infinity(backend):
    x = np.array([[0.0, -INF, 0.0]])
    for method in ("lac", "aps"):
        assert conformal.scores(x, [1], method=method) == 1
        assert conformal.prediction_sets(x, 1, method=method).all()
        assert conformal.prediction_sets(x, 0.99, method=method)[0, 1] == 0


def test_no_rows():
    for options in METHODS.values():
        assert conformal.scores(np.empty((0, 3)), np.empty(0, int), **options).shape == (0,)
        assert conformal.prediction_sets(np.empty((0, 3)), 0.5, **options).shape == (0, 3)
        assert conformal.prediction_sets(np.empty((2, 0)), 0.5, **options).shape == (2, 0)
        ids, offsets = conformal.prediction_sets(np.empty((2, 0)), 0.5, as_ids=True, **options)
        assert (ids.tolist(), offsets.tolist()) == ([], [0, 0, 0])
    one = conformal.scores([1.0, 1.0], 0)
    assert one == 0.5
    assert one.shape == ()


# Thresholds


def test_the_rank_of_the_threshold():
    """ceil((n + 1)(1 - alpha)), with the decimals that were written."""
    for n in (0, 1, 2, 9, 19, 99, 100, 199):
        values = np.random.default_rng(n).permutation(n) + 1.0
        for percent in range(101):
            rank = math.ceil((n + 1) * (1 - Fraction(percent, 100)))
            expected = INF if rank > n else rank or -INF
            assert conformal.threshold(values, percent / 100) == expected
    assert isinstance(conformal.threshold([[0.5], [0.25]], 0.5), float)
    assert conformal.threshold([0.5, INF, 0.25], 0.25) == INF


def test_thresholds_of_classes():
    rng = np.random.default_rng(0)
    values, labels = rng.random((20, 15)), rng.integers(6, size=(20, 15))
    labels[labels == 4] = 3
    found = conformal.threshold(values, 0.1, labels=labels, num_classes=6)
    np.testing.assert_array_equal(found, [conformal.threshold(values[labels == c], 0.1) for c in range(6)])
    assert found[4] == INF
    assert conformal.threshold([], 0.1, labels=np.empty(0, int), num_classes=0).shape == (0,)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("equal", [False, True])
def test_each_row_by_all_others(alpha, equal):
    """The guarantee without chance: of n + 1 rows, so many are within the threshold that the others make."""
    values = np.random.default_rng(0).random(200)
    if equal:
        values = np.round(values, 1)
    within = [score <= conformal.threshold(np.delete(values, i), alpha) for i, score in enumerate(values)]
    assert np.mean(within) >= 1 - alpha
    assert equal or np.mean(within) <= 1 - alpha + 1 / 200


@pytest.fixture(scope="module")
def digits():
    """Logits and labels of digits that a classifier was not trained on."""
    x, y = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=1, max_iter=50).fit(x[:200] / 16, y[:200])
    return classifier.decision_function(x[200:] / 16), y[200:]


@every_method
def test_coverage_of_digits(digits, options):
    """Over many splits, what was asked for; a randomized score does not exceed it by more than 1 in n + 1."""
    logits, labels = digits
    found = conformal.scores(logits, labels, **options)
    covered = []
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(len(labels))
        threshold = conformal.threshold(found[order[:399]], 0.1)
        covered.append(np.mean(found[order[399:]] <= threshold))
    spread = 3 * np.std(covered) / math.sqrt(len(covered))
    assert np.mean(covered) >= 0.9 - spread
    if "seed" in options:
        assert np.mean(covered) <= 0.9 + 1 / 400 + spread


def test_from_logits_to_coverage(digits):
    """The sets of LAC are smaller than those of APS without its random part."""
    logits, labels = digits
    temperature = fit_temperature(logits[:300], labels[:300]).temperature
    sizes = {}
    for name, options in METHODS.items():
        calibrated = conformal.scores(logits[300:600], labels[300:600], temperature=temperature, **options)
        threshold = conformal.threshold(calibrated, 0.1)
        rows = {"rows": 300} if "seed" in options else {}
        sets = conformal.prediction_sets(logits[600:], threshold, temperature=temperature, **rows, **options)
        assert conformal.coverage(sets, labels[600:]) >= 0.9 - 3 * math.sqrt(0.09 / 300 + 0.09 / len(sets))
        sizes[name] = conformal.set_sizes(sets).mean()
    assert sizes["lac"] < sizes["aps"]


# Bad input

X, Y = np.arange(12.0).reshape(4, 3), [0] * 4


@pytest.mark.parametrize(
    ("error", "tokens", "labels", "options"),
    [
        (IndexError, ("labels", r"\[0, 3\)", r"got 3 at \(2,\)"), [0, 1, 3, -1], {}),
        (IndexError, ("labels", r"got -100 at \(1,\)"), [0, -100, 0, 0], {}),
        (TypeError, ("labels", "integer"), [0.0, 1.0, 2.0, 0.0], {}),
        (ValueError, ("labels", r"\(4,\)", r"\(3,\)"), [0, 1, 2], {}),
        (TypeError, ("axis",), Y, {"axis": None}),
        (np.exceptions.AxisError, ("axis 2",), Y, {"axis": 2}),
        (ValueError, ("method", "'saps'", "got 'top'"), Y, {"method": "top"}),
        (ValueError, ("temperature", "above 0"), Y, {"temperature": 0}),
        (ValueError, ("penalty", "at least 0", "-1"), Y, {"method": "raps", "penalty": -1}),
        (ValueError, ("penalty", "finite"), Y, {"method": "saps", "penalty": NAN}),
        (ValueError, ("penalty", "no effect", "'aps'"), Y, {"method": "aps", "penalty": 0.1}),
        (ValueError, ("k_reg", "no effect", "'saps'"), Y, {"method": "saps", "k_reg": 1}),
        (TypeError, ("k_reg", "integer", "1.5"), Y, {"method": "raps", "k_reg": 1.5}),
        (ValueError, ("k_reg", "-1"), Y, {"method": "raps", "k_reg": -1}),
        (ValueError, ("seed", "no effect", "'lac'"), Y, {"seed": 0}),
        (ValueError, ("seed", "-1"), Y, {"method": "aps", "seed": -1}),
        (TypeError, ("seed", "'a'"), Y, {"method": "aps", "seed": "a"}),
        (ValueError, ("rows", "seed"), Y, {"method": "aps", "rows": 3}),
        (ValueError, ("rows", r"\(4,\)"), Y, {"method": "aps", "seed": 0, "rows": [1, 2]}),
    ],
)
def test_bad_input(error, tokens, labels, options):
    with refused(error, *tokens):
        conformal.scores(X, labels, **options)
    if labels is Y:
        with refused(error, *tokens):
            conformal.prediction_sets(X, 0.5, **options)


def test_bad_thresholds():
    with refused(ValueError, "threshold", r"\(3,\)", r"\(4,\)"):
        conformal.prediction_sets(X, np.ones(4))
    with refused(ValueError, "threshold", "NaN"):
        conformal.prediction_sets(X, NAN)
    with refused(TypeError, "threshold", "real"):
        conformal.prediction_sets(X, "1")
    for alpha in (-0.1, 1.1, NAN):
        with refused(ValueError, "alpha", "0 to 1"):
            conformal.threshold([0.5], alpha)
    with refused(ValueError, "scores", r"NaN at \(1, 0\)"):
        conformal.threshold([[0.5], [NAN]], 0.1)
    with refused(TypeError, "scores", "complex"):
        conformal.threshold([1j], 0.1)
    with refused(ValueError, "num_classes", "beside labels"):
        conformal.threshold([0.5], 0.1, labels=[0])
    with refused(ValueError, "labels", "beside num_classes"):
        conformal.threshold([0.5], 0.1, num_classes=3)
    with refused(IndexError, "labels", r"got 3 at \(1,\)"):
        conformal.threshold([0.5, 0.5], 0.1, labels=[0, 3], num_classes=3)
    with refused(ValueError, "labels", "shape"):
        conformal.threshold([0.5, 0.5], 0.1, labels=[0], num_classes=3)


# What is loaded when


def test_only_numpy_is_loaded():
    code = """
        import sys
        import numpy
        before = set(sys.modules)
        from fastlogits import conformal
        conformal.prediction_sets([[1.0, 2.0]], conformal.threshold(conformal.scores([[1.0, 2.0]], [0]), 0.1))
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
        """
    assert not set(run(code, FASTLOGITS_BACKEND="numpy").split()) & HEAVY


@pytest.mark.parametrize(
    ("library", "extra", "code"),
    [
        ("sklearn", "calibration", "ConformalClassifier()"),
        ("matplotlib", "plot", "plot_coverage([[True, False]], [0])"),
    ],
)
def test_a_missing_library_is_named(library, extra, code):
    text = f"""
        import sys
        sys.modules["{library}"] = None
        from fastlogits import conformal
        try:
            conformal.{code}
        except ImportError as error:
            print(error)
        """
    assert f"pip install fastlogits[{extra}]" in run(text)


def test_public_names():
    assert sorted(conformal.__all__) == conformal.__all__ == dir(conformal)
    for name in conformal.__all__:
        assert getattr(conformal, name).__doc__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = conformal.no_such_name
