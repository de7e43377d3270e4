"""Memory for large results, used again as soon as nobody holds the last one."""

import math
import sys

import numpy as np

# A fresh 131 MB gradient costs 42 ms of page faults from torch.empty, 12 ms from np.empty (which asks for
# huge pages) and nothing where the last one is free again; below this size malloc reuses memory by itself.
KEPT_FROM = 1 << 22
ALIGNMENT = 64  # what TensorFlow asks of memory that it takes without a copy
# Two, because in `p = softmax(x)`, said again, the last p is still held while the next one is written.
KEPT = 2
_kept = []


def empty(shape, dtype):
    """As `np.empty`, aligned."""
    nbytes = math.prod(shape) * dtype.itemsize
    memory = _memory(nbytes + ALIGNMENT)
    start = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def _memory(nbytes):
    """Kept memory to which nothing refers any more, if it suffices and no more than half is left over; else new."""
    if nbytes < KEPT_FROM:
        return np.empty(nbytes, np.uint8)
    others = []
    try:
        while True:
            # Popped, so no other thread has it; the two references are `memory` and getrefcount's own argument.
            memory = _kept.pop()
            if sys.getrefcount(memory) == 2 and nbytes <= memory.nbytes <= 2 * nbytes:
                break
            others.append(memory)
    except IndexError:
        memory = None
        del others[KEPT - 1 :]
        memory = np.empty(nbytes, np.uint8)
    _kept[:] = [*reversed(others), memory]
    return memory


def empty_cache():
    """Return the memory kept for the next large results to the system.

    Results of 4 MB and more are written to memory that is kept, of the last two at most, and used again when
    nothing refers to it any more, since fresh pages cost more than the kernels.
    """
    _kept.clear()
