"""fastlogits.jax: the names of jax.nn and optax, under every transformation of JAX."""

import functools
import re

import numpy as np
import operations
import oracle
import pytest
from conftest import need
from operations import OPERATIONS
from subprocesses import run
from tolerance import DTYPES, assert_close

import fastlogits

jax = need("jax")
fj = need("fastlogits.jax")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

integer_loss = fj.softmax_cross_entropy_with_integer_labels
X = np.random.default_rng(0).standard_normal((4, 5, 3))
LABELS = np.arange(12).reshape(4, 3) % 5
SHARES = np.random.default_rng(1).random((4, 5, 3))
MASK = X > -0.5
MASK[0, :, 0] = False


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def optax_integer_loss(logits, labels, axis=-1, where=None):
    """What optax computes, by its formula."""
    picked = jnp.take_along_axis(logits, jnp.expand_dims(labels, axis), axis).squeeze(axis)
    if where is not None and where.ndim != logits.ndim:
        where = jnp.expand_dims(where, axis)
    losses = jax.nn.logsumexp(logits, axis, where=where) - picked
    return losses if where is None else jnp.where(jnp.any(where, axis), losses, 0)


def optax_loss(logits, labels, axis=-1, where=None):
    if where is not None and where.ndim != logits.ndim:
        where = jnp.expand_dims(where, axis)
    return -(labels * jax.nn.log_softmax(logits, axis, where)).sum(axis, where=where)


# name: our function, the other's, arguments, options
PEERS = {
    "softmax": (fj.softmax, jax.nn.softmax, (X,), {}),
    "softmax of an axis": (fj.softmax, jax.nn.softmax, (X,), {"axis": 1}),
    "softmax of two axes": (fj.softmax, jax.nn.softmax, (X,), {"axis": (2, 0)}),
    "softmax of neighbours": (fj.softmax, jax.nn.softmax, (X,), {"axis": (0, 1)}),
    "softmax of all": (fj.softmax, jax.nn.softmax, (X,), {"axis": None}),
    "softmax of no axis": (fj.softmax, jax.nn.softmax, (X,), {"axis": ()}),
    "softmax of some": (fj.softmax, jax.nn.softmax, (X,), {"axis": 1, "where": MASK}),
    "softmax of integers": (fj.softmax, jax.nn.softmax, (LABELS,), {}),
    "log_softmax": (fj.log_softmax, jax.nn.log_softmax, (X,), {"axis": 0}),
    "log_softmax of some": (fj.log_softmax, jax.nn.log_softmax, (X,), {"axis": (1, 2), "where": MASK[:1]}),
    "logsumexp": (fj.logsumexp, jax.nn.logsumexp, (X,), {}),
    "logsumexp of axes": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": (0, -1), "keepdims": True}),
    "logsumexp of some": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": 1, "where": MASK}),
    "logsumexp with factors": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": 1, "b": SHARES, "return_sign": True}),
    "logsumexp and sign": (fj.logsumexp, jax.nn.logsumexp, (X,), {"axis": 1, "return_sign": True, "where": MASK}),
    "integers": (integer_loss, optax_integer_loss, (X, LABELS), {"axis": 1}),
    "integers, rows": (integer_loss, optax_integer_loss, (X, LABELS), {"axis": 1, "where": MASK[:, 0]}),
    "integers, classes": (integer_loss, optax_integer_loss, (X, LABELS), {"axis": 1, "where": MASK}),
    "distributions": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": 1}),
    "distributions of all": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": None}),
    "distributions, rows": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": 1, "where": MASK[:, 0]}),
    "distributions, classes": (fj.softmax_cross_entropy, optax_loss, (X, SHARES), {"axis": (1, 2), "where": MASK}),
    "one distribution": (fj.softmax_cross_entropy, optax_loss, (X, SHARES[0, 0]), {}),
    "one-hot integers": (fj.softmax_cross_entropy, optax_loss, (X, np.eye(3, dtype=int)[0]), {}),
}


def first(result):
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize(("ours", "theirs", "args", "options"), PEERS.values(), ids=PEERS)
def test_same_as_jax(ours, theirs, args, options):
    args = [jnp.asarray(arg) for arg in args]
    for found, expected in zip(
        jax.tree.leaves(ours(*args, **options)), jax.tree.leaves(theirs(*args, **options)), strict=True
    ):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("ours", "theirs", "args", "options"), PEERS.values(), ids=PEERS)
