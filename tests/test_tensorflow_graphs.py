"""fastlogits.tensorflow in traced functions: shapes not known, loops, XLA, SavedModels."""

import numpy as np
import pytest
import subprocesses
from tensorflow_cases import LABELS, LOGITS, each_function, ft, normal, tf

import fastlogits
from fastlogits.tensorflow import _calls


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
                x,
                y,
                axis=1,
                reduction="none",
                ignore_index=1,
                label_smoothing=0.1,
                softcap=3.0,
                z_loss=0.1,
                weight=tf.constant([1.0, 2.0, 3.0]),
                sample_weight=tf.ones((2, 5)),
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


def test_portable_masked_classes_and_halves():
    """0 * inf is 0, and what is computed in float32 is rounded to the type that came in."""
    x, labels = np.array([[1, -np.inf, 2]]), np.array([[0.25, 0, 0.75]])
    half = tf.constant([[0.25, 0.75]], tf.bfloat16)
    with ft.portable():
        loss = tf.function(lambda x, t: fastlogits.cross_entropy(x, t))(tf.constant(x), tf.constant(labels))
        grad = tf.function(lambda x: fastlogits.softmax_backward(x, x))(half)
    np.testing.assert_allclose(loss, fastlogits.cross_entropy(x, labels), rtol=1e-12)
    assert grad.dtype == tf.bfloat16
    np.testing.assert_array_equal(grad, fastlogits.softmax_backward(half, half))


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
    """They run where there is no fastlogits, unless a signature was traced before and outside of `portable`.

    Then they run where `fastlogits.tensorflow` has been imported.
    """
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
            try:
                model = tf.saved_model.load(f"{folder}/{name}")
                function = model.signatures.get("serving_default", model.probabilities)
                (probabilities,) = tf.nest.flatten(function(tf.zeros((2, 5))))
                print(float(probabilities[0, 0]))
            except RuntimeError as error:
                print("FastlogitsRows" in str(error))
        """.replace("{folder}", str(tmp_path))
    fifth = "0.20000000298023224"
    assert subprocesses.run(code, TF_CPP_MIN_LOG_LEVEL=3).split() == [fifth, fifth, "True"]
    code = code.replace("import tensorflow as tf", "import tensorflow as tf, fastlogits.tensorflow")
    assert subprocesses.run(code, TF_CPP_MIN_LOG_LEVEL=3).split() == [fifth, fifth, fifth]
