"""fastlogits.tensorflow beside tf.nn: the same signatures, numbers and gradients, and messages of its own."""

import inspect

import numpy as np
import pytest
from tensorflow_cases import DTYPES, LOGITS, each_function, ft, normal, shares, tf

import fastlogits
from fastlogits.tensorflow import _checks


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


def test_nan_and_infinities():
    x = tf.constant([[1.0, np.nan, 2.0], [-np.inf] * 3, [np.inf, 0.0, 0.0], [-np.inf, 0.0, 0.0]])
    np.testing.assert_array_equal(ft.softmax(x), fastlogits.softmax(x.numpy()))
    np.testing.assert_array_equal(ft.reduce_logsumexp(x, 1), [np.nan, -np.inf, np.inf, np.float32(np.log(2))])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = ft.sparse_softmax_cross_entropy_with_logits([0, 0, 0, 0], x)
    np.testing.assert_array_equal(loss, [np.nan, np.nan, np.nan, np.inf])
    np.testing.assert_array_equal(tape.gradient(loss, x)[3], [-1, 0.5, 0.5])


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
