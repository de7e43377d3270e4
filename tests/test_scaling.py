"""fit_vector_scaling and the scikit-learn estimator."""

import numpy as np
import pytest
from calibration_cases import drawn
from conftest import need
from operations import LAYOUTS, laid_out
from refusals import refused
from sklearn.base import is_classifier
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from tolerance import DTYPES, Tolerance

import fastlogits
from fastlogits import calibration
from fastlogits.calibration import (
    TemperatureScaler,
    expected_calibration_error,
    fit_temperature,
    fit_vector_scaling,
    negative_log_likelihood,
)

INF, NAN = np.inf, np.nan


def scaled(rows=400, classes=5, seed=0):
    """Logits whose labels are drawn with another scale and bias for each class."""
    rng = np.random.default_rng([seed, rows, classes])
    x = 2 * rng.standard_normal((rows, classes))
    z = np.linspace(0.5, 1.5, classes) * x + np.linspace(-1, 1, classes)
    return x, (z + rng.gumbel(size=x.shape)).argmax(axis=1)


def assert_stationary(fit, x, labels, weight=None, tolerance=2e-6):
    """The gradients are 0: per class, probabilities sum to the frequency, and probabilities times logits likewise."""
    weight = np.ones(len(x)) if weight is None else weight
    finite = np.where(np.isneginf(x), 0, x)
    z = np.where(np.isneginf(x), -INF, fit.scale * finite + fit.bias)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    surplus = weight[:, None] * (p - (np.arange(x.shape[1]) == labels[:, None])) / weight.sum()
    assert np.abs(surplus.sum(axis=0)).max() < tolerance
    assert np.abs((surplus * finite).sum(axis=0)).max() < tolerance * np.abs(finite).mean()
    nll = -np.log(np.take_along_axis(p, labels[:, None], 1))[:, 0]
    assert fit.nll == pytest.approx(np.average(nll, weights=weight), rel=1e-10)


def test_the_optimum(backend, dtype):
    x, labels = scaled()
    x = x.astype(dtype)
    fit = fit_vector_scaling(x, labels)
    assert fit.converged
    assert_stationary(fit, x.astype(np.float64), labels)
    assert fit.nll < fit_temperature(x, labels).nll
    turned = fit_vector_scaling(x.T.copy(), labels, axis=0)
    np.testing.assert_allclose(turned.scale, fit.scale, rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-4, 1e5])
def test_the_scale_of_the_logits_does_not_matter(factor):
    x, labels = scaled()
    fit, other = fit_vector_scaling(x, labels), fit_vector_scaling(factor * x, labels)
    np.testing.assert_allclose(other.scale * factor, fit.scale, rtol=1e-6)
    np.testing.assert_allclose(other.bias, fit.bias, rtol=1e-5, atol=1e-6)


def test_weights_and_rows_left_out(backend):
    x, labels = scaled()
    weight = np.arange(400) % 3 / 2
    x[np.flatnonzero(weight == 0)] = NAN
    fit = fit_vector_scaling(x, labels, sample_weight=weight)
    kept = weight > 0
    assert_stationary(fit, x[kept], labels[kept], weight[kept])
    labels[~kept] = -1
    once = fit_vector_scaling(x, labels, ignore_index=-1)
    assert_stationary(once, x[kept], labels[kept])


