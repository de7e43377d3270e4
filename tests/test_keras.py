"""fastlogits.tensorflow.keras beside keras.losses: Keras's own tests, reductions and weights, model.fit, files."""

import itertools
import runpy

import numpy as np
import pytest
from conftest import need

import fastlogits

tf = need("tensorflow")
keras = need("keras")
ft = need("fastlogits.tensorflow")
losses_test = need("keras.src.losses.losses_test")

from fastlogits.tensorflow import _gradients, _native  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 6, 5)).astype(np.float32)
Y = RNG.integers(0, 5, (4, 6))
SHARES = RNG.dirichlet(np.ones(5), (4, 6)).astype(np.float32)
ROWS = RNG.random((4, 6)).astype(np.float32)
MASK = RNG.random((4, 6)) > 0.4

# What Keras's tests of the two classes ask for that is not so here.
LEFT_OUT = {
    "test_binary_segmentation_different_axis": "expects an error: there, only the last axis works",
    "test_multi_class_segmentation_different_axis": "the same",
    "test_squeezes_singleton_class_dim_on_user_axis": "of a function, and on torch alone",
}
KERAS_TESTS = [
    (case, name)
    for case in (losses_test.SparseCategoricalCrossentropyTest, losses_test.CategoricalCrossentropyTest)
    for name in dir(case)
    if name.startswith("test_") and name not in LEFT_OUT and name != "test_session"
]


class Losses:
    """keras.losses with our classes. Where a test gives probabilities, ours get their logarithms."""

    def __init__(self, always):
        self.always = always

    def __getattr__(self, name):
        return getattr(keras.losses, name)

    def SparseCategoricalCrossentropy(self, **options):
        return self.made(ft.keras.SparseCategoricalCrossentropy, **options)

    def CategoricalCrossentropy(self, **options):
        return self.made(ft.keras.CategoricalCrossentropy, **options)

    def made(self, kind, from_logits=False, **options):
        loss = kind(**options)

        def of_probabilities(y_true, y_pred, **weights):
            with np.errstate(divide="ignore"):
                return loss(y_true, np.log(y_pred), **weights)

        return loss if from_logits or self.always else of_probabilities


@pytest.mark.parametrize(("case", "name"), KERAS_TESTS, ids=[f"{case.__name__}.{name}" for case, name in KERAS_TESTS])
def test_keras_own(monkeypatch, case, name):
    monkeypatch.setattr(losses_test, "losses", Losses(always=name == "test_config"))
    case(name).debug()


def value_and_gradient(loss, labels, logits, mask=None, **weights):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        if mask is not None:
            logits._keras_mask = tf.constant(mask)
        value = loss(labels, logits, **weights)
    return value, tape.gradient(value, logits)


def assert_same(ours, theirs, *args, **options):
    found = value_and_gradient(ours, *args, **options)
    for given, exact in zip(found, value_and_gradient(theirs, *args, **options), strict=True):
        assert given.dtype == exact.dtype
        assert given.shape == exact.shape
        np.testing.assert_allclose(given, exact, rtol=1e-5, atol=1e-6)


REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None)
WEIGHTS = {"none": None, "rows": ROWS, "column": ROWS[:, :1], "batch": ROWS[0], "number": 2.0, "extra": ROWS[..., None]}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_reductions_weights_and_masks(reduction, weights):
    for ignored, mask in itertools.product((None, 2), (None, MASK)):
        options = {"reduction": reduction, "ignore_class": ignored}
        ours = ft.keras.SparseCategoricalCrossentropy(**options)
        theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)
        assert_same(ours, theirs, Y, X, mask, sample_weight=weights)
    for smoothing in (0.0, 0.2):
        ours = ft.keras.CategoricalCrossentropy(label_smoothing=smoothing, reduction=reduction)
        theirs = keras.losses.CategoricalCrossentropy(True, label_smoothing=smoothing, reduction=reduction)
        assert_same(ours, theirs, SHARES, X, MASK, sample_weight=weights)


def test_nothing_counts():
    for loss in (ft.keras.SparseCategoricalCrossentropy(ignore_class=3), ft.keras.SparseCategoricalCrossentropy()):
        mask = None if loss.ignore_class == 3 else np.zeros_like(MASK)
        value, grad = value_and_gradient(loss, np.full((4, 6), 3), X, mask)
        assert value == 0
        assert not grad.numpy().any()
    nothing = np.zeros(0, int), np.zeros((0, 5), np.float32)
    assert ft.keras.SparseCategoricalCrossentropy(reduction="sum")(*nothing).shape == (0,)


def test_other_axes():
    sparse, shares = ft.keras.SparseCategoricalCrossentropy, ft.keras.CategoricalCrossentropy
    for axis in (0, 1, -2):
        x, t = np.moveaxis(X, -1, axis), np.moveaxis(SHARES, -1, axis)
        np.testing.assert_allclose(sparse(axis=axis)(Y, x), sparse()(Y, X), rtol=1e-6)
        np.testing.assert_allclose(shares(axis=axis)(t, x), shares()(SHARES, X), rtol=1e-6)
    np.testing.assert_allclose(sparse(axis=1)(Y[:, None], np.moveaxis(X, -1, 1)), sparse()(Y, X), rtol=1e-6)


