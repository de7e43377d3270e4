"""Calibration errors, scores and curves: by their definitions, beside others, and at every corner."""

import re

import numpy as np
import pytest
from calibration_cases import BINNED, MEASURES, case, exact_probs
from conftest import need
from operations import LAYOUTS, laid_out, make_logits
from refusals import refused
from sklearn import calibration as sklearn_calibration
from sklearn.metrics import brier_score_loss, log_loss
from subprocesses import run
from test_imports import HEAVY
from tolerance import Tolerance

from fastlogits import calibration
from fastlogits.calibration import state

NAN, INF = np.nan, np.inf
CURVES = {"reliability": calibration.reliability_curve, "risk-coverage": calibration.risk_coverage_curve}
every_measure = pytest.mark.parametrize("name", MEASURES)


# The definitions, row by row and bin by bin


def gap(confidence, hits, edges):
    """Per bin, |sum of hits - sum of confidences| and the number of rows."""
    gaps, counts = [], []
    for i, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        inside = (confidence <= high) & ((confidence > low) | (i == 0))
        gaps.append(abs(hits[inside].sum() - confidence[inside].sum()))
        counts.append(inside.sum())
    return np.array(gaps), np.array(counts)


def expected(p, labels, bins):
    gaps, _ = gap(p.max(axis=1), p.argmax(axis=1) == labels, np.linspace(0, 1, bins + 1))
    return gaps.sum() / len(p)


def maximum(p, labels, bins):
    gaps, counts = gap(p.max(axis=1), p.argmax(axis=1) == labels, np.linspace(0, 1, bins + 1))
    return (gaps[counts > 0] / counts[counts > 0]).max()


def adaptive(p, labels, bins):
    confidence = p.max(axis=1)
    edges = np.quantile(confidence, np.arange(bins + 1) / bins)
    return gap(confidence, p.argmax(axis=1) == labels, edges)[0].sum() / len(p)


def classwise(p, labels, bins):
    edges = np.linspace(0, 1, bins + 1)
    errors = [gap(p[:, c], labels == c, edges)[0].sum() / len(p) for c in range(p.shape[1])]
    return np.mean(errors)


def brier(p, labels):
    return ((p - (np.arange(p.shape[1]) == labels[:, None])) ** 2).sum(axis=1).mean()


def nll(p, labels):
    return -np.log(np.take_along_axis(p, labels[:, None], 1)).mean()


EXACT = {"expected": expected, "maximum": maximum, "adaptive": adaptive, "classwise": classwise}
EXACT |= {"brier": brier, "nll": nll}


@pytest.mark.parametrize("shape", [(1, 3), (50, 2), (301, 40), (40, 1100)])
@every_measure
def test_by_definition(backend, dtype, name, shape):
    x, labels, p = case(*shape, dtype)
    options = [{"bins": bins} for bins in (1, 2, 15, 50)] if name in BINNED else [{}]
    for option in options:
        exact = EXACT[name](p, labels, **option)
        found = MEASURES[name](x, labels, **option)
        assert isinstance(found, float)
        assert found == pytest.approx(exact, rel=float(32 * Tolerance(dtype).eps), abs=float(32 * Tolerance(dtype).eps))


@every_measure
def test_temperature_divides_the_logits(backend, name):
    x, labels, _ = case(301, 40, np.dtype(np.float64))
    for temperature in (0.3, 5):
        expected = EXACT[name](exact_probs(x, temperature), labels, *([15] if name in BINNED else []))
        assert MEASURES[name](x, labels, temperature=temperature) == pytest.approx(expected, rel=1e-10)


