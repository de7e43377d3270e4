"""The team of threads by itself, in C: every part once, whatever happens beside; and what calls leave behind."""

import os
import re
import sys

import pytest
from c_programs import built, output
from conftest import require_backend
from subprocesses import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the programs are written for Linux")

SCHED_SETSCHEDULER = {"x86_64": 144, "aarch64": 119}.get(os.uname().machine)


@pytest.mark.parametrize("callers", [1, 4, 32])
@pytest.mark.parametrize("threads", [2, 8, 64])
def test_every_part_once(callers, threads):
    """Callers that come and go, nested jobs, emptied scratch memory, forks in the middle, and the children's forks."""
    output(built("stress"), callers, 1, 0.5, threads)


@pytest.mark.parametrize(
    "flags",
    [("-fsanitize=thread",), ("-fsanitize=address,undefined",), ("-DTEAM_WITHOUT_FUTEX",)],
    ids=["thread sanitizer", "address sanitizer", "condition variable"],
)
@pytest.mark.parametrize(("callers", "threads"), [(4, 8), (16, 64)])
def test_every_part_once_under(flags, callers, threads):
    # Sanitizers have locks of their own, which a child of a process with threads may find taken.
    forks = int("-DTEAM_WITHOUT_FUTEX" in flags)
    # What helpers keep is no leak: they never end.
    variables = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"}
    output(built("stress", *flags), callers, forks, 2, threads, **variables)


def test_every_part_once_where_no_thread_may_run_in_the_background():
    if SCHED_SETSCHEDULER is None:
        pytest.skip("the number of the system call is not known here")
    output(built("refuse", team=False), SCHED_SETSCHEDULER, built("stress"), 4, 1, 1, 8)


@pytest.mark.parametrize("threads", [2, 16, 64])
def test_helpers_are_woken_seldom(threads):
    """Short jobs wake hardly anybody, long ones nobody twice, however many processors a machine would have."""
    assert float(output(built("wakes"), threads, 10, 2000)) < 0.5
    assert float(output(built("wakes"), threads, 3000, 100)) <= threads


def test_an_allocation_that_fails_leaves_the_parts_undone():
    failures = int(re.match(r"(\d+) failures", output(built("memory+failing")))[1])
    assert failures >= 2


def test_our_files_link_no_openmp():
    code = """
        import numpy as np
        import fastlogits
        fastlogits.softmax(np.zeros((300, 1000)))
        with open("/proc/self/maps") as maps:
            print([line for line in maps if "gomp" in line or "libomp" in line or "iomp" in line])
        """
    require_backend("cython")
    assert run(code, FASTLOGITS_BACKEND="cython", FASTLOGITS_NUM_THREADS=2) == "[]"


LEFT_BEHIND = """
    import os, threading, time
    import numpy as np
    import fastlogits
    from fastlogits.backends import _team

    x = np.ones((200, 1000), np.float32)
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    def burst(count):
        for _ in range(count // 20):
            threads = [threading.Thread(target=fastlogits.softmax, args=(x,)) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return len(os.listdir("/proc/self/task")), _team.scratch_bytes(), resident()

    fastlogits.softmax(x)
    tasks, kept, memory = burst(1000)
    more_tasks, more_kept, more_memory = burst({count})
    end = time.monotonic() + 5
    while more_tasks > tasks and time.monotonic() < end:  # a thread that was joined may still be about to end
        time.sleep(0.01)
        more_tasks = len(os.listdir("/proc/self/task"))
    assert more_tasks <= tasks, (tasks, more_tasks)
    assert more_kept <= kept + (1 << 19), (kept, more_kept)
    assert more_memory < memory + (8 << 20), (memory, more_memory)
    fastlogits.empty_cache()
    assert _team.scratch_bytes() == 0
    print("fine")
    """


def test_short_lived_threads_leave_nothing_behind():
    require_backend("cython")
    code = LEFT_BEHIND.format(count=10_000)
    assert run(code, FASTLOGITS_BACKEND="cython", FASTLOGITS_NUM_THREADS=2) == "fine"


def test_no_processor_is_burnt_after_the_last_call(compiled_backend):
    code = """
        import time
        import numpy as np
        import fastlogits
        x = np.ones((1000, 1000), np.float32)
        burnt = []
        for _ in range(10):  # once is enough, since other processes may hold up a helper
            for _ in range(20):
                fastlogits.softmax(x)
            time.sleep(0.001)
            before = time.process_time()
            time.sleep(0.05)
            burnt.append(time.process_time() - before)
        print(min(burnt))
        """
    assert float(run(code, FASTLOGITS_BACKEND=compiled_backend, FASTLOGITS_NUM_THREADS=2)) < 0.002


def test_a_program_may_end_in_the_middle_of_a_call(compiled_backend):
    code = """
        import threading, time
        import numpy as np
        import fastlogits
        x = np.broadcast_to(np.linspace(0, 1, 2**16, dtype=np.float32), (1_000_000, 2**16))
        fastlogits.logsumexp(x[:100])
        threading.Thread(target=fastlogits.logsumexp, args=(x,), daemon=True).start()
        time.sleep(0.1)
        print("done")
        """
    assert run(code, FASTLOGITS_BACKEND=compiled_backend, FASTLOGITS_NUM_THREADS=2) == "done"


def test_a_fork_in_the_middle_of_calls_of_others(compiled_backend):
    """Each child computes on helpers of its own, and can fork again."""
    code = """
        import os, signal, threading
        import warnings
        import numpy as np
        import fastlogits

        warnings.simplefilter("ignore", DeprecationWarning)
        x = np.random.default_rng(0).standard_normal((2000, 1000)).astype(np.float32)
        expected = fastlogits.softmax(x)
        stop = False
        def others():
            while not stop:
                fastlogits.softmax(x)
        threads = [threading.Thread(target=others) for _ in range(3)]
        for thread in threads:
            thread.start()
        def child(generations):
            if (pid := os.fork()) == 0:
                signal.alarm(30)
                same = all(np.array_equal(fastlogits.softmax(x), expected) for _ in range(3))
                same = same and (generations == 1 or child(generations - 1))
                helped = len(os.listdir("/proc/self/task")) > 1
                os._exit(0 if same and helped else 1)
            return os.waitpid(pid, 0)[1] == 0
        print(all(child(1 + k % 2) for k in range(20)))
        stop = True
        """
    assert run(code, FASTLOGITS_BACKEND=compiled_backend, FASTLOGITS_NUM_THREADS=2) == "True"
