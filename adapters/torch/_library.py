"""The composable path: registered operators, for torch.compile, export and all else that must see them.

An operator costs some 30 us more than a function of `_autograd`. It computes the loss alone and the gradient
in a second operator, since its outputs are fixed in number.
"""

import torch
from torch import Tensor
from torch.library import custom_op

from fastlogits._checks import loss_options
from fastlogits.torch import _autograd
from fastlogits.torch._autograd import Options


def _options(axis, ignore_index, numbers, *others):
    label_smoothing, z_loss, softcap, logit_scale = numbers
    numbers = loss_options(label_smoothing, z_loss, softcap or None, logit_scale)
    return Options(axis, ignore_index, numbers, *others)


@custom_op("fastlogits::cross_entropy", mutates_args=())
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    sample_weight: Tensor | None,
    axis: int,
    ignore_index: int,
    numbers: list[float],
    reduction: str,
    normalizer: float | None,
    dtype: torch.dtype,
    label_name: str = "labels",
) -> Tensor:
    options = _options(axis, ignore_index, numbers, reduction, normalizer, dtype, label_name)
    return _autograd.loss(logits, target, weight, sample_weight, options).contiguous()


@cross_entropy.register_fake
def _(logits, target, weight, sample_weight, *options):
    options = Options(*options)
    if options.reduction != "none":
        return logits.new_empty((), dtype=options.dtype)
    shape = list(logits.shape)
    del shape[options.axis]
    return logits.new_empty(shape, dtype=options.dtype)


@custom_op("fastlogits::cross_entropy_backward", mutates_args=())
def cross_entropy_backward(
    grad_loss: Tensor,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    sample_weight: Tensor | None,
    axis: int,
    ignore_index: int,
    numbers: list[float],
    reduction: str,
    normalizer: float | None,
    dtype: torch.dtype,
    label_name: str = "labels",
) -> Tensor:
    options = _options(axis, ignore_index, numbers, reduction, normalizer, dtype, label_name)
    grad = torch.empty_like(logits)
    _autograd.gradient(grad_loss, logits, target, weight, sample_weight, options, out=_autograd.array(grad))
    return grad


@cross_entropy_backward.register_fake
def _(grad_loss, logits, *others):
    return torch.empty_like(logits)


def _keep_arguments(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _cross_entropy_gradients(ctx, grad_loss):
    needed = ctx.needs_input_grad[:4]
    tensors = ctx.saved_tensors
    by_kernel = needed[0] and not torch.is_grad_enabled()
    grads = [None] * 4
    if any(needed[1:]) or not by_kernel:
        needed = needed[0] and not by_kernel, *needed[1:]
        grads = _autograd.formula_gradients(needed, grad_loss, *tensors, Options(*ctx.options), logsumexp=None)
    if by_kernel:
        grads[0] = cross_entropy_backward(grad_loss, *tensors, *ctx.options)
    return *grads, *[None] * len(ctx.options)


cross_entropy.register_autograd(_cross_entropy_gradients, setup_context=_keep_arguments)


@custom_op("fastlogits::softmax", mutates_args=())
def softmax(logits: Tensor, dim: int) -> Tensor:
    return _autograd.softmax_(logits, dim, out=torch.empty_like(logits))


@custom_op("fastlogits::log_softmax", mutates_args=())
def log_softmax(logits: Tensor, dim: int) -> Tensor:
    return _autograd.log_softmax_(logits, dim, out=torch.empty_like(logits))


@custom_op("fastlogits::logsumexp", mutates_args=())
def logsumexp(logits: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    return _autograd.logsumexp_(logits, tuple(dim), keepdim).contiguous()


@custom_op("fastlogits::selective_log_softmax", mutates_args=())
def selective_log_softmax(logits: Tensor, ids: Tensor, dim: int, ids_name: str) -> Tensor:
    return _autograd.selective_log_softmax_(logits, ids, dim, ids_name).contiguous()


@selective_log_softmax.register_fake
def _(logits, ids, dim, ids_name):
    return logits.new_empty(ids.shape)


@custom_op("fastlogits::selective_log_softmax_backward", mutates_args=())
def selective_log_softmax_backward(grad: Tensor, logits: Tensor, ids: Tensor, dim: int) -> Tensor:
    result = torch.empty_like(logits)
    _autograd.selective_log_softmax_gradient(grad, logits, ids, dim, out=_autograd.array(result))
    return result


@selective_log_softmax_backward.register_fake
def _(grad, logits, ids, dim):
    return torch.empty_like(logits)


@softmax.register_fake
@log_softmax.register_fake
def _(logits, dim):
    return torch.empty_like(logits)


@logsumexp.register_fake
def _(logits, dim, keepdim):
    dims = {d % logits.dim() for d in dim}
    sizes = [1 if i in dims else n for i, n in enumerate(logits.shape) if keepdim or i not in dims]
    return logits.new_empty(sizes)


def _keep_output(ctx, inputs, output):
    ctx.dim = inputs[1]
    ctx.save_for_backward(output)


def _keep_input(ctx, inputs, output):
    logits, ctx.dim, ctx.keepdim = inputs
    ctx.save_for_backward(logits)


def _keep_selection(ctx, inputs, output):
    logits, ids, ctx.dim, _ = inputs
    ctx.save_for_backward(logits, ids)


def _softmax_gradient(ctx, grad):
    (probs,) = ctx.saved_tensors
    return _autograd.softmax_formula(grad, probs, ctx.dim), None


def _log_softmax_gradient(ctx, grad):
    (log_probs,) = ctx.saved_tensors
    return _autograd.log_softmax_formula(grad, log_probs, ctx.dim), None


def _logsumexp_gradient(ctx, grad):
    (logits,) = ctx.saved_tensors
    if not ctx.keepdim:
        grad = _autograd.kept(grad, ctx.dim, logits.dim())
    lse = logsumexp(logits, ctx.dim, True)
    lse = torch.where(lse == -torch.inf, 0, lse)  # the gradient is 0 where there is nothing but -inf
    return (logits - lse).exp() * grad, None, None


def _selective_log_softmax_gradient(ctx, grad):
    logits, ids = ctx.saved_tensors
    if torch.is_grad_enabled():
        probs = softmax(logits, ctx.dim)
        result = _autograd.selective_log_softmax_formula(grad, logits, ids, ctx.dim, probs)
    else:
        result = selective_log_softmax_backward(grad, logits, ids, ctx.dim)
    return result, None, None, None


softmax.register_autograd(_softmax_gradient, setup_context=_keep_output)
log_softmax.register_autograd(_log_softmax_gradient, setup_context=_keep_output)
logsumexp.register_autograd(_logsumexp_gradient, setup_context=_keep_input)
selective_log_softmax.register_autograd(_selective_log_softmax_gradient, setup_context=_keep_selection)
