"""Backend, threads and instruction set: what is in force, and how to change it."""

import contextlib
import contextvars
import functools
import math
import os
import platform
from pathlib import Path

import numpy as np

from fastlogits import _checks, backends

BACKENDS = ("auto", *backends.NAMES)

# Fewer logits than this stay on the caller's thread.
SERIAL_BELOW = 32768

_backend = contextvars.ContextVar("fastlogits_backend", default=None)
_num_threads = contextvars.ContextVar("fastlogits_num_threads", default=None)
_forked = False


def _after_fork_in_child():
    # The parent's OpenMP threads do not exist here; a parallel region would wait for them for ever.
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def settings(*, backend=None, num_threads=None):
    """Choose the backend and the number of threads within a ``with`` block.

    Holds for the calling context alone (thread or asyncio task), and nests. What is None stays as it is.

    Parameters
    ----------
    backend : {"auto", "cython", "numba", "numpy"}, optional
        "auto" is the first that loads.
    num_threads : int, optional
        From 1 to 256, or to the number of processors where that is larger. Small arrays, and processes forked from
        this one, are served by one thread whatever it is.

    Raises
    ------
    ImportError
        If the backend is known but not installed.

    Examples
    --------
    >>> import fastlogits
    >>> with fastlogits.settings(backend="numpy", num_threads=1):
    ...     fastlogits.softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    tokens = []
    if backend is not None:
        _environment_isa()
        chosen = backends.load(_checks.one_of("backend", backend, BACKENDS))
        tokens.append((_backend, _backend.set(chosen)))
    try:
        if num_threads is not None:
            chosen = _checks.thread_count("num_threads", num_threads)
            tokens.append((_num_threads, _num_threads.set(chosen)))
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def show_config(mode="stdout"):
    """Print the backend, instruction set, threads and versions in force.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        "dicts" returns a dict and prints nothing.
    """
    from fastlogits import __version__

    _checks.one_of("mode", mode, ("stdout", "dicts"))
    module = backend()
    config = {
        "fastlogits": __version__,
        "backend": module.__name__.rpartition(".")[2],
        "instruction set": getattr(module, "isa", "native"),
        "threads": threads(SERIAL_BELOW),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if mode == "dicts":
        return config
    width = max(map(len, config))
    print("\n".join(f"{key:<{width}}  {value}" for key, value in config.items()))
    return None


def backend():
    """The backend module in force."""
    return _backend.get() or _default_backend()


def chosen():
    """What `settings` has set in this context, by the names of its parameters."""
    module, number = _backend.get(), _num_threads.get()
    named = {"backend": module and module.__name__.rpartition(".")[2], "num_threads": number}
    return {name: value for name, value in named.items() if value is not None}


def threads(work):
    """How many threads `work` logits deserve."""
    if work < SERIAL_BELOW or _forked:
        return 1
    return _num_threads.get() or _default_threads()


@functools.cache
def _default_backend():
    _environment_isa()
    environment_threads()
    return backends.load(_environment("FASTLOGITS_BACKEND", BACKENDS))


def _environment_isa():
    # A wrong value is an error of its own, not a backend that fails.
    _environment("FASTLOGITS_ISA", _checks.INSTRUCTION_SETS)


def _environment(variable, allowed):
    return _checks.one_of(variable, os.environ.get(variable) or allowed[0], allowed)


def _default_threads():
    ours = environment_threads()
    if ours is not None:
        return ours
    # Asked each time: threadpoolctl and omp_set_num_threads change it while we run.
    max_threads = getattr(backend(), "max_threads", _openmp_environment)
    return max(1, min(max_threads(), _available_cpus()))


@functools.cache
def environment_threads():
    text = os.environ.get("FASTLOGITS_NUM_THREADS")
    return _checks.thread_count("FASTLOGITS_NUM_THREADS", text) if text else None


def _openmp_environment():
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) else _available_cpus()


@functools.cache
def _available_cpus():
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(affinity, _cgroup_cpus())


def _cgroup_cpus(root=Path("/sys/fs/cgroup"), membership=Path("/proc/self/cgroup")):
    """The CPU quota of this process's control group and the groups above it, rounded up; inf without one."""
    cpus = math.inf
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return cpus
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        group = top / path.lstrip("/")
        for level in (group, *group.parents):
            if not level.is_relative_to(top):
                break
            quota, period = _quota(level, version=1 if controllers else 2)
            if quota > 0 and period > 0:
                cpus = min(cpus, math.ceil(quota / period))
    return cpus


def _quota(group, version):
    """(quota, period) in microseconds; quota -1 means no limit."""
    try:
        if version == 2:
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return (-1 if quota == "max" else int(quota)), int(period)
    except (OSError, ValueError):
        return -1, 0
