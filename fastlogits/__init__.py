"""Fast softmax, log-softmax, log-sum-exp, cross-entropy and all that one wants of logits, on the CPU."""

from fastlogits._memory import empty_cache
from fastlogits._results import RowStats
from fastlogits.config import get_include, settings, show_config
from fastlogits.cross_entropy import CrossEntropy, cross_entropy, cross_entropy_with_grad
from fastlogits.filters import filter_logits
from fastlogits.likelihood import LogLikelihood, loglikelihood
from fastlogits.row_stats import TopK, accuracy, entropy, perplexity, row_stats, topk
from fastlogits.sampling import Sample, sample
from fastlogits.selective import selective_log_softmax, selective_log_softmax_backward
from fastlogits.softmax import (
    argmax,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
)
from fastlogits.states import RowState

__version__ = "0.1.0"

__all__ = [
    "CrossEntropy",
    "LogLikelihood",
    "RowState",
    "RowStats",
    "Sample",
    "TopK",
    "accuracy",
    "argmax",
    "cross_entropy",
    "cross_entropy_with_grad",
    "empty_cache",
    "entropy",
    "filter_logits",
    "get_include",
    "log_softmax",
    "log_softmax_backward",
    "loglikelihood",
    "logsumexp",
    "perplexity",
    "row_stats",
    "sample",
    "selective_log_softmax",
    "selective_log_softmax_backward",
    "settings",
    "show_config",
    "softmax",
    "softmax_backward",
    "topk",
]


def __getattr__(name: str) -> object:
    if name == "_C_API":  # by which C finds the functions of fastlogits.h
        from fastlogits.backends.cython import _core

        return _core.API
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
