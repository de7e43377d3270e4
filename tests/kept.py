"""Looks at the memory that is kept for large results.

Addresses tell nothing: malloc gives the pages that it has just got back to the next caller. So it is the blocks
themselves that must stay, through weak references, which keep none of them alive.
"""

import gc
import weakref

import numpy as np

from fastlogits import _memory

LARGE = (_memory.KEPT_FROM // 4096 + 1, 1024)  # of float32, so that its result is kept


def blocks():
    """Those that are free, and those under results."""
    return [*_memory._free, *(each.memory for each in lent())]


def lent():
    """What the results that live are written to, and will be kept."""
    return [each for each in gc.get_objects() if type(each) is _memory._Lent and each.pool is _memory._free]


def is_used_again(function, times=6):
    """Whether `function`, which holds none of its results, is written to the very blocks that are kept already."""
    for _ in range(3):
        function()
    known = [weakref.ref(block) for block in blocks()]
    for _ in range(times):
        function()
    return bool(known) and {id(block()) for block in known} == {id(block) for block in blocks()}


def lies_there(array):
    """Whether the array is written to a block that will be kept."""
    return any(np.may_share_memory(array, each.memory) for each in lent())
