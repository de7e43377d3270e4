"""Memory for large results, used again as soon as nobody holds the last one; and whether they fit the caches."""

import collections
import contextlib
import math

import numpy as np

from fastlogits.backends import threads

# A fresh 131 MB gradient costs 42 ms of page faults from torch.empty, 12 ms from np.empty (which asks for
# huge pages) and nothing where the last one is free again; below this size malloc reuses memory by itself.
KEPT_FROM = 1 << 22
ALIGNMENT = 64  # what TensorFlow asks of memory that it takes without a copy
# Two, because in `p = softmax(x)`, said again, the last p is still held while the next one is written; and graphs of
# TensorFlow let go of a result only while they compute the next one.
KEPT = 2
CACHES = [threads.empty_scratch]  # what else `empty_cache` empties; adapters add theirs
_free = collections.deque(maxlen=KEPT)


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


class _Lent:
    """Memory under one result: free again when neither the array nor a view of it is left.

    It is their `base`, and goes with the last of them. Counts of references would not do: Pythons without the
    interpreter lock keep them in several parts.
    """

    def __init__(self, memory):
        self.memory, self.pool = memory, _free
        self.__array_interface__ = memory.__array_interface__

    def __del__(self):
        if self.pool is _free:  # not where `empty_cache` was called since
            self.pool.append(self.memory)


def _memory(nbytes):
    """Free memory, if it suffices and no more than half is left over; else new."""
    if nbytes < KEPT_FROM:
        return np.empty(nbytes, np.uint8)
    return np.asarray(_Lent(_taken(nbytes)))


def _taken(nbytes):
    for _ in range(KEPT):
        try:
            memory = _free.popleft()
        except IndexError:
            break
        if nbytes <= memory.nbytes <= 2 * nbytes:
            return memory
        _free.append(memory)
    if len(_free) == KEPT:
        # What has not suited for long goes before there is more, not after.
        with contextlib.suppress(IndexError):  # gone, to another thread
            _free.popleft()
    return np.empty(nbytes, np.uint8)


def empty_cache() -> None:
    """Return the memory kept for the next large results, and the scratch memory of threads, to the system.

    Results of 4 MB and more leave their memory, when nothing refers to it any more, to the next ones, since fresh pages
    cost more than the kernels. That of two results at most is kept.
    """
    global _free
    _free.clear()
    _free = collections.deque(maxlen=KEPT)
    for empty in CACHES:
        empty()
