"""The diagrams of fastlogits.calibration show what its curves are."""

import numpy as np
import pytest
from calibration_cases import case
from conftest import need

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
