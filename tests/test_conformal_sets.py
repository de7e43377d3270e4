"""What is said of prediction sets: coverage, sizes, the report, its diagram; and the scikit-learn estimator."""

import numpy as np
import pytest
from calibration_cases import drawn
from conftest import need
from refusals import refused
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastlogits import conformal
from fastlogits.conformal import ConformalClassifier, PredictionSets

NAN, INF = np.nan, np.inf


def made(rows=400, classes=30):
    """A mask of sets of all sizes, the same as lists, and labels."""
    rng = np.random.default_rng([rows, classes])
    mask = rng.random((rows, classes)) < rng.random((rows, 1)) ** 2
    sizes = np.count_nonzero(mask, axis=1)
    listed = PredictionSets(np.nonzero(mask)[1], np.append(0, np.cumsum(sizes)))
    labels = rng.integers(classes - 1, size=rows)
    return mask, listed, labels


def test_coverage_and_sizes():
    mask, listed, labels = made()
    covered = [label in np.flatnonzero(row) for row, label in zip(mask, labels, strict=True)]
    for sets in (mask, listed):
        assert conformal.coverage(sets, labels) == np.mean(covered)
        np.testing.assert_array_equal(conformal.set_sizes(sets), mask.sum(axis=1))
        assert isinstance(conformal.coverage(sets, labels), float)
    turned = mask.reshape(20, 20, 30).transpose(0, 2, 1)
    assert conformal.coverage(turned, labels.reshape(20, 20), axis=1) == np.mean(covered)
    assert conformal.set_sizes(turned, axis=1).shape == (20, 20)


def test_the_report():
    mask, listed, labels = made()
    covered, sizes = mask[np.arange(400), labels], mask.sum(axis=1)
    for strata in ((0, 2, 4, 11, 101), (0,), (0, 1, 5, 6)):
        upper = (*strata[1:], INF)
        strata_of_rows = [(low <= sizes) & (sizes < high) for low, high in zip(strata, upper, strict=True)]
        for sets in (mask, listed):
            report = conformal.coverage_report(sets, labels, strata=strata)
            assert report.coverage == covered.mean()
            assert report.mean_size == sizes.mean()
            assert report.strata.tolist() == [*strata]
            assert report.stratum_count.tolist() == [rows.sum() for rows in strata_of_rows]
            exact = [covered[rows].mean() if rows.any() else NAN for rows in strata_of_rows]
            np.testing.assert_allclose(report.stratum_coverage, exact)
            assert report.size_stratified_coverage == pytest.approx(np.nanmin(exact))
            by_class = [covered[labels == c].mean() for c in range(29)]
            np.testing.assert_allclose(report.class_coverage[:29], by_class)
            assert report.worst_class_coverage == min(by_class)
            np.testing.assert_array_equal(report.class_count[:29], np.bincount(labels))
    assert np.isnan(conformal.coverage_report(mask, labels).class_coverage[29])


def test_sets_of_no_rows():
    for sets in (np.empty((0, 3), bool), PredictionSets(np.empty(0, int), np.zeros(1, int))):
        labels = np.empty(0, int)
        assert np.isnan(conformal.coverage(sets, labels))
        report = conformal.coverage_report(sets, labels)
        assert np.isnan([report.coverage, report.mean_size, report.worst_class_coverage]).all()
        assert np.isnan(report.size_stratified_coverage)
        assert conformal.set_sizes(sets).shape == (0,)


@pytest.mark.parametrize("function", [conformal.coverage, conformal.coverage_report])
def test_bad_sets(function):
    mask, listed, labels = made(3, 4)
    with refused(TypeError, "sets", "bool", "float64"):
        function(mask * 1.0, labels)
    with refused(ValueError, "labels", r"\(3,\)", r"\(2,\)"):
        function(mask, labels[:2])
    with refused(ValueError, "labels", r"\(3,\)", r"\(2,\)"):
        function(listed, labels[:2])
    with refused(IndexError, "labels", r"\[0, 4\)", r"got 4 at \(1,\)"):
        function(mask, [0, 4, 0])
    with refused(IndexError, "labels", r"got -1 at \(1,\)"):
        function(listed, [0, -1, 0])
    with refused(np.exceptions.AxisError, "axis 2"):
        function(mask, labels, axis=2)


def test_bad_strata():
    mask, _, labels = made(3, 4)
    for strata in ((), (1, 2), (0, 2, 2)):
        with refused(ValueError, "strata", "ascending"):
            conformal.coverage_report(mask, labels, strata=strata)
    with refused(TypeError, "strata", "integers"):
        conformal.coverage_report(mask, labels, strata=(0, 1.5))


