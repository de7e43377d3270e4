"""The eager path: autograd functions over the public NumPy functions, on the tensors' own memory.

The tensors of a loss are logits, target, weight and sample_weight; `dtype` is the loss's own.
"""

import functools

import numpy as np
import torch
from torch.autograd import Function

import fastlogits
from fastlogits import config
from fastlogits._layout import floats
from fastlogits._options import LossOptions
from fastlogits.cross_entropy import evaluate
from fastlogits.selective import log_probs_at
from fastlogits.torch import _arrays, _checks, _formula
from fastlogits.torch._arrays import array, numbers, tensor

try:
    from fastlogits.torch import _native
except ImportError:  # installed without a C compiler
    _native = None


@functools.cache
def _trusted():
    """Whether calls of the C core on tensors give the right numbers; a version of torch to come may do otherwise."""
    try:
        _native.begin()
        logits = torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=torch.float32, device="cpu")
        tensors = logits, torch.tensor([0, 1], device="cpu"), None, None
        found = _native.loss(tensors, LossOptions(1), torch.float32, 1.0) or (np.nan, np.nan)
        pairs = [*zip(found, (2.1809, [[-0.3655, 0.3655], [0.4763, -0.4763]]), strict=True)]
        pairs.append((_native.softmax(logits, 1), [[0.2689, 0.7311], [0.9526, 0.0474]]))
        return all(np.allclose(ours, exact, atol=1e-4) for ours, exact in pairs)
    except ImportError:
        return False


def core():
    """The calls of the C core on tensors, where it is what is in force; else None."""
    return _core_of(config.backend())


@functools.cache
def _core_of(backend):
    reached = _native is not None and config.reaches_core(config.name_of(backend)) and _trusted()
    return _native if reached else None


config.ROUTES["torch"] = lambda: core() is not None


def loss_and_gradient(tensors, options, dtype, arriving=1.0, out=None):
    """Both as tensors, the gradient where `arriving` does, a number or a tensor of one a row; or None for None.

    It goes to the memory of `out`, an ndarray, where given.
    """
    found = plainly("loss", tensors, options, dtype, arriving) if out is None else None
    return by_arrays(tensors, options, dtype, arriving, out) if found is None else found


def by_arrays(tensors, options, dtype, arriving, out):
    logits, target, weight, sample_weight = tensors
    if out is None and arriving is not None:
        out = _arrays.empty_like(logits)
    if weight is not None:
        weight = array(weight if weight.dtype.itemsize > 2 else weight.float())
    if sample_weight is not None:
        sample_weight = array(sample_weight.double())
    if isinstance(arriving, torch.Tensor):
        arriving = array(arriving.double())
    if target.dtype.is_floating_point:
        options = LossOptions.of_plain(options)
    x = floats(array(logits), "input")
    value, grad = evaluate(x, array(target), weight, sample_weight, options, arriving, out)
    if grad is not None:
        grad = tensor(grad, logits.dtype)
    if dtype is None:
        return None, grad
    if type(value) is not float:
        return torch.from_numpy(value).to(dtype), grad
    return torch.scalar_tensor(value, dtype=dtype), grad


def gradient(grad_loss, tensors, options, out=None):
    """Gradient to the logits of what arrives at the loss."""
    return loss_and_gradient(tensors, options, None, grad_loss if grad_loss.dim() else grad_loss.item(), out)[1]


def _lean(function):
    """The class of an autograd function, with `attach`: `apply` without what does not come this way, 2 us of its 5.

    That is what functorch and a `vjp` beside `backward` would need.
    """
    function.attach = super(Function, function).apply
    if hasattr(function, "_backward_cls"):  # torch's own name
        function._backward_cls.apply = function.backward
    return function


