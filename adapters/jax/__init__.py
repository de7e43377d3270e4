"""fastlogits for JAX: softmaxes and losses by the names of jax.nn and optax, faster on CPU."""

from fastlogits.jax import uniform
from fastlogits.jax.functional import (
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)

__all__ = [
    "log_softmax",
    "logsumexp",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "uniform",
]