def test_a_weight_that_learns():
    """Gradients reach the sample weights as well."""
    weights = tf.Variable(ROWS)
    found = []
    for loss in (ft.keras.SparseCategoricalCrossentropy(), keras.losses.SparseCategoricalCrossentropy(True)):
        with tf.GradientTape() as tape:
            value = loss(Y, X, sample_weight=tf.square(weights))
        found.append(tape.gradient(value, weights))
    np.testing.assert_allclose(*found, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", None])
def test_labels_never_pass_through_a_half_type(dtype):
    """The loss may be of a half type, and the logits, but class 3001 stays what it is."""
    x = np.zeros((2, 4000), np.float32)
    x[0, 3001] = x[1, 2049] = 8
    for labels in (np.array([3001, 2049]), np.array([3001, 2049], np.float32), tf.constant([3001, 2049], tf.uint16)):
        for logits in (tf.constant(x), tf.cast(x, tf.bfloat16)):
            loss = ft.keras.SparseCategoricalCrossentropy(dtype=dtype, reduction="none")(labels, logits)
            assert loss.dtype == (dtype or "float32")
            np.testing.assert_allclose(tf.cast(loss, "float32"), fastlogits.cross_entropy(x, [3001, 2049]), rtol=0.01)
    with pytest.raises(TypeError, match="y_true: expected integers, got bfloat16"):
        ft.keras.SparseCategoricalCrossentropy()(tf.cast(labels, tf.bfloat16), x)


def test_logits_keep_their_dtype():
    for dtype in (tf.bfloat16, tf.float16, tf.float64):
        x = tf.cast(X, dtype)
        value, grad = value_and_gradient(ft.keras.SparseCategoricalCrossentropy(), Y, x.numpy())
        assert value.dtype == tf.float32
        exact = fastlogits.cross_entropy_with_grad(x.numpy(), Y, grad_loss=1.0)
        assert grad.dtype == dtype
        np.testing.assert_allclose(value, exact.loss, rtol=1e-6)
        np.testing.assert_allclose(grad.numpy().astype(float), exact.grad_logits.astype(float), rtol=0.01)
    assert ft.keras.CategoricalCrossentropy(dtype="float64")(SHARES, X).dtype == tf.float64
    np.testing.assert_allclose(ft.keras.SparseCategoricalCrossentropy()([1], [[0, 0]]), np.log(2), rtol=1e-6)


# Training


def classifier(loss, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(7)])
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **options)
    return model


def trained(loss, *data, epochs=2, **options):
    model = classifier(loss, **options)
    weights = data[2] if len(data) > 2 else None
    history = model.fit(*data[:2], sample_weight=weights, epochs=epochs, batch_size=32, verbose=0)
    return model, history.history["loss"]


DATA = RNG.standard_normal((100, 8)).astype(np.float32), RNG.integers(0, 7, 100)
WEIGHTED = *DATA, RNG.random(100).astype(np.float32)


