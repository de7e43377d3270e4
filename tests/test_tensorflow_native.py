"""TensorFlow's operators on the C core: the same numbers as NumPy's, and no Python."""

import itertools
import threading

import numpy as np
import pytest
import subprocesses
from conftest import need
from numpy.testing import assert_array_equal
from tensorflow_cases import DTYPES, ft, normal, shares, tf

import fastlogits
from fastlogits.tensorflow import _calls, _native

need("fastlogits.tensorflow._ops")

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
each_mode = pytest.mark.parametrize("mode", [lambda f: f, tf.function], ids=["eager", "graph"])


@pytest.fixture(autouse=True)
def no_python(monkeypatch):
    def run(*args):
        raise AssertionError("Python is called")

    monkeypatch.setattr(_calls, "_within_threads", run)


def differentiated(function, x, upstream=None):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return value, tape.gradient(value, x, upstream)


@each_mode
@pytest.mark.parametrize("shape", [(5,), (40, 7), (40, 300), (3, 50, 9), (3, 4000), (0, 3)])
@pytest.mark.parametrize("axis", [-1, 0])
@each_dtype
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_its_gradient(name, dtype, axis, shape, mode):
    x, g = tf.cast(normal(*shape) * 3, dtype), tf.cast(normal(*shape, seed=1), dtype)
    function, backward = getattr(ft, name), getattr(fastlogits, f"{name}_backward")
    y, grad = mode(lambda x, g: differentiated(lambda x: function(x, axis=axis), x, g))(x, g)
    assert_array_equal(y, getattr(fastlogits, name)(x.numpy(), axis))
    assert_array_equal(grad, backward(g.numpy(), y.numpy(), axis))


@each_mode
@pytest.mark.parametrize("shape", [(1, 2), (40, 7), (700, 30), (3, 4000), (6, 5, 9)])
@pytest.mark.parametrize("labels", [tf.int32, tf.int64, "distribution"])
@each_dtype
def test_losses_and_their_gradients(dtype, labels, shape, mode):
    x = tf.cast(normal(*shape) * 3, dtype)
    upstream = tf.cast(tf.reshape(tf.linspace(-1.0, 2.0, np.prod(shape[:-1])), shape[:-1]), dtype)
    if labels == "distribution":
        targets, own = tf.cast(shares(*shape), dtype), ft.softmax_cross_entropy_with_logits
    else:
        targets = tf.reshape(tf.range(np.prod(shape[:-1]), dtype=labels) % shape[-1], shape[:-1])
        own = ft.sparse_softmax_cross_entropy_with_logits
    step = mode(lambda x, targets, upstream: differentiated(lambda x: own(targets, x), x, upstream))
    wide = np.float64 if dtype is tf.float64 else np.float32
    exact = fastlogits.cross_entropy_with_grad(
        x.numpy(), targets.numpy(), reduction="none", grad_loss=upstream.numpy().astype(np.float64)
    )
    for _ in range(3):  # guessed, computed anew, and left for later
        losses, grad = step(x, targets, upstream)
        assert_array_equal(losses, exact.loss.astype(wide).astype(dtype.as_numpy_dtype))
        assert_array_equal(grad, exact.grad_logits)


BESIDE = {
    "numbers": {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 5.0, "logit_scale": -0.7},
    "weight": {"weight": np.linspace(0.0, 2.0, 20)},
    "sample_weight": {"sample_weight": np.linspace(-1.0, 2.0, 50, dtype=np.float32), "label_smoothing": 0.2},
    "both": {"weight": np.linspace(1.0, 2.0, 20, dtype=np.float32), "sample_weight": np.linspace(0.0, 2.0, 50)},
    "normalizer": {"normalizer": 17.5, "sample_weight": np.linspace(0.0, 2.0, 50)},
    "normalizer 0": {"normalizer": 0.0},
}


@each_mode
@pytest.mark.parametrize(
    ("dtype", "labels"),
    [("float32", "int64"), ("float32", "distribution"), ("float64", "uint32"), ("float16", "uint8"),
     ("bfloat16", "distribution")],
)  # fmt: skip
@pytest.mark.parametrize("options", BESIDE.values(), ids=BESIDE)
def test_uniform_losses_with_options(dtype, options, labels, mode):
    x = tf.cast(normal(50, 20, dtype=tf.float32), dtype)
    if labels == "distribution":
        targets = tf.cast(shares(50, 20), dtype)
    else:
        targets = tf.cast(tf.range(50) % 20, labels)
        targets = tf.tensor_scatter_nd_update(targets, [[3]], tf.cast([100], labels))
        options = {**options, "ignore_index": 100}
    constants = {name: tf.constant(value) if np.ndim(value) else value for name, value in options.items()}
    for reduction in ("mean",) if "normalizer" in options else ("mean", "sum", "none"):

        def loss(x, labels, reduction=reduction):
            return fastlogits.cross_entropy(x, labels, reduction=reduction, **constants)

        value, grad = mode(lambda x, labels, loss=loss: differentiated(lambda x: loss(x, labels), x))(x, targets)
        arrays = x.numpy(), targets.numpy()
        exact = fastlogits.cross_entropy_with_grad(*arrays, grad_loss=1.0, reduction=reduction, **options)
        assert_array_equal(value, exact.loss, strict=True)
        assert_array_equal(grad, exact.grad_logits)


