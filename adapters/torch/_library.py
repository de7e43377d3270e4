"""The composable path: registered operators, for torch.compile, export and all else that must see them.

The loss is `cross_entropy`, which autograd knows. Where its options are known as it is traced, they become one text.
What is left in the compiled graph are operators that take it, and that autograd does not know: 25 us less a step.
"""

import ast
import functools
import math
from typing import get_type_hints

import torch
from torch import Tensor
from torch.autograd import Function
from torch.library import Library, custom_op, register_fake

import fastlogits
from fastlogits import _memory
from fastlogits._options import LossOptions
from fastlogits.torch import _autograd

# What operators take has plain types: the options come one by one, as the record has them.
TYPES = {int: "int", float: "float", float | None: "float?", str: "str"}
OPTIONS = "ScalarType dtype" + "".join(f", {TYPES[t]} {name}" for name, t in get_type_hints(LossOptions).items())
ARRAYS = "Tensor logits, Tensor target, Tensor? weight, Tensor? sample_weight"

OPERATORS = torch.ops.fastlogits
_library = Library("fastlogits", "FRAGMENT")


def _operator(name, schema, function, fake):
    """Without a derivative. A schema that changes needs another name: compiled graphs are kept on disk."""
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, function, "CPU")
    register_fake(f"fastlogits::{name}", fake, lib=_library)


def _fake_loss(logits, target, weight, sample_weight, *how):
    dtype, *options = _values(how)
    options = LossOptions(*options)
    shape = list(logits.shape)
    del shape[options.axis]
    return logits.new_empty(shape if options.reduction == "none" else (), dtype=dtype)


def _fake_both(logits, *others):
    return _fake_loss(logits, *others), torch.empty_like(logits)


def _fake_gradient(grad_loss, logits, *others):
    return torch.empty_like(logits)


def _loss(*call):
    return _evaluated(None, *call)[0]


def _gradient(grad_loss, *call):
    return _evaluated(grad_loss if grad_loss.dim() else grad_loss.item(), *call)[1]


def _evaluated(arriving, logits, target, weight, sample_weight, *how):
    """As `_autograd.loss_and_gradient`, the loss contiguous, the gradient as `torch.empty_like`."""
    tensors, (dtype, options) = (logits, target, weight, sample_weight), _checked(how)
    native = _autograd.core()
    found = None if native is None else native.loss(tensors, options, dtype, arriving)
    if found is not None:
        return found
    grad = None if arriving is None else torch.empty_like(logits)
    loss, _ = _autograd.by_arrays(tensors, options, dtype, arriving, None if grad is None else _autograd.array(grad))
    return loss.contiguous(), grad


def _text(dtype, *options):
    """(a text that holds them), where none is a symbol; else themselves."""
    if all(value is None or type(value) in (int, str) or _is_finite(value) for value in options):
        return (repr((str(dtype).removeprefix("torch."), *options)),)
    return dtype, *options


def _is_finite(value):
    return type(value) is float and math.isfinite(value)


def _values(how):
    if len(how) > 1:
        return how
    dtype, *options = ast.literal_eval(*how)
    return getattr(torch, dtype), *options


@functools.lru_cache
def _checked(how):
    dtype, *options = _values(how)
    return dtype, LossOptions.of_plain(LossOptions(*options).checked())


_operator("cross_entropy", f"({ARRAYS}, {OPTIONS}) -> Tensor", _loss, _fake_loss)
_operator("cross_entropy_backward", f"(Tensor grad_loss, {ARRAYS}, {OPTIONS}) -> Tensor", _gradient, _fake_gradient)
_operator("loss", f"({ARRAYS}, str how) -> Tensor", _loss, _fake_loss)
_operator("loss_backward", f"(Tensor grad_loss, {ARRAYS}, str how) -> Tensor", _gradient, _fake_gradient)
_operator(
    "loss_and_gradient", f"({ARRAYS}, str how) -> (Tensor, Tensor)", functools.partial(_evaluated, 1.0), _fake_both
)
cross_entropy, cross_entropy_backward = OPERATORS.cross_entropy.default, OPERATORS.cross_entropy_backward.default


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx, *call):
        ctx.how = _text(*call[4:])
        early = None
        if ctx.needs_input_grad[0] and _is_early(call[0], ctx.how):
            with torch._C._AutoDispatchBelowAutograd():
                loss, early = OPERATORS.loss_and_gradient(*call[:4], *ctx.how)
        else:
            loss = _untracked(*call)
        ctx.save_for_backward(*call[:4], early)
        return loss

    @staticmethod
    def backward(ctx, grad_loss):
        *tensors, early = ctx.saved_tensors
        needed = ctx.needs_input_grad[:4]
        by_kernel = needed[0] and not torch.is_grad_enabled()
        grads = [None] * 4
        if any(needed[1:]) or not by_kernel:
            needed = needed[0] and not by_kernel, *needed[1:]
            dtype, options = _checked(ctx.how)
            grads = _autograd.formula_gradients(needed, grad_loss, tensors, options, dtype, logsumexp=None)
        if by_kernel and early is not None:
            grads[0] = (early * grad_loss).to(early.dtype)
        elif by_kernel:
            backward = OPERATORS.loss_backward if len(ctx.how) == 1 else cross_entropy_backward
            grads[0] = backward(grad_loss, *tensors, *ctx.how)
        return *grads, *[None] * (len(ctx.needs_input_grad) - 4)


