"""Memory for large results, used again as soon as nobody holds the last one."""

import math
import sys

import numpy as np

# A fresh 131 MB gradient costs 42 ms of page faults from torch.empty, 12 ms from np.empty (which asks for
# huge pages) and nothing where the last one is free again; below this size malloc reuses memory by itself.
KEPT_FROM = 1 << 22
ALIGNMENT = 64  # what TensorFlow asks of memory that it takes without a copy
_kept = []


def empty(shape, dtype):
    """As `np.empty`, aligned."""
    nbytes = math.prod(shape) * dtype.itemsize
    memory = _memory(nbytes + ALIGNMENT)
    start = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def _memory(nbytes):
    """The kept memory where nothing refers to it any more and it suffices, else new memory."""
    if nbytes < KEPT_FROM:
        return np.empty(nbytes, np.uint8)
    try:
        memory = _kept.pop()
    except IndexError:
        memory = None
    # Popped, so no other thread has it; the two references are `memory` and getrefcount's own argument.
    if memory is None or sys.getrefcount(memory) > 2 or memory.nbytes < nbytes:
        memory = None
        memory = np.empty(nbytes, np.uint8)
    _kept[:] = [memory]
    return memory


def empty_cache():
    """Return the memory kept from the last large gradient to the system."""
    _kept.clear()
