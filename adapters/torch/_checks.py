"""What the adapter serves, and the errors for what it does not."""

import torch
from torch._subclasses import FakeTensor

from fastlogits import _checks as number_checks

FLOATS = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
INTEGERS = frozenset({
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8,
})  # fmt: skip
LABELS = INTEGERS | FLOATS
PLAIN = (torch.Tensor, torch.nn.Parameter, type(None))


def is_wrapper(tensor):
    """Whether the values of `tensor` are elsewhere: on other machines (DTensor), under a mask, ..."""
    kind = type(tensor)
    return (
        kind not in PLAIN
        and kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__
        and not isinstance(tensor, FakeTensor)
    )


def is_plain(tensor):
    """Whether the values of `tensor` are what lies in its memory."""
    if not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_nested:
        return False
    return torch.compiler.is_compiling() or not (is_wrapper(tensor) or tensor.is_neg())


def tensor(name, value, dtypes=FLOATS):
    if value.dtype not in dtypes:
        raise wrong_dtype(name, value, dtypes)
    dense(name, value)


def wrong_dtype(name, value, dtypes):
    expected = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    return TypeError(f"{name}: expected {expected}, got {value.dtype}")


def dense(name, value):
    if is_plain(value):
        return
    if is_wrapper(value):
        kind = f"a {type(value).__name__}"
    elif value.is_nested:
        kind = "a nested one"
    elif value.is_neg():
        raise TypeError(f"{name}: its memory holds the negated values; pass {name}.resolve_neg()")
    else:
        kind = f"{value.layout} on device {value.device}"
    raise TypeError(f"{name}: expected a dense CPU tensor, got {kind}")


def real(name, value):
    if value.is_complex():
        raise wrong_dtype(name, value, FLOATS)


def no_tensors(**values):
    name, value = next(item for item in values.items() if not isinstance(item[1], torch.Tensor))
    return TypeError(f"{name}: expected a tensor, got {type(value).__name__}")


def broadcast(**tensors):
    """The two tensors, broadcast against each other."""
    try:
        return torch.broadcast_tensors(*tensors.values())
    except RuntimeError:
        raise number_checks.no_common_shape(**{name: tuple(t.shape) for name, t in tensors.items()}) from None


def loss_tensors(names, logits, target, weight, sample_weight):
    """`names` are those of the logits and the target for the caller."""
    if not (
        logits.dtype in FLOATS
        and target.dtype in LABELS
        and logits.is_cpu
        and target.is_cpu
        and logits.layout is torch.strided
        and target.layout is torch.strided
        and type(logits) in PLAIN
        and type(target) in PLAIN
        and not logits.is_nested
        and not target.is_nested
        and not logits.is_neg()
        and not target.is_neg()
    ):
        tensor(names[0], logits)
        tensor(names[1], target, LABELS)
    if weight is not None:
        tensor("weight", weight)
    if sample_weight is not None:
        tensor("sample_weight", sample_weight)


def dim(value, tensor):
    ndim = max(1, tensor.dim())
    if not -ndim <= value < ndim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-ndim}, {ndim - 1}], but got {value})")
    return value


def dims(values, tensor):
    """As torch: none at all means all of them."""
    distinct = {dim(value, tensor) % max(1, tensor.dim()) for value in values}
    if len(distinct) < len(values):
        raise RuntimeError(f"dim: expected each dimension once, got {values}")
    return values or tuple(range(tensor.dim()))


def normalizer(reduction):
    return ValueError(f'normalizer: only reduction="mean" divides, got {reduction!r}')


def not_differentiable(name):
    # As in torch: the weight of classes gets no gradient beside class indices.
    return RuntimeError(f"{name}: not differentiable beside class indices; pass {name}.detach()")


def no_gradient(function, name):
    return RuntimeError(f"{name}: fastlogits.{function} has no gradient; pass {name}.detach()")


def random_under_vmap(function):
    return RuntimeError(
        f"seed: expected a number, since vmap was told that nothing is random; "
        f'or call vmap(..., randomness="different") around fastlogits.{function}'
    )


def not_under_transforms(function):
    return RuntimeError(f"fastlogits.{function} has one result for all its data: call it outside of torch.vmap")


def inplace(logits):
    """torch's own rules for writing to a tensor."""
    if logits.is_leaf or (logits._base is not None and logits._base.is_leaf and logits._base.requires_grad):
        raise RuntimeError("inplace: a leaf tensor that requires grad cannot be overwritten by its gradient")


def gradient_gone():
    return RuntimeError(
        "the logits were overwritten by their gradient (inplace=True): "
        "a second backward pass or a second derivative needs inplace=False"
    )
