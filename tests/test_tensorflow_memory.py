"""fastlogits.tensorflow on the tensors' own memory, and on TensorFlow's threads."""

import gc

import kept
import numpy as np
import pytest
import subprocesses
from tensorflow_cases import DTYPES, by_python, ft, normal, tf

from fastlogits import _memory
from fastlogits.tensorflow import _arrays


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_tensors_are_read_where_they_lie(dtype):
    x = tf.cast(normal(30, 40), dtype)
    array = _arrays.array(x)
    assert array.dtype == dtype.as_numpy_dtype
    # The one look at a tensor's own memory that TensorFlow has for all dtypes.
    assert address(array) == address(x._numpy_internal())
    np.testing.assert_array_equal(array, x.numpy())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_large_results_are_not_copied(monkeypatch, dtype, compiled):
    by_python(monkeypatch)
    made = []

    def empty(*args):
        made.append(_empty(*args))
        return made[-1]

    _empty = _memory.empty
    monkeypatch.setattr(_memory, "empty", empty)
    x = tf.cast(normal(300, 400), dtype)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = ft.log_softmax(x)
        return value, tape.gradient(value, x)

    results = tf.function(both)(x) if compiled else both(x)
    assert [address(result._numpy_internal()) for result in results] == [address(array) for array in made]
    assert not any(address(array) % 64 for array in made)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_large_gradients_do_not_share_memory(monkeypatch, compiled, native):
    """The memory of the last large gradient is used again, but only once nobody holds it."""
    if not native:
        by_python(monkeypatch)
    x = normal(*kept.LARGE, dtype=tf.float32)

    def gradient(scale):
        with tf.GradientTape() as tape:
            tape.watch(x)
            losses = ft.sparse_softmax_cross_entropy_with_logits(tf.zeros(x.shape[0], tf.int32), x)
            loss = scale * tf.reduce_sum(losses)
        return tape.gradient(loss, x)

    run = tf.function(gradient, reduce_retracing=True) if compiled else gradient
    one, two = run(tf.constant(1.0)), run(tf.constant(2.0))
    np.testing.assert_array_equal(two, 2 * one.numpy())
    held = memoryview(one)
    before = np.array(held)
    del one, two
    gc.collect()
    three = run(tf.constant(3.0))
    np.testing.assert_array_equal(held, before)
    view = tf.reshape(three, [-1])[1:]
    copy = view.numpy()
    del three, held
    gc.collect()
    run(tf.constant(4.0))
    np.testing.assert_array_equal(view, copy)
    del view
    gc.collect()
    if not native:
        assert kept.lies_there(run(tf.constant(1.0))._numpy_internal())
        assert kept.is_used_again(lambda: run(tf.constant(1.0)))


MEMORY = """
import tensorflow as tf
import fastlogits
import fastlogits.tensorflow as ft
from fastlogits import config
from fastlogits.tensorflow import _calls

tf.config.threading.set_intra_op_parallelism_threads(1)
used = []
def compute(x):
    used.append(config.threads(1 << 20))
    return (x,)
x = tf.zeros(3)
with fastlogits.settings(num_threads=2):
    _calls.run(compute, [x], [x.dtype], [x.shape])
    tf.function(lambda x: _calls.run(compute, [x], [x.dtype], [x.shape]))(x)
print(*used)

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def step(x, labels):
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_mean(ft.sparse_softmax_cross_entropy_with_logits(labels, x))
    return tape.gradient(loss, x)

def more(run, dtype, rows=1024):
    x, labels = tf.zeros((rows, 32000), dtype), tf.zeros(rows, tf.int64)
    before = peak()
    run(x, labels)
    return (peak() - before) / (rows * 32000 * dtype.size)

for dtype in (tf.float32, tf.bfloat16):
    for run in (step, tf.function(step)):
        more(run, dtype, 2)
        ft.empty_cache()
        print(more(run, dtype))
        ft.empty_cache()
"""


@pytest.mark.skipif("sys.platform != 'linux'", reason="reads /proc")
def test_extra_memory_and_threads_allowed():
    """One gradient, and no copy of the logits (later ones find the pages of the first); TensorFlow's own limit."""
    eager, traced, *extra = map(float, subprocesses.run(MEMORY, TF_CPP_MIN_LOG_LEVEL=3).split())
    assert eager == traced == 1
    assert max(extra) < 1.1


# Threads


def test_threads_of_tensorflow_share_our_helpers():
    code = """
        import os
        import tensorflow as tf
        tf.config.threading.set_inter_op_parallelism_threads(12)
        import fastlogits.tensorflow as ft

        @tf.function
        def several(x):
            return tf.add_n([tf.reduce_sum(ft.log_softmax(x + i)) for i in range(8)])

        x = tf.zeros((64, 1024))
        before = len(os.listdir("/proc/self/task"))
        for _ in range(10):
            total = float(several(x))
        # TensorFlow's twelve, and the one helper that two processors make worth while for all of them together.
        print(len(os.listdir("/proc/self/task")) - before <= 12 + 1 + max(1, len(os.sched_getaffinity(0)) - 1))
        print(abs(total / (8 * 64 * 1024 * 6.931471805599453) + 1) < 1e-4)
        """
    assert subprocesses.run(code, OMP_NUM_THREADS=2, TF_CPP_MIN_LOG_LEVEL=3).split() == ["True", "True"]
