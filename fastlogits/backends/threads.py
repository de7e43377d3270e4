"""How many threads by default: as OpenMP would use, as a controller allows, as there are processors."""

import functools
import math
import os
import sys
from pathlib import Path

try:
    from fastlogits.backends import _team
except ImportError:  # not compiled: there is no team either
    _team = None

# Fewer logits than this stay on the caller's thread.
SERIAL_BELOW = 32768

_found = set()


def default():
    """Asked each time: threadpoolctl, omp_set_num_threads and torch.set_num_threads change it while we run."""
    counts = [available_cpus()]
    if _team is not None:
        counts += filter(None, [_team.limit(), _team.openmp_threads() or environment()])
    else:
        counts.append(environment())
    return max(1, min(counts))


def empty_scratch():
    """Free the scratch memory of all threads that do not compute."""
    if _team is not None:
        _team.empty_scratch()


def look_around():
    """For libraries whose threads concern the team's, once they are there."""
    for name, meet in _ACQUAINTANCES.items():
        if name in sys.modules and name not in _found and meet(sys.modules[name]):
            _found.add(name)


def _meet_torch(_):
    # Whatever the file of its OpenMP is called.
    return sys.platform != "linux" or _team.use_openmp(b"libtorch_cpu.so")


def _meet_threadpoolctl(threadpoolctl):
    if not hasattr(threadpoolctl, "register"):  # before 3.2, or in the middle of its import
        return False

    class Controller(threadpoolctl.LibController):
        user_api = "openmp"
        internal_api = "fastlogits"
        filename_prefixes = ("_team",)
        check_symbols = ("fastlogits_get_num_threads", "fastlogits_set_num_threads")

        def get_num_threads(self):
            return self.dynlib.fastlogits_get_num_threads()

        def set_num_threads(self, num_threads):
            self.dynlib.fastlogits_set_num_threads(num_threads)

        def get_version(self):
            from fastlogits import __version__

            return __version__

    threadpoolctl.register(Controller)
    return True


_ACQUAINTANCES = {} if _team is None else {"torch": _meet_torch, "threadpoolctl": _meet_threadpoolctl}


@functools.cache
def environment():
    """OMP_NUM_THREADS and OMP_THREAD_LIMIT."""
    counts = [os.environ.get(name, "").partition(",")[0].strip() for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")]
    return min((int(text) for text in counts if text.isdecimal() and int(text)), default=available_cpus())


@functools.cache
def available_cpus():
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
