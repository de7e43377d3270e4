"""Fast softmax, log-softmax, log-sum-exp and cross-entropy on the CPU, with their gradients."""

from fastlogits.config import settings, show_config
from fastlogits.cross_entropy import CrossEntropy, cross_entropy, cross_entropy_with_grad
from fastlogits.softmax import (
    argmax,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
)

__version__ = "0.1.0"

__all__ = [
    "CrossEntropy",
    "argmax",
    "cross_entropy",
    "cross_entropy_with_grad",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "settings",
    "show_config",
    "softmax",
    "softmax_backward",
]
