"""fastlogits for PyTorch: the loss and softmaxes of torch.nn.functional, by the same names, faster on CPU."""

from fastlogits._memory import empty_cache
from fastlogits.torch import hf, uniform
from fastlogits.torch._patch import patch
from fastlogits.torch.functional import (
    CrossEntropyLoss,
    cross_entropy,
    log_softmax,
    logsumexp,
    selective_log_softmax,
    softmax,
)

__all__ = [
    "CrossEntropyLoss",
    "cross_entropy",
    "empty_cache",
    "hf",
    "log_softmax",
    "logsumexp",
    "patch",
    "selective_log_softmax",
    "softmax",
    "uniform",
]
