"""Matrix and Dirichlet scaling, maps of each class, `apply`; smooth errors, curves of classes and the bootstrap."""

import numpy as np
import pytest
from calibration_cases import drawn
from refusals import refused
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_scaling import CANNOT_HOLD, scaled

import fastlogits
from fastlogits import calibration
from fastlogits.calibration import ClasswiseCalibrator

FITS = {"matrix": calibration.fit_matrix_scaling, "dirichlet": calibration.fit_dirichlet}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_that_of_logistic_regression(fit, weighted):
    """scikit-learn's, without a penalty, of the logits or the logarithms of the probabilities."""
    x, labels = scaled(600, 4)
    weight = np.random.default_rng(0).uniform(0.2, 3, 600) if weighted else None
    found = fit(x, labels, sample_weight=weight)
    features = fastlogits.log_softmax(x) if fit is calibration.fit_dirichlet else x
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(features, labels, weight)
    expected = theirs.predict_proba(features)
    assert found.converged
    np.testing.assert_allclose(fastlogits.softmax(found.apply(x)), expected, atol=2e-4)
    nll = -np.log(expected[np.arange(600), labels])
    assert found.nll == pytest.approx(np.average(nll, weights=weight), rel=1e-7)
    simpler = calibration.fit_vector_scaling if fit is calibration.fit_matrix_scaling else calibration.fit_temperature
    assert found.nll < simpler(x, labels, sample_weight=weight).nll


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_apply(fit):
    x, labels = scaled(300, 3)
    found = fit(x, labels)
    whole = found.apply(x)
    assert calibration.negative_log_likelihood(whole, labels) == pytest.approx(found.nll, rel=1e-10)
    np.testing.assert_allclose(found.apply(x.T.copy(), axis=0), whole.T)
    assert found.apply(x.astype(np.float32)).dtype == np.float32
    with refused(ValueError, "logits", "3 classes", "got 2"):
        found.apply(x[:, :2])
    with refused(ValueError, "finite"):
        fit(np.where(x > 1, -np.inf, x), labels.clip(0, 0))


def test_apply_of_vector_scaling():
    x, labels = scaled()
    x[0, :2] = -np.inf
    labels[0] = 3
    found = calibration.fit_vector_scaling(x, labels)
    assert calibration.negative_log_likelihood(found.apply(x), labels) == pytest.approx(found.nll, rel=1e-10)
    np.testing.assert_array_equal(found.apply(x.T.copy(), axis=0), found.apply(x).T)
    half = found.apply(x.astype(np.float16))
    assert half.dtype == np.float16


def test_regularisation():
    """Strong enough, it leaves a diagonal and no bias; separable labels have an optimum with it."""
    x, labels = scaled(300, 4)
    found = calibration.fit_matrix_scaling(x, labels, off_diagonal=1e4, intercept=1e4)
    assert np.abs(found.weight - np.diag(np.diag(found.weight))).max() < 1e-2
    assert np.abs(found.bias).max() < 1e-2
    with refused(ValueError, "intercept", "at least 0"):
        calibration.fit_matrix_scaling(x, labels, intercept=-1)


class Probabilities(ClassifierMixin, BaseEstimator):
    """A classifier of logits that has no decision function, which CalibratedClassifierCV would prefer."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return fastlogits.softmax(X)

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


@pytest.mark.parametrize("method", ["isotonic", "histogram"])
def test_maps_of_classes_agree(method):
    """Isotonic with scikit-learn's CalibratedClassifierCV, histogram binning with its definition, on digits."""
    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(max_iter=200).fit(images[:300], labels[:300])
    logits = classifier.decision_function(images)
    probs = fastlogits.softmax(logits)
    found = ClasswiseCalibrator(method, bins=10).fit(logits[300:1000], labels[300:1000])
    ours = found.predict_proba(logits[1000:])
    if method == "isotonic":
        frozen = FrozenEstimator(Probabilities().fit(logits, labels))
        theirs = CalibratedClassifierCV(frozen, method="isotonic", ensemble=False)
        expected = theirs.fit(logits[300:1000], labels[300:1000]).predict_proba(logits[1000:])
    else:
        limits = np.linspace(0, 1, 11)
        expected = np.empty_like(ours)
        for c in range(10):
            rows = np.clip(np.ceil(probs[300:1000, c] * 10).astype(int) - 1, 0, 9)
            hits = [labels[300:1000][rows == b] == c for b in range(10)]
            table = [h.mean() if len(h) else (limits[b] + limits[b + 1]) / 2 for b, h in enumerate(hits)]
            expected[:, c] = np.take(table, np.clip(np.ceil(probs[1000:, c] * 10).astype(int) - 1, 0, 9))
        expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, expected, atol=1e-9)
    np.testing.assert_allclose(ours.sum(axis=1), 1)
    assert found.score(logits[1000:], labels[1000:]) > 0.8
    doubled = ClasswiseCalibrator(method, bins=10).fit(
        np.repeat(logits[300:1000], 2, axis=0), np.repeat(labels[300:1000], 2)
    )
    weighted = ClasswiseCalibrator(method, bins=10).fit(logits[300:1000], labels[300:1000], np.full(700, 2.0))
    np.testing.assert_allclose(doubled.predict_proba(logits), weighted.predict_proba(logits), atol=1e-12)


