"""As test_cancellation.py, for what the frameworks compute by formulas of their own operators: derivatives that are to
be differentiated again, function transforms, forward mode, programs in which no Python runs, and rows in pieces."""

import numpy as np
import oracle
import pytest
from conftest import need
from test_cancellation import backward_case, cotangents, dominated_logits, soft_case, with_weights
from tolerance import Exact, assert_close

import fastlogits

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


@pytest.fixture(autouse=True)
def reference():
    """What is not a formula of the framework comes from the readable reference; the kernels are to follow."""
    with fastlogits.settings(backend="numpy"):
        yield


by_float = pytest.mark.parametrize("dtype", [F32, F64], ids=str)
OPTIONS = {
    "plain": {},
    "smoothing and weights": {"label_smoothing": 0.25, "weight": True},
    "soft cap and z-loss": {"softcap": 30.0, "z_loss": 1e-3},
}
by_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
by_kind = pytest.mark.parametrize("soft", [False, True], ids=["indices", "distributions"])
ROWS, CLASSES = 24, 7


def labelled(soft, dtype):
    x, t = soft_case(ROWS, CLASSES, dtype)
    return x, t if soft else np.where(np.arange(ROWS) % 3, x.argmax(-1), t.argmax(-1))


def looser(exact, times=4):
    """A framework's own sums and exponentials are not as exact as ours: what is tested is that digits are there."""
    return Exact(exact.value, times * exact.error)


def check_loss(gradient_of, soft, options, dtype):
    """`gradient_of(x, labels, **options)` is that of the summed losses."""
    x, labels = labelled(soft, dtype)
    options = with_weights(options, CLASSES)
    exact = oracle.cross_entropy(x, labels, reduction="sum", **options)
    assert_close(np.asarray(gradient_of(x, labels, **options)), looser(exact.grad), "gradient")


def check_backward(gradient_of):
    """`gradient_of(function, x, g)` for the functions softmax and log_softmax."""
    x = dominated_logits(ROWS, CLASSES, F64, np.random.default_rng(5))
    g = cotangents(x, np.random.default_rng(6))
    p = np.asarray(oracle.softmax(x).value, np.float64)
    exact = oracle.softmax_backward(g, p)
    assert_close(np.asarray(gradient_of("softmax", x, g)), looser(exact, 8), "softmax")
    exact = oracle.log_softmax_backward(g, np.asarray(oracle.log_softmax(x).value, np.float64))
    assert_close(np.asarray(gradient_of("log_softmax", x, g)), looser(exact, 8), "log_softmax")


def tensors(convert, options):
    return {name: convert(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}


# torch


@pytest.fixture
def torch():
    need("fastlogits.torch")
    return need("torch")


@by_float
@by_options
@by_kind
@pytest.mark.parametrize("way", ["create_graph", "func", "plain"])
def test_torch_losses(torch, way, soft, options, dtype):
    def gradient_of(x, labels, **options):
        labels, options = torch.tensor(labels), tensors(torch.tensor, options)

        def loss(x):
            return fastlogits.cross_entropy(x, labels, reduction="sum", **options)

        x = torch.tensor(x, requires_grad=way != "func")
        if way == "func":
            return torch.func.grad(loss)(x)
        return torch.autograd.grad(loss(x), x, create_graph=way == "create_graph")[0].detach()

    check_loss(gradient_of, soft, options, dtype)


@pytest.mark.parametrize("way", ["create_graph", "plain", "backward functions"])
def test_torch_backward_functions(torch, way):
    def gradient_of(name, x, g):
        x, g = torch.tensor(x, requires_grad=True), torch.tensor(g)
        y = getattr(fastlogits, name)(x)
        if way == "backward functions":
            return getattr(fastlogits, f"{name}_backward")(g, y).detach()
        return torch.autograd.grad(y, x, g, create_graph=way == "create_graph")[0].detach()

    check_backward(gradient_of)


def test_torch_selective(torch):
    x = torch.tensor(np.array([[37.43, 0, -1], [0, 40, 40]]), requires_grad=True)
    for create_graph in (False, True):
        log_probs = fastlogits.selective_log_softmax(x, torch.tensor([0, 1]))
        (grad,) = torch.autograd.grad(log_probs.sum(), x, create_graph=create_graph)
        exact = np.exp(-37.43) + np.exp(-38.43)
        np.testing.assert_allclose(grad[0, 0].item(), exact, rtol=1e-13)


def test_torch_second_derivatives(torch):
    x = torch.tensor(dominated_logits(6, 4, F64, np.random.default_rng(0)) / 4, requires_grad=True)
    t = torch.tensor(np.random.default_rng(1).dirichlet(np.ones(4), 6), requires_grad=True)
    for options in ({}, {"softcap": 9.0, "z_loss": 0.1, "label_smoothing": 0.1}):
        assert torch.autograd.gradcheck(lambda x, t: fastlogits.cross_entropy(x, t, **options), (x, t))  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda x, t: fastlogits.cross_entropy(x, t, **options), (x, t))  # noqa: B023
    for function in (fastlogits.softmax, fastlogits.log_softmax):
        assert torch.autograd.gradgradcheck(function, (x,))