@pytest.mark.parametrize("data", [DATA, WEIGHTED], ids=["plain", "weighted"])
@pytest.mark.parametrize("native", [False, True])
def test_fit_and_evaluate(native, data, monkeypatch):
    """Like Keras's loss; each step one sweep, with weights too, and a loss alone where nothing is trained."""
    sweeps = []
    if not native:
        monkeypatch.setattr(_native, "serves", lambda logits: False)

    def watched(x, labels, weight, sample_weight, options, grad_loss, out):
        sweeps.append(grad_loss is not None)
        return evaluate(x, labels, weight, sample_weight, options, grad_loss, out)

    evaluate = _gradients.evaluate
    monkeypatch.setattr(_gradients, "evaluate", watched)
    model, history = trained(ft.keras.SparseCategoricalCrossentropy(), *data)
    assert native or sweeps == [True] * 8
    sweeps.clear()
    scores = model.evaluate(*data[:2], batch_size=50, verbose=0)
    assert native or sweeps == [False] * 2
    reference, expected = trained(keras.losses.SparseCategoricalCrossentropy(from_logits=True), *data)
    np.testing.assert_allclose(history, expected, rtol=1e-4)
    np.testing.assert_allclose(scores, reference.evaluate(*data[:2], batch_size=50, verbose=0), rtol=1e-4)


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_fit_in_other_modes(options):
    _, plain = trained(ft.keras.CategoricalCrossentropy(label_smoothing=0.1), DATA[0], np.eye(7)[DATA[1]])
    _, history = trained(ft.keras.CategoricalCrossentropy(label_smoothing=0.1), DATA[0], np.eye(7)[DATA[1]], **options)
    np.testing.assert_allclose(history, plain, rtol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    """float16 with its loss scale, which is learned in the first step."""
    keras.config.set_dtype_policy(policy)
    try:
        _, ours = trained(ft.keras.SparseCategoricalCrossentropy(), *DATA, epochs=4)
        _, theirs = trained(keras.losses.SparseCategoricalCrossentropy(from_logits=True), *DATA, epochs=4)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(ours, theirs, rtol=0.02)


def test_masks_of_layers():
    """Padding that an Embedding masks does not count."""
    words = RNG.integers(1, 9, (40, 6))
    words[:, 4:] = 0
    histories = []
    for loss in (ft.keras.SparseCategoricalCrossentropy(), keras.losses.SparseCategoricalCrossentropy(True)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Embedding(9, 4, mask_zero=True), keras.layers.Dense(9)])
        model.compile("sgd", loss)
        histories.append(model.fit(words, words, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-5)


# Keras's own, where it turns a variable into an array.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_files(tmp_path):
    """A compiled model comes back with its loss, and trains on."""
    loss = ft.keras.SparseCategoricalCrossentropy(ignore_class=6, reduction="sum", axis=1, name="mine")
    model, _ = trained(loss, *DATA, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.loss) is ft.keras.SparseCategoricalCrossentropy
    assert loaded.loss.get_config() == loss.get_config()
    np.testing.assert_allclose(loaded.evaluate(*DATA, verbose=0), model.evaluate(*DATA, verbose=0), rtol=1e-6)
    serialized = keras.losses.serialize(ft.keras.CategoricalCrossentropy(label_smoothing=0.1))
    assert serialized["registered_name"] == "fastlogits>CategoricalCrossentropy"
    assert keras.losses.deserialize(serialized).get_config()["label_smoothing"] == 0.1


def test_as_activation():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(7, activation=ft.softmax)])
    probabilities = model.predict(DATA[0], verbose=0)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)


# Bad input

SPARSE, SHARED = ft.keras.SparseCategoricalCrossentropy, ft.keras.CategoricalCrossentropy
BAD = {
    "probabilities": (lambda: SPARSE(from_logits=False), ValueError, "from_logits: expected True: remove the softmax"),
    "probabilities of shares": (lambda: SHARED(False), ValueError, "from_logits: expected True"),
    "axis": (lambda: SHARED(axis=True), ValueError, "axis: expected an integer, got True"),
    "smoothing": (lambda: SHARED(label_smoothing=1.5), ValueError, "label_smoothing: .*got 1.5"),
    "reduction": (lambda: SPARSE(reduction="max"), ValueError, "max"),
    "label": (lambda: SPARSE()([0, 7], np.zeros((2, 5))), tf.errors.InvalidArgumentError, r"y_true: .*7 at \(1,\)"),
    "shapes": (lambda: SPARSE()([0, 1, 2], np.zeros((2, 5))), ValueError, r"y_true: expected shape \(2,\)"),
    "shares": (lambda: SHARED()(np.zeros((2, 4)), np.zeros((2, 5))), ValueError, "y_true and y_pred must have"),
    "ragged": (lambda: SPARSE()([0], tf.ragged.constant([[1.0, 2.0]])), TypeError, "y_pred: .*RaggedTensor"),
    "strings": (lambda: SPARSE()(["a"], np.zeros((1, 2))), TypeError, "y_true: .*got string"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_bad_label_ends_fit():
    with pytest.raises(tf.errors.InvalidArgumentError, match="y_true: expected values in .*got 7"):
        trained(ft.keras.SparseCategoricalCrossentropy(), DATA[0], DATA[1] + 1)


ENDS = {
    "activation": lambda: [keras.layers.Dense(3, activation="softmax")],
    "layer": lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
    "sigmoid": lambda: [keras.layers.Dense(3, activation="sigmoid")],
    "mixed precision": lambda: [keras.layers.Dense(3, activation="softmax", dtype="mixed_bfloat16")],
}


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("kind", [SPARSE, SHARED])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_model_that_ends_in_a_softmax_is_refused(end, kind, eager):
    model = keras.Sequential([keras.Input((6,)), *end()])
    model.compile("sgd", kind(), run_eagerly=eager)
    labels = np.zeros(8, int) if kind is SPARSE else np.eye(3)[np.zeros(8, int)]
    with pytest.raises(ValueError, match="y_pred: expected logits, got the result of a softmax"):
        model.fit(np.zeros((8, 6), np.float32), labels, verbose=0)


def test_the_softmax_of_tensorflow_is_refused_in_a_graph():
    with pytest.raises(ValueError, match="y_pred: expected logits"):
        tf.function(lambda x: SPARSE()([0], tf.nn.softmax(x)))(tf.zeros((1, 2)))
    tf.function(lambda x: SPARSE()([0], tf.nn.log_softmax(x)))(tf.zeros((1, 2)))


def test_other_backends_of_keras_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ImportError, match="it runs on jax; set KERAS_BACKEND=tensorflow"):
        runpy.run_path(ft.keras.__file__)
