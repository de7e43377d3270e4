"""What functions of a family of several results return."""

from typing import Any, Generic, NamedTuple

from fastlogits._typing import Array


class CrossEntropy(NamedTuple, Generic[Array]):
    """What `cross_entropy_with_grad` returns."""

    loss: Any
    grad_logits: Array
