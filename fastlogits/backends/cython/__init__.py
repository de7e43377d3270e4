"""The kernels compiled ahead of time by Cython, in the build for this processor's instruction set."""

import os
from pathlib import Path

from fastlogits import _checks
from fastlogits.backends import threads
from fastlogits.backends.cython import _core, _cpu, _plain
from fastlogits.backends.cython._calls import (
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
from fastlogits.backends.cython._calls_filters import COLUMNS, filter_logits, sample
from fastlogits.backends.cython._calls_stats import columns_pay, moments, row_stats, takes_bias

LEVELS = ("generic", "v2", "v3", "v4")
UNITS = Path(__file__).parent / "units"


def _choose():
    """The instruction set to use: FASTLOGITS_ISA, or the best one that was built and runs here."""
    best = _cpu.best()
    able = LEVELS[: LEVELS.index(best) + 1]
    built = [name for name in able if any(UNITS.glob(f"{name}_float32.*"))]
    asked = _checks.instruction_set(os.environ.get("FASTLOGITS_ISA", "auto"))
    if asked != "auto" and asked not in built:
        raise _checks.missing_instruction_set(asked, built)
    if not built:
        raise _checks.missing_instruction_set(best, built)
    return built[-1] if asked == "auto" else asked


isa = _choose()
_core.use(UNITS, isa, threads.available_cpus(), threads.environment())

plain_calls = _plain.CALLS

__all__ = [
    "COLUMNS",
    "argmax",
    "columns_pay",
    "count_labels",
    "cross_entropy",
    "filter_logits",
    "isa",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "moments",
    "row_stats",
    "sample",
    "softmax",
    "softmax_backward",
    "softmax_blocks",
    "softmax_merged",
    "softmax_piece",
    "takes_bias",
]
