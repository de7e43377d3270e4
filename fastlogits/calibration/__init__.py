"""Calibration of classifiers, from their logits: temperature scaling, calibration errors and curves."""

from fastlogits.calibration.temperature import TemperatureFit, fit_temperature

__all__ = ["TemperatureFit", "fit_temperature"]
