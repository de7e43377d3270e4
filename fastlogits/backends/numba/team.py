"""The parts of a job on the threads of the team, or of Python's where no C compiler built one; scratch memory."""

import concurrent.futures
import contextlib
import ctypes
import functools
import os

import numba
import numpy as np

from fastlogits.backends.numba.drivers import Job
from fastlogits.backends.threads import available_cpus

try:
    from fastlogits.backends import _team
except ImportError:  # not compiled
    _team = None

LINE = 64  # bytes of a cache line


@functools.cache
def of_the_team():
    """`share` of the team's C, and the address of its `held`."""
    share, held = _team.addresses()
    size = ctypes.c_ssize_t
    return ctypes.CFUNCTYPE(ctypes.c_int, size, ctypes.c_void_p, size, ctypes.c_int, size)(share), held


def share_out(driver, job, threads, nbytes):
    """All parts of a job, by threads that hold `nbytes` of scratch memory each, as this one does."""
    if numba.config.DISABLE_JIT:
        share_by_python(driver, job, 1, nbytes)
    elif _team is None:
        share_by_python(driver.ctypes, job, threads, nbytes)
    else:
        share, job.held = of_the_team()
        if share(driver.address, ctypes.addressof(job), job.parts, threads, nbytes):
            raise MemoryError
    if job.out_of_memory:
        raise MemoryError


def share_by_python(driver, job, threads, nbytes):
    """The caller and helpers take the next part, and nobody waits for a helper that has not begun."""
    left = iter(range(job.parts))

    def do_parts():
        memory, own = np.empty(nbytes + LINE, np.uint8), Job.from_buffer_copy(job)
        own.memory = memory.ctypes.data + -memory.ctypes.data % LINE
        for part in left:
            driver(ctypes.addressof(own), part)
        if own.out_of_memory:  # said by several threads at once: set, not added to
            job.out_of_memory = 1

    helpers = []
    with contextlib.suppress(RuntimeError):  # no more threads can be started
        helpers += (_helpers(os.getpid()).submit(do_parts) for _ in range(min(threads, job.parts) - 1))
    do_parts()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


@functools.lru_cache(1)
def _helpers(process):
    """Threads of this very process: those of its parent are not there."""
    return concurrent.futures.ThreadPoolExecutor(max(1, available_cpus() - 1), "fastlogits")