def test_gradients_of_jax(ours, theirs, args, options):
    if args[0].dtype.kind == "i":
        return
    args = [jnp.asarray(arg) for arg in args]
    weights = np.random.default_rng(2).random(first(ours(*args, **options)).shape)

    def total(function, *args):
        values = first(function(*args, **options))
        return jnp.where(jnp.isfinite(values), values * weights, 0).sum()

    wanted = [i for i, arg in enumerate(args) if arg.dtype.kind == "f"]
    found, expected = (
        jax.jit(jax.grad(functools.partial(total, function), argnums=wanted))(*args) for function in (ours, theirs)
    )
    for ours, theirs in zip(found, expected, strict=True):
        # JAX itself has NaN in rows of which nothing is selected.
        np.testing.assert_allclose(ours, jnp.nan_to_num(theirs), rtol=1e-11, atol=1e-13)


FUNCTIONS = {
    "softmax": functools.partial(fj.softmax, axis=1),
    "log_softmax": functools.partial(fj.log_softmax, axis=-2),
    "logsumexp": functools.partial(fj.logsumexp, axis=1),
    "integers": lambda x: integer_loss(x, jnp.asarray(LABELS), axis=1),
    "distributions": lambda x: fj.softmax_cross_entropy(x, fj.softmax(2 * x[::-1], 1), axis=1),
    "every option": lambda x: fastlogits.cross_entropy(
        x, jnp.asarray(LABELS), axis=1, weight=jnp.linspace(0.5, 1, 5), sample_weight=x[:, 0] ** 2, ignore_index=1,
        label_smoothing=0.1, z_loss=0.1, softcap=3.0, logit_scale=0.7, reduction="none",
    ),
    "options of a distribution": lambda x: fastlogits.cross_entropy(
        x, jnp.asarray(SHARES), axis=1, weight=jnp.linspace(0.5, 1, 5), label_smoothing=0.1, z_loss=0.1,
    ),
    "selective": lambda x: fastlogits.selective_log_softmax(x, jnp.asarray(LABELS), 1),
    "selective, several": lambda x: fastlogits.selective_log_softmax(x, jnp.asarray(LABELS[:, None][:, [0, 0]]), 1),
}  # fmt: skip
each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


@each_function
def test_derivatives_forward_and_reverse(function):
    check_grads(jax.jit(function), (jnp.asarray(X),), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "logsumexp", "integers"])
