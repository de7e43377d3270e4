"""fastlogits for dask arrays: the functions of `fastlogits`, by the same names, lazily, on arrays of any size.

Logits may be chunked along rows and along classes alike. Rows that lie in one chunk get, bit for bit, what the NumPy
functions return. Of rows in several, each chunk is swept once for a state (`fastlogits.states`), the states are merged
in a tree, and where the result has the size of the logits (softmax, gradients) a second sweep writes it. softmax and
log_softmax have the bits of the NumPy functions then too; chunks along a last axis that do not begin at multiples of
1024 classes exchange some columns for it, and rows in several chunks along other axes are put together. lse is within
one ulp of the NumPy result, and all errors are within the bounds that NumPy results have. A mean or sum over rows adds
sums over chunks in double precision.

Filters, draws and calibration look at whole rows: of rows in several chunks, chunks of about the same size are made
that hold whole rows. Draws and filtered logits have the bits of the NumPy functions, whatever the chunks.
`fit_temperature` and the plots compute at once, all else when asked to.

Arguments are checked when a function is called, values when the result is computed: a label that is out of range is an
IndexError then, which names its place in the whole array (in its chunk, where chunk sizes are unknown). Sizes may be
unknown along rows, but for loglikelihood; along classes only where none is named: for logsumexp, entropy and the
backward functions, for lse, entropy, max_prob and margin of row_stats, and for softmax and log_softmax of rows in one
chunk. Arrays beside the logits are dask or NumPy arrays, and get the logits' chunks.

dask runs as many tasks at a time as a machine has processors, so each of them uses one thread, unless
`fastlogits.settings(num_threads=...)` is in force where the function is called, or FASTLOGITS_NUM_THREADS is set where
the tasks run. A backend chosen by `settings` holds for the tasks too. There is no `out`.

Examples
--------
>>> import dask.array as da
>>> import fastlogits
>>> logits = da.zeros((1000, 5000), chunks=(100, 1000))
>>> fastlogits.entropy(logits)[:3].compute()
array([8.51719319, 8.51719319, 8.51719319])
"""

import sys
from typing import TYPE_CHECKING

from fastlogits.dask._checks import not_lazy
from fastlogits.dask.calibration import (
    adaptive_calibration_error,
    brier_score,
    classwise_calibration_error,
    expected_calibration_error,
    fit_temperature,
    maximum_calibration_error,
    negative_log_likelihood,
    plot_reliability,
    plot_risk_coverage,
    reliability_curve,
    risk_coverage_curve,
)
from fastlogits.dask.likelihood import bits_per_byte as bits_per_byte

if TYPE_CHECKING:  # of the same signatures, and of dask's arrays where they get them
    from fastlogits import (
        accuracy,
        argmax,
        cross_entropy,
        cross_entropy_with_grad,
        entropy,
        filter_logits,
        log_softmax,
        log_softmax_backward,
        loglikelihood,
        logsumexp,
        perplexity,
        row_stats,
        sample,
        selective_log_softmax,
        selective_log_softmax_backward,
        softmax,
        softmax_backward,
        topk,
    )
else:
    from fastlogits.dask.cross_entropy import cross_entropy, cross_entropy_with_grad, perplexity
    from fastlogits.dask.filters import filter_logits, sample
    from fastlogits.dask.likelihood import loglikelihood
    from fastlogits.dask.row_stats import accuracy, argmax, entropy, row_stats, topk
    from fastlogits.dask.selective import selective_log_softmax, selective_log_softmax_backward
    from fastlogits.dask.softmax import log_softmax, log_softmax_backward, logsumexp, softmax, softmax_backward

__all__ = [
    "accuracy",
    "adaptive_calibration_error",
    "argmax",
    "brier_score",
    "classwise_calibration_error",
    "cross_entropy",
    "cross_entropy_with_grad",
    "entropy",
    "expected_calibration_error",
    "filter_logits",
    "fit_temperature",
    "log_softmax",
    "log_softmax_backward",
    "loglikelihood",
    "logsumexp",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "perplexity",
    "plot_reliability",
    "plot_risk_coverage",
    "reliability_curve",
    "risk_coverage_curve",
    "row_stats",
    "sample",
    "selective_log_softmax",
    "selective_log_softmax_backward",
    "softmax",
    "softmax_backward",
    "topk",
]

uniform = sys.modules[__name__]


def by_memory(function, *args, **kwargs):
    raise not_lazy(function.__name__)