def _is_early(logits, how):
    """Whether the gradient comes with the loss: if it is large, scaling it costs more than a sweep of its own.

    See also `_autograd.cross_entropy`.
    """
    size = logits.numel()
    if len(how) > 1 or type(size) is not int or size * logits.dtype.itemsize >= _memory.KEPT_FROM:
        return False
    _, *options = _values(how)
    return LossOptions(*options).reduction != "none" and logits.dtype is not torch.float16


def _untracked(*call):
    how = _text(*call[4:])
    with torch._C._AutoDispatchBelowAutograd():
        return (OPERATORS.loss if len(how) == 1 else cross_entropy)(*call[:4], *how)


def _tracked(*call):
    tracked = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in call[:4])
    return _CrossEntropy.apply(*call) if tracked else _untracked(*call)


_library.impl("cross_entropy", _tracked, "Autograd")


# softmax and log_softmax, in the same way: what is left in a graph ends in _forward or _backward.


def _forward(name, logits, dim):
    found = _autograd.plainly(name, logits, dim)
    return getattr(_autograd, name + "_")(logits, dim, out=torch.empty_like(logits)) if found is None else found


def _backward(name, grad, result, dim):
    found = _autograd.plainly(name, grad, result, dim)
    if found is None:
        found = torch.empty_like(result)
        getattr(fastlogits, name)(*map(_autograd.array, (grad, result)), dim, out=_autograd.array(found))
    return found


def _fake_like(*tensors_and_dim):
    return torch.empty_like(tensors_and_dim[-2])


class _Softmax(Function):
    @staticmethod
    def forward(ctx, name, logits, dim):
        result = _softmax_untracked(name, logits, dim)
        ctx.save_for_backward(result)
        ctx.how = name, dim
        return result

    @staticmethod
    def backward(ctx, grad):
        (result,), (name, dim) = ctx.saved_tensors, ctx.how
        by_formula = torch.is_grad_enabled()
        function = getattr(_autograd, name + "_formula") if by_formula else getattr(OPERATORS, name + "_backward")
        return None, function(grad, result, dim), None


def _softmax_untracked(name, logits, dim):
    with torch._C._AutoDispatchBelowAutograd():
        return getattr(OPERATORS, name + "_forward")(logits, dim)


def _softmax_tracked(name, logits, dim):
    tracked = torch.is_grad_enabled() and logits.requires_grad
    return (_Softmax.apply if tracked else _softmax_untracked)(name, logits, dim)


def _define(name):
    forward, backward = functools.partial(_forward, name), functools.partial(_backward, name + "_backward")
    _operator(name, "(Tensor logits, int dim) -> Tensor", forward, _fake_like)
    _operator(name + "_forward", "(Tensor logits, int dim) -> Tensor", forward, _fake_like)
    _operator(name + "_backward", "(Tensor grad, Tensor result, int dim) -> Tensor", backward, _fake_like)
    _library.impl(name, functools.partial(_softmax_tracked, name), "Autograd")


_define("softmax")
_define("log_softmax")
softmax, log_softmax = OPERATORS.softmax.default, OPERATORS.log_softmax.default


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


@logsumexp.register_fake
def _(logits, dim, keepdim):
    dims = {d % logits.dim() for d in dim}
    sizes = [1 if i in dims else n for i, n in enumerate(logits.shape) if keepdim or i not in dims]
    return logits.new_empty(sizes)


def _keep_input(ctx, inputs, output):
    logits, ctx.dim, ctx.keepdim = inputs
    ctx.save_for_backward(logits)


def _keep_selection(ctx, inputs, output):
    logits, ids, ctx.dim, _ = inputs
    ctx.save_for_backward(logits, ids)


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


logsumexp.register_autograd(_logsumexp_gradient, setup_context=_keep_input)
selective_log_softmax.register_autograd(_selective_log_softmax_gradient, setup_context=_keep_selection)