@pytest.fixture
def pyplot():
    matplotlib = need("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_plot_coverage(pyplot):
    mask, _, labels = made()
    report = conformal.coverage_report(mask, labels, strata=(0, 1, 5, 6))
    _, axes = pyplot.subplots(1, 2)
    ax = conformal.plot_coverage(mask, labels, strata=(0, 1, 5, 6), alpha=0.1, ax=axes[0])
    assert ax is axes[0]
    assert conformal.draw_coverage(report, ax=axes[1]) is axes[1]
    for drawn_in, lines in ((axes[0], [report.coverage, 0.9]), (axes[1], [report.coverage])):
        heights = [bar.get_height() for bar in drawn_in.containers[0]]
        np.testing.assert_allclose(heights, report.stratum_coverage)
        assert [line.get_ydata()[0] for line in drawn_in.lines] == lines
        assert [text.get_text() for text in drawn_in.get_xticklabels()] == ["0", "1-4", "5", "6+"]
    with refused(ValueError, "alpha", "2"):
        conformal.draw_coverage(report, alpha=2)
    conformal.plot_coverage(np.empty((0, 3), bool), np.empty(0, int)).figure.canvas.draw()


# The estimator

FEWER_COLUMNS = "three classes of labels for two columns: each column is the logit of a class"
NO_LOGITS = "the features are no logits: the largest does not tell the class"
CANNOT_HOLD = {
    "check_estimators_overwrite_params": FEWER_COLUMNS,
    "check_estimators_fit_returns_self": FEWER_COLUMNS,
    "check_readonly_memmap_input": FEWER_COLUMNS,
    "check_classifiers_classes": FEWER_COLUMNS,
    "check_classifiers_train": NO_LOGITS,
    "check_classifiers_one_label": NO_LOGITS,
}


@parametrize_with_checks(
    [ConformalClassifier(), ConformalClassifier(method="raps", seed=0, class_conditional=True)],
    expected_failed_checks=lambda estimator: CANNOT_HOLD,
)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.parametrize("names", [None, ["c", "a", "b"]])
@pytest.mark.parametrize("options", [{}, {"method": "aps", "seed": 1}, {"method": "saps", "penalty": 0.1}], ids=str)
def test_it_is_the_functions(options, names):
    x, labels = drawn(300, 3, 1.0)
    y = labels if names is None else np.array(names)[labels]
    classifier = ConformalClassifier(alpha=0.2, temperature=1.5, classes=names, **options).fit(x[:200], y[:200])
    options = options | {"temperature": 1.5}
    scores = conformal.scores(x[:200], labels[:200], **options)
    np.testing.assert_array_equal(classifier.scores_, scores)
    assert classifier.threshold_ == conformal.threshold(scores, 0.2)
    rows = {"rows": 200} if "seed" in options else {}
    for as_ids in (False, True):
        sets = classifier.predict_sets(x[200:], as_ids=as_ids)
        expected = conformal.prediction_sets(x[200:], classifier.threshold_, as_ids=as_ids, **rows, **options)
        assert type(sets) is type(expected)
        np.testing.assert_array_equal(sets[0], expected[0])
        assert conformal.coverage(sets, labels[200:]) > 0.7
    np.testing.assert_array_equal(classifier.predict(x), classifier.classes_[x.argmax(axis=1)])
    np.testing.assert_allclose(classifier.predict_proba(x).sum(axis=1), 1)


def test_each_class_has_its_threshold():
    x, labels = drawn(300, 3, 1.0)
    classifier = ConformalClassifier(class_conditional=True).fit(x, labels)
    exact = conformal.threshold(conformal.scores(x, labels), 0.1, labels=labels, num_classes=3)
    np.testing.assert_array_equal(classifier.threshold_, exact)
    np.testing.assert_array_equal(classifier.predict_sets(x), conformal.prediction_sets(x, exact))


def test_a_generator_draws_once():
    """All sets of one fit have random numbers of one seed."""
    x, labels = drawn(300, 3, 1.0)
    classifier = ConformalClassifier(method="aps", seed=np.random.default_rng(0)).fit(x, labels)
    sets = classifier.predict_sets(x)
    np.testing.assert_array_equal(classifier.predict_sets(x), sets)


def test_it_is_a_classifier():
    x, labels = drawn(200, 4, 1.0)
    classifier = ConformalClassifier()
    assert is_classifier(classifier)
    assert cross_val_score(clone(classifier), x, labels, cv=3).shape == (3,)

    def smallness(estimator, x, y):
        return -conformal.set_sizes(estimator.predict_sets(x)).mean()

    search = GridSearchCV(classifier, {"method": ["lac", "aps"]}, scoring=smallness, cv=2).fit(x, labels)
    assert search.best_params_ == {"method": "lac"}


def test_bad_parameters():
    x, labels = drawn(20, 3, 1.0)
    with refused(ValueError, "alpha", "2"):
        ConformalClassifier(alpha=2).fit(x, labels)
    with refused(ValueError, "method", "'top'"):
        ConformalClassifier(method="top").fit(x, labels)
    with refused(ValueError, "penalty", "no effect"):
        ConformalClassifier(penalty=1).fit(x, labels)
    with refused(ValueError, "classes", "3 distinct labels"):
        ConformalClassifier(classes=["a", "b"]).fit(x, labels)
    with refused(ValueError, "X", "NaN"):
        ConformalClassifier().fit(np.where(x == x[0, 0], NAN, x), labels)
    with refused(ValueError, "X", "NaN"):
        ConformalClassifier().fit(x, labels).predict_sets(np.where(x == x[0, 0], INF, x))
