"""Little memory, small stacks, no more threads: MemoryError and nothing written, or the right result."""

import ctypes
import os
import sys
import textwrap
import threading

import numpy as np
import pytest
from c_programs import built, output
from conftest import need, require_backend
from operations import OPERATIONS, call, make_logits
from subprocesses import run
from tolerance import DTYPES

import fastlogits

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="written for Linux")
SHAPES = [(67, 4099), (1, 300_007), (20_011, 10)]


def in_a_thread(function, stack):
    """The result of a function that a thread with so many bytes of stack calls."""
    results = []
    before = threading.stack_size(stack)
    try:
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    return results[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_with_small_stacks(compiled_backend, dtype, shape):
    """64 KB, in which NumPy and torch compute."""
    with fastlogits.settings(backend=compiled_backend, num_threads=2):
        context = fastlogits.config.chosen()
        for name in OPERATIONS:
            arguments = OPERATIONS[name].arguments(make_logits(*shape, DTYPES[dtype]))
            expected = call(fastlogits, name, *arguments)

            def small(name=name, arguments=arguments):
                with fastlogits.settings(**context):
                    return call(fastlogits, name, *arguments)

            np.testing.assert_array_equal(in_a_thread(small, 1 << 16), expected)


def test_post_processing_with_small_stacks(compiled_backend):
    x = make_logits(67, 4099, np.dtype(np.float32))
    x = np.where(np.isfinite(x), x, np.float32(-50))

    def several():
        with fastlogits.settings(backend=compiled_backend, num_threads=2):
            return [
                fastlogits.filter_logits(x, top_k=5, top_p=0.9),
                fastlogits.sample(x, seed=1, min_p=0.1).ids,
                fastlogits.topk(x, 3).indices,
                fastlogits.topk(x, 2000).indices,
            ]

    expected = several()  # first, since LLVM needs more to load what Numba has compiled
    for small, large in zip(in_a_thread(several, 1 << 16), expected, strict=True):
        np.testing.assert_array_equal(small, large)


FAILING = """
    import ctypes
    import numpy as np
    import fastlogits
    from operations import OPERATIONS, WITH_OUT, call, make_logits

    fail_after = ctypes.CDLL(None).fail_after
    fail_after.restype, fail_after.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.c_size_t]
    LARGE = 1024  # smaller ones are the interpreter's and NumPy's own

    OTHERS = dict(
        filter_logits=lambda x, **options: fastlogits.filter_logits(x, top_k=3, top_p=0.9, **options),
        sample=lambda x: fastlogits.sample(x, seed=1).ids,
        topk=lambda x: fastlogits.topk(x, min(x.shape[1], 2000)).indices,
    )

    def compute(name, *arguments, **options):
        if name in OTHERS:
            return OTHERS[name](*arguments, **options)
        return call(fastlogits, name, *arguments, **options)

    for shape in [*{shapes}, (3, 4)]:
        for name in [*OPERATIONS, *OTHERS]:
            x = make_logits(*shape, np.dtype(np.float32))
            arguments = (x,) if name in OTHERS else OPERATIONS[name].arguments(x)
            options = dict(out=np.empty_like(x)) if name in [*WITH_OUT, "filter_logits"] else dict()
            expected = np.array(compute(name, *arguments, **options))
            failures = 0
            for n in range(100):
                fastlogits.empty_cache()
                if options:
                    options["out"][...] = 7
                fail_after(n, LARGE)
                try:
                    result = compute(name, *arguments, **options)
                except MemoryError:
                    result = None
                left = fail_after(-1, LARGE)
                if result is None:
                    failures += 1
                    assert not options or (options["out"] == 7).all(), (name, shape, n)
                else:
                    assert np.array_equal(result, expected, equal_nan=True), (name, shape, n)
                if left >= 0:
                    break
            assert failures, (name, shape)
            assert np.array_equal(compute(name, *arguments, **options), expected, equal_nan=True)
    print("fine")
    """


@LINUX
def test_each_allocation_fails_once():
    """MemoryError, and nothing written; where it was a helper's, the right result."""
    require_backend("cython")
    library = built("failing", "-shared", "-fPIC", team=False)
    code = FAILING.format(shapes=SHAPES)
    variables = {"LD_PRELOAD": library, "FASTLOGITS_BACKEND": "cython", "FASTLOGITS_NUM_THREADS": 2}
    assert run(code, **variables) == "fine"


def test_no_memory_for_survivors(monkeypatch):
    """What filters leave of a row may be all of it, for which a thread has no room."""
    require_backend("numba")
    from fastlogits.backends.numba import drivers

    refuse = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_ssize_t)(lambda size: 0)
    x = np.random.default_rng(0).random((1, 3_000_000), np.float32)
    with fastlogits.settings(backend="numba"):
        expected = fastlogits.filter_logits(x, typical_p=0.999)
        with monkeypatch.context() as patch:
            patch.setattr(drivers, "ALLOCATE", drivers.address_of(refuse))
            with pytest.raises(MemoryError):
                fastlogits.filter_logits(x, typical_p=0.999)
        np.testing.assert_array_equal(fastlogits.filter_logits(x, typical_p=0.999), expected)