def formula_gradients(needed, grad_loss, tensors, options, dtype, logsumexp):
    """Gradients of the tensors that `needed` marks, through `_formula`; differentiable in grad mode."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        if not create_graph:
            marked = zip(tensors, needed, strict=True)
            tensors = [t.detach().requires_grad_() if need else t for t, need in marked]
        value = _formula.cross_entropy(tensors, options, dtype, logsumexp)
        wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
        grad_loss = grad_loss.to(value.dtype)
        found = iter(torch.autograd.grad(
            value, wanted, grad_loss, create_graph=create_graph, allow_unused=True, materialize_grads=True,
        ))  # fmt: skip
    return [next(found) if need else None for need in needed]


def cross_entropy(tensors, options, dtype, inplace):
    """The gradient of a mean or sum is computed with the loss, and that of anything else when it is asked for.

    With "none" the incoming gradient differs by row; and float16 may be loss-scaled: an unscaled gradient would have
    lost what the scale is there to save.
    """
    logits, *others = tensors
    others_tracked = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in others)
    tracked = torch.is_grad_enabled() and logits.requires_grad
    early = tracked and options.reduction != "none" and logits.dtype is not torch.float16
    tracked |= others_tracked
    if tracked and inplace:
        _checks.inplace(logits)
    found = by_arrays(tensors, options, dtype, 1.0 if early else None, array(logits) if early and inplace else None)
    if not tracked:
        return found[0]
    call = tensors, found, (options, dtype, others_tracked), inplace
    return CrossEntropy.attach(logits, call, *(others if others_tracked else ()))


@_lean
class CrossEntropy(Function):
    """Of logits; and of target, weight and sample_weight, where one of them needs a gradient."""

    @staticmethod
    def forward(ctx, logits, call, *others):
        tensors, (value, ctx.grad_logits), ctx.how, inplace = call
        if inplace:
            tensors = None, *tensors[1:]
            ctx.overwritten = logits.detach() if ctx.grad_logits is None else None
            torch.autograd.graph.increment_version(logits)
        ctx.save_for_backward(*tensors)
        return value

    @staticmethod
    def backward(ctx, grad_loss):
        _, _, others_tracked = ctx.how
        if torch.is_grad_enabled():
            grad, *others = CrossEntropy._by_formula(ctx, grad_loss, ctx.needs_input_grad)
            return grad, None, *(others if others_tracked else ())
        others = ()
        if others_tracked:
            _, *others = CrossEntropy._by_formula(ctx, grad_loss, (False, *ctx.needs_input_grad[1:]))
        # Handed over, not kept, since autograd may add to it; a second pass computes it again.
        grad, ctx.grad_logits = ctx.grad_logits, None
        if grad is not None:
            factor = grad_loss.item()
            if factor != 1.0:
                grad.mul_(factor)
        elif ctx.needs_input_grad[0]:
            grad = CrossEntropy._later(ctx, grad_loss)
        return grad, None, *others

    @staticmethod
    def _by_formula(ctx, grad_loss, needed):
        tensors, (options, dtype, _), (logits_needed, _, *others_needed) = ctx.saved_tensors, ctx.how, needed
        if tensors[0] is None:
            raise _checks.gradient_gone()
        needed = logits_needed, *(others_needed or (False, False, False))
        return formula_gradients(needed, grad_loss, tensors, options, dtype, logsumexp)

    @staticmethod
    def _later(ctx, grad_loss):
        (logits, *others), (options, _, _), out = ctx.saved_tensors, ctx.how, None
        if logits is None:
            logits, ctx.overwritten = ctx.overwritten, None
            if logits is None:
                raise _checks.gradient_gone()
            out = array(logits)
        return gradient(grad_loss, (logits, *others), options, out)


@_lean
class Softmax(Function):
    @staticmethod
    def forward(ctx, logits, found):
        probs, ctx.how = found
        ctx.save_for_backward(probs)
        return probs

    @staticmethod
    def backward(ctx, grad):
        (probs,), (dim, temperature) = ctx.saved_tensors, ctx.how
        grad = softmax_gradient(grad, probs, dim)
        return grad if temperature == 1 else grad / temperature, None


@_lean
class LogSoftmax(Function):
    @staticmethod
    def forward(ctx, logits, found):
        log_probs, ctx.how = found
        ctx.save_for_backward(log_probs)
        return log_probs

    @staticmethod
    def backward(ctx, grad):
        (log_probs,), (dim, temperature) = ctx.saved_tensors, ctx.how
        grad = log_softmax_gradient(grad, log_probs, dim)
        return grad if temperature == 1 else grad / temperature, None


@_lean
class LogSumExp(Function):
    @staticmethod
    def forward(ctx, logits, dim, keepdim, dtype):
        lse = logsumexp_(logits, dim, keepdim, dtype)
        ctx.dim, ctx.keepdim = dim, keepdim
        ctx.save_for_backward(logits, lse)
        return lse

    @staticmethod
    def backward(ctx, grad):
        logits, lse = ctx.saved_tensors
        return logsumexp_gradient(grad, logits, lse, ctx.dim, ctx.keepdim), None, None, None


@_lean
class SelectiveLogSoftmax(Function):
    @staticmethod
    def forward(ctx, logits, ids, dim, ids_name, dtype):
        ctx.dim = dim
        ctx.save_for_backward(logits, ids)
        return selective_log_softmax_(logits, ids, dim, ids_name, dtype)

    @staticmethod
    def backward(ctx, grad):
        logits, ids = ctx.saved_tensors
        if torch.is_grad_enabled():
            grad = grad.to(logits.dtype)
            grad = selective_log_softmax_formula(grad, logits, ids, ctx.dim, softmax(logits, ctx.dim))
        else:
            grad = selective_log_softmax_gradient(grad, logits, ids, ctx.dim)
        return grad, None, None, None, None


def plainly(name, *arguments):
    """What the C core's function `name` answers; None where it does not serve."""
    native = core()
    return None if native is None else getattr(native, name)(*arguments)


