"""fastlogits.jax in compiled programs: logits that are overwritten, other devices, threads, the end of a program."""

import os
import re

import numpy as np
import pytest
from conftest import need
from jax_cases import fj, integer_loss, jax, jnp
from subprocesses import run

pytestmark = pytest.mark.usefixtures("x64")


def aliases(compiled):
    """Whether the gradient's call writes over its second operand, the logits, and the copies that XLA makes of them."""
    text = compiled.as_text()
    return "output_to_operand_aliasing={{}: (1, {})}" in text, len(re.findall(r"\[64,300\]\S* copy\(", text))


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


def test_other_devices_are_refused_by_name():
    traced = jax.jit(fj.softmax).trace(jax.ShapeDtypeStruct((2, 3), np.float32))
    with pytest.raises(TypeError, match="fastlogits_softmax: expected arrays on the CPU, got .* for cuda"):
        traced.lower(lowering_platforms=("cuda",))


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
    """XLA's threads call on each other: no helper of ours is started for them."""
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


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted under /proc")
def test_callers_beside_the_pool_have_a_helper_of_ours():
    """Started by the first of them, and for no call of XLA's."""
    code = """
        import os, time
        import jax, jax.numpy as jnp, numpy as np, fastlogits, fastlogits.jax
        step = jax.jit(lambda x: fastlogits.jax.softmax(x) + fastlogits.jax.log_softmax(x))
        for _ in range(3):
            step(jnp.ones((2000, 1000))).block_until_ready()
        fastlogits.softmax(np.ones((2, 3)))
        before = len(os.listdir("/proc/self/task"))
        fastlogits.softmax(np.ones((2000, 1000)))
        time.sleep(0.2)
        print(len(os.listdir("/proc/self/task")) - before)
        """
    assert run(code, FASTLOGITS_BACKEND="cython", FASTLOGITS_NUM_THREADS=2) == "1"
