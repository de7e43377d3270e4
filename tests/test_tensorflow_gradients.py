"""Derivatives through TensorFlow's tapes, of every order; and that a training step is one sweep of ours."""

import kept
import numpy as np
import pytest
from tensorflow_cases import LOGITS, by_python, each_function, ft, normal, shares, tf

import fastlogits
from fastlogits.tensorflow import _calls, _gradients

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
    by_python(monkeypatch)
    asked = []

    def watched(x, labels, weight, sample_weight, options, grad_loss, out):
        asked.append(grad_loss is not None)
        return _evaluate(x, labels, weight, sample_weight, options, grad_loss, out)

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