def softmax_(logits, dim, temperature=1.0, out=None):
    if out is None and temperature == 1 and (found := plainly("softmax", logits, dim)) is not None:
        return found
    out_array = None if out is None else array(out)
    probs = fastlogits.softmax(array(logits), dim, temperature=temperature, out=out_array)
    return tensor(probs, logits.dtype) if out is None else out


def log_softmax_(logits, dim, temperature=1.0, out=None):
    if out is None and temperature == 1 and (found := plainly("log_softmax", logits, dim)) is not None:
        return found
    out_array = None if out is None else array(out)
    log_probs = fastlogits.log_softmax(array(logits), dim, temperature=temperature, out=out_array)
    return tensor(log_probs, logits.dtype) if out is None else out


def logsumexp_(logits, dim, keepdim, dtype=None):
    return numbers(fastlogits.logsumexp(array(logits), dim, keepdims=keepdim)).to(dtype or logits.dtype)


def selective_log_softmax_(logits, ids, dim, ids_name, dtype=None):
    return numbers(log_probs_at(array(logits), array(ids), dim, ids_name)).to(dtype or logits.dtype)


def selective_log_softmax_gradient(grad, logits, ids, dim, out=None):
    out = _arrays.empty_like(logits) if out is None else out
    result = fastlogits.selective_log_softmax_backward(array(grad), array(logits), array(ids), dim, out=out)
    return tensor(result, logits.dtype)


def softmax_gradient(grad, probs, dim):
    if torch.is_grad_enabled():
        return softmax_formula(grad, probs, dim)
    native = core()
    found = None if native is None else native.softmax_backward(grad, probs, dim)
    return tensor(fastlogits.softmax_backward(array(grad), array(probs), dim), probs.dtype) if found is None else found


