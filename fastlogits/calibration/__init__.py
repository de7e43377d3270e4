"""Calibration of classifiers, from their logits: temperature scaling, calibration errors and curves."""

from typing import TYPE_CHECKING, Any

from fastlogits import _checks_calibration
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
from fastlogits.calibration.plots import draw_reliability, draw_risk_coverage, plot_reliability, plot_risk_coverage
from fastlogits.calibration.state import CalibrationState, ReliabilityCurve
from fastlogits.calibration.temperature import TemperatureFit, fit_temperature
from fastlogits.calibration.vector import VectorScalingFit, fit_vector_scaling

if TYPE_CHECKING:
    from fastlogits.calibration.estimator import TemperatureScaler

__all__ = [
    "CalibrationState",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "TemperatureFit",
    "TemperatureScaler",
    "VectorScalingFit",
    "adaptive_calibration_error",
    "brier_score",
    "classwise_calibration_error",
    "draw_reliability",
    "draw_risk_coverage",
    "expected_calibration_error",
    "fit_temperature",
    "fit_vector_scaling",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "plot_reliability",
    "plot_risk_coverage",
    "reliability_curve",
    "risk_coverage_curve",
]


def __getattr__(name: str) -> Any:
    # scikit-learn is loaded with the estimator, not with us.
    if name == "TemperatureScaler":
        try:
            from fastlogits.calibration.estimator import TemperatureScaler
        except ImportError as error:
            raise _checks_calibration.missing_library("scikit-learn", "use TemperatureScaler", "calibration") from error
        return TemperatureScaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
