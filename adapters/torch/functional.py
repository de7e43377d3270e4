"""torch.nn.functional's names, on the kernels of fastlogits."""

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling
from torch.nn import _reduction
from torch.nn.functional import _get_softmax_dim

from fastlogits._checks import ignored_distribution
from fastlogits._options import LossOptions
from fastlogits.torch import _autograd, _checks, _formula, _library

_dispatch_modes = torch._C._len_torch_dispatch_stack
_is_tracing = torch._C._is_tracing
_functorch_is_active = torch._C._are_functorch_transforms_active


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    sample_weight: Tensor | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    normalizer: float | Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """As `torch.nn.functional.cross_entropy`: the same numbers, several times faster on a CPU.

    Unless gradients are switched off, the gradient of a mean or sum is computed with it, in one pass over the
    logits. Second derivatives, `torch.func` and `torch.compile` work.

    Parameters
    ----------
    input, target, weight, ignore_index, reduction, label_smoothing
        As in torch; labels may have any integer dtype.
    sample_weight : Tensor, optional
        Weight of each row, of the shape of the loss for "none". The mean divides by the sum of
        ``sample_weight * weight[target]``.
    z_loss : float, default 0.0
        Factor of the ``logsumexp(input) ** 2`` penalty.
    softcap : float, optional
        Above 0: ``softcap * tanh(input / softcap)`` stands in for `input`.
    logit_scale : float, default 1.0
        Multiplies the logits after the soft cap.
    normalizer : float or Tensor, optional
        What "mean" divides by instead; the labels of all micro-batches, for example. 0, in a step in which no
        label counts, makes the loss and its gradient 0.
    inplace : bool, default False
        Let the gradient overwrite `input`, which spares its memory. Autograd is told: an operator that needs
        `input` for its own backward pass raises an error. Without effect where operators are traced.

    Returns
    -------
    Tensor
        Of the dtype of `input`; of half-precision logits under autocast, float32.

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; the first is named.

    Examples
    --------
    >>> import torch, fastlogits.torch
    >>> fastlogits.torch.cross_entropy(torch.tensor([[1000.0, 1000.0]]), torch.tensor([0]))
    tensor(0.6931)
    """
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)
    if not isinstance(input, Tensor) or not isinstance(target, Tensor):
        raise _checks.no_tensors(input=input, target=target)
    options = LossOptions(
        1 if input.dim() > 1 else 0, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer,
        "target",
    )  # fmt: skip
    return along((input, target, weight, sample_weight), options, inplace, None, "input")


def along(tensors, options, inplace=False, loss_dtype=None, name="logits"):
    """`cross_entropy` with options as they were given, a loss in `loss_dtype`, and logits called `name`."""
    run = path()
    if run is _autograd and not inplace and (native := _autograd.core()) is not None:
        loss = native.cross_entropy(tensors, options, loss_dtype, _autograd.CrossEntropy.attach)
        if loss is not None:
            return loss
    logits, target, weight, sample_weight = tensors
    soft = target.dtype.is_floating_point
    if soft:
        if options.ignore_index >= 0:
            raise ignored_distribution(options.label_name)
        if options.ignore_index != -100:
            options = options._replace(ignore_index=-100)
        if target.dtype != logits.dtype:
            dtype = torch.promote_types(logits.dtype, target.dtype)
            logits, target = logits.to(dtype), target.to(dtype)
            tensors = logits, target, weight, sample_weight
    elif weight is not None and weight.requires_grad:
        raise _checks.not_differentiable("weight")
    if loss_dtype is None:
        loss_dtype = logits.dtype
        if loss_dtype.itemsize == 2 and torch.is_autocast_enabled("cpu"):
            loss_dtype = torch.float32

    if run is _autograd:
        run = path(*tensors)
    if run is _autograd:
        options = options.checked()
        _checks.loss_tensors((name, options.label_name), *tensors)
        return run.cross_entropy(tensors, options, loss_dtype, inplace)
    divisor, dtype = None, loss_dtype
    if isinstance(options.normalizer, Tensor):
        # Its value may not be known here.
        if options.reduction != "mean":
            raise _checks.normalizer(options.reduction)
        divisor, options = options.normalizer, options._replace(normalizer=None, reduction="sum")
        dtype = torch.promote_types(loss_dtype, torch.float32)
    if run is _library:
        # Symbols, perhaps; the operator checks their values.
        loss = _library.cross_entropy(*tensors, dtype, *options)
    else:
        loss = _formula.cross_entropy(tensors, options.checked(), dtype)
    return loss if divisor is None else _formula.over(loss, divisor).to(loss_dtype)


