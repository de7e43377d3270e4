"""Backends: the same functions in each, chosen as asked for, and loud where they cannot be had."""

import asyncio
import importlib
import inspect
import threading

import numpy as np
import pytest
from conftest import BACKENDS, require_backend
from operations import OPERATIONS
from subprocesses import run

import fastlogits

NOT_PUBLIC = ["count_labels", "filter_logits", "moments", "row_stats", "sample"]
FUNCTIONS = [*(name for name in OPERATIONS if name not in ("cross_entropy_with_grad", "entropy")), *NOT_PUBLIC]


def in_force():
    return fastlogits.show_config("dicts")["backend"]


def threads_in_force():
    return fastlogits.show_config("dicts")["threads"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_functions_and_parameters(backend, name):
    reference = importlib.import_module("fastlogits.backends.numpy")
    module = importlib.import_module(f"fastlogits.backends.{backend}")
    parameters = [list(inspect.signature(getattr(m, name)).parameters) for m in (module, reference)]
    assert parameters[0] == parameters[1]


def test_count_labels(backend):
    """The first bad label of many, and the sum of the weights of the rows that count."""
    module = importlib.import_module(f"fastlogits.backends.{backend}")
    labels = np.resize(np.array([0, 1, 2, -100]), 100_000)
    weight, sample_weight = np.array([1, 2, 4], np.float32), np.full(100_000, 0.5)
    assert module.count_labels(labels, None, None, 3, -100) == (-1, 75_000)
    assert module.count_labels(labels, weight, None, 3, -100) == (-1, 175_000)
    assert module.count_labels(labels, weight, sample_weight, 3, -100) == (-1, 87_500)
    labels[[70_001, 70_002, 99_999]] = 3, -1, 2**40
    assert module.count_labels(labels, weight, sample_weight, 3, -100)[0] == 70_001


def test_settings_nest_and_end(backend):
    assert in_force() == backend
    with fastlogits.settings(backend="numpy"):
        assert in_force() == "numpy"
        with fastlogits.settings(num_threads=3):
            assert in_force() == "numpy"
            assert threads_in_force() == 3
            with fastlogits.settings(num_threads=1):
                assert threads_in_force() == 1
            assert threads_in_force() == 3
        with fastlogits.settings(backend=backend):
            assert in_force() == backend
        assert in_force() == "numpy"
    assert in_force() == backend
    with pytest.raises(ZeroDivisionError), fastlogits.settings(backend="numpy"):
        raise ZeroDivisionError
    assert in_force() == backend


def test_settings_hold_for_the_calling_thread(backend):
    other = "numpy" if backend != "numpy" else "auto"
    chosen, seen = threading.Event(), threading.Event()
    results = []

    def worker():
        with fastlogits.settings(backend=other):
            chosen.set()
            seen.wait(30)
            results.append(in_force())

    thread = threading.Thread(target=worker)
    thread.start()
    assert chosen.wait(30)
    assert in_force() == backend
    seen.set()
    thread.join()
    with fastlogits.settings(backend=other):
        assert results == [in_force()]


def test_settings_hold_for_the_calling_task():
    async def task(name, pause):
        with fastlogits.settings(backend=name):
            await asyncio.sleep(pause)
            return in_force()

    async def both():
        return await asyncio.gather(task("numpy", 0.02), task("auto", 0.01))

    with fastlogits.settings(backend="auto"):
        auto = in_force()
    assert asyncio.run(both()) == ["numpy", auto]


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"backend": "rust"}, ["backend", "cython", "numba", "numpy", "'rust'"]),
        ({"num_threads": 0}, ["num_threads", "0"]),
        ({"num_threads": -2}, ["num_threads", "-2"]),
        ({"num_threads": 1.5}, ["num_threads", "1.5"]),
        ({"num_threads": 100_000}, ["num_threads", "100000", "from 1 to"]),
        ({"num_threads": 2**31}, ["num_threads", str(2**31)]),
        ({"num_threads": 2**70}, ["num_threads", str(2**70)]),
        ({"num_threads": -(2**70)}, ["num_threads", str(-(2**70))]),
    ],
)
def test_bad_settings(options, tokens):
    with pytest.raises(ValueError, match=tokens[0]) as caught, fastlogits.settings(**options):
        pass
    assert all(token in str(caught.value) for token in tokens)


def test_show_config(backend, capsys):
    assert fastlogits.show_config() is None
    printed = capsys.readouterr().out
    for word in (backend, fastlogits.__version__, np.__version__, "threads", "instruction set"):
        assert word in printed


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FASTLOGITS_BACKEND", "rust"),
        ("FASTLOGITS_NUM_THREADS", "many"),
        ("FASTLOGITS_NUM_THREADS", "0"),
        ("FASTLOGITS_NUM_THREADS", "100000"),
        ("FASTLOGITS_NUM_THREADS", "2147483648"),
        ("FASTLOGITS_NUM_THREADS", "9" * 30),
        ("FASTLOGITS_ISA", "avx9"),
    ],
)
def test_unknown_value_in_the_environment(variable, value):
    """Named with its value at the first use; the import itself succeeds."""
    output = run(
        """
        import fastlogits
        print("imported")
        try:
            fastlogits.softmax([[1.0, 2.0]])
        except ValueError as error:
            print(error)
        """,
        **{variable: value},
    )
    assert output.startswith("imported\n")
    assert variable in output
    assert value in output


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_from_the_environment(name):
    require_backend(name)
    code = "import fastlogits; print(fastlogits.show_config('dicts')['backend'])"
    assert run(code, FASTLOGITS_BACKEND=name) == name


