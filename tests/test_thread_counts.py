"""How many threads by default: the environment, OpenMP, a controller of threads, affinity and quotas."""

import itertools
import os
import sys

import pytest
from conftest import need, require_backend
from subprocesses import run

from fastlogits.backends import threads

COUNT = "import fastlogits; print(fastlogits.config.threads(1 << 30))"


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "FASTLOGITS_NUM_THREADS"])
def test_one_thread_from_the_environment(variable):
    assert run(COUNT, **{variable: 1}) == "1"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_no_more_threads_than_processors():
    first = min(os.sched_getaffinity(0))
    assert run(f"import os; os.sched_setaffinity(0, {{{first}}}); {COUNT}", OMP_NUM_THREADS=8) == "1"


CASES = [
    ("2", "max 100000", None),
    ("2", "150000 100000", 2),
    ("2", "50000 100000", 1),
    ("1", "150000 100000", 2),
    ("1", "-1 100000", None),
]


@pytest.mark.parametrize(("version", "quota", "cpus"), CASES)
@pytest.mark.parametrize("group", ["/", "/outer/inner"])
def test_quota_of_a_control_group(tmp_path, version, quota, cpus, group):
    """That of the group itself, or of one above it; one and a half processors are two threads."""
    membership = tmp_path / "cgroup"
    membership.write_text(f"0::{group}\n" if version == "2" else f"4:cpu,cpuacct:{group}\n")
    top = tmp_path if version == "2" else tmp_path / "cpu"
    (top / "outer" / "inner").mkdir(parents=True)
    limited = top / "outer" if group != "/" else top
    if version == "2":
        (limited / "cpu.max").write_text(quota)
    else:
        for name, number in zip(("quota", "period"), quota.split(), strict=True):
            (limited / f"cpu.cfs_{name}_us").write_text(number)
    assert threads._cgroup_cpus(tmp_path, membership) == (float("inf") if cpus is None else cpus)


@pytest.mark.parametrize("first", ["threadpoolctl", "fastlogits"])
def test_threadpoolctl(first):
    """Imported before us, or before a call of ours."""
    need("threadpoolctl")
    require_backend("cython")
    code = f"""
        import {first}
        import fastlogits
        import threadpoolctl
        count = lambda: fastlogits.config.threads(1 << 30)
        before = count()
        with threadpoolctl.threadpool_limits(1):
            print(count())
            with threadpoolctl.threadpool_limits(before, user_api="openmp"):
                print(count() == before)
        print(count() == before)
        print([pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "fastlogits"])
        """
    cpus = threads.available_cpus()
    assert run(code, FASTLOGITS_BACKEND="cython").split("\n") == ["1", "True", "True", f"[{cpus}]"]


@pytest.mark.skipif(sys.platform != "linux", reason="torch's OpenMP is looked up on Linux")
@pytest.mark.parametrize("first", ["torch", "fastlogits"])
def test_torchs_own_number(first):
    need("torch")
    require_backend("cython")
    code = f"""
        import {first}
        import fastlogits
        import torch
        for number in (1, 2):
            torch.set_num_threads(number)
            cpus = fastlogits.backends.threads.available_cpus()
            print(fastlogits.config.threads(1 << 30) == min(number, cpus))
        """
    assert run(code, FASTLOGITS_BACKEND="cython").split() == ["True", "True"]


@pytest.mark.slow
@pytest.mark.parametrize("order", [*itertools.permutations(["torch", "sklearn.linear_model", "fastlogits"])])
def test_any_order_of_imports(order):
    """One process with the OpenMP of torch, that of scikit-learn and our team: all compute, and the number is ours."""
    need("torch"), need("sklearn")
    require_backend("cython")
    code = f"""
        import {order[0]}
        import {order[1]}
        import {order[2]}
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        import fastlogits, torch

        torch.set_num_threads(2)
        x = np.random.default_rng(0).standard_normal((3000, 1000)).astype(np.float32)
        for _ in range(2):
            expected = torch.softmax(torch.from_numpy(x), 1).numpy()
            LogisticRegression().fit(x[:100, :5], np.arange(100) % 2).predict(x[:, :5])
            assert np.allclose(fastlogits.softmax(x), expected, rtol=1e-4)
        print(fastlogits.config.threads(1 << 30) == min(2, fastlogits.backends.threads.available_cpus()))
        """
    assert run(code, timeout=300, FASTLOGITS_BACKEND="cython") == "True"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted under /proc")
def test_beside_torch_its_threads_are_used():
    """By the first thread that calls us; others, and forked children, have helpers. The results are the same."""
    need("torch")
    require_backend("cython")
    code = """
        import os, signal, threading
        import numpy as np
        import torch
        import fastlogits
        from fastlogits.backends import _team

        torch.set_num_threads(2)
        x = np.random.default_rng(0).standard_normal((2000, 1000)).astype(np.float32)
        other = torch.zeros(1000, 1000)
        with fastlogits.settings(num_threads=1):
            expected = fastlogits.softmax(x)

        def calls():
            with fastlogits.settings(num_threads=2):
                for _ in range(20):
                    other.add_(1).exp_()
                    assert np.array_equal(fastlogits.softmax(x), expected)
            return True

        calls()
        print(_team.regions() > 0)
        before = _team.regions()
        thread = threading.Thread(target=calls)
        thread.start()
        thread.join()
        print(_team.regions() == before)
        if (pid := os.fork()) == 0:
            signal.alarm(30)
            torch.set_num_threads(1)
            one = fastlogits.config.threads(1 << 30) == 1  # as in a worker of a DataLoader
            os._exit(0 if one and calls() and _team.regions() == before else 1)
        print(os.waitpid(pid, 0)[1])
        """
    assert run(code, FASTLOGITS_BACKEND="cython").split() == ["True", "True", "0"]