@every_measure
def test_temperature_at_its_limits(backend, name):
    """What fit_temperature may return: 0 is certainty, inf is indifference."""
    x = np.array([[3.0, 1, 0], [0, 2, 1], [1, 1, -4]])
    certain, even = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]), np.full((3, 3), 1 / 3)
    if name != "classwise":  # which asks for no prediction
        even[np.arange(3), x.argmax(axis=1)] += 1e-12
    options = [15] if name in BINNED else []
    for labels in ([0, 1, 1], [2, 1, 0]):
        labels = np.array(labels)
        for temperature, probs in ((0, certain), (INF, even)):
            found = MEASURES[name](x, labels, temperature=temperature)
            with np.errstate(divide="ignore"):
                assert found == pytest.approx(EXACT[name](probs, labels, *options), abs=1e-9)


def test_probabilities_of_dominated_rows_keep_their_digits(backend, dtype):
    """The Brier score and the likelihood of a row that is nearly certain, and right."""
    x = np.array([[40.0, 0.0, 0.0]]).astype(dtype)
    rest = 2 * np.exp(-40.0)
    assert calibration.brier_score(x, [0]) == pytest.approx(rest**2 + rest**2 / 2, rel=1e-4)
    assert calibration.negative_log_likelihood(x, [0]) == pytest.approx(rest, rel=1e-4)


# Edges of bins


def test_the_edge_of_a_bin_belongs_to_it(backend, dtype):
    """k equal logits have the confidence 1 / k, exactly, which is the upper edge of its bin."""
    for k in (2, 3, 4, 5, 6, 7, 12):
        x = np.zeros((1, 12), dtype)
        x[:, k:] = -INF
        curve = calibration.reliability_curve(x, [0], bins=k)
        assert curve.count.tolist() == [1] + [0] * (k - 1)
        assert curve.confidence[0] == 1 / k


def test_certainty_is_in_the_last_bin(backend, dtype):
    x = np.array([[200.0, 0.0], [0.0, 1.0]]).astype(dtype)
    curve = calibration.reliability_curve(x, [0, 0], bins=10)
    assert curve.count.tolist() == [0] * 7 + [1, 0, 1]
    assert curve.confidence[-1] == curve.accuracy[-1] == 1
    assert np.isnan(curve.accuracy[0])
    assert calibration.expected_calibration_error(x[:1], [0], bins=10) == 0
    assert calibration.classwise_calibration_error(x[:1], [0], bins=10) < 1e-80


def test_equal_confidences_share_an_adaptive_bin(backend):
    x = np.log(np.array([[0.6, 0.4]] * 7 + [[0.9, 0.1]]))
    labels = [0, 0, 0, 1, 1, 1, 1, 0]
    error = (7 * abs(3 / 7 - 0.6) + 0.1) / 8
    for order in (slice(None), slice(None, None, -1)):
        found = calibration.adaptive_calibration_error(x[order], labels[order], bins=4)
        assert found == pytest.approx(error)


def test_the_first_of_equal_logits_is_the_prediction(backend):
    curve = calibration.reliability_curve(np.zeros((2, 2)), [0, 1], bins=1)
    assert curve.accuracy == 0.5


# Beside others


def test_agrees_with_sklearn(backend):
    x, labels, p = case(301, 40, np.dtype(np.float64))
    hits = p.argmax(axis=1) == labels
    for bins in (1, 7, 20):
        accuracy, confidence = sklearn_calibration.calibration_curve(hits, p.max(axis=1), n_bins=bins)
        curve = calibration.reliability_curve(x, labels, bins=bins)
        filled = curve.count > 0
        np.testing.assert_allclose(curve.accuracy[filled], accuracy)
        np.testing.assert_allclose(curve.confidence[filled], confidence)
    assert calibration.negative_log_likelihood(x, labels) == pytest.approx(log_loss(labels, p, labels=np.arange(40)))
    two, labels, p = case(50, 2, np.dtype(np.float64))
    assert calibration.brier_score(two, labels) == pytest.approx(2 * brier_score_loss(labels, p[:, 1]))