@pytest.mark.parametrize("count", [1, 3])
def test_threads_from_the_environment(count):
    code = "import fastlogits; print(fastlogits.show_config('dicts')['threads'])"
    assert run(code, FASTLOGITS_NUM_THREADS=count) == str(count)


def test_omp_num_threads_is_honoured():
    code = "import fastlogits; print(fastlogits.show_config('dicts')['threads'])"
    assert run(code, OMP_NUM_THREADS=1) == "1"


@pytest.mark.parametrize(
    ("absent", "name", "remedy"),
    [
        ("fastlogits.backends.cython", "cython", "C compiler"),
        ("numba", "numba", "pip install numba"),
    ],
)
def test_missing_backend_is_loud(absent, name, remedy):
    """By name an error that says what to install, in a block and in the environment; "auto" takes another."""
    code = f"""
        import sys
        sys.modules[{absent!r}] = None
        import fastlogits
        try:
            with fastlogits.settings(backend={name!r}):
                print("entered")
        except ImportError as error:
            print(error)
        with fastlogits.settings(backend="auto"):
            print("auto:", fastlogits.show_config("dicts")["backend"])
        try:
            fastlogits.softmax([1.0])
        except ImportError as error:
            print("environment:", error)
        """
    message, auto, environment = run(code, FASTLOGITS_BACKEND=name).splitlines()
    assert name in message
    assert remedy in message
    assert auto.startswith("auto: ")
    assert auto != f"auto: {name}"
    assert environment == f"environment: {message}"


CHECK_ALL = """
    from operations import OPERATIONS, call, case
    from tolerance import DTYPES, assert_close
    import fastlogits

    for name in OPERATIONS:
        for dtype in DTYPES.values():
            for rows, classes in {sizes}:
                arguments, exact = case(name, rows, classes, dtype)
                assert_close(call(fastlogits, name, *arguments), exact, name)
    print(fastlogits.show_config("dicts")["instruction set"])
    """


@pytest.mark.parametrize("isa", ["v2", "v3", "v4", "generic"])
def test_every_instruction_set(isa):
    """Those that this machine has and this build contains."""
    require_backend("cython")
    probe = """
        import fastlogits
        try:
            fastlogits.softmax([1.0])
            print("works")
        except ImportError as error:
            print(error)
        """
    answer = run(probe, FASTLOGITS_BACKEND="cython", FASTLOGITS_ISA=isa)
    if answer != "works":
        assert isa in answer
        pytest.skip(answer)
    code = CHECK_ALL.format(sizes=[(67, 3), (67, 10), (7, 127), (7, 2500)])
    assert run(code, FASTLOGITS_BACKEND="cython", FASTLOGITS_ISA=isa) == isa


def test_the_interpreter_runs_the_kernel_text():
    require_backend("numba")
    code = CHECK_ALL.format(sizes=[(7, 3), (3, 40)])
    run(code, FASTLOGITS_BACKEND="numba", FASTLOGITS_NUM_THREADS=1, NUMBA_DISABLE_JIT=1)


def test_backends_agree_on_everything_but_rounding(backend, rng):
    """Whatever a backend decides by itself (ties, NaN, empty sums) is decided alike."""
    x = rng.choice([np.nan, np.inf, -np.inf, 0, 1, 2], (200, 5), p=[0.1, 0.1, 0.2, 0.2, 0.2, 0.2])
    labels = rng.integers(0, 5, 200)

    def everything():
        result = fastlogits.cross_entropy_with_grad(x, labels, reduction="none", z_loss=0.1)
        return [
            fastlogits.softmax(x),
            fastlogits.log_softmax(x),
            fastlogits.logsumexp(x),
            fastlogits.argmax(x),
            fastlogits.softmax_backward(x, x),
            fastlogits.log_softmax_backward(x, x),
            *result,
            *vars(fastlogits.row_stats(x, labels, top_k=4)).values(),
            fastlogits.filter_logits(x, temperature=0.5, top_k=4, top_p=0.9, min_p=0.1, typical_p=0.9, min_keep=2),
        ]

    with fastlogits.settings(backend="numpy"):
        expected = everything()
    for ours, reference in zip(everything(), expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=1e-12)


def test_as_many_threads_as_may_be(backend):
    """The most that `settings` takes do the work, where the call has it for them."""
    code = """
        import numpy as np
        import fastlogits
        from fastlogits import _checks
        x = np.zeros((20_000, 40), np.float32)
        with fastlogits.settings(num_threads=_checks.MOST_THREADS):
            assert fastlogits.softmax(x)[-1, -1] == np.float32(1 / 40)
            assert fastlogits.sample(x, seed=0, top_k=3).ids.shape == (20_000,)
            fastlogits.topk(np.zeros((300, 2000), np.float32), 300)
            assert fastlogits.cross_entropy(x, np.zeros(20_000, int)) == np.log(np.float32(40))
    """
    run(code, FASTLOGITS_BACKEND=backend)