# TensorFlow


@pytest.fixture
def tf():
    need("fastlogits.tensorflow")
    return need("tensorflow")


@by_float
@by_options
@by_kind
@pytest.mark.parametrize("way", ["portable", "XLA", "persistent", "plain"])
def test_tensorflow_losses(tf, way, soft, options, dtype):
    def gradient_of(x, labels, **options):
        labels, options = tf.constant(labels), tensors(tf.constant, options)

        def gradient(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    loss = fastlogits.cross_entropy(x, labels, reduction="sum", **options)
                grad = tape.gradient(loss, x)
            return grad if way != "persistent" else (grad, outer.gradient(grad, x))[0]

        if way == "portable":
            with fastlogits.tensorflow.portable():
                return tf.function(gradient)(tf.constant(x))
        return tf.function(gradient, jit_compile=True)(tf.constant(x)) if way == "XLA" else gradient(tf.constant(x))

    check_loss(gradient_of, soft, options, dtype)


@pytest.mark.parametrize("way", ["portable", "XLA", "twice", "plain"])
def test_tensorflow_backward_functions(tf, way):
    def gradient_of(name, x, g):
        def gradient(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = getattr(fastlogits, name)(x)
                grad = tape.gradient(y, x, tf.constant(g))
            return grad if way != "twice" else (grad, outer.gradient(grad, x))[0]

        if way == "portable":
            with fastlogits.tensorflow.portable():
                return tf.function(gradient)(tf.constant(x))
        return tf.function(gradient, jit_compile=True)(tf.constant(x)) if way == "XLA" else gradient(tf.constant(x))

    check_backward(gradient_of)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_tensorflow_backward_functions_in_operators(tf, name):
    x = dominated_logits(ROWS, CLASSES, F64, np.random.default_rng(5))
    g, result = cotangents(x, np.random.default_rng(6)), np.asarray(getattr(oracle, name)(x).value, np.float64)
    with fastlogits.tensorflow.portable():
        function = tf.function(getattr(fastlogits, f"{name}_backward"))
        grad = function(tf.constant(g), tf.constant(result))
    assert_close(grad.numpy(), looser(getattr(oracle, f"{name}_backward")(g, result), 8), name)


# JAX


@pytest.fixture
def jax(x64):
    need("fastlogits.jax")
    return need("jax")


@by_float
@by_options
@by_kind
@pytest.mark.parametrize("way", ["reverse", "forward", "forward of reverse"])
def test_jax_losses(jax, way, soft, options, dtype):
    def gradient_of(x, labels, **options):
        labels, options = jax.numpy.asarray(labels), tensors(jax.numpy.asarray, options)

        def loss(x):
            return fastlogits.cross_entropy(x, labels, reduction="sum", **options)

        if way == "forward":
            return jax.jacfwd(loss)(jax.numpy.asarray(x))
        grad = jax.grad(loss)
        return grad(x) if way == "reverse" else jax.jvp(grad, (x,), (x * 0,))[0]

    check_loss(gradient_of, soft, options, dtype)


def test_jax_backward_functions(jax):
    def gradient_of(name, x, g):
        return jax.vjp(getattr(fastlogits, name), jax.numpy.asarray(x))[1](jax.numpy.asarray(g))[0]

    check_backward(gradient_of)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_jax_forward_mode(jax, name):
    x, tangent = np.array([37.43, 0, -1]), np.array([1.0, 0, 0])
    result = jax.jvp(getattr(fastlogits, name), (x,), (tangent,))[1]
    np.testing.assert_allclose(result[0], np.exp(-37.43) + np.exp(-38.43), rtol=1e-13)


def test_jax_selective(jax):
    x, ids = np.array([[37.43, 0, -1]]), np.array([0])
    exact = np.exp(-37.43) + np.exp(-38.43)

    def log_probs(x):
        return fastlogits.selective_log_softmax(x, jax.numpy.asarray(ids)).sum()

    for grad in (jax.grad(log_probs)(jax.numpy.asarray(x)), jax.jacfwd(log_probs)(jax.numpy.asarray(x))):
        np.testing.assert_allclose(grad[0, 0], exact, rtol=1e-13)


# dask


@by_float
@by_options
@by_kind
@pytest.mark.parametrize("chunks", [(24, 3), (5, 7), (24, 1)], ids=str)
def test_dask_losses(chunks, soft, options, dtype):
    da = need("dask.array")

    def gradient_of(x, labels, **options):
        lazy = da.from_array(x, chunks=chunks)
        labels = da.from_array(labels, chunks=chunks[: labels.ndim])
        return fastlogits.cross_entropy_with_grad(lazy, labels, reduction="sum", **options).grad_logits.compute()

    check_loss(gradient_of, soft, options, dtype)


@pytest.mark.parametrize("chunks", [(24, 3), (5, 7), (24, 1)], ids=str)
def test_dask_backward_functions(chunks, dtype):
    da = need("dask.array")
    g, p, log_p = backward_case(ROWS, CLASSES, dtype)
    for name, result in (("softmax_backward", p), ("log_softmax_backward", log_p)):
        lazy = [da.from_array(a, chunks=chunks) for a in (g, result)]
        assert_close(getattr(fastlogits, name)(*lazy).compute(), getattr(oracle, name)(g, result), name)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_dask_near_the_largest_numbers(dtype):
    da = need("dask.array")
    big = float(np.finfo(dtype).max)
    x = da.from_array(np.array([[big, -big, 0, 0]] * 2, dtype), chunks=(2, 2))
    t = da.from_array(np.array([[0.75, 0.25, 0, 0]] * 2, dtype), chunks=(2, 2))
    labels = da.from_array(np.array([0, 1]), chunks=2)
    losses = fastlogits.cross_entropy(x, labels, reduction="none", logit_scale=0.5).compute()
    np.testing.assert_allclose(losses, [0, big], rtol=1e-6)
    np.testing.assert_allclose(fastlogits.cross_entropy(x, t, reduction="none").compute(), big / 2, rtol=1e-6)
    grad = fastlogits.cross_entropy_with_grad(x, t, z_loss=1.0, reduction="sum").grad_logits.compute()
    np.testing.assert_array_equal(grad[:, 2:], 0)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_a_distribution_of_the_largest_numbers_in_the_formulas(dtype):
    """0 times what is too large to be a number is 0."""
    big = np.finfo(dtype).max
    x, t = np.array([[big, -big, 0]], dtype), np.array([[1, 0, 0]], dtype)
    torch = need("torch")
    need("fastlogits.torch")
    z = torch.tensor(x, requires_grad=True)
    loss = fastlogits.cross_entropy(z, torch.tensor(t))
    (grad,) = torch.autograd.grad(loss, z, create_graph=True)
    assert loss == 0
    assert not grad.any()
    tf = need("tensorflow")
    with need("fastlogits.tensorflow").portable():
        assert tf.function(fastlogits.cross_entropy)(tf.constant(x), tf.constant(t)) == 0
    jax = need("jax")
    with jax.enable_x64(True):
        value, tangent = jax.jvp(lambda z: fastlogits.cross_entropy(z, jax.numpy.asarray(t)), (x,), (np.ones_like(x),))
        assert value == 0
        assert tangent == 0


@pytest.mark.parametrize("low", [-np.inf, np.finfo(F32).min], ids=str)
def test_a_class_of_weight_0_costs_nothing_in_the_formulas(low):
    """Not even at a logit of -inf, nor where its distance from the largest is too large to be a number."""
    x, label, weight = np.array([[np.finfo(F32).max / 2, low, 0]], F32), np.array([1]), np.array([1, 0, 1], F32)
    assert fastlogits.cross_entropy(x, label, weight=weight, reduction="sum") == 0
    torch = need("torch")
    need("fastlogits.torch")
    options = {"weight": torch.tensor(weight), "reduction": "sum"}
    loss_of = torch.func.grad_and_value(lambda z: fastlogits.cross_entropy(z, torch.tensor(label), **options))
    grad, loss = loss_of(torch.tensor(x))
    assert loss == 0
    assert not grad.any()
    tf = need("tensorflow")
    with need("fastlogits.tensorflow").portable():
        portable = tf.function(fastlogits.cross_entropy)
        if np.isinf(low):  # else its optimizer doubles the halves of a difference first, and that is inf
            assert portable(tf.constant(x), tf.constant(label), weight=tf.constant(weight), reduction="sum") == 0
    jax = need("jax")
    with jax.enable_x64(True):
        options = {"weight": jax.numpy.asarray(weight), "reduction": "sum"}
        value, tangent = jax.jvp(lambda z: fastlogits.cross_entropy(z, label, **options), (x,), (np.ones_like(x),))
        assert value == 0
        assert tangent == 0
