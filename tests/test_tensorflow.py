"""fastlogits.tensorflow beside tf.nn, and what only TensorFlow has: tapes, traced functions, XLA, SavedModels."""

import gc
import inspect

import kept
import numpy as np
import pytest
import subprocesses
from conftest import need

import fastlogits
from fastlogits import _memory

tf = need("tensorflow")
ft = need("fastlogits.tensorflow")

from fastlogits.tensorflow import _arrays, _calls, _checks, _gradients  # noqa: E402

DTYPES = (tf.float32, tf.float64, tf.bfloat16, tf.float16)


def normal(*shape, dtype=tf.float64, seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def shares(*shape, dtype=tf.float64, seed=1):
    return tf.nn.softmax(normal(*shape, seed=seed) * 2) if dtype is tf.float64 else tf.cast(shares(*shape), dtype)


LABELS = tf.constant([[0, 4, 2], [2, 2, 1]])
LOGITS = normal(2, 3, 5)

# Ours, TensorFlow's, and the arguments before the logits.
FUNCTIONS = {
    "sparse": (ft.sparse_softmax_cross_entropy_with_logits, tf.nn.sparse_softmax_cross_entropy_with_logits, (LABELS,)),
    "distribution": (ft.softmax_cross_entropy_with_logits, tf.nn.softmax_cross_entropy_with_logits, (shares(2, 3, 5),)),
    "softmax": (ft.softmax, tf.nn.softmax, ()),
    "log_softmax": (ft.log_softmax, tf.nn.log_softmax, ()),
    "reduce_logsumexp": (ft.reduce_logsumexp, tf.reduce_logsumexp, ()),
}
each_function = pytest.mark.parametrize(("ours", "theirs", "first"), FUNCTIONS.values(), ids=FUNCTIONS)


@each_function
def test_signatures_are_those_of_tensorflow(ours, theirs, first):
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@each_function
def test_same_numbers_and_gradients_as_tensorflow(ours, theirs, first, dtype):
    first = [tf.cast(t, dtype) if t.dtype.is_floating else t for t in first]
    x = tf.cast(LOGITS, dtype)

    def value_and_gradient(function, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(*first, x)
            total = tf.reduce_sum(tf.cast(value, tf.float64) ** 2)
        return value, tape.gradient(total, x)

    wide = value_and_gradient(theirs, tf.cast(x, tf.float64)) if not first or first[0].dtype.is_integer else None
    for given, exact in zip(value_and_gradient(ours, x), wide or value_and_gradient(theirs, x), strict=True):
        assert given.dtype == dtype
        eps = float(np.finfo(np.float32).eps) if dtype.size == 4 else {8: 1e-15, 2: 2.0**-7}[dtype.size]
        np.testing.assert_allclose(tf.cast(given, tf.float64), tf.cast(exact, tf.float64), rtol=20 * eps, atol=eps)


def test_softmax_and_losses_along_other_axes():
    x, t = normal(4, 5, 3), shares(4, 5, 3)
    for axis in (0, 1, -2, 2):
        for name in ("softmax", "log_softmax"):
            np.testing.assert_allclose(getattr(ft, name)(x, axis), getattr(tf.nn, name)(x, axis), rtol=1e-13)
        ours = ft.softmax_cross_entropy_with_logits(t, x, axis=axis)
        theirs = tf.nn.softmax_cross_entropy_with_logits(t, x, axis=axis % 3)  # which takes no -2
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    for axis, keepdims in ((None, False), (None, True), ([0, 2], False), ((1,), True), ([], False), (-1, True)):
        ours, theirs = ft.reduce_logsumexp(x, axis, keepdims), tf.reduce_logsumexp(x, axis, keepdims)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    assert ft.reduce_logsumexp(2.0) == 2.0


def test_what_else_is_taken():
    """Python and NumPy values, variables; labels of any integer dtype; distributions of integers."""
    values, labels = [[1.0, 2.0, 0.5]], [2]
    expected = ft.sparse_softmax_cross_entropy_with_logits(labels, values)
    for logits in (np.float32(values), tf.Variable(values)):
        assert ft.sparse_softmax_cross_entropy_with_logits(np.array(labels), logits) == expected
    for dtype in _checks.INTEGERS:
        assert ft.sparse_softmax_cross_entropy_with_logits(tf.constant(labels, dtype), values) == expected
    np.testing.assert_array_equal(ft.softmax_cross_entropy_with_logits([[0, 0, 1]], values), expected)
    np.testing.assert_array_equal(ft.softmax_cross_entropy_with_logits([[False, False, True]], values), expected)
    variable = tf.Variable(values)
    with tf.GradientTape() as tape:
        loss = ft.sparse_softmax_cross_entropy_with_logits(labels, variable)
    np.testing.assert_allclose(tape.gradient(loss, variable)[0, 2], ft.softmax(values)[0, 2] - 1, rtol=1e-6)


# Derivatives

ROW_LABELS = tf.constant([3, 0])
ROWS, ROW_SHARES, CLASS_WEIGHTS = normal(2, 4), shares(2, 4) * 1.5, 0.5 + shares(4)
CHECKED = {
    "sparse": (lambda x: ft.sparse_softmax_cross_entropy_with_logits(ROW_LABELS, x), [ROWS]),
    "distribution": (ft.softmax_cross_entropy_with_logits, [ROW_SHARES, ROWS]),
    "distribution, axis 0": (lambda t, x: ft.softmax_cross_entropy_with_logits(t, x, 0), [ROW_SHARES, ROWS]),
    "softmax": (ft.softmax, [ROWS]),
    "log_softmax": (lambda x: ft.log_softmax(x, 0), [ROWS]),
    "reduce_logsumexp": (ft.reduce_logsumexp, [ROWS]),
    "logsumexp with factors": (lambda a, b: fastlogits.logsumexp(a, 1, b=b), [ROWS, 0.5 + ROW_SHARES]),
    "weights": (
        lambda x, t, w, s: fastlogits.cross_entropy(x, t, weight=w, sample_weight=s, z_loss=0.1, softcap=2.0),
        [ROWS, ROW_SHARES, CLASS_WEIGHTS, tf.constant([0.5, 1.5], "double")],
    ),
    "weights beside indices": (
        lambda x, w, s: fastlogits.cross_entropy(x, ROW_LABELS, weight=w, sample_weight=s, ignore_index=2),
        [ROWS, CLASS_WEIGHTS, tf.constant([0.5, 1.5], "double")],
    ),
    "normalizer": (
        lambda x, n: fastlogits.cross_entropy(x, ROW_LABELS, normalizer=n), [ROWS, tf.constant(2.5, "double")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("function", "inputs"), CHECKED.values(), ids=CHECKED)
def test_first_and_second_derivatives(function, inputs, compiled):
    """To every input, the labels and weights too."""

    def gradients(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = tf.reduce_sum(tf.sin(function(*inputs)))
        return tape.gradient(value, inputs)

    first = tf.function(function) if compiled else function
    theory, numbers = tf.test.compute_gradient(first, inputs, delta=1e-4)
    for exact, found in zip(numbers, theory, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-7)
    second = tf.function(gradients) if compiled else gradients
    for number in range(len(inputs)):
        theory, numbers = tf.test.compute_gradient(lambda *t, n=number: second(*t)[n], inputs, delta=1e-4)
        for exact, found in zip(numbers, theory, strict=True):
            np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-7)


@each_function
def test_third_derivatives_jacobians_and_forward_mode(ours, theirs, first):
    def third(function):
        with tf.GradientTape(persistent=True) as outermost:
            outermost.watch(LOGITS)
            with tf.GradientTape() as outer:
                outer.watch(LOGITS)
                with tf.GradientTape() as inner:
                    inner.watch(LOGITS)
                    value = tf.reduce_sum(function(*first, LOGITS) ** 2)
                gradient = tf.reduce_sum(inner.gradient(value, LOGITS) ** 2)
            gradient = outer.gradient(gradient, LOGITS)
        return outermost.gradient(gradient, LOGITS)

    np.testing.assert_allclose(third(ours), third(theirs), rtol=1e-9, atol=1e-12)

    def jacobian(function, **options):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(LOGITS)
            value = function(*first, LOGITS)
        return tape.jacobian(value, LOGITS, **options)

    for options in ({}, {"experimental_use_pfor": False}):
        np.testing.assert_allclose(jacobian(ours, **options), jacobian(theirs), rtol=1e-9, atol=1e-14)

    def forward_mode(function, x):
        with tf.autodiff.ForwardAccumulator(x, tf.cos(x)) as accumulator:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(*first, x)
            gradient = tape.gradient(value, x)
        return accumulator.jvp(value), accumulator.jvp(gradient)

    exact = forward_mode(theirs, LOGITS)
    for mode in (forward_mode, tf.function(forward_mode)):
        for one, other in zip(mode(ours, LOGITS), exact, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    with tf.autodiff.ForwardAccumulator(LOGITS, tf.cos(LOGITS)) as accumulator:
        value = tf.function(ours)(*first, LOGITS)
    np.testing.assert_allclose(accumulator.jvp(value), exact[0], rtol=1e-9, atol=1e-12)


def test_a_tape_outside_of_the_function():
    """The function knows of no tape when it is traced; its gradients, of both orders, are made later."""
    traced = tf.function(lambda x: tf.reduce_sum(ft.softmax_cross_entropy_with_logits(shares(2, 3, 5), x) ** 2))

    def second(function):
        with tf.GradientTape() as outer:
            outer.watch(LOGITS)
            with tf.GradientTape() as inner:
                inner.watch(LOGITS)
                value = function(LOGITS)
            gradient = inner.gradient(value, LOGITS)
        return gradient, outer.gradient(gradient, LOGITS)

    for ours, plain in zip(second(traced), second(traced.python_function), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-12)


def test_a_persistent_tape_gives_its_gradient_again():
    x = normal(*kept.LARGE, dtype=tf.float32)
    labels = tf.zeros(kept.LARGE[0], tf.int64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        loss = tf.reduce_mean(ft.sparse_softmax_cross_entropy_with_logits(labels, x))
        twice = 2 * loss
    first, doubled, again = (tape.gradient(value, x) for value in (loss, twice, loss))
    assert (first == again).numpy().all()
    np.testing.assert_allclose(doubled, 2 * first, rtol=1e-6)


@pytest.fixture
def without_private_names(monkeypatch):
    """As if TensorFlow had moved what we use without its promise."""
    monkeypatch.setattr(_calls, "record_operation", None)
    monkeypatch.setattr(_calls, "is_recording", lambda: True)
    monkeypatch.setattr(_calls, "is_recorded", lambda tensors: True)


@pytest.mark.usefixtures("without_private_names")
@pytest.mark.parametrize("name", ["sparse", "distribution", "softmax", "weights"])
def test_without_private_names(name):
    test_first_and_second_derivatives(*CHECKED[name], compiled=False)


# One sweep


@pytest.fixture
def sweeps(monkeypatch):
    """What our kernels are asked for: True for a loss with its gradient, False for a loss alone."""
    asked = []

    def watched(*args):
        asked.append(bool(args[9]))
        return _evaluate(*args)

    _evaluate = _gradients.evaluate
    monkeypatch.setattr(_gradients, "evaluate", watched)
    monkeypatch.setattr(_gradients, "_usual", {})
    return asked


REDUCTIONS = {
    "mean": (tf.reduce_mean, [True]),
    # What arrives is not that of a mean: computed anew, and expected from then on.
    "sum": (tf.reduce_sum, [True, True]),
    "scaled": (lambda losses: 1024 * tf.reduce_mean(losses), [True, True]),
    # One number for each row cannot be expected: from then on the gradient is left for later.
    "weighted": (lambda losses: tf.reduce_sum(losses * [0.5, 1.0, 2.0]), [True, True]),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("reduce", "first_step"), REDUCTIONS.values(), ids=REDUCTIONS)
def test_one_sweep(sweeps, reduce, first_step, compiled):
    x = normal(3, 7, dtype=tf.float32)
    labels = tf.constant([0, 6, 3])

    def step(x, function=ft.sparse_softmax_cross_entropy_with_logits):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = reduce(function(labels, x))
        return tape.gradient(loss, x)

    exact = step(x, tf.nn.sparse_softmax_cross_entropy_with_logits)
    run = tf.function(step) if compiled else step
    for number in range(3):
        np.testing.assert_allclose(run(x), exact, rtol=1e-5, atol=1e-7)
        if number == 0:
            assert sweeps == first_step
        else:
            assert sweeps == ([False, True] if reduce is REDUCTIONS["weighted"][0] else [True])
        sweeps.clear()


@pytest.mark.parametrize("compiled", [False, True])
def test_no_gradient_where_nobody_asks(sweeps, compiled):
    x = normal(3, 7)

    def loss(x):
        return ft.sparse_softmax_cross_entropy_with_logits([0, 6, 3], x)

    run = tf.function(loss) if compiled else loss
    run(x)
    assert sweeps == [False]
    with tf.GradientTape():
        loss(x)  # eager, and watched by nobody
    assert sweeps == [False, False]


def test_gradients_of_labels_and_weights_cost_nothing_unasked(sweeps):
    @tf.function
    def step(x, labels):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(ft.softmax_cross_entropy_with_logits(labels, x))
        return tape.gradient(loss, x)

    step(LOGITS, shares(2, 3, 5))
    assert sweeps == [True]
    kinds = [operation.type for operation in step.get_concrete_function(LOGITS, LOGITS).graph.get_operations()]
    assert kinds.count("PyFuncStateless") >= 2


# Memory


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


@pytest.mark.parametrize("compiled", [False, True])
def test_large_gradients_do_not_share_memory(compiled):
    """The memory of the last large gradient is used again, but only once nobody holds it."""
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
    before = bytes(held)
    del one, two
    gc.collect()
    three = run(tf.constant(3.0))
    assert bytes(held) == before
    view = tf.reshape(three, [-1])[1:]
    copy = view.numpy()
    del three, held
    gc.collect()
    run(tf.constant(4.0))
    np.testing.assert_array_equal(view, copy)
    del view
    gc.collect()
    assert kept.lies_there(run(tf.constant(1.0))._numpy_internal())
    assert kept.is_used_again(lambda: run(tf.constant(1.0)))


MEMORY = '''
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
'''


@pytest.mark.skipif("sys.platform != 'linux'", reason="reads /proc")
def test_extra_memory_and_threads_allowed():
    """One gradient, and no copy of the logits (later ones find the pages of the first); TensorFlow's own limit."""
    eager, traced, *extra = map(float, subprocesses.run(MEMORY, TF_CPP_MIN_LOG_LEVEL=3).split())
    assert eager == traced == 1
    assert max(extra) < 1.1


# Graphs


def test_shapes_that_are_not_known():
    x, labels = LOGITS, LABELS
    expected = ft.sparse_softmax_cross_entropy_with_logits(labels, x)
    for shape in ([None, None, 5], [None, 3, None], None):
        labels_shape = None if shape is None else shape[:-1]
        traced = tf.function(
            ft.sparse_softmax_cross_entropy_with_logits,
            input_signature=[tf.TensorSpec(labels_shape, tf.int32), tf.TensorSpec(shape, tf.float64)],
        )
        np.testing.assert_array_equal(traced(labels, x), expected)
        assert traced.get_concrete_function().structured_outputs.shape.as_list() == labels_shape if shape else True
        for function in (ft.softmax, ft.reduce_logsumexp, lambda x: ft.log_softmax(x, 1)):
            traced = tf.function(function, input_signature=[tf.TensorSpec(shape, tf.float64)])
            np.testing.assert_allclose(traced(x), function(x), rtol=1e-15)


def test_batches_of_any_size_are_traced_once():
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 7], tf.float32)])
    def step(labels, x):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(ft.sparse_softmax_cross_entropy_with_logits(labels, x))
        return tape.gradient(loss, x)

    for rows in (3, 1, 4, 0, 3):
        x, labels = normal(rows, 7, dtype=tf.float32), tf.zeros(rows, tf.int64)
        exact = fastlogits.cross_entropy_with_grad(x.numpy(), labels.numpy(), grad_loss=1.0).grad_logits
        np.testing.assert_allclose(step(labels, x), exact, rtol=1e-6)
    assert len(traces) == 1


def test_no_rows_and_no_classes():
    for dtype in (tf.float32, tf.bfloat16):
        for shape in ((0, 5), (3, 0), (0, 0)):
            x = tf.zeros(shape, dtype)
            assert ft.softmax(x).shape == shape
            np.testing.assert_array_equal(ft.reduce_logsumexp(x, -1), np.full(shape[:1], -np.inf))
        with tf.GradientTape() as tape:
            x = tf.zeros((0, 5), dtype)
            tape.watch(x)
            loss = ft.sparse_softmax_cross_entropy_with_logits(tf.zeros(0, tf.int32), x)
        assert loss.shape == (0,)
        assert tape.gradient(loss, x).shape == (0, 5)


def test_settings_hold_where_a_function_is_traced():
    found = []

    def compute(x):
        found.append(fastlogits.show_config("dicts")["backend"])
        return (x,)

    @tf.function
    def traced(x):
        return _calls.run(compute, [x], [x.dtype], [x.shape])[0]

    with fastlogits.settings(backend="numpy"):
        traced(LOGITS)
    traced(LOGITS)
    assert found == ["numpy", "numpy"]


def test_within_loops_maps_and_datasets():
    x = normal(4, 3, 5, dtype=tf.float32)
    exact = ft.softmax(x)
    np.testing.assert_array_equal(tf.map_fn(ft.softmax, x), exact)
    np.testing.assert_array_equal(tf.function(lambda x: tf.map_fn(ft.softmax, x))(x), exact)
    data = tf.data.Dataset.from_tensor_slices(x).map(ft.softmax, num_parallel_calls=2)
    np.testing.assert_array_equal(list(data), exact)

    @tf.function
    def looped(x):
        total = tf.zeros(())
        for _ in tf.range(3):
            total += tf.reduce_sum(ft.log_softmax(x))
        return total

    with tf.GradientTape() as tape:
        tape.watch(x)
        total = looped(x)
    np.testing.assert_allclose(tape.gradient(total, x), 3 * (1 - 5 * exact), rtol=1e-5, atol=1e-6)


def test_graphs_of_version_1():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.constant(LOGITS.numpy())
        loss = ft.sparse_softmax_cross_entropy_with_logits(LABELS.numpy(), x)
        (grad,) = tf.gradients(loss, x)
        found = session.run([loss, grad])
    exact = fastlogits.cross_entropy_with_grad(LOGITS.numpy(), LABELS.numpy(), reduction="none")
    for ours, numpy in zip(found, exact, strict=True):
        np.testing.assert_array_equal(ours, numpy)


# XLA and SavedModels


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
@each_function
def test_xla(ours, theirs, first, dtype):
    """Compiled, the functions are TensorFlow's operators."""
    first = [tf.cast(t, dtype) if t.dtype.is_floating else t for t in first]

    def value_and_gradient(function, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(*first, x)
        return value, tape.gradient(value, x)

    x = tf.cast(LOGITS, dtype)
    found = tf.function(value_and_gradient, jit_compile=True)(ours, x)
    for compiled, plain in zip(found, value_and_gradient(ours, x), strict=True):
        assert compiled.dtype == dtype
        tolerance = 1e-6 if dtype == tf.float32 else 2.0**-6
        np.testing.assert_allclose(tf.cast(compiled, "float32"), tf.cast(plain, "float32"), tolerance, tolerance)


def test_portable_uniform_functions_and_bad_labels():
    with ft.portable():
        traced = tf.function(
            lambda x, y: fastlogits.cross_entropy(
                x, y, axis=1, reduction="none", ignore_index=1, label_smoothing=0.1, softcap=3.0, z_loss=0.1,
                weight=tf.constant([1.0, 2.0, 3.0]), sample_weight=tf.ones((2, 5)),
            )  # fmt: skip
        ).get_concrete_function(LOGITS, tf.zeros((2, 5), tf.int32))
        calls = {"axis": (0, 2), "temperature": 0.7}
        softmax = tf.function(lambda x: fastlogits.softmax(x, **calls)).get_concrete_function(LOGITS)
    assert not any("PyFunc" in operation.type for operation in traced.graph.get_operations())
    labels = np.array([[0, 1, 2, 0, 3], [0, 1, 2, 0, -1]], np.int32)
    found = traced(LOGITS, tf.constant(labels))
    assert np.isnan(found).tolist() == [[False] * 4 + [True]] * 2
    labels[:, -1] = 0
    weights = np.array([1.0, 2.0, 3.0])
    exact = fastlogits.cross_entropy(
        LOGITS.numpy(), labels, axis=1, reduction="none", ignore_index=1, label_smoothing=0.1, softcap=3.0, z_loss=0.1,
        weight=weights,
    )  # fmt: skip
    np.testing.assert_allclose(traced(LOGITS, tf.constant(labels)), exact, rtol=1e-6)
    np.testing.assert_allclose(softmax(LOGITS), fastlogits.softmax(LOGITS.numpy(), **calls), rtol=1e-12)


def test_xla_cannot_take_what_is_traced_already():
    inner = tf.function(ft.softmax)
    inner(LOGITS)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"see_fastlogits\.tensorflow\.portable"):
        tf.function(lambda x: inner(x), jit_compile=True)(LOGITS)
    with ft.portable():
        inner = tf.function(ft.softmax).get_concrete_function(LOGITS)
    np.testing.assert_allclose(tf.function(lambda x: inner(x), jit_compile=True)(LOGITS), ft.softmax(LOGITS))


class Model(tf.Module):
    @tf.function
    def probabilities(self, x):
        return ft.softmax(x)


def test_saved_models(tmp_path):
    """They run where there is no fastlogits, unless a signature was traced before and outside of `portable`."""
    spec = tf.TensorSpec([None, 5], tf.float32)
    called = Model()
    called.probabilities(tf.zeros((2, 5)))
    tf.saved_model.save(called, tmp_path / "called")
    early = Model()
    tf.saved_model.save(early, tmp_path / "early", early.probabilities.get_concrete_function(spec))
    portable = Model()
    with ft.portable():
        signature = portable.probabilities.get_concrete_function(spec)
    tf.saved_model.save(portable, tmp_path / "portable", signature)
    code = """
        import tensorflow as tf
        for name in ("called", "portable", "early"):
            model = tf.saved_model.load(f"{folder}/{name}")
            function = model.signatures.get("serving_default", model.probabilities)
            try:
                (probabilities,) = tf.nest.flatten(function(tf.zeros((2, 5))))
                print(float(probabilities[0, 0]))
            except tf.errors.InvalidArgumentError as error:
                print("see_fastlogits.tensorflow.portable" in str(error))
        """
    found = subprocesses.run(code.replace("{folder}", str(tmp_path)), TF_CPP_MIN_LOG_LEVEL=3)
    assert found.split() == ["0.20000000298023224", "0.20000000298023224", "True"]


# Threads


def test_few_threads_of_tensorflow_get_threads_of_ours():
    code = """
        import os
        import tensorflow as tf
        tf.config.threading.set_inter_op_parallelism_threads(12)
        import fastlogits.tensorflow as ft
        from fastlogits.tensorflow import _calls

        @tf.function
        def several(x):
            return tf.add_n([tf.reduce_sum(ft.log_softmax(x + i)) for i in range(8)])

        x = tf.zeros((64, 1024))
        before = len(os.listdir("/proc/self/task"))
        for _ in range(10):
            total = float(several(x))
        # One more for each team of two, and the thread that the others share, with its own team.
        print(len(os.listdir("/proc/self/task")) - before <= 12 + 1 + _calls.MOST_TEAMS + 2)
        print(abs(total / (8 * 64 * 1024 * 6.931471805599453) + 1) < 1e-4)
        """
    assert subprocesses.run(code, OMP_NUM_THREADS=2, TF_CPP_MIN_LOG_LEVEL=3).split() == ["True", "True"]


# Bad input


def sparse(labels=(0, 1), logits=((0.0, 0.0, 0.0),) * 2):
    return ft.sparse_softmax_cross_entropy_with_logits(tf.constant(labels), tf.constant(logits))


BAD = {
    "label too large": (lambda: sparse((0, 3)), tf.errors.InvalidArgumentError, r"labels: .*\[0, 3\), got 3 at \(1,\)"),
    "label negative": (lambda: sparse((-100, 1)), tf.errors.InvalidArgumentError, r"got -100 at \(0,\)"),
    "the label that stands for none": (
        lambda: sparse(np.array([1, 1 - 2**63])), tf.errors.InvalidArgumentError, r"got -9223372036854775807 at \(1,\)",
    ),
    "no label of no classes": (
        lambda: ft.sparse_softmax_cross_entropy_with_logits([0], tf.zeros((1, 0))),
        tf.errors.InvalidArgumentError, "got 0",
    ),
    "label dtype": (lambda: sparse((0.0, 1.0)), TypeError, "labels: expected int64, .*got float32"),
    "logits dtype": (lambda: sparse(logits=((0, 1),) * 2), TypeError, "logits: expected float32, .*got int32"),
    "complex": (lambda: ft.softmax(tf.zeros(3, tf.complex64)), TypeError, "logits: .*complex64"),
    "shapes": (lambda: sparse((0, 1, 2)), ValueError, r"labels: expected shape \(2,\).*got \(3,\)"),
    "no axis": (lambda: sparse(0, 1.0), ValueError, "labels: expected shape"),
    "shapes of distributions": (
        lambda: ft.softmax_cross_entropy_with_logits(tf.zeros((2, 2)), tf.zeros((2, 3))), ValueError, "same shape",
    ),
    "axis": (lambda: ft.softmax(tf.zeros((2, 3)), 2), ValueError, r"axis: expected one in \[-2, 2\), got 2"),
    "axis of a loss": (
        lambda: ft.softmax_cross_entropy_with_logits(tf.zeros((2, 3)), tf.zeros((2, 3)), -3), ValueError, "axis",
    ),
    "axis that is none": (lambda: ft.softmax(tf.zeros((2, 3)), "1"), TypeError, "str"),
    "ragged": (lambda: ft.softmax(tf.ragged.constant([[1.0], []])), TypeError, "logits: .*RaggedTensor; use to_tensor"),
    "sparse": (lambda: ft.softmax(tf.sparse.eye(3)), TypeError, "logits: .*SparseTensor; use tf.sparse.to_dense"),
    "slices": (
        lambda: ft.reduce_logsumexp(tf.IndexedSlices(tf.zeros((1, 2)), tf.constant([0]))), TypeError, "IndexedSlices",
    ),
    "out": (lambda: fastlogits.softmax(tf.zeros(3), out=tf.zeros(3)), TypeError, "out: .*not written to"),
    "where": (lambda: fastlogits.softmax(tf.zeros(3), where=tf.zeros(3)), TypeError, "where: expected bool"),
    "by memory in a graph": (
        lambda: tf.function(lambda x: fastlogits.topk(x, 2).values)(tf.zeros(3)), NotImplementedError, "tf.py_function",
    ),
    "unknown name": (lambda: ft.no_such_name, AttributeError, "no_such_name"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bad_input_that_shows_when_the_graph_runs():
    traced = tf.function(
        ft.sparse_softmax_cross_entropy_with_logits,
        input_signature=[tf.TensorSpec(None, tf.int32), tf.TensorSpec(None, tf.float32)],
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"got 7 at \(1,\)"):
        traced(tf.constant([0, 7]), tf.zeros((2, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels: expected .*shape \(2,\)"):
        traced(tf.constant([0, 1, 2]), tf.zeros((2, 3)))
    softmax = tf.function(lambda x: ft.softmax(x, 1), input_signature=[tf.TensorSpec(None, tf.float32)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="axis 1"):
        softmax(tf.zeros(3))


def test_tensors_of_a_gpu_are_refused():
    @tf.function
    def on_gpu(x):
        with tf.device("/GPU:0"):
            return ft.softmax(x + 1)

    with pytest.raises(TypeError, match=r"logits: expected a tensor in the CPU's memory, got one on .*GPU:0"):
        on_gpu(LOGITS)


def test_nan_and_infinities():
    x = tf.constant([[1.0, np.nan, 2.0], [-np.inf] * 3, [np.inf, 0.0, 0.0], [-np.inf, 0.0, 0.0]])
    np.testing.assert_array_equal(ft.softmax(x), fastlogits.softmax(x.numpy()))
    np.testing.assert_array_equal(ft.reduce_logsumexp(x, 1), [np.nan, -np.inf, np.inf, np.float32(np.log(2))])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = ft.sparse_softmax_cross_entropy_with_logits([0, 0, 0, 0], x)
    np.testing.assert_array_equal(loss, [np.nan, np.nan, np.nan, np.inf])
    np.testing.assert_array_equal(tape.gradient(loss, x)[3], [-1, 0.5, 0.5])
