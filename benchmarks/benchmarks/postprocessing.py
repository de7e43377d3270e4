"""The time of what comes after the logits: statistics of rows, the largest logits, filters, samples, calibration."""

import importlib

import numpy as np

import fastlogits

from . import formulas
from .common import AXIS, DTYPES, TOLERANCES, Inputs

# Fields of row_stats in which libraries agree where logits are equal, in the order of the formulas
FIELDS = ("argmax", "entropy", "lse", "margin", "max_prob", "nll", "rank")
SOME = ("argmax", "lse", "nll")


def named(stats, names):
    return [getattr(stats, name) for name in names]


def some_stats(x, labels, axis):
    stats = formulas.row_stats(x, labels, axis)
    return [stats[name] for name in SOME]


def five(x, axis):
    return min(5, x.shape[axis])


def half(x, axis):
    """Of the classes, 50 at most"""
    return max(1, min(x.shape[axis] // 2, 50))


def ones(x, labels):
    return np.ones(labels.shape, x.dtype)


def filtered(rule, formula, value):
    """A row of the table for one filter."""
    return (
        lambda lib, x, labels, axis: lib.filter_logits(x, axis=axis, **{rule: value}),
        lambda x, labels, axis: formula(x, value, axis),
    )


def calibrated(name, formula):
    """A row of the table for one function of fastlogits.calibration."""
    return (lambda lib, x, labels, axis: getattr(calibration(lib), name)(x, labels, axis=axis), formula)


def calibration(lib):
    return importlib.import_module(f"{lib.__name__}.calibration")


# How we are called on logits and labels, and what NumPy's users write.
CALLS = {
    "entropy": (
        lambda lib, x, labels, axis: lib.entropy(x, axis),
        lambda x, labels, axis: formulas.entropy(x, axis),
    ),
    "row_stats": (
        lambda lib, x, labels, axis: named(lib.row_stats(x, labels, axis=axis), FIELDS),
        lambda x, labels, axis: list(formulas.row_stats(x, labels, axis).values()),
    ),
    "row_stats of argmax, lse, nll": (
        lambda lib, x, labels, axis: named(lib.row_stats(x, labels, want=SOME, axis=axis), SOME),
        some_stats,
    ),
    "row_stats and top_k 5": (
        lambda lib, x, labels, axis: named(lib.row_stats(x, labels, top_k=five(x, axis), axis=axis), FIELDS),
        lambda x, labels, axis: list(formulas.row_stats(x, labels, axis).values()),
    ),
    "selective_log_softmax": (
        lambda lib, x, labels, axis: lib.selective_log_softmax(x, labels, axis),
        lambda x, labels, axis: -formulas.nll(x, labels, axis),
    ),
    "selective_log_softmax_backward": (
        lambda lib, x, labels, axis: lib.selective_log_softmax_backward(ones(x, labels), x, labels, axis),
        formulas.selective_backward,
    ),
    "perplexity": (
        lambda lib, x, labels, axis: lib.perplexity(x, labels, axis=axis),
        lambda x, labels, axis: np.exp(formulas.nll(x, labels, axis).mean(dtype=np.float64)),
    ),
    "loglikelihood": (
        lambda lib, x, labels, axis: lib.loglikelihood(x, labels, lengths=np.ones(len(x), int)).log_prob,
        lambda x, labels, axis: -formulas.nll(x, labels, axis),
    ),
    "accuracy": (
        lambda lib, x, labels, axis: lib.accuracy(x, labels, axis=axis),
        formulas.accuracy,
    ),
    "accuracy of the top 5": (
        lambda lib, x, labels, axis: lib.accuracy(x, labels, top_k=five(x, axis), axis=axis),
        lambda x, labels, axis: formulas.accuracy(x, labels, axis, five(x, axis)),
    ),
    "topk 5": (
        lambda lib, x, labels, axis: lib.topk(x, five(x, axis), axis).values,
        lambda x, labels, axis: formulas.topk(x, five(x, axis), axis),
    ),
    "topk half": (
        lambda lib, x, labels, axis: lib.topk(x, half(x, axis), axis).values,
        lambda x, labels, axis: formulas.topk(x, half(x, axis), axis),
    ),
    "filter top_k 5": (
        lambda lib, x, labels, axis: lib.filter_logits(x, top_k=five(x, axis), axis=axis),
        lambda x, labels, axis: formulas.top_k(x, five(x, axis), axis),
    ),
    "filter top_p": filtered("top_p", formulas.top_p, 0.9),
    "filter min_p": filtered("min_p", formulas.min_p, 0.05),
    "filter typical_p": filtered("typical_p", formulas.typical_p, 0.9),
    "filter epsilon_cutoff": filtered("epsilon_cutoff", formulas.cutoff, 3e-4),
    "filter eta_cutoff": filtered("eta_cutoff", formulas.eta_cutoff, 3e-4),
    "filter three": (
        lambda lib, x, labels, axis: lib.filter_logits(x, temperature=0.7, top_k=five(x, axis), top_p=0.9, axis=axis),
        lambda x, labels, axis: formulas.top_p(formulas.top_k(x / x.dtype.type(0.7), five(x, axis), axis), 0.9, axis),
    ),
    "sample": (
        lambda lib, x, labels, axis: lib.sample(x, seed=1, axis=axis),
        lambda x, labels, axis: formulas.sample(x, axis),
    ),
    "sample top_p": (
        lambda lib, x, labels, axis: lib.sample(x, seed=1, top_p=0.9, axis=axis),
        lambda x, labels, axis: formulas.sample(formulas.top_p(x, 0.9, axis), axis),
    ),
    "expected_calibration_error": calibrated("expected_calibration_error", formulas.expected_calibration_error),
    "maximum_calibration_error": calibrated("maximum_calibration_error", formulas.maximum_calibration_error),
    "adaptive_calibration_error": calibrated("adaptive_calibration_error", formulas.adaptive_calibration_error),
    "brier_score": calibrated("brier_score", formulas.brier_score),
    "negative_log_likelihood": calibrated(
        "negative_log_likelihood", lambda x, labels, axis: formulas.nll(x, labels, axis).mean(dtype=np.float64)
    ),
    "fit_temperature": (
        lambda lib, x, labels, axis: calibration(lib).fit_temperature(x, labels, axis=axis).temperature,
        formulas.fit_temperature,
    ),
    "fit_vector_scaling": (
        lambda lib, x, labels, axis: calibration(lib).fit_vector_scaling(x, labels, axis=axis).nll,
        formulas.fit_vector_scaling,
    ),
    "reliability_curve": (
        lambda lib, x, labels, axis: list(calibration(lib).reliability_curve(x, labels, axis=axis)),
        formulas.curve_of,
    ),
}
# Fits stop where their type's digits do; a row may be on either side of a bin's edge.
LOOSE = {
    "accuracy": 1e-6,
    "accuracy of the top 5": 1e-6,
    "fit_temperature": 1e-2,
    "fit_vector_scaling": 1e-2,
    "maximum_calibration_error": 0.5,
    "adaptive_calibration_error": 1e-2,
    "expected_calibration_error": 1e-3,
    "reliability_curve": 10.0,
}
ROWS_ONLY = ("loglikelihood",)  # no class axis in the middle
# By asv, which takes its time over each
FOLLOWED = (
    "topk 5",
    "entropy",
    "loglikelihood",
    "row_stats of argmax, lse, nll",
    "row_stats and top_k 5",
    "accuracy",
    "topk half",
    "filter top_p",
    "filter typical_p",
    "sample",
    "sample top_p",
    "expected_calibration_error",
)


def exact_of(name, inputs, cache):
    """What must come of all rows, from the formula in float64."""
    if name not in cache:
        cache[name] = CALLS[name][1](inputs.logits.astype(np.float64), inputs.drawn, AXIS)
    return cache[name]


def check(name, result, inputs, cache, peer=False):
    """Raise AssertionError unless `result` is what the function must give: numbers within the tolerance of the dtype,
    filtered logits with the same left (a class on the limit may be on either side), draws with their probability.
    """
    tolerance = max(TOLERANCES[inputs.dtype][peer], LOOSE.get(name, 0.0))
    if name.startswith("sample"):
        ids, log_probs = (np.asarray(array) for array in result)
        wide = inputs.logits.astype(np.float64)
        kept = formulas.top_p(wide, 0.9, AXIS) if "top_p" in name else wide
        result = [log_probs]
        exact = [formulas.at(formulas.log_softmax(kept, AXIS), ids.astype(np.int64), AXIS)]
    else:
        exact = exact_of(name, inputs, cache)
        result, exact = ([v] if not isinstance(v, (list, tuple)) else v for v in (result, exact))
    assert len(result) == len(exact), f"{name}: {len(result)} results"
    some = name.startswith(("filter", "sample")) or inputs.logits.itemsize == 2
    for value, expected in zip(result, exact, strict=True):
        value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
        right = np.isclose(value, expected, rtol=0, atol=tolerance * largest, equal_nan=True)
        assert (~right).sum() <= 1e-3 * value.size * some, f"{name} is wrong in {(~right).sum()} of {right.size} places"


class PostProcessing:
    param_names = ("call", "backend", "dtype", "size")
    params = (
        FOLLOWED,
        ("cython", "numba"),
        tuple(DTYPES),
        ("65536x10", "8192x100", "4096x1000", "256x32000", "1x128256"),
    )
    rounds = 2
    repeat = (3, 10, 0.4)
    sample_time = 0.02
    warmup_time = 0.05

    def setup(self, call, backend, dtype, size):
        inputs = Inputs(size, dtype)
        self.arrays, self.call = (inputs.logits, inputs.drawn, AXIS), CALLS[call][0]
        try:
            self.settings = fastlogits.settings(backend=backend)
            self.settings.__enter__()
            result = self.call(fastlogits, *self.arrays)
        except (AttributeError, ImportError) as error:
            raise NotImplementedError("this commit has no such function or backend") from error
        check(call, result, inputs, {})

    def teardown(self, *_):
        self.settings.__exit__(None, None, None)

    def time_call(self, *_):
        self.call(fastlogits, *self.arrays)