def path(*tensors):
    """The module that serves these tensors here and now; see the first lines of each."""
    # Transforms come first: they are traced with what they transform, and operators have no rules for them.
    if _functorch_is_active() or forward_ad._current_level >= 0:
        return _formula
    if is_compiling() or _dispatch_modes() or _is_tracing():
        return _library
    for tensor in tensors:
        if type(tensor) not in _checks.PLAIN and not _checks.is_wrapper(tensor):
            return _library
    return _autograd  # which refuses what it cannot serve


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
    """As `torch.nn.functional.softmax`."""
    if dtype is None and path() is _autograd and (native := _autograd.core()) is not None:
        found = native.softmax(input, dim, _autograd.Softmax.attach)
        if found is not None:
            return found
    return _normalized("softmax", input, dim, _stacklevel, dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    """As `torch.nn.functional.log_softmax`."""
    if dtype is None and path() is _autograd and (native := _autograd.core()) is not None:
        found = native.log_softmax(input, dim, _autograd.LogSoftmax.attach)
        if found is not None:
            return found
    return _normalized("log_softmax", input, dim, _stacklevel, dtype)


def _normalized(name, input, dim, stacklevel, dtype):
    if dim is None:
        dim = _get_softmax_dim(name, input.dim(), stacklevel + 1)
    if dtype is not None:
        input = input.to(dtype)
    run = path(input)
    if run is _autograd:
        _checks.tensor("input", input)
        dim = _checks.dim(dim, input)
    if run is _formula or not input.dim():
        return getattr(torch, name)(input, dim)
    return getattr(run, name)(input, dim)


def logsumexp(input: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """As `torch.logsumexp`; of real numbers. Where there is nothing but -inf, the gradient is 0, not NaN."""
    _checks.real("input", input)
    if not input.is_floating_point():
        input = input.to(torch.get_default_dtype())
    return along_dims((dim,) if isinstance(dim, int) else tuple(dim), input, keepdim)


def along_dims(dims, input, keepdim, name="input", dtype=None):
    """`logsumexp` of a floating-point tensor called `name`, in `dtype` or its own."""
    run = path(input)
    if run is _autograd:
        _checks.tensor(name, input)
    dims = _checks.dims(dims, input)
    if run is _autograd and input.dim():
        return run.logsumexp(input, dims, keepdim, dtype)
    input = input if dtype is None else input.to(dtype)
    return (_library if run is _library and input.dim() else _formula).logsumexp(input, dims, keepdim)


def selective_log_softmax(input: Tensor, index: Tensor, dim: int = -1) -> Tensor:
    """``log_softmax(input, dim)`` at the classes `index` alone, as in TRL; differentiable.

    Neither the log-probabilities of the other classes nor, before the backward pass, their gradient is formed.

    Parameters
    ----------
    input : Tensor
        Logits.
    index : Tensor of any integer dtype
        One class a row, of the shape of `input` without `dim`; or several, along `dim`. They may repeat.
    dim : int, default -1
        The class dimension.

    Returns
    -------
    Tensor
        Of the shape of `index` and the dtype of `input`.

    Raises
    ------
    IndexError
        If an index is not in [0, C); the first is named.

    Examples
    --------
    >>> import torch, fastlogits.torch
    >>> fastlogits.torch.selective_log_softmax(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor([-1.3863, -1.3863])
    """
    return selected(dim, input, index, ("input", "index"))


def selected(dim, logits, ids, names=("logits", "ids"), dtype=None):
    """`selective_log_softmax` of tensors called by `names`, in `dtype` or that of the logits."""
    run = path(logits, ids)
    if run is _autograd:
        _checks.tensor(names[0], logits)
        _checks.tensor(names[1], ids, _checks.INTEGERS)
        return run.selective_log_softmax(logits, ids, _checks.dim(dim, logits), names[1], dtype)
    logits = logits if dtype is None else logits.to(dtype)
    if run is _formula:
        return _formula.selective_log_softmax(logits, ids, dim)
    return run.selective_log_softmax(logits, ids, _checks.dim(dim, logits), names[1])


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """As `torch.nn.CrossEntropyLoss`, with the keyword-only options of `cross_entropy`."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        z_loss: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        inplace: bool = False,
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        self.z_loss = z_loss
        self.softcap = softcap
        self.logit_scale = logit_scale
        self.inplace = inplace

    def forward(
        self,
        input: Tensor,
        target: Tensor,
        *,
        sample_weight: Tensor | None = None,
        normalizer: float | Tensor | None = None,
    ) -> Tensor:
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            sample_weight=sample_weight,
            z_loss=self.z_loss,
            softcap=self.softcap,
            logit_scale=self.logit_scale,
            normalizer=normalizer,
            inplace=self.inplace,
        )