def test_agrees_with_torchmetrics(backend):
    """Away from the edges of bins, which it gives to the bin above."""
    need("torchmetrics")
    torch = need("torch")
    from torchmetrics.functional.classification import multiclass_calibration_error

    x, labels, p = case(301, 40, np.dtype(np.float64))
    for norm, ours in (("l1", BINNED["expected"]), ("max", BINNED["maximum"])):
        theirs = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(labels), 40, n_bins=15, norm=norm)
        assert ours(x, labels) == pytest.approx(float(theirs), rel=1e-6)


def test_agrees_with_netcal(backend):
    need("netcal")
    from netcal.metrics.confidence import ECE, MCE

    x, labels, p = case(301, 40, np.dtype(np.float64))
    assert BINNED["expected"](x, labels, bins=12) == pytest.approx(ECE(12).measure(p, labels))
    assert BINNED["maximum"](x, labels, bins=12) == pytest.approx(MCE(12).measure(p, labels))


# Rows that do not count, and rows that are not numbers


@every_measure
def test_ignored_rows_are_not_read(backend, name):
    x, labels, _ = case(301, 40, np.dtype(np.float64))
    exact = MEASURES[name](x[::2].copy(), labels[::2])
    x, labels = x.copy(), labels.copy()
    x[1::2], labels[1::2] = [NAN, INF] * 20, 999
    assert MEASURES[name](x, labels, ignore_index=999) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("bad", [[NAN, 0, 1], [INF, 0, 1], [-INF, -INF, -INF]])
@every_measure
def test_a_row_without_probabilities_gives_nan(backend, name, bad):
    x = np.array([[1.0, 2, 3], bad, [0, 1, 0]])
    assert np.isnan(MEASURES[name](x, [0, 1, 2]))
    assert np.isnan(MEASURES[name](x.T.copy(), [0, 1, 2], axis=0))


def test_a_label_at_minus_infinity(backend):
    x = np.array([[0.0, -INF]])
    assert calibration.negative_log_likelihood(x, [1]) == INF
    assert calibration.brier_score(x, [1]) == 2
    assert calibration.expected_calibration_error(x, [1]) == 1


@every_measure
def test_no_rows(backend, name):
    assert np.isnan(MEASURES[name](np.empty((0, 3)), np.empty(0, int)))
    assert np.isnan(MEASURES[name](np.empty((0, 0)), []))
    assert np.isnan(MEASURES[name](np.ones((2, 3)), [-100, -100]))
    assert np.isnan(MEASURES[name](np.ones((2, 0)), [-100, -100]))


def test_curves_of_no_rows(backend):
    curve = calibration.reliability_curve(np.empty((0, 3)), np.empty(0, int), bins=3)
    assert np.isnan(curve.accuracy).all()
    assert curve.count.tolist() == [0, 0, 0]
    assert [len(part) for part in calibration.risk_coverage_curve(np.empty((0, 3)), np.empty(0, int))] == [0, 0, 0]


@pytest.mark.parametrize("layout", LAYOUTS)
@every_measure
def test_layouts(name, layout):
    x = make_logits(6, 33, np.dtype(np.float32))
    labels = np.arange(6)
    x[np.arange(6), labels] = 1
    views, axis, plain = laid_out((x, labels), layout)
    before = [view.tobytes() for view in views]
    for function in (MEASURES[name], calibration.reliability_curve):
        np.testing.assert_allclose(function(*views, axis=axis), function(*plain), rtol=1e-5, atol=1e-7)
    assert [view.tobytes() for view in views] == before


# Risk and coverage


def test_risk_by_definition(backend, dtype):
    x, labels, p = case(301, 40, dtype)
    x, labels, p = x.repeat(2, axis=0), np.append(labels, labels)[: 2 * len(labels)], p.repeat(2, axis=0)
    coverage, risk, threshold = calibration.risk_coverage_curve(x, labels)
    assert len(threshold) <= 301
    assert (np.diff(threshold) < 0).all()
    assert coverage[-1] == 1
    confidence = p.max(axis=1)
    for k in (0, 10, len(threshold) - 1):
        given = confidence > threshold[k] * (1 - 1e-5)
        assert coverage[k] == given.mean()
        assert risk[k] == (p.argmax(axis=1) != labels)[given].mean()