def test_hessian(name):
    def total(x):
        return (FUNCTIONS[name](x) ** 2).sum()

    x = jnp.asarray(X)
    forward_reverse = jax.jit(jax.hessian(total))(x)
    np.testing.assert_allclose(jax.jit(jax.jacrev(jax.jacrev(total)))(x), forward_reverse, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("axis", [0, 2])
@each_function
def test_vmap(function, axis):
    batch = np.stack([X, 2 * X, X - 1], axis)
    separate = [np.take(batch, i, axis) for i in range(3)]
    mapped = jax.jit(jax.vmap(function, in_axes=axis))(jnp.asarray(batch))
    alone = jax.jit(function)
    np.testing.assert_allclose(mapped, [alone(jnp.asarray(x)) for x in separate], rtol=1e-13)

    def total(x):
        return (function(x) ** 2).sum()

    gradient = jax.jit(jax.grad(total))
    exact = np.stack([gradient(jnp.asarray(x)) for x in separate])
    inside = jax.jit(jax.vmap(jax.grad(total), in_axes=axis))(jnp.asarray(batch))
    np.testing.assert_allclose(inside, exact, rtol=1e-12, atol=1e-15)
    outside = jax.jit(jax.grad(lambda x: jax.vmap(total, in_axes=axis)(x).sum()))(jnp.asarray(batch))
    np.testing.assert_allclose(np.moveaxis(outside, axis, 0), exact, rtol=1e-12, atol=1e-15)


def test_vmap_of_labels_and_weights_alone():
    x, labels = jnp.asarray(X[..., 0]), jnp.asarray(LABELS.T)
    mapped = jax.vmap(integer_loss, in_axes=(None, 0))(x, labels)
    np.testing.assert_array_equal(mapped, [integer_loss(x, each) for each in labels])
    weights = jnp.asarray(SHARES[:, :, 0])

    def loss(weight):
        return fastlogits.cross_entropy(x, labels[0], weight=weight, label_smoothing=0.2)

    np.testing.assert_allclose(jax.vmap(loss)(weights), [loss(weight) for weight in weights], rtol=1e-14)
    pairs = jax.vmap(jax.vmap(loss))(jnp.stack([weights, weights[::-1]]))
    np.testing.assert_allclose(pairs[1], jax.vmap(loss)(weights)[::-1], rtol=1e-14)


@each_function
def test_scan_and_checkpoint(function):
    def total(x):
        return (function(x) ** 2).sum()

    def step(x, _):
        value, grad = jax.value_and_grad(jax.checkpoint(total))(x)
        return x - 0.1 * grad, value

    _, values = jax.jit(lambda x: jax.lax.scan(step, x, length=3))(jnp.asarray(X))
    x, plain = jnp.asarray(X), jax.jit(jax.value_and_grad(total))
    for value in values:
        expected, grad = plain(x)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        x = x - 0.1 * grad


@pytest.mark.parametrize("name", OPERATIONS)
def test_values(name, dtype):
    arguments, exact = operations.case(name, 37, 127, dtype)
    result = operations.call(fastlogits, name, *map(jnp.asarray, arguments))
    assert isinstance(result, jax.Array)
    assert result.dtype == (np.int64 if name == "argmax" else dtype)
    assert_close(result, exact, name)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_without_float64(name):
    """JAX's default: labels are int32, sums float32."""
    with jax.enable_x64(False):
        arguments, exact = operations.case("cross_entropy_with_grad", 37, 127, DTYPES[name])
        x, labels = map(jnp.asarray, arguments)
        assert labels.dtype == np.int32
        losses, backward = jax.vjp(functools.partial(integer_loss, labels=labels), x)
        (grad,) = backward(jnp.ones_like(losses))
        assert losses.dtype == grad.dtype == x.dtype
        assert_close(grad, exact)
        assert_close(losses, oracle.cross_entropy(*arguments, reduction="none").loss)
        with pytest.raises((ValueError, RuntimeError), match=r"labels: .*got -5 at \(3,\)"):
            integer_loss(x, labels.at[3].set(-5))


def aliases(compiled):
    """Whether the gradient's call writes over the logits, and the copies that XLA makes of them."""
    text = compiled.as_text()
    return "output_to_operand_aliasing" in text, len(re.findall(r"\[64,300\]\S* copy\(", text))


def test_the_gradient_overwrites_donated_logits():
    need("fastlogits.jax._handler")
    x, labels = jnp.ones((64, 300), np.float32), jnp.arange(64)
    step = jax.value_and_grad(lambda x, labels: integer_loss(x, labels).mean())
    donated = jax.jit(step, donate_argnums=0)
    assert aliases(donated.lower(x, labels).compile()) == (True, 0)
    assert aliases(jax.jit(step).lower(x, labels).compile()) == (False, 0)
    expected = jax.jit(step)(x, labels)
    address = x.unsafe_buffer_pointer()
    loss, grad = donated(x, labels)
    assert x.is_deleted()
    assert grad.unsafe_buffer_pointer() == address
    np.testing.assert_array_equal(grad, expected[1])
    assert loss == expected[0]


@pytest.mark.parametrize("read_again", [False, True])
def test_the_gradient_overwrites_intermediate_logits(read_again):
    """But not where something else reads them: XLA would copy them first."""
    need("fastlogits.jax._handler")
    h, w, labels = jnp.ones((64, 8)), jnp.ones((8, 300)), jnp.arange(64)

    def loss(w, labels):
        logits = h @ w
        correct = (logits.argmax(-1) == labels).mean() if read_again else 0.0
        return integer_loss(logits, labels).mean(), correct

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    assert aliases(step.lower(w, labels).compile()) == (not read_again, 0)


def test_backends_and_settings(backend):
    """Both hold where a function is traced; each call asks for them anew."""
    logits, labels = operations.make_logits(37, 127, DTYPES["float32"]), np.arange(37)
    expected = fastlogits.cross_entropy_with_grad(logits, labels, reduction="sum")
    step = jax.jit(jax.value_and_grad(lambda x: integer_loss(x, jnp.asarray(labels)).sum()))
    for threads in (None, 1, 3):
        with fastlogits.settings(num_threads=threads):
            grad = jax.grad(lambda x: integer_loss(x, jnp.asarray(labels)).sum())(jnp.asarray(logits))
            np.testing.assert_array_equal(grad, expected.grad_logits)
    text = step.lower(jnp.asarray(logits)).as_text()
    assert f"backend\\22, \\22{backend}\\22" in text
    np.testing.assert_array_equal(step(jnp.asarray(logits))[1], expected.grad_logits)


def test_errors_arrive_however_late():
    """Asynchronous calls, and calls inside of loops."""
    x, labels = jnp.zeros((256, 5000)), jnp.full(256, 5000)
    losses = jax.jit(integer_loss)
    losses(x, labels - 1)
    with pytest.raises((ValueError, RuntimeError), match=r"labels: expected values in \[0, 5000\), got 5000 at \(0,\)"):
        jax.block_until_ready(losses(x, labels) + 1)
    with pytest.raises((ValueError, RuntimeError), match="labels"):
        jax.block_until_ready(jax.jit(lambda x: jax.lax.map(lambda y: integer_loss(x, y), labels[None]))(x))
    with pytest.raises((ValueError, RuntimeError), match=r"got 5000 at \(0,\)"):
        integer_loss(x, labels, where=jnp.ones(256, bool))
    with pytest.raises((ValueError, RuntimeError), match=r"got 5000 at \(0,\)"):
        integer_loss(x, labels, where=jnp.ones((256, 5000), bool))
    with pytest.raises((ValueError, RuntimeError), match="ids"):
        jax.block_until_ready(jax.jit(fastlogits.selective_log_softmax)(x, labels))


def test_masked_rows_are_not_read():
    x = jnp.asarray(X[..., 0]).at[1].set(jnp.nan)
    labels, where = jnp.array([0, -100, 4, 1]), jnp.array([True, False, True, True])
    loss, grad = jax.value_and_grad(lambda x: integer_loss(x, labels, where=where).sum())(x)
    rest = jnp.array([0, 2, 3])
    assert loss == integer_loss(x[rest], labels[rest]).sum()
    np.testing.assert_array_equal(grad[1], 0)


BAD = {
    "axis": (lambda x: fj.softmax(x, 2), ValueError, "axis"),
    "no class axis": (lambda x: integer_loss(x, jnp.arange(4), None), TypeError, "axis"),
    "where": (lambda x: fj.softmax(x, where=jnp.ones((4, 5))), TypeError, "where: expected bool, got float64"),
    "shape of where": (lambda x: fj.softmax(x, where=jnp.ones(3, bool)), ValueError, r"where: .*\(4, 5\), got \(3,\)"),
    "labels": (lambda x: integer_loss(x, jnp.arange(3)), ValueError, r"labels: .*\(4,\).*got shape \(3,\)"),
    "no integers": (lambda x: integer_loss(x, jnp.arange(4.0)), TypeError, "labels: .*integer.*got float64"),
    "distributions": (lambda x: fj.softmax_cross_entropy(x, x[:, :3]), ValueError, r"labels: .*\(4, 5\), got \(4, 3\)"),
    "complex": (lambda x: fj.logsumexp(x + 0j), TypeError, "a: expected float32.*got complex128"),
    "eight bits": (lambda x: fj.softmax(x.astype(jnp.float8_e4m3fn)), TypeError, "x: .*got float8_e4m3fn"),
    "out": (lambda x: fastlogits.softmax(x, out=x), TypeError, "out: JAX arrays do not change"),
    "out of a gradient": (lambda x: fastlogits.softmax_backward(x, x, out=x), TypeError, "out: JAX arrays"),
    "grad_loss": (
        lambda x: fastlogits.cross_entropy_with_grad(x, jnp.arange(4), grad_loss=x[0]), ValueError, "grad_loss",
    ),
    "of rows": (
        lambda x: fastlogits.cross_entropy_with_grad(x, jnp.arange(4), reduction="none", grad_loss=x[0]),
        ValueError, r"grad_loss: expected shape \(4,\), got \(5,\)",
    ),
    "sample_weight": (
        lambda x: fastlogits.cross_entropy(x, jnp.arange(4), sample_weight=x[0]), ValueError, "sample_weight: .*shape",
    ),
    "traced": (jax.jit(lambda x: fastlogits.topk(x, 2)), RuntimeError, "logits: fastlogits.topk has no gradient"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.asarray(X[..., 0]))


def test_other_devices_are_refused_by_name():
    traced = jax.jit(fj.softmax).trace(jax.ShapeDtypeStruct((2, 3), np.float32))
    with pytest.raises(TypeError, match="fastlogits_softmax: expected arrays on the CPU, got .* for cuda"):
        traced.lower(lowering_platforms=("cuda",))


def test_traced_functions_of_fastlogits():
    x = jnp.asarray(X)
    assert jax.jit(lambda x: fastlogits.argmax(x, 1))(x).tolist() == np.argmax(X, 1).tolist()
    warm = jax.jit(lambda x: fastlogits.softmax(x, (0, 1), temperature=0.5))(x)
    np.testing.assert_allclose(warm, fastlogits.softmax(X, (0, 1), temperature=0.5), rtol=1e-14)


def test_several_devices():
    """Sharded by the compiler, or by shard_map."""
    code = """
        import jax, jax.numpy as jnp, numpy as np
        import fastlogits, fastlogits.jax as fj
        from jax.sharding import NamedSharding, PartitionSpec as P
        jax.config.update("jax_num_cpu_devices", 2)
        mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
        x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
        labels = np.arange(6) % 5
        exact = fastlogits.cross_entropy_with_grad(x, labels, reduction="sum")
        rows, row = NamedSharding(mesh, P("rows")), NamedSharding(mesh, P("rows"))
        sharded = jax.device_put(x, rows), jax.device_put(labels, row)
        def loss(x, labels):
            return fj.softmax_cross_entropy_with_integer_labels(x, labels).sum()
        value, grad = jax.jit(jax.value_and_grad(loss))(*sharded)
        np.testing.assert_allclose(value, exact.loss, rtol=1e-6)
        np.testing.assert_array_equal(grad, exact.grad_logits)
        both = P("rows"), P("rows")
        split = jax.shard_map(jax.value_and_grad(loss), mesh=mesh, in_specs=both, out_specs=(P(), P("rows")),
                              check_vma=False)
        np.testing.assert_array_equal(jax.jit(split)(*sharded)[1], exact.grad_logits)
        split = jax.shard_map(lambda x: fj.softmax(x), mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))
        np.testing.assert_array_equal(split(sharded[0]), fastlogits.softmax(x))
        split = jax.shard_map(lambda x: fj.logsumexp(x, 1), mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))
        np.testing.assert_array_equal(split(sharded[0]), fastlogits.logsumexp(x))
        print("done")
        """
    assert run(code).endswith("done")


def test_without_the_handler():
    """As installed without a C compiler: the same values, derivatives and messages."""
    code = """
        import sys
        sys.modules["fastlogits.jax._handler"] = None
        import jax, jax.numpy as jnp, numpy as np
        import fastlogits, fastlogits.jax as fj
        x = np.random.default_rng(0).standard_normal((256, 4000)).astype(np.float32)
        labels = np.arange(256)
        exact = fastlogits.cross_entropy_with_grad(x, labels, reduction="sum")
        def loss(x, labels):
            return fj.softmax_cross_entropy_with_integer_labels(x, labels).sum()
        grad = jax.jit(jax.grad(loss))(x, labels)
        np.testing.assert_array_equal(grad, exact.grad_logits)
        grad = jax.jit(jax.vmap(jax.grad(loss)))(x[:, None], labels[:, None])
        np.testing.assert_array_equal(grad[:, 0], exact.grad_logits)
        try:
            print(jax.jit(loss)(x[:2], jnp.array([0, 4000])))
        except Exception as error:
            assert "labels: expected values in [0, 4000), got 4000 at (1,)" in str(error), error
            print("done")
        """
    assert run(code).endswith("done")


def test_kernels_share_the_threads_of_xla():
    """Entering an OpenMP region, each of XLA's threads would be given a team of its own."""
    need("fastlogits.jax._handler")
    code = """
        import concurrent.futures, os, threading
        import jax, jax.numpy as jnp, numpy as np
        import fastlogits, fastlogits.jax as fj
        x = np.random.default_rng(0).standard_normal((20011, 10)).astype(np.float32)
        exact = fastlogits.softmax(x)
        @jax.jit
        def chain(x):
            for _ in range(3):
                x = fj.softmax(x + (x.T @ x).sum() * 0)
            return fj.softmax(x * 0)
        def calls(_):
            for _ in range(5):
                np.testing.assert_array_equal(fj.softmax(jx), exact)
                np.testing.assert_array_equal(chain(jx), jnp.full(x.shape, 0.1))
        jx = jnp.asarray(x)
        jax.block_until_ready(jax.jit(lambda x: (x.T @ x).sum())(jx))
        with fastlogits.settings(num_threads=4), concurrent.futures.ThreadPoolExecutor(4) as pool:
            barrier = threading.Barrier(4)
            list(pool.map(lambda _: barrier.wait(), range(4)))
            before = set(os.listdir("/proc/self/task"))
            list(pool.map(calls, range(4)))
            print("new:", len(set(os.listdir("/proc/self/task")) - before))
        """
    assert run(code, FASTLOGITS_BACKEND="cython", FASTLOGITS_NUM_THREADS="4").endswith("new: 0")


def test_a_program_may_end_while_kernels_are_running():
    code = """
        import jax, jax.numpy as jnp
        import fastlogits.jax as fj
        @jax.jit
        def long(x):
            for _ in range(20):
                x = fj.softmax(x + 1)
            return x
        x = jnp.ones((2000, 2000))
        long(x).block_until_ready()
        later = long(long(x))
        print("done")
        """
    assert run(code).endswith("done")
