"""The text compiled by Numba at its first use, for the processor at hand."""

import llvmlite.binding

from fastlogits.backends._numba_calls import (  # noqa: F401
    argmax,
    count_labels,
    cross_entropy,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
    softmax_blocks,
    softmax_merged,
    softmax_piece,
)
from fastlogits.backends._numba_filters import filter_logits, sample  # noqa: F401
from fastlogits.backends._numba_moments import moments  # noqa: F401
from fastlogits.backends._numba_row_stats import row_stats  # noqa: F401

isa = llvmlite.binding.get_host_cpu_name()