def test_what_is_wrong_beside_the_logits():
    """In shapes that only a run knows."""
    vector, x, labels = tf.TensorSpec([None], tf.float64), tf.zeros((3, 2)), tf.zeros(3, tf.int32)
    weights = {"weight": np.ones(3), "sample_weight": np.ones(2)}
    for name, value in weights.items():
        loss = tf.function(lambda w, name=name: fastlogits.cross_entropy(x, labels, **{name: w}), [vector])
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name}: expected"):
            loss(value)
    loss = tf.function(lambda n: fastlogits.cross_entropy(x, labels, normalizer=n), [tf.TensorSpec([], tf.float64)])
    for number in (-1.0, np.inf, np.nan):
        with pytest.raises(tf.errors.InvalidArgumentError, match="normalizer: expected"):
            loss(number)


@pytest.mark.parametrize("rows", [0, 3])
def test_rows_without_classes(rows):
    """As NumPy's"""
    x, weights = tf.zeros((rows, 0)), tf.constant(np.arange(rows, dtype=np.float64))
    for labels, reduction in itertools.product((x, tf.fill(rows, -100)), ("mean", "sum", "none")):
        options = {"sample_weight": weights, "reduction": reduction}
        exact = fastlogits.cross_entropy(x.numpy(), labels.numpy(), **options | {"sample_weight": weights.numpy()})
        assert_array_equal(fastlogits.cross_entropy(x, labels, **options), exact)


@each_mode
@pytest.mark.parametrize(
    ("label", "shape"), [(-1, (5,)), (7, (5,)), (-(2**31), (5, 1)), (1 - 2**63, (1, 5)), (-(2**63), (5,))]
)
def test_a_bad_label_is_named(label, shape, mode, monkeypatch):
    """As it is by Python"""
    labels = np.array([0, 1, 2, label, 4]).reshape(shape)
    x = tf.zeros((*shape, 7))
    loss = mode(lambda labels, x: ft.sparse_softmax_cross_entropy_with_logits(labels, x))
    with pytest.raises(tf.errors.InvalidArgumentError) as found:
        loss(tf.constant(labels), x)
    with pytest.raises(IndexError) as exact:
        fastlogits.cross_entropy(x.numpy(), np.where(labels == label, -1, labels), ignore_index=-(2**62))
    where = str(exact.value).rpartition(" at ")[2]
    assert f"labels: expected values in [0, 7), got {label} at {where}" in str(found.value)


def test_shapes_that_only_a_run_knows():
    step = tf.function(
        lambda x, labels: differentiated(lambda x: ft.sparse_softmax_cross_entropy_with_logits(labels, x), x),
        input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int64)],
    )
    for rows, classes in itertools.product((0, 1, 40), (1, 7, 300)):
        x, labels = normal(rows, classes, dtype=tf.float32), tf.range(rows, dtype=tf.int64) % classes
        losses, grad = step(x, labels)
        exact = fastlogits.cross_entropy_with_grad(x.numpy(), labels.numpy(), reduction="none", grad_loss=1.0)
        assert_array_equal(losses, exact.loss)
        assert_array_equal(grad, exact.grad_logits)
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels have a shape"):
        step(tf.zeros((3, 2)), tf.zeros(2, tf.int64))


def test_steps_on_several_threads():
    x, labels = normal(200, 30, dtype=tf.float32), tf.range(200) % 30
    step = tf.function(
        lambda x: differentiated(lambda x: tf.reduce_mean(ft.sparse_softmax_cross_entropy_with_logits(labels, x)), x)
    )
    exact = [part.numpy() for part in step(x)]
    wrong = []

    def steps():
        for _ in range(50):
            for ours, part in zip(step(x), exact, strict=True):
                wrong.extend([] if np.array_equal(ours, part) else [1])

    threads = [threading.Thread(target=steps) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_route_is_shown_and_can_be_closed():
    code = """
        import fastlogits, fastlogits.tensorflow as ft, tensorflow as tf
        tf.config.threading.set_intra_op_parallelism_threads(2)  # nothing has been computed yet
        print(fastlogits.show_config("dicts")["tensorflow"])
        print(float(ft.softmax(tf.zeros((1, 4)))[0, 0]))
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": 3}
    assert subprocesses.run(code, **quiet).splitlines() == ["by the C core", "0.25"]
    assert subprocesses.run(code, FASTLOGITS_NATIVE=0, **quiet).splitlines() == ["by Python", "0.25"]
    assert subprocesses.run(code, FASTLOGITS_BACKEND="numpy", **quiet).splitlines() == ["by Python", "0.25"]


def test_a_version_that_computes_otherwise_is_not_trusted(monkeypatch):
    def wrong(*args, **kwargs):
        return [value + 1 for value in own(*args, **kwargs)]

    own = _native._loaded.fastlogits_loss
    monkeypatch.setattr(_native._loaded, "fastlogits_loss", wrong)
    assert _native.operators.__wrapped__() is None


def test_large_results_lie_where_the_last_ones_did():
    """And what is kept can be given back."""
    x = normal(1025, 1024, dtype=tf.float32)
    for _ in range(3):
        ft.softmax(x)
    places = {ft.softmax(x)._numpy_internal().__array_interface__["data"][0] for _ in range(6)}
    assert len(places) <= 2
    held = ft.softmax(x)
    exact = held.numpy()
    ft.softmax(x * 2), ft.softmax(x * 3), ft.empty_cache(), ft.softmax(x * 4)
    assert_array_equal(held, exact)
