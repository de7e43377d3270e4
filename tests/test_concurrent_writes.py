"""Arrays that another thread writes to while we read them: an error or any numbers, but no memory that is not ours.

What is checked in one pass and trusted in another must be a copy. In processes of their own, which may crash.
"""

import pytest
import subprocesses
from conftest import need

# What is used must be what was checked: here the labels change right after the check, in any backend.
AFTER_THE_CHECK = """
    import faulthandler
    import numpy as np
    import fastlogits
    from fastlogits import calibration, config

    faulthandler.enable()
    backend = config.backend()
    check = backend.count_labels

    def check_and_write(*arguments):
        found = check(*arguments)
        labels[...] = np.iinfo(labels.dtype).max // 8
        return found

    calls = {
        "cross_entropy": lambda x, y, axis: fastlogits.cross_entropy(x, y, axis=axis, reduction="none"),
        "weighted": lambda x, y, axis: fastlogits.cross_entropy(
            x, y, axis=axis, weight=np.arange(1.0, x.shape[axis] + 1), label_smoothing=0.1, softcap=30.0
        ),
        "with_grad": lambda x, y, axis: fastlogits.cross_entropy_with_grad(x, y, axis=axis).grad_logits,
        "perplexity": lambda x, y, axis: fastlogits.perplexity(x, y, axis=axis),
        "loglikelihood": lambda x, y, axis: fastlogits.loglikelihood(x, y, axis=axis).log_prob,
        "selective": lambda x, y, axis: fastlogits.selective_log_softmax(x, y, axis),
        "selective_backward": lambda x, y, axis: fastlogits.selective_log_softmax_backward(
            np.ones(y.shape, x.dtype), x, y, axis
        ),
        "temperature": lambda x, y, axis: calibration.fit_temperature(x, y, axis=axis).temperature,
        "measure": lambda x, y, axis: calibration.negative_log_likelihood(x, y, axis=axis),
        "error": lambda x, y, axis: calibration.expected_calibration_error(x, y, axis=axis),
    }
    rng = np.random.default_rng(0)
    for name, call in calls.items():
        for shape, axis in (((300, 10), 1), ((70, 1100), 1), ((3, 10, 40), 1), ((2, 300_000), 1)):
            for dtype in (np.int64, np.int32, np.uint64):
                x = rng.standard_normal(shape).astype(np.float32)
                original = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1:]).astype(dtype)
                labels = original.copy()
                backend.count_labels = check
                expected = call(x, labels, axis)
                backend.count_labels = check_and_write
                np.testing.assert_array_equal(call(x, labels, axis), expected, err_msg=f"{name} {shape} {dtype}")
"""

# And here they change at any time.
AT_ANY_TIME = """
    import faulthandler, sys, threading, time
    import numpy as np
    import fastlogits
    from fastlogits import calibration

    faulthandler.enable()
    sys.setswitchinterval(1e-6)

    def while_written(shared, contents, call, seconds=SECONDS):
        end = threading.Event()

        def write():
            while not end.is_set():
                for content in contents:
                    np.copyto(shared, content)

        shared[...] = contents[0]
        call()  # compiled before there is another thread to wait for
        writer = threading.Thread(target=write)
        writer.start()
        calls, until = 0, time.monotonic() + seconds
        try:
            while time.monotonic() < until or calls < 3:
                try:
                    call()
                except (IndexError, ValueError):
                    pass
                calls += 1
        finally:
            end.set()
            writer.join()

    def inside(ids, classes):
        assert (0 <= np.asarray(ids)).all() and (np.asarray(ids) < classes).all(), ids

    rng = np.random.default_rng(0)
"""

LABELS = """
    for rows, classes in ((3000, 10), (20_000, 10), (2000, 100), (40, 3000), (2, 300_000)):
        x = rng.standard_normal((rows, classes)).astype(np.float32)
        good, labels = rng.integers(0, classes, rows), np.empty(rows, np.int64)
        contents = good, np.full(rows, 2**60), good, np.full(rows, -(2**60)), good, np.full(rows, -100)
        weight = np.ones(classes, np.float32)
        for call in (
            lambda: fastlogits.cross_entropy(x, labels),
            lambda: fastlogits.cross_entropy(x, labels, weight=weight),
            lambda: fastlogits.cross_entropy_with_grad(x, labels, softcap=30.0),
            lambda: fastlogits.perplexity(x, labels),
            lambda: fastlogits.row_stats(x, labels),
            lambda: fastlogits.loglikelihood(x, labels),
            lambda: fastlogits.loglikelihood(x, np.zeros(rows, int), groups=labels),
            lambda: fastlogits.accuracy(x, labels, top_k=2),
            lambda: fastlogits.selective_log_softmax(x, labels),
            lambda: fastlogits.selective_log_softmax_backward(np.ones(rows, np.float32), x, labels),
            lambda: calibration.fit_temperature(x, labels),
            lambda: calibration.classwise_calibration_error(x, labels),
        ):
            while_written(labels, contents, call)
"""