def test_estimators_are_listed():
    assert {"TemperatureScaler", "ClasswiseCalibrator"} <= {*dir(calibration)}
    assert issubclass(calibration.ClasswiseCalibrator, (ClassifierMixin, BaseEstimator))
    with refused(ValueError, "method", "histogram"):
        ClasswiseCalibrator("platt").fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])


def smooth_by_definition(confidence, correct, width):
    """Mean over t of the absolute value of the residuals' density, smoothed by a Gaussian reflected at 0 and 1."""
    t = (np.arange(4000) + 0.5) / 4000
    density = np.zeros_like(t)
    for image in (confidence, -confidence, 2 - confidence, 2 + confidence, confidence - 2):
        gaussian = np.exp(-0.5 * ((t[:, None] - image) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        density += gaussian @ (correct - confidence) / len(confidence)
    return np.abs(density).mean()


def test_smooth_error_by_definition(backend):
    x, labels = drawn(400, 5, 2.0)
    found = calibration.smooth_calibration_error(x, labels)
    p = fastlogits.softmax(x)
    exact = smooth_by_definition(p.max(axis=1), p.argmax(axis=1) == labels, found)
    assert exact == pytest.approx(found, rel=1e-2)
    assert np.isnan(calibration.smooth_calibration_error(np.ones((0, 3)), np.ones(0, int)))


def test_smooth_error_of_calibrated_rows():
    x, labels = drawn(20_000, 5, 1.0)
    assert calibration.smooth_calibration_error(x, labels) < 0.02
    assert calibration.smooth_calibration_error(3 * x, labels) > 0.1


def test_curves_of_classes(backend):
    x, labels = drawn(500, 4, 2.0)
    labels[::7] = -100
    curves = calibration.classwise_reliability_curves(x, labels, bins=6)
    counted = labels >= 0
    p = fastlogits.softmax(x)[counted]
    place = np.clip(np.ceil(p * 6).astype(int) - 1, 0, 5)
    for c in range(4):
        for b in range(6):
            inside = place[:, c] == b
            assert curves.count[c, b] == inside.sum()
            if inside.any():
                assert curves.confidence[c, b] == pytest.approx(p[inside, c].mean())
                assert curves.accuracy[c, b] == pytest.approx((labels[counted][inside] == c).mean())
    gaps = np.nan_to_num(np.abs(curves.confidence - curves.accuracy)) * curves.count
    exact = calibration.classwise_calibration_error(x, labels, bins=6)
    assert gaps.sum() / 4 / counted.sum() == pytest.approx(exact)


@pytest.mark.parametrize("measure", calibration.uncertainty.MEASURES)
def test_bootstrap(measure):
    x, labels = drawn(300, 4, 2.0)
    found = calibration.bootstrap(x, labels, measure, resamples=200, seed=1)
    function = getattr(calibration, measure, fastlogits.accuracy)
    assert found.value == pytest.approx(function(x, labels))
    assert found.low < found.high
    assert found == calibration.bootstrap(x, labels, measure, resamples=200, seed=1)
    if measure in ("accuracy", "negative_log_likelihood"):
        row = fastlogits.row_stats(x, labels)
        deviation = np.std(row.correct if measure == "accuracy" else row.nll) / np.sqrt(300)
        assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.25)
    with refused(ValueError, "measure", "brier_score"):
        calibration.bootstrap(x, labels, "f1")


@parametrize_with_checks(
    [ClasswiseCalibrator("isotonic"), ClasswiseCalibrator("histogram")], expected_failed_checks=lambda _: CANNOT_HOLD
)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "name", ["expected_calibration_error", "brier_score", "classwise_calibration_error", "fit_temperature",
             "fit_matrix_scaling", "risk_coverage_curve", "smooth_calibration_error"],
)  # fmt: skip
def test_binary_scores_are_two_classes(name):
    """One score a row, of the second class: the log-odds, as decision_function of two classes gives it."""
    scores, labels = np.random.default_rng(0).normal(size=60), np.arange(60) % 2
    function = getattr(calibration, name)
    for ours, exact in zip(
        np.atleast_1d(np.array(function(scores, labels), dtype=object)),
        np.atleast_1d(np.array(function(np.stack([0 * scores, scores], 1), labels), dtype=object)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, exact)


def test_probabilities_where_logits_are_expected():
    x, labels = drawn(50, 4, 1.0)
    probs = fastlogits.softmax(x)
    for function in (calibration.expected_calibration_error, calibration.fit_temperature, calibration.bootstrap):
        with pytest.warns(UserWarning, match="probabilities.*logarithms"):
            function(probs, labels)
        function(np.log(probs), labels)
    with pytest.warns(UserWarning, match="probabilities"):
        calibration.brier_score(probs.T.astype(np.float32), labels, axis=0)