def test_risk_of_rows_without_confidence(backend):
    curve = calibration.risk_coverage_curve([[0.0, 5], [NAN, 0], [1, 0], [NAN, 0]], [1, 1, 0, 1])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3, 0.5])
    assert np.isnan(curve.threshold).tolist() == [False, False, True, True]


# Bad input

X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("error", "tokens", "labels", "options"),
    [
        (IndexError, ("labels", r"\[0, 3\)", r"got 3 at \(2,\)"), [0, 1, 3, -1], {}),
        (TypeError, ("labels", "integer"), [0.0, 1.0, 2.0, 0.0], {}),
        (ValueError, ("labels", r"\(4,\)", r"\(3,\)"), [0, 1, 2], {}),
        (TypeError, ("axis",), [0] * 4, {"axis": None}),
        (np.exceptions.AxisError, ("axis 2",), [0] * 4, {"axis": 2}),
        (ValueError, ("temperature", "above 0"), [0] * 4, {"temperature": -1.0}),
        (ValueError, ("temperature",), [0] * 4, {"temperature": NAN}),
        (TypeError, ("temperature",), [0] * 4, {"temperature": "1"}),
    ],
)
@pytest.mark.parametrize("name", [*MEASURES, *CURVES])
def test_bad_input(name, error, tokens, labels, options):
    with refused(error, *tokens):
        (MEASURES | CURVES)[name](X, labels, **options)


@pytest.mark.parametrize("name", [*BINNED, "reliability"])
def test_bad_bins(name):
    function = (BINNED | CURVES)[name]
    for bins, error in ((0, ValueError), (-3, ValueError), (2.5, TypeError), ("15", TypeError), (None, TypeError)):
        with refused(error, "bins", re.escape(repr(bins)).replace("\\", "")):
            function(X, [0] * 4, bins=bins)


# What is loaded when


def test_only_numpy_is_loaded():
    code = """
        import sys
        import numpy
        before = set(sys.modules)
        from fastlogits import calibration
        calibration.fit_temperature([[1.0, 2.0], [3.0, 1.0]], [0, 0])
        calibration.expected_calibration_error([[1.0, 2.0]], [0])
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
        """
    assert not set(run(code, FASTLOGITS_BACKEND="numpy").split()) & HEAVY


@pytest.mark.parametrize(
    ("library", "extra", "code"),
    [
        ("scipy", "calibration", "fit_vector_scaling([[1.0, 2.0]], [0])"),
        ("sklearn", "calibration", "TemperatureScaler()"),
        ("matplotlib", "plot", "plot_reliability([[1.0, 2.0]], [0])"),
    ],
)
def test_a_missing_library_is_named(library, extra, code):
    text = f"""
        import sys
        sys.modules["{library}"] = None
        from fastlogits import calibration
        try:
            calibration.{code}
        except ImportError as error:
            print(error)
        """
    assert f"pip install fastlogits[{extra}]" in run(text)


def test_public_names():
    assert sorted(calibration.__all__) == calibration.__all__
    for name in calibration.__all__:
        assert getattr(calibration, name).__doc__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = calibration.no_such_name


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 15, 49, 1000, 12345])
def test_even_bins_are_those_of_a_search(bins, rng):
    """On the edges too, a step beside them, and of what is no number."""
    edges = state.edges(bins)
    beside = [np.nextafter(edges, 2).clip(0, 1), np.nextafter(edges, -1).clip(0, 1)]
    confidence = np.concatenate([rng.random(5000), edges, *beside, [5e-324, np.nan]])
    np.testing.assert_array_equal(state.even_bin_of(confidence, bins), state.bin_of(confidence, edges))