def log_softmax_gradient(grad, log_probs, dim):
    if torch.is_grad_enabled():
        return log_softmax_formula(grad, log_probs, dim)
    native = core()
    found = None if native is None else native.log_softmax_backward(grad, log_probs, dim)
    return (
        tensor(fastlogits.log_softmax_backward(array(grad), array(log_probs), dim), log_probs.dtype)
        if found is None
        else found
    )


def logsumexp_gradient(grad, logits, lse, dim, keepdim):
    if not keepdim:
        grad, lse = (kept(t, dim, logits.dim()) for t in (grad, lse))
    nothing = lse == -torch.inf
    if nothing.any():
        logits, grad = torch.where(nothing, 0, logits), torch.where(nothing, 0, grad)
    probs = softmax(logits, dim)
    return probs * grad if torch.is_grad_enabled() else probs.mul_(grad)


def softmax_formula(grad, probs, dim):
    """probs (g - sum g probs), the same for g - c: c is the gradient of a class that dominates, or 0."""
    lead = torch.where(_dominating(probs, dim) & grad.isfinite(), grad, 0).sum(dim, keepdim=True).detach()
    relative = grad - lead
    # Adds 0; and the derivative to `probs` that the formula has where they need not sum to 1.
    correction = lead * (probs - probs.detach()).sum(dim, keepdim=True)
    return probs * (relative - (relative * probs).sum(dim, keepdim=True) - correction)


def log_softmax_formula(grad, log_probs, dim):
    return _scattered(grad, log_probs.exp(), dim)


def selective_log_softmax_formula(grad, logits, ids, dim, probs):
    if ids.dim() < logits.dim():
        grad, ids = grad.unsqueeze(dim), ids.unsqueeze(dim)
    return _scattered(torch.zeros_like(logits).scatter_add(dim, ids.long(), grad), probs, dim)


def _scattered(grad, probs, dim):
    """g - probs sum g; at a class that dominates, g (the others' probs) - probs (the others' g)."""
    own = _dominating(probs, dim)
    other_grads = torch.where(own, 0, grad).sum(dim, keepdim=True)
    other_probs = torch.where(own, 0, probs).sum(dim, keepdim=True)
    # 1 - probs, in value and derivative
    other_probs = other_probs.detach() - (probs - probs.detach())
    plain = grad - probs * grad.sum(dim, keepdim=True)
    return torch.where(own, grad * other_probs - probs * other_grads, plain)


def _dominating(probs, dim):
    """Where one class has most of a row whose probabilities add up to 1, as far as they are rounded."""
    return (probs > 0.75) & ((probs.sum(dim, keepdim=True) - 1).abs() < 0.01)


def kept(reduced, dim, ndim):
    """`reduced` with the axes of `dim` back in place, of length 1."""
    for axis in sorted(d % ndim for d in (dim if isinstance(dim, (tuple, list)) else (dim,))):
        reduced = reduced.unsqueeze(axis)
    return reduced


def softmax(logits, dim, temperature=1.0):
    found = softmax_(logits, dim, temperature)
    if logits.requires_grad and torch.is_grad_enabled():
        return Softmax.attach(logits, (found, (dim, temperature)))
    return found


def log_softmax(logits, dim, temperature=1.0):
    found = log_softmax_(logits, dim, temperature)
    if logits.requires_grad and torch.is_grad_enabled():
        return LogSoftmax.attach(logits, (found, (dim, temperature)))
    return found


def logsumexp(logits, dim, keepdim=False, dtype=None):
    """In `dtype`, or that of the logits."""
    if logits.requires_grad and torch.is_grad_enabled():
        return LogSumExp.attach(logits, dim, keepdim, dtype)
    return logsumexp_(logits, dim, keepdim, dtype)


def selective_log_softmax(logits, ids, dim, ids_name, dtype=None):
    """In `dtype`, or that of the logits."""
    if logits.requires_grad and torch.is_grad_enabled():
        return SelectiveLogSoftmax.attach(logits, ids, dim, ids_name, dtype)
    return selective_log_softmax_(logits, ids, dim, ids_name, dtype)