def test_masked_classes():
    x, labels = scaled()
    masked = np.random.default_rng(1).random(x.shape) < 0.3
    masked[np.arange(400), labels] = False
    x[masked] = -INF
    assert_stationary(fit_vector_scaling(x, labels), x, labels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x, labels = scaled(6, 4)
    labels[:4] = range(4)
    views, axis, plain = laid_out((x.astype(np.float32), labels), layout)
    options = {"max_iter": 3}
    fit, exact = fit_vector_scaling(*views, axis=axis, **options), fit_vector_scaling(*plain, **options)
    np.testing.assert_allclose(fit.nll, exact.nll, rtol=1e-6)


def test_frequencies_alone(backend):
    """Logits that say nothing leave the logarithms of the frequencies."""
    fit = fit_vector_scaling(np.zeros((6, 3)), [0, 1, 1, 2, 2, 2])
    np.testing.assert_allclose(np.exp(fit.bias - fit.bias[0]), [1, 2, 3], rtol=1e-5)
    assert fit.nll == pytest.approx(-(np.log(1 / 6) + 2 * np.log(2 / 6) + 3 * np.log(3 / 6)) / 6)


def test_without_an_optimum():
    """Labels at the largest logits throughout, and worse than chance: it stops at a finite place."""
    x = np.eye(3)
    certain = fit_vector_scaling(x, [0, 1, 2])
    assert np.isfinite(certain.scale).all()
    assert certain.nll < 1e-4
    opposite = fit_vector_scaling(x, [1, 2, 0])
    assert opposite.nll < np.log(2) + 1e-4
    assert not fit_vector_scaling(*scaled(), max_iter=1).converged


@pytest.mark.parametrize(
    ("error", "tokens", "x", "labels", "options"),
    [
        (IndexError, ("labels", r"got 3 at \(1,\)"), np.ones((2, 3)), [0, 3], {}),
        (ValueError, ("labels", "at least one"), np.ones((2, 3)), [-100, -100], {}),
        (ValueError, ("logits", "NaN", r"\(1,\)"), [[0.0, 1.0], [NAN, 0.0]], [1, 1], {}),
        (ValueError, ("max_iter", "got 0"), np.ones((2, 3)), [0, 1], {"max_iter": 0}),
        (TypeError, ("max_iter", "0.5"), np.ones((2, 3)), [0, 1], {"max_iter": 0.5}),
        (ValueError, ("sample_weight",), np.ones((2, 3)), [0, 1], {"sample_weight": [1.0, -1.0]}),
    ],
)
def test_bad_input(error, tokens, x, labels, options):
    with refused(error, *tokens):
        fit_vector_scaling(x, labels, **options)


# The estimator

FEWER_COLUMNS = "three classes of labels for two columns: each column is the logit of a class"
NO_LOGITS = "the features are no logits: the largest does not tell the class"
CANNOT_HOLD = {
    "check_estimators_overwrite_params": FEWER_COLUMNS,
    "check_estimators_fit_returns_self": FEWER_COLUMNS,
    "check_readonly_memmap_input": FEWER_COLUMNS,
    "check_classifiers_classes": FEWER_COLUMNS,
    "check_classifiers_train": NO_LOGITS,
}


def cannot_hold(estimator):
    # A bias can learn the one class there is, a temperature cannot.
    one_label = {} if estimator.method == "vector" else {"check_classifiers_one_label": NO_LOGITS}
    return CANNOT_HOLD | one_label


@parametrize_with_checks([TemperatureScaler(), TemperatureScaler(method="vector")], expected_failed_checks=cannot_hold)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_temperature(dtype):
    x, labels = drawn(300, 10, 3.0)
    x = x.astype(dtype)
    scaler, fit = TemperatureScaler().fit(x, labels), fit_temperature(x, labels)
    assert (scaler.temperature_, scaler.nll_, scaler.n_iter_) == fit
    probs = scaler.predict_proba(x)
    assert probs.dtype == dtype
    np.testing.assert_array_equal(probs, fastlogits.softmax(x, temperature=fit.temperature))
    np.testing.assert_allclose(scaler.transform(x), x / fit.temperature, rtol=8 * Tolerance(DTYPES[dtype]).eps)
    np.testing.assert_array_equal(scaler.predict(x), x.argmax(axis=1))


def test_vector():
    x, labels = scaled()
    scaler, fit = TemperatureScaler(method="vector").fit(x, labels), fit_vector_scaling(x, labels)
    np.testing.assert_array_equal(scaler.scale_, fit.scale)
    np.testing.assert_allclose(scaler.transform(x), fit.scale * x + fit.bias)
    np.testing.assert_allclose(scaler.predict_proba(x).sum(axis=1), 1)
    assert scaler.transform(x.astype(np.float32)).dtype == np.float32
    assert negative_log_likelihood(scaler.transform(x), labels) == pytest.approx(scaler.nll_)


def test_temperature_at_its_limits():
    x = np.array([[3.0, 1, 0], [0, 2, 1]], np.float32)
    certain = TemperatureScaler().fit(x, [0, 1])
    assert certain.temperature_ == 0
    np.testing.assert_array_equal(certain.predict_proba(1e6 * x), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(fastlogits.softmax(certain.transform(1e6 * x)), [[1, 0, 0], [0, 1, 0]])
    even = TemperatureScaler().fit(x, [2, 0])
    assert even.temperature_ == INF
    np.testing.assert_allclose(even.predict_proba(x), np.full((2, 3), 1 / 3), rtol=1e-6)


def test_labels_of_any_kind():
    x, labels = drawn(100, 3, 1.0)
    names = np.array(["one", "three", "two"])
    scaler = TemperatureScaler().fit(x, names[labels])
    assert scaler.temperature_ == fit_temperature(x, labels).temperature
    np.testing.assert_array_equal(scaler.predict(x), names[x.argmax(axis=1)])
    order = ["two", "one", "three"]
    ordered = TemperatureScaler(classes=order).fit(x, np.array(order)[labels])
    assert ordered.temperature_ == scaler.temperature_
    np.testing.assert_array_equal(ordered.classes_, order)
    few = labels[labels != 1]
    assert TemperatureScaler().fit(x[labels != 1], few).classes_.tolist() == [0, 1, 2]


def test_bad_labels():
    x, labels = drawn(20, 3, 1.0)
    with refused(ValueError, "y", r"\[0, 1, 2\]", "got 3", "classes="):
        TemperatureScaler().fit(x, np.append(labels[:-1], 3))
    with refused(ValueError, "classes", "3 distinct labels"):
        TemperatureScaler(classes=["a", "b"]).fit(x, labels)
    with refused(ValueError, "classes", "3 distinct labels"):
        TemperatureScaler(classes=["a", "b", "a"]).fit(x, labels)
    with refused(ValueError, "method", "'vector'", "'matrix'"):
        TemperatureScaler(method="matrix").fit(x, labels)
    with refused(ValueError, "X", "NaN"):
        TemperatureScaler().fit(np.where(x == x[0, 0], NAN, x), labels)
    with refused(ValueError, "X", "inf"):
        TemperatureScaler().fit(x, labels).predict_proba(np.where(x == x[0, 0], INF, x))


def test_masked_classes_pass():
    scaler = TemperatureScaler().fit([[1.0, 0.0, -INF], [0.0, 1.0, 2.0], [1.0, 2.0, 0.0]], [0, 1, 2])
    assert scaler.predict_proba([[0.0, -INF, 0.0]]).tolist() == [[0.5, 0, 0.5]]


@pytest.mark.parametrize("method", ["temperature", "vector"])
@pytest.mark.parametrize("names", [None, ["b", "a"], ["b", "c", "a"]])
def test_it_is_a_classifier(method, names):
    """For whatever in scikit-learn takes one: scores, searches, displays."""
    figure = need("matplotlib.figure")
    classes = 2 if names is None else len(names)
    x, labels = drawn(200, classes, 3.0)
    y = labels if names is None else np.array(names)[labels]
    scaler = TemperatureScaler(method=method, classes=names).fit(x, y)
    assert is_classifier(scaler)
    assert scaler.score(x, y) == np.mean(scaler.predict(x) == y)
    np.testing.assert_allclose(np.exp(scaler.predict_log_proba(x)), scaler.predict_proba(x), rtol=1e-12)
    decision = scaler.decision_function(x)
    if classes == 2:
        assert decision.shape == (200,)
        np.testing.assert_array_equal(scaler.classes_[(decision > 0).astype(int)], scaler.predict(x))
        axes = figure.Figure().subplots()
        display = CalibrationDisplay.from_estimator(scaler, x, y, pos_label=scaler.classes_[1], ax=axes)
        assert display.prob_pred.size
        assert 0.4 < roc_auc_score(y == scaler.classes_[1], decision) <= 1
    else:
        assert decision.shape == (200, 3)
    assert cross_val_score(scaler, x, y, cv=3).shape == (3,)
    assert (cross_val_score(scaler, x, y, cv=3, scoring="neg_log_loss") < 0).all()
    search = GridSearchCV(scaler, {"method": ["temperature", "vector"]}, cv=2).fit(x, y)
    assert search.best_params_["method"] in ("temperature", "vector")
    # It numbers the labels itself.
    probs = cross_val_predict(scaler.set_params(classes=None), x, y, cv=2, method="predict_proba")
    assert probs.shape == (200, classes)


def test_it_is_listed():
    assert "TemperatureScaler" in dir(calibration)
    assert {*calibration.__all__} <= {*dir(calibration)}


def test_a_classifier_gets_better():
    """Logits of the digits, from a classifier that is too certain."""
    need("sklearn")
    x, y = load_digits(return_X_y=True)
    classifier = LogisticRegression(C=100, max_iter=50).fit(x[:300] / 16, y[:300])
    logits = classifier.decision_function(x[300:] / 16)
    scaler = TemperatureScaler().fit(logits[:700], y[300:1000])
    held_out, labels = logits[700:], y[1000:]
    assert scaler.temperature_ > 1.2
    after = scaler.transform(held_out)
    assert negative_log_likelihood(after, labels) < negative_log_likelihood(held_out, labels)
    assert expected_calibration_error(after, labels) < expected_calibration_error(held_out, labels)