@LINUX
def test_small_calls_after_memory_has_run_out():
    code = """
        import resource
        import numpy as np
        import fastlogits
        x, small = np.ones((3000, 1000)), np.ones((3, 4))
        expected = fastlogits.softmax(small)
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), resource.RLIM_INFINITY))
        for _ in range(3):
            try:
                fastlogits.softmax(x)
            except MemoryError:
                print("MemoryError")
            print((fastlogits.softmax(small) == expected).all())
        """
    require_backend("cython")
    assert run(code, FASTLOGITS_BACKEND="cython", FASTLOGITS_NUM_THREADS=2).split() == ["MemoryError", "True"] * 3


# The numbers of clone3, and of clone, which is tried after it
CLONES = {"x86_64": "435-,56+", "aarch64": "435-,220+"}.get(os.uname().machine)


def run_without_threads(code, **variables):
    """What the code prints in a process that can start none."""
    if CLONES is None:
        pytest.skip("the numbers of the system calls are not known here")
    refuse = built("refuse", team=False)
    return output(refuse, CLONES, sys.executable, "-c", textwrap.dedent(code), OPENBLAS_NUM_THREADS=1, **variables)


@LINUX
def test_no_thread_can_be_started(compiled_backend):
    code = """
        import os
        import numpy as np
        import fastlogits
        x = np.random.default_rng(0).standard_normal((2000, 1000)).astype(np.float32)
        with fastlogits.settings(num_threads=1):
            expected = fastlogits.softmax(x)
        for _ in range(3):
            np.testing.assert_array_equal(fastlogits.softmax(x), expected)
        print(len(os.listdir("/proc/self/task")))
        """
    variables = {"FASTLOGITS_BACKEND": compiled_backend, "FASTLOGITS_NUM_THREADS": 4}
    assert run_without_threads(code, **variables) == "1\n"


@LINUX
def test_no_thread_can_be_started_beside_torch():
    """Whose OpenMP ends the process where it cannot start the threads of a region."""
    need("torch")
    require_backend("cython")
    code = """
        import numpy as np
        import torch
        import fastlogits
        x = np.random.default_rng(0).standard_normal((2000, 1000)).astype(np.float32)
        with fastlogits.settings(num_threads=1):
            expected = fastlogits.softmax(x)
        with fastlogits.settings(num_threads=2):
            print(all(np.array_equal(fastlogits.softmax(x), expected) for _ in range(5)))
        """
    assert run_without_threads(code, FASTLOGITS_BACKEND="cython") == "True\n"


@LINUX
def test_the_command_line_where_no_thread_can_be_started(tmp_path):
    logits = make_logits(2000, 1000, np.dtype(np.float32))
    np.save(tmp_path / "logits.npy", logits)
    files = [str(tmp_path / name) for name in ("logits.npy", "probs.npy")]
    code = f"""
        from fastlogits.cli import main
        raise SystemExit(main(["apply", "softmax", *{files}, "--no-progress"]))
        """
    run_without_threads(code, FASTLOGITS_NUM_THREADS=2)
    np.testing.assert_array_equal(np.load(files[1]), fastlogits.softmax(logits))