PARAMETERS = """
    x = rng.standard_normal((4000, 50)).astype(np.float32)
    for name, good, bad in (
        ("top_k", 5, -(2**62)), ("min_keep", 3, 2**62), ("top_p", 0.5, np.nan), ("min_p", 0.1, -np.inf),
        ("typical_p", 0.5, np.inf), ("epsilon_cutoff", 0.1, np.nan), ("eta_cutoff", 0.1, np.inf),
        ("temperature", 2.0, -np.inf),
    ):
        values = np.full(len(x), good)
        for call in (
            lambda: fastlogits.filter_logits(x, **{"top_k": 20, name: values}),
            lambda: inside(fastlogits.sample(x, **{"top_k": 20, name: values}, seed=0).ids, 50),
        ):
            while_written(values, (np.full_like(values, good), np.full_like(values, bad)), call)
    numbers = np.arange(len(x))
    while_written(
        numbers, (np.arange(len(x)), np.full(len(x), -1)),
        lambda: inside(fastlogits.sample(x, rows=numbers, seed=0).ids, 50),
    )
"""

LOGITS = """
    for rows, classes in ((2000, 10), (300, 203), (40, 1027), (2, 70_003)):
        shape = rows, classes
        contents = [np.full(shape, value, np.float32) for value in (0, 1, -np.inf, 2, np.nan, 1e30, np.inf)]
        x = np.empty(shape, np.float32)
        for call in (
            lambda: inside(fastlogits.argmax(x), classes),
            lambda: inside(fastlogits.row_stats(x, want=("argmax", "margin", "entropy")).argmax, classes),
            lambda: fastlogits.topk(x, 5),
            lambda: fastlogits.topk(x, min(classes, 300)),
            lambda: inside(fastlogits.sample(x, seed=0).ids, classes),
            lambda: inside(fastlogits.sample(x, seed=0, top_k=5, top_p=0.9, typical_p=0.9).ids, classes),
            lambda: fastlogits.filter_logits(x, min_p=0.1, top_p=0.5, eta_cutoff=0.1),
            lambda: fastlogits.softmax(x),
            lambda: fastlogits.logsumexp(x),
        ):
            while_written(x, contents, call)
"""

TORCH = """
    import torch
    import fastlogits.torch

    for rows, classes in ((20_000, 10), (40, 3000)):
        x = torch.zeros(rows, classes, requires_grad=True)
        labels = torch.zeros(rows, dtype=torch.int64).share_memory_()
        contents = np.zeros(rows, np.int64), np.full(rows, 2**60), np.full(rows, -(2**60))
        for call in (
            lambda: fastlogits.torch.cross_entropy(x, labels).backward(),
            lambda: fastlogits.torch.cross_entropy(x, labels, reduction="none").sum().backward(),
            lambda: fastlogits.torch.selective_log_softmax(x, labels).sum().backward(),
        ):
            while_written(labels.numpy(), contents, call)
"""


def test_what_was_checked_is_what_is_used(backend):
    subprocesses.run(AFTER_THE_CHECK, timeout=900, FASTLOGITS_BACKEND=backend)


@pytest.mark.parametrize("what", [LABELS, PARAMETERS, LOGITS], ids=["labels", "parameters", "logits"])
def test_arrays_that_change_while_they_are_read(backend, what):
    code = AT_ANY_TIME.replace("SECONDS", "0.05") + what
    subprocesses.run(code, timeout=900, FASTLOGITS_BACKEND=backend)


def test_tensors_that_change_while_they_are_read():
    need("torch")
    subprocesses.run(AT_ANY_TIME.replace("SECONDS", "0.3") + TORCH, timeout=900)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_state_stays_what_it_is_when_its_labels_are_written_to(backend, axis):
    import numpy as np

    from fastlogits.states import RowState

    labels = np.array([0, 1, 0])
    x = np.arange(6.0).reshape(3, 2)
    state = RowState.of(x if axis else x.T, labels, axis=axis)
    before = vars(state.results())
    labels[:] = 5
    for name, values in vars(state.results()).items():
        np.testing.assert_array_equal(values, before[name])
