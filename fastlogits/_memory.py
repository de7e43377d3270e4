"""Memory for large results, used again as soon as nobody holds the last one; and whether they fit the caches."""

import collections
import math
import sys

import numpy as np

from fastlogits.backends import threads

# A fresh 131 MB gradient costs 42 ms of page faults from torch.empty, 12 ms from np.empty (which asks for
# huge pages) and nothing where the last one is free again; below this size malloc reuses memory by itself.
KEPT_FROM = 1 << 22
ALIGNMENT = 64  # what TensorFlow asks of memory that it takes without a copy
# Two, because in `p = softmax(x)`, said again, the last p is still held while the next one is written; and graphs of
# TensorFlow let go of a result only while they compute the next one.
_kept = collections.deque(maxlen=2)


def last_cache(size="/sys/devices/system/cpu/cpu0/cache/index3/size"):
    """Its bytes; 0 where the system does not say. sysconf adds up the caches of processors that are not ours."""
    try:
        with open(size, encoding="ascii") as file:
            number, unit = file.read().strip(), {"K": 1 << 10, "M": 1 << 20}
        return int(number[:-1]) * unit[number[-1]]
    except (OSError, ValueError, KeyError, IndexError):
        return 0


LAST_CACHE = last_cache()


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
    for _ in range(len(_kept)):
        try:
            popped = [_kept.popleft()]
        except IndexError:  # by another thread
            break
        # No other thread has it now; the two references are the list and getrefcount's argument.
        suits = sys.getrefcount(popped[0]) == 2 and nbytes <= popped[0].nbytes <= 2 * nbytes
        _kept.append(popped[0])
        if suits:
            return popped[0]
    memory = np.empty(nbytes, np.uint8)
    _kept.append(memory)
    return memory


def empty_cache() -> None:
    """Return the memory kept for the next large results, and the scratch memory of threads, to the system.

    Results of 4 MB and more are written to memory that is kept, of the last two at most, and used again when
    nothing refers to it any more, since fresh pages cost more than the kernels.
    """
    _kept.clear()
    threads.empty_scratch()
