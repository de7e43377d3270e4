"""States of calibration: merged they are those of the whole."""

import pickle

import numpy as np
import pytest
from calibration_cases import BINNED, SCORES, case
from refusals import refused

import fastlogits
from fastlogits.calibration import CalibrationState


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_merged_states_are_those_of_the_whole(backend, pieces):
    x, labels, _ = case(301, 40, np.dtype(np.float32))
    whole = CalibrationState.of(x, labels, bins=9, temperature=1.5)
    parts = np.array_split(np.arange(301), pieces)
    states = [CalibrationState.of(x[part], labels[part], bins=9, temperature=1.5) for part in parts]
    states = pickle.loads(pickle.dumps(states))[::-1]
    merged = states[0].merge(*states[1:])
    assert merged.rows == whole.rows == 301
    np.testing.assert_array_equal(merged.count, whole.count)
    np.testing.assert_array_equal(merged.correct, whole.correct)
    for name in ("confidence", "nll", "brier"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-13)
    options = {"temperature": 1.5}
    assert merged.expected_calibration_error() == pytest.approx(BINNED["expected"](x, labels, bins=9, **options))
    assert merged.maximum_calibration_error() == pytest.approx(BINNED["maximum"](x, labels, bins=9, **options))
    assert merged.brier_score() == pytest.approx(SCORES["brier"](x, labels, **options))
    assert merged.negative_log_likelihood() == pytest.approx(SCORES["nll"](x, labels, **options))
    assert merged.accuracy() == pytest.approx(fastlogits.accuracy(x, labels))
    for found, exact in zip(merged.reliability_curve(), whole.reliability_curve(), strict=True):
        np.testing.assert_allclose(found, exact)


def test_an_empty_state_changes_nothing():
    x, labels, _ = case(50, 2, np.dtype(np.float32))
    whole, empty = CalibrationState.of(x, labels), CalibrationState.of(x[:0], labels[:0])
    assert whole.merge(empty).expected_calibration_error() == whole.expected_calibration_error()
    assert np.isnan([empty.accuracy(), empty.brier_score(), empty.maximum_calibration_error()]).all()


def test_states_of_different_bins():
    x, labels, _ = case(50, 2, np.dtype(np.float32))
    with refused(ValueError, "bins", "15, 10"):
        CalibrationState.of(x, labels).merge(CalibrationState.of(x, labels, bins=10))
