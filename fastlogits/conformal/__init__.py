"""Conformal prediction from logits: sets of classes that have the label with a probability that one chooses."""

from typing import TYPE_CHECKING, Any

from fastlogits import _checks_calibration
from fastlogits.conformal.measures import CoverageReport, coverage, coverage_report, set_sizes
from fastlogits.conformal.methods import scores
from fastlogits.conformal.plots import draw_coverage, plot_coverage
from fastlogits.conformal.quantiles import threshold
from fastlogits.conformal.sets import PredictionSets, prediction_sets

if TYPE_CHECKING:
    from fastlogits.conformal.estimator import ConformalClassifier

__all__ = [
    "ConformalClassifier",
    "CoverageReport",
    "PredictionSets",
    "coverage",
    "coverage_report",
    "draw_coverage",
    "plot_coverage",
    "prediction_sets",
    "scores",
    "set_sizes",
    "threshold",
]


def __getattr__(name: str) -> Any:
    # scikit-learn is loaded with the estimator, not with us.
    if name == "ConformalClassifier":
        try:
            from fastlogits.conformal.estimator import ConformalClassifier
        except ImportError as error:
            raise _checks_calibration.missing_library(
                "scikit-learn", "use ConformalClassifier", "calibration"
            ) from error
        return ConformalClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
