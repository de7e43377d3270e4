"""Threads: the same bits whatever their number, concurrent callers, forked children, and Ctrl-C."""

import contextvars
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import require_backend
from operations import OPERATIONS, call, make_logits
from subprocesses import run, start

import fastlogits

# few long rows, one very long row, many short rows, all of them too many logits for one thread; and odd
SHAPES = [(67, 4099), (1, 300_007), (20_011, 10), (50_021, 2)]


def arguments_for(name, shape, dtype=np.float32):
    return OPERATIONS[name].arguments(make_logits(*shape, np.dtype(dtype)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_same_bits_for_any_number_of_threads(backend, name, shape):
    arguments = arguments_for(name, shape)
    results = []
    for threads in (1, 2, 3, 7):
        with fastlogits.settings(num_threads=threads):
            results.append(call(fastlogits, name, *arguments).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_same_bits_along_inner_axes(backend, name, dtype):
    """The class axis in the middle: threads share out the inner rows as well."""
    arguments = arguments_for(name, (3 * 211, 101), dtype)
    turned = [np.moveaxis(a.reshape(3, 211, -1), 2, 1).copy() if a.ndim == 2 else a.reshape(3, 211) for a in arguments]
    results = []
    for threads in (1, 2, 3, 7):
        with fastlogits.settings(num_threads=threads):
            results.append(call(fastlogits, name, *turned, axis=1).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_same_bits_of_a_reduced_loss(backend, reduction):
    x = make_logits(20_011, 10, np.dtype(np.float32))
    labels = np.arange(20_011) % 10
    x = np.where(np.isfinite(x), x, np.float32(-50))
    losses = set()
    for threads in (1, 2, 3, 7):
        with fastlogits.settings(num_threads=threads):
            losses.add(fastlogits.cross_entropy(x, labels, reduction=reduction).tobytes())
    assert len(losses) == 1


def test_a_row_does_not_depend_on_its_neighbours(backend):
    """The same row alone, in a short array and in a long one: the same bits."""
    for name, classes in [("softmax", 10), ("logsumexp", 1000), ("cross_entropy_with_grad", 10)]:
        arguments = arguments_for(name, (8192, classes))
        together = call(fastlogits, name, *arguments)
        for row in (0, 1, 63, 64, 4097, 8191):
            alone = call(fastlogits, name, *(a[row : row + 1] for a in arguments))
            assert alone.tobytes() == together[row : row + 1].tobytes()


@pytest.mark.parametrize(("callers", "rounds"), [(4, 2), (32, 1)])
def test_concurrent_callers(backend, callers, rounds):
    """Each with its own arrays and its own number of threads: they get what one would have got."""
    cases = [(name, arguments_for(name, shape)) for name in OPERATIONS for shape in SHAPES[::2]]
    expected = [call(fastlogits, name, *arguments).tobytes() for name, arguments in cases]

    def caller(number):
        with fastlogits.settings(backend=backend, num_threads=1 + number % 3):
            turned = cases[number:] + cases[:number]
            return [call(fastlogits, name, *arguments).tobytes() for name, arguments in turned * rounds]

    with ThreadPoolExecutor(callers) as pool:
        for number, results in enumerate(pool.map(caller, range(callers))):
            assert results == (expected[number:] + expected[:number]) * rounds


def test_the_gil_is_released(compiled_backend):
    """Another Python thread keeps ticking during one call that takes a few tenths of a second."""
    x = np.broadcast_to(np.linspace(0, 1, 2**16, dtype=np.float32), (12_000, 2**16))
    fastlogits.logsumexp(x[:1])
    done = threading.Event()

    def long_call():
        with fastlogits.settings(backend=compiled_backend, num_threads=1):
            fastlogits.logsumexp(x)
        done.set()

    thread = threading.Thread(target=long_call)
    started = time.perf_counter()
    thread.start()
    ticks = 0
    while not done.is_set():
        time.sleep(0.001)
        ticks += 1
    thread.join()
    elapsed = time.perf_counter() - started
    assert elapsed > 0.05
    assert ticks > 5 + 10 * elapsed  # one or two if it is held


FORK = """
    import os, signal, sys, time
    import multiprocessing
    import warnings
    import numpy as np
    import fastlogits

    warnings.simplefilter("ignore", DeprecationWarning)    # forking with threads around is the point here
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 1000)).astype(np.float32)
    labels = rng.integers(0, 1000, 2000)

    def everything():
        with fastlogits.settings(num_threads=2):
            result = fastlogits.cross_entropy_with_grad(x, labels)
            parts = fastlogits.softmax(x), fastlogits.logsumexp(x), fastlogits.argmax(x), result.grad_logits
        return b"".join(p.tobytes() for p in parts)

    def from_child(depth):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(20)                               # a child that hangs must not outlive the test
            same = everything() == expected
            if depth:
                same = same and from_child(depth - 1)
            os.write(writer, b"same" if same else b"different")
            os._exit(0)
        os.close(writer)
        answer = os.read(reader, 100)
        os.waitpid(child, 0)
        return answer == b"same"

    def in_pool(_):
        signal.alarm(20)
        return everything() == expected

    expected = everything()
    assert from_child(depth=1), "a forked child, or its own child, did not compute as its parent"
    assert everything() == expected, "the parent no longer computes"
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(in_pool, range(4)).get(timeout=30) == [True] * 4
    print("fine")
    """


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_children_compute(backend):
    assert run(FORK, timeout=90, FASTLOGITS_BACKEND=backend) == "fine"


INTERRUPTED = """
    import time
    import numpy as np
    import fastlogits

    row = np.linspace(0, 1, 2**18, dtype=np.float32)
    x = np.broadcast_to(row, (2_000_000, 2**18))           # minutes of work in a megabyte
    labels = np.zeros(len(x), np.int64)
    for function in fastlogits.logsumexp, fastlogits.argmax, fastlogits.cross_entropy:
        arguments = (x, labels) if function is fastlogits.cross_entropy else (x,)
        with fastlogits.settings(num_threads={threads}):
            function(*(a[:4] for a in arguments))
            print("ready", flush=True)
            try:
                function(*arguments)
                print("finished", flush=True)
            except KeyboardInterrupt:
                print("interrupted", time.process_time(), flush=True)
            assert fastlogits.logsumexp(x[:2]).shape == (2,)   # and the process is as good as before
            print("usable", flush=True)
    """


def processor_time(process):
    """In seconds, of all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif("sys.platform != 'linux'", reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_within_half_a_second(backend, threads):
    """Of the processor's time, which other processes do not lengthen."""
    process = start(INTERRUPTED.format(threads=threads), FASTLOGITS_BACKEND=backend)
    try:
        for _ in range(3):
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            started = processor_time(process)
            while processor_time(process) < started + 0.3 * threads:  # until it is in the midst of the call
                assert process.poll() is None
                time.sleep(0.01)
            sent = processor_time(process)
            process.send_signal(signal.SIGINT)
            answer, heard = process.stdout.readline().split()
            assert answer == "interrupted"
            assert float(heard) - sent < 0.5 * threads
            assert process.stdout.readline() == "usable\n", process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted under /proc")
def test_callers_share_their_helpers(rng):
    """Threads that have called, and stay, are no more than themselves."""
    require_backend("cython")
    x = rng.standard_normal((200, 1000))
    callers, done = [], threading.Event()

    def caller():
        fastlogits.softmax(x)
        called.release()
        done.wait()

    with fastlogits.settings(backend="cython", num_threads=2):
        fastlogits.softmax(x)
        before = len(os.listdir("/proc/self/task"))
        called = threading.Semaphore(0)
        for _ in range(4):
            callers.append(threading.Thread(target=contextvars.copy_context().run, args=(caller,)))
            callers[-1].start()
            called.acquire()
        left = len(os.listdir("/proc/self/task"))
        done.set()
        for thread in callers:
            thread.join()
    assert left <= before + 4


def test_numba_without_the_compiled_team():
    """Helpers are threads of Python's then; a forked child has its own."""
    require_backend("numba")
    code = """
        import sys
        sys.modules["fastlogits.backends._team"] = None
        import os, signal, threading
        import numpy as np
        import fastlogits

        x = np.random.default_rng(0).standard_normal((2000, 1000)).astype(np.float32)
        with fastlogits.settings(num_threads=1):
            expected = fastlogits.softmax(x)

        def right():
            return all(np.array_equal(fastlogits.softmax(x), expected) for _ in range(5))

        print(right(), threading.active_count() > 1)
        if (pid := os.fork()) == 0:
            signal.alarm(60)
            os._exit(0 if right() else 1)
        print(os.waitpid(pid, 0)[1])
        """
    variables = {"FASTLOGITS_BACKEND": "numba", "FASTLOGITS_NUM_THREADS": 3}
    assert run(code, timeout=300, **variables).split() == ["True", "True", "0"]
