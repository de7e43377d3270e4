"""Looks at the memory that is kept for large results.

Addresses tell nothing: malloc gives the pages that it has just got back to the next caller. So it is the blocks
themselves that must stay, through weak references, which keep none of them alive.
"""

import weakref

import numpy as np

from fastlogits import _memory

LARGE = (_memory.KEPT_FROM // 4096 + 1, 1024)  # of float32, so that its result is kept


def is_used_again(function, times=6):
    """Whether `function`, which holds none of its results, is written to the very blocks that are kept already."""
    for _ in range(3):
        function()
    blocks = [weakref.ref(block) for block in _memory._kept]
    for _ in range(times):
        function()
    return bool(blocks) and {id(block()) for block in blocks} == {id(block) for block in _memory._kept}


def lies_there(array):
    """Whether the array is written to a block that is kept."""
    return any(np.may_share_memory(array, block) for block in _memory._kept)
