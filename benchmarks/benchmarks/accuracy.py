"""The largest error of each operation, in units in the last place, by the oracle of the tests."""

import sys
from pathlib import Path

import numpy as np

import fastlogits

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from operations import OPERATIONS, call, make_logits  # noqa: E402 - of tests/
from tolerance import DTYPES, wide_type  # noqa: E402

# Differences of nearly equal numbers: their error is measured by the largest value of the row.
CANCELLING = ("softmax_backward", "log_softmax_backward", "cross_entropy_with_grad")


def ulp(value, dtype):
    """Distance to the next number of the dtype, at least that of its smallest normal number."""
    info = np.finfo(dtype) if dtype != DTYPES["bfloat16"] else None
    digits, smallest = (info.nmant, float(info.tiny)) if info else (7, 2.0**-126)
    _, exponent = np.frexp(np.maximum(np.abs(value), smallest))
    return np.ldexp(wide_type(dtype)(1), exponent - 1 - digits)


class Accuracy:
    param_names = ("operation", "backend", "dtype")
    params = (
        tuple(name for name in OPERATIONS if name != "argmax"),
        ("cython", "numba", "numpy"),
        tuple(DTYPES),
    )
    timeout = 300

    def setup(self, name, *_):
        if not hasattr(fastlogits, name):
            raise NotImplementedError("this commit has no such operation")

    def track_largest_error(self, name, backend, dtype):
        largest = 0.0
        for rows, classes in ((49, 10), (14, 1000), (7, 32003)):
            arguments = OPERATIONS[name].arguments(make_logits(rows, classes, DTYPES[dtype]))
            exact = OPERATIONS[name].exact(*arguments).value
            with fastlogits.settings(backend=backend):
                actual = np.asarray(call(fastlogits, name, *arguments))
            scale = np.abs(exact).max(axis=-1, keepdims=True) if name in CANCELLING else exact
            finite = np.isfinite(exact)
            assert np.array_equal(np.isfinite(actual.astype(exact.dtype)), finite), f"{name}: infinities"
            error = np.abs(actual.astype(exact.dtype) - exact, where=finite, out=np.zeros_like(exact))
            largest = max(largest, float((error / ulp(scale, DTYPES[dtype])).max()))
        return largest

    track_largest_error.unit = "ulp"
