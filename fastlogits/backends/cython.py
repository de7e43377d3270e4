"""The kernels compiled ahead of time by Cython, in the build for this processor's instruction set."""

import os
from pathlib import Path

from fastlogits import _checks, kernels
from fastlogits.backends import _cpu

LEVELS = ("v2", "v3", "v4")


def _choose():
    """The folder of compiled kernels to use: FASTLOGITS_ISA, or the best one that was built and runs here."""
    folder = Path(kernels.__file__).parent
    best = _cpu.best()
    able = LEVELS[: LEVELS.index(best) + 1] if best in LEVELS else (best,)
    built = [name for name in able if any((folder / name).glob("softmax.*"))]
    asked = _checks.instruction_set(os.environ.get("FASTLOGITS_ISA", "auto"))
    if asked != "auto" and asked not in built:
        raise _checks.missing_instruction_set(asked, built)
    if not built:
        raise _checks.missing_instruction_set(best, built)
    return folder / (built[-1] if asked == "auto" else asked)


_folder = _choose()
isa = _folder.name
kernels.__path__ = [str(_folder), *kernels.__path__]

# The path above decides which kernels these are linked to.
from fastlogits.backends import _calls, _calls_filters  # noqa: E402
from fastlogits.backends._calls import (  # noqa: E402
    argmax,
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
from fastlogits.backends._calls_filters import COLUMNS, filter_logits, sample  # noqa: E402
from fastlogits.backends._cross_entropy import count_labels  # noqa: E402
from fastlogits.backends._moments import moments  # noqa: E402
from fastlogits.backends._row_stats import row_stats  # noqa: E402

for module in (_calls, _calls_filters):
    module.use(Path(__file__).parent / "units", isa)

__all__ = [
    "COLUMNS",
    "argmax",
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
]
