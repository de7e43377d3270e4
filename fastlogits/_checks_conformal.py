"""Error messages of conformal prediction."""

import operator

import numpy as np

from fastlogits import _checks

DEFAULTS = {
    "lac": {},
    "aps": {},
    "raps": {"penalty": 0.01, "k_reg": 5},
    "saps": {"penalty": 0.2},
}


def options(method, penalty, k_reg):
    """(penalty, k_reg) of a method, 0 where it has none."""
    defaults = DEFAULTS[_checks.one_of("method", method, tuple(DEFAULTS))]
    given = {"penalty": penalty, "k_reg": k_reg}
    for name, value in given.items():
        if value is not None and name not in defaults:
            raise ValueError(f"{name}: has no effect with method {method!r}, got {value!r}")
    chosen = {name: defaults.get(name, 0) if value is None else value for name, value in given.items()}
    cost = _checks.finite("penalty", chosen["penalty"])
    if cost < 0:
        raise ValueError(f"penalty: expected a number of at least 0, got {penalty}")
    return cost, _checks.top_k("k_reg", chosen["k_reg"])


def randomized(method, seed, rows):
    """Whether the scores have a random part."""
    if seed is None and rows is not None:
        raise ValueError("rows: has no effect without a seed")
    if seed is not None and method == "lac":
        raise ValueError(f"seed: has no effect with method 'lac', got {seed!r}")
    return seed is not None


def row_labels(labels, batch_shape, classes):
    """Class indices as a copy, which stays what is checked here."""
    labels = _checks.class_indices(labels, batch_shape)
    indices = labels.astype(np.intp)
    if ((indices < 0) | (indices >= classes)).any():
        raise _checks.bad_label(labels, classes, None)
    return indices


def calibration_scores(values):
    values = real_numbers("scores", values)
    unknown = np.isnan(values)
    if unknown.any():
        position = tuple(map(int, np.unravel_index(np.argmax(unknown), values.shape)))
        raise ValueError(f"scores: expected numbers, got NaN at {position}")
    return values


def limits(value, classes):
    """A threshold, or one for each class, in float64."""
    values = real_numbers("threshold", value)
    if values.shape not in ((), (classes,)):
        raise ValueError(f"threshold: expected a number or shape ({classes},), got shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError("threshold: expected numbers, got NaN")
    return values


def real_numbers(name, value):
    values = _checks.as_array(name, value)
    if values.dtype.kind not in "iuf" and values.size:
        raise TypeError(f"{name}: expected real numbers, got {values.dtype}")
    return values.astype(np.float64)


def number_of_classes(labels, num_classes):
    """Both or neither."""
    if (labels is None) != (num_classes is None):
        given, lacking = ("labels", "num_classes") if num_classes is None else ("num_classes", "labels")
        raise ValueError(f"{lacking}: expected beside {given}, got None")
    return None if labels is None else _checks.top_k("num_classes", num_classes)


def mask(sets):
    sets = _checks.as_array("sets", sets)
    if sets.dtype != bool:
        raise TypeError(f"sets: expected a mask of bool or PredictionSets, got {sets.dtype}")
    return sets


def lower_bounds(values):
    """Of strata: integers from 0 on, in ascending order."""
    try:
        bounds = tuple(map(operator.index, values))
    except TypeError:
        raise TypeError(f"strata: expected integers, got {values!r}") from None
    if bounds[:1] != (0,) or any(low >= high for low, high in zip(bounds, bounds[1:], strict=False)):
        raise ValueError(f"strata: expected integers from 0 on, in ascending order, got {values!r}")
    return np.array(bounds)
