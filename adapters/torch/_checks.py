"""What the adapter serves, and the errors for what it does not."""

import torch

FLOATS = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
LABELS = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}) | FLOATS


def is_plain(tensor):
    """Whether the values of `tensor` are what lies in its memory."""
    if not tensor.is_cpu or tensor.layout is not torch.strided:
        return False
    return torch.compiler.is_compiling() or not tensor.is_neg()


def tensor(name, value, dtypes=FLOATS):
    if value.dtype not in dtypes:
        expected = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise TypeError(f"{name}: expected {expected}, got {value.dtype}")
    if value.is_neg():
        raise TypeError(f"{name}: its memory holds the negated values; pass {name}.resolve_neg()")
    if not is_plain(value):
        raise TypeError(f"{name}: expected a dense CPU tensor, got {value.layout} on device {value.device}")


def in_words_of_torch(error):
    """An error of the uniform API, with the argument by its name here."""
    words = str(error).replace("labels", "target").replace("logits", "input").replace("ids:", "index:")
    return type(error)(words)


def no_tensors(**values):
    name, value = next(item for item in values.items() if not isinstance(item[1], torch.Tensor))
    return TypeError(f"{name}: expected a tensor, got {type(value).__name__}")


def loss_tensors(logits, target, weight, sample_weight):
    if not (
        logits.dtype in FLOATS
        and target.dtype in LABELS
        and logits.is_cpu
        and target.is_cpu
        and logits.layout is torch.strided
        and target.layout is torch.strided
        and not logits.is_neg()
        and not target.is_neg()
    ):
        tensor("logits", logits)
        tensor("labels", target, LABELS)
    if weight is not None:
        tensor("weight", weight)
    if sample_weight is not None:
        tensor("sample_weight", sample_weight)


def dim(value, tensor):
    ndim = max(1, tensor.dim())
    if not -ndim <= value < ndim:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-ndim}, {ndim - 1}], but got {value})"
        )
    return value


def dims(values, tensor):
    """As torch: none at all means all of them."""
    distinct = {dim(value, tensor) % max(1, tensor.dim()) for value in values}
    if len(distinct) < len(values):
        raise RuntimeError(f"dim: expected each dimension once, got {values}")
    return values or tuple(range(tensor.dim()))


def symbolic_softcap(value):
    if value is None:
        return 0.0
    if value <= 0:
        raise ValueError(f"softcap: expected a number above 0, got {value}")
    return value


def normalizer(reduction):
    return ValueError(f'normalizer: only reduction="mean" divides, got {reduction!r}')


def not_differentiable(name):
    # As in torch: the weight of classes gets no gradient beside class indices.
    return RuntimeError(f"{name}: not differentiable beside class indices; pass {name}.detach()")


def no_gradient(function, name):
    return RuntimeError(f"{name}: fastlogits.{function} has no gradient; pass {name}.detach()")


def inplace(logits):
    """torch's own rules for writing to a tensor."""
    if logits.is_leaf or (logits._base is not None and logits._base.is_leaf and logits._base.requires_grad):
        raise RuntimeError("inplace: a leaf tensor that requires grad cannot be overwritten by its gradient")


def gradient_gone():
    return RuntimeError(
        "the logits were overwritten by their gradient (inplace=True): "
        "a second backward pass or a second derivative needs inplace=False"
    )
