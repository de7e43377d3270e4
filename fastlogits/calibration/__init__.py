"""Calibration of classifiers, from their logits: temperature scaling, calibration errors and curves."""

import importlib
from typing import TYPE_CHECKING, Any

from fastlogits import _checks_calibration
from fastlogits.calibration.matrix import MatrixScalingFit, fit_dirichlet, fit_matrix_scaling
from fastlogits.calibration.measures import (
    RiskCoverageCurve,
    adaptive_calibration_error,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability_curve,
    risk_coverage_curve,
)
from fastlogits.calibration.plots import (
    draw_reliability,
    draw_risk_coverage,
    plot_classwise_reliability,
    plot_entropy,
    plot_reliability,
    plot_risk_coverage,
)
from fastlogits.calibration.state import CalibrationState, ReliabilityCurve
from fastlogits.calibration.temperature import TemperatureFit, fit_temperature
from fastlogits.calibration.uncertainty import (
    ConfidenceInterval,
    bootstrap,
    classwise_reliability_curves,
    smooth_calibration_error,
)
from fastlogits.calibration.vector import VectorScalingFit, fit_vector_scaling

if TYPE_CHECKING:
    from fastlogits.calibration.binning import ClasswiseCalibrator
    from fastlogits.calibration.estimator import TemperatureScaler

__all__ = [
    "CalibrationState",
    "ClasswiseCalibrator",
    "ConfidenceInterval",
    "MatrixScalingFit",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "TemperatureFit",
    "TemperatureScaler",
    "VectorScalingFit",
    "adaptive_calibration_error",
    "bootstrap",
    "brier_score",
    "classwise_calibration_error",
    "classwise_reliability_curves",
    "draw_reliability",
    "draw_risk_coverage",
    "expected_calibration_error",
    "fit_dirichlet",
    "fit_matrix_scaling",
    "fit_temperature",
    "fit_vector_scaling",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "plot_classwise_reliability",
    "plot_entropy",
    "plot_reliability",
    "plot_risk_coverage",
    "reliability_curve",
    "risk_coverage_curve",
    "smooth_calibration_error",
]


ESTIMATORS = {"ClasswiseCalibrator": "binning", "TemperatureScaler": "estimator"}


def __getattr__(name: str) -> Any:
    # scikit-learn is loaded with the estimators, not with us.
    if name in ESTIMATORS:
        try:
            return getattr(importlib.import_module(f"fastlogits.calibration.{ESTIMATORS[name]}"), name)
        except ImportError as error:
            raise _checks_calibration.missing_library("scikit-learn", f"use {name}", "calibration") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
