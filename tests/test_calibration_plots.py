"""The diagrams of fastlogits.calibration show what its curves are."""

import numpy as np
import pytest
from calibration_cases import case
from conftest import need

import fastlogits
from fastlogits import calibration
from fastlogits.calibration import fit_temperature


@pytest.fixture
def pyplot():
    matplotlib = need("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_plot_reliability(pyplot):
    x, labels, _ = case(301, 40, np.dtype(np.float32))
    temperature = fit_temperature(x, labels).temperature
    curve = calibration.reliability_curve(x, labels, bins=10, temperature=temperature)
    ax = calibration.plot_reliability(x, labels, bins=10, temperature=temperature)
    accuracy, gaps = ax.containers
    np.testing.assert_allclose([bar.get_height() for bar in accuracy], curve.accuracy)
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in gaps], curve.confidence)
    assert [bar.get_x() for bar in accuracy] == pytest.approx(np.arange(10) / 10)
    error = calibration.expected_calibration_error(x, labels, bins=10, temperature=temperature)
    assert ax.get_legend().get_title().get_text() == f"ECE {error:.4f}"
    ax.figure.canvas.draw()


def test_plot_risk_coverage(pyplot):
    x, labels, _ = case(301, 40, np.dtype(np.float32))
    curve = calibration.risk_coverage_curve(x, labels)
    ax = calibration.plot_risk_coverage(x, labels)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.stack([curve.coverage, curve.risk], axis=1))
    ax.figure.canvas.draw()


def test_plots_go_where_they_are_told(pyplot):
    x, labels, _ = case(50, 2, np.dtype(np.float32))
    _, axes = pyplot.subplots(1, 2)
    assert calibration.plot_reliability(x, labels, ax=axes[0]) is axes[0]
    assert calibration.plot_risk_coverage(x, labels, ax=axes[1]) is axes[1]
    assert len(pyplot.get_fignums()) == 1


def test_plots_of_no_rows(pyplot):
    for plot in (calibration.plot_reliability, calibration.plot_risk_coverage):
        plot(np.empty((0, 3)), np.empty(0, int)).figure.canvas.draw()


def overlap(ax, box):
    """Whether the box covers a part of what the axes draw in."""
    return ax.get_window_extent().overlaps(box)


def test_legends_stand_beside_the_bars(pyplot):
    """Of digits: no number hides a bar, in the diagrams of all classes, of each, and of entropies."""
    datasets, linear_model = need("sklearn.datasets"), need("sklearn.linear_model")
    images, labels = datasets.load_digits(return_X_y=True)
    classifier = linear_model.LogisticRegression(max_iter=200).fit(images[:500], labels[:500])
    logits, labels = classifier.decision_function(images[500:]), labels[500:]
    for ax in (calibration.plot_reliability(logits, labels), calibration.plot_entropy(logits)):
        ax.figure.canvas.draw()
        assert not overlap(ax, ax.get_legend().get_window_extent())
    figure = calibration.plot_classwise_reliability(logits, labels, bins=5)
    figure.canvas.draw()
    assert len([ax for ax in figure.axes if ax.get_title()]) == 10
    assert not any(overlap(ax, figure.legends[0].get_window_extent()) for ax in figure.axes)
    curves = calibration.classwise_reliability_curves(logits, labels, bins=5)
    np.testing.assert_allclose([bar.get_height() for bar in figure.axes[3].containers[0]], curves.accuracy[3])
    few = calibration.plot_classwise_reliability(logits, labels, which=[2, 7])
    assert [ax.get_title()[:7] for ax in few.axes] == ["class 2", "class 7"]


def test_plot_entropy(pyplot):
    x, _, _ = case(60, 40, np.dtype(np.float32))
    entropies = fastlogits.entropy(x)
    ax = calibration.plot_entropy(x, bins=12, least_certain=3)
    heights, _ = np.histogram(entropies, np.linspace(0, np.log(40), 13))
    np.testing.assert_array_equal([bar.get_height() for bar in ax.containers[0]], heights)
    named = [int(text.get_text().split(":")[0]) for text in ax.get_legend().get_texts()]
    np.testing.assert_array_equal(named, np.argsort(-entropies, kind="stable")[:3])
