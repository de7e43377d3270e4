"""Arrays and functions for the tests of fastlogits.jax."""

import functools

import numpy as np
import pytest
from conftest import need

import fastlogits

jax = need("jax")
fj = need("fastlogits.jax")

import jax.numpy as jnp  # noqa: E402

integer_loss = fj.softmax_cross_entropy_with_integer_labels
X = np.random.default_rng(0).standard_normal((4, 5, 3))
LABELS = np.arange(12).reshape(4, 3) % 5
SHARES = np.random.default_rng(1).random((4, 5, 3))
MASK = X > -0.5
MASK[0, :, 0] = False
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
