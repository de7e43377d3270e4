"""Error messages of calibration."""

import math
import operator
import warnings

import numpy as np

from fastlogits import _checks


def row_weights(name, values, shape):
    values = _checks.weights(name, values, shape, np.float64)
    if not ((values >= 0) & (values < math.inf)).all():
        raise ValueError(f"{name}: expected finite numbers that are not negative, got {values.min()}..{values.max()}")
    return values


def at_least_one(name, value):
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value}")
    return number


def missing_library(name, purpose, extra):
    return ImportError(f"{name} is needed to {purpose} and not installed; pip install fastlogits[{extra}]")


def same_bins(numbers):
    if len(set(numbers)) > 1:
        raise ValueError(f"states: expected one number of bins, got {', '.join(map(str, numbers))}")


def below_infinity(name, values):
    if not (values < math.inf).all():
        raise ValueError(f"{name}: expected finite logits or -inf, got NaN or inf")
    return values


def not_classes(classes, columns):
    return ValueError(f"classes: expected {columns} distinct labels, one for each column, got {classes.tolist()}")


def unknown_label(label, classes):
    return ValueError(
        f"y: expected labels in {classes.tolist()}, one for each column (n_features = {len(classes)}), got {label!r}; "
        "name the columns by classes="
    )


def no_rows(shape):
    return ValueError(
        f"labels: expected at least one that counts, got none (ignored, or sample_weight zero) of shape {shape}"
    )


def impossible_labels(nll):
    """For rows whose negative log-likelihood is infinite or NaN at every temperature."""
    bad = ~np.isfinite(nll)
    position = tuple(map(int, np.unravel_index(np.argmax(bad), bad.shape)))
    what = "a label at a logit of -inf" if nll[position] == math.inf else "NaN or +inf, or nothing but -inf"
    return ValueError(
        f"logits: expected rows that give their labels a probability above 0, got {what} at {position} "
        f"({np.count_nonzero(bad)} of {bad.size} rows are bad; the label ignore_index leaves them out)"
    )


def not_negative(name, value):
    number = _checks.finite(name, value)
    if number < 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    return number


def same_classes(found, fitted):
    if found != fitted:
        raise ValueError(f"logits: expected {fitted} classes, as the fit has, got {found}")


def finite_logits(x):
    if not np.isfinite(x).all():
        raise ValueError("logits: expected finite numbers, since each calibrated logit is made of all, got NaN or inf")


def warn_of_probabilities(rows):
    """Rows within [0, 1] that sum to 1 are hardly logits, unless they are whole numbers."""
    if rows.size and (rows >= 0).all() and (abs(rows.sum(axis=-1) - 1) < 1e-3).all() and (rows % 1).any():
        warnings.warn(
            "logits: expected logits, got what look like probabilities (rows from 0 to 1 that sum to 1); "
            "pass their logarithms",
            stacklevel=4,
        )
