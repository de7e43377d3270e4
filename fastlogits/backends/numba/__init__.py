"""The text compiled by Numba at its first use, for the processor at hand."""

import llvmlite.binding

from fastlogits.backends.numba.calls import (  # noqa: F401
    COLUMNS,
    argmax,
    columns_pay,
    count_labels,
    cross_entropy,
    filter_logits,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    moments,
    row_stats,
    sample,
    softmax,
    softmax_backward,
    softmax_blocks,
    softmax_merged,
    softmax_piece,
    takes_bias,
)

isa = llvmlite.binding.get_host_cpu_name()
