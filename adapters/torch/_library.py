"""The composable path: registered operators, for torch.compile, export and all else that must see them.

An operator costs some 30 us more than a function of `_autograd`. It computes the loss alone and the gradient
in a second operator, since its outputs are fixed in number.
"""

from typing import get_type_hints

import torch
from torch import Tensor
from torch.library import custom_op

from fastlogits._options import LossOptions
from fastlogits.torch import _autograd

# What operators take has plain types: the options come one by one, as the record has them.
TYPES = {int: "int", float: "float", float | None: "float?", str: "str"}
OPTIONS = ", ".join(f"{TYPES[kind]} {name}" for name, kind in get_type_hints(LossOptions).items())
LOSS = f"Tensor logits, Tensor target, Tensor? weight, Tensor? sample_weight, ScalarType dtype, {OPTIONS}"


def _arguments(logits, target, weight, sample_weight, dtype, *options):
    """(tensors, options, dtype), as `_autograd` and `_formula` take them."""
    return (logits, target, weight, sample_weight), LossOptions.of_plain(LossOptions(*options).checked()), dtype


@custom_op("fastlogits::cross_entropy", mutates_args=(), schema=f"({LOSS}) -> Tensor")
def cross_entropy(*loss):
    return _autograd.loss(*_arguments(*loss)).contiguous()


@cross_entropy.register_fake
def _(logits, target, weight, sample_weight, dtype, *options):
    options = LossOptions(*options)
    if options.reduction != "none":
        return logits.new_empty((), dtype=dtype)
    shape = list(logits.shape)
    del shape[options.axis]
    return logits.new_empty(shape, dtype=dtype)


@custom_op("fastlogits::cross_entropy_backward", mutates_args=(), schema=f"(Tensor grad_loss, {LOSS}) -> Tensor")
def cross_entropy_backward(grad_loss, logits, *loss):
    grad = torch.empty_like(logits)
    tensors, options, _ = _arguments(logits, *loss)
    _autograd.gradient(grad_loss, tensors, options, out=_autograd.array(grad))
    return grad


@cross_entropy_backward.register_fake
def _(grad_loss, logits, *others):
    return torch.empty_like(logits)


def _keep_arguments(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _cross_entropy_gradients(ctx, grad_loss):
    needed = ctx.needs_input_grad[:4]
    loss = *ctx.saved_tensors, *ctx.options
    by_kernel = needed[0] and not torch.is_grad_enabled()
    grads = [None] * 4
    if any(needed[1:]) or not by_kernel:
        needed = needed[0] and not by_kernel, *needed[1:]
        grads = _autograd.formula_gradients(needed, grad_loss, *_arguments(*loss), logsumexp=None)
    if by_kernel:
        grads[0] = cross_entropy_backward(grad_loss, *loss)
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
