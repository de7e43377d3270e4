"""The functions of `fastlogits` under their own names and signatures, for tensors, with autograd.

What each one does is documented in `fastlogits`. Calls that need no gradient go to the NumPy functions, on
the tensors' memory.
"""

import functools
import inspect

import torch
from torch import Tensor

import fastlogits
from fastlogits import CrossEntropy, _checks, _checks_filters
from fastlogits._options import IGNORE_INDEX, LossOptions
from fastlogits._scaling import is_number, number
from fastlogits.dispatch import converted
from fastlogits.torch import _autograd, _library, _transforms, functional
from fastlogits.torch import _checks as _torch_checks
from fastlogits.torch._arrays import array, numbers


def softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None, out=None):
    return _normalized("softmax", logits, axis, (temperature, bias, where), 0.0, out)


def log_softmax(logits, axis=-1, *, temperature=1.0, bias=None, where=None, out=None):
    return _normalized("log_softmax", logits, axis, (temperature, bias, where), -torch.inf, out)


def _normalized(name, logits, axis, options, excluded, out):
    logits = _floats("logits", logits)
    temperature, bias, where = options
    eager = functional.path(logits) is _autograd
    if eager and not _tracked(logits, *filter(torch.is_tensor, options), out=out):
        function = getattr(fastlogits, name)
        return _numpy(function, logits, axis, temperature=temperature, bias=bias, where=where, out=out)
    axes = _axes(axis, logits)
    if bias is not None or not _is_number(temperature):
        z, where = scaled(logits, axes, *options)
        return _normalized(name, z, axis, (1.0, None, where), excluded, out).to(logits.dtype)
    scale = number(temperature)
    if where is not None:
        where = torch.as_tensor(where).expand_as(logits)
        logits = logits.masked_fill(~where, -torch.inf)
    if eager:
        _torch_checks.tensor("logits", logits)
        result = getattr(_autograd, name)(logits, axes, scale)
    else:
        z = logits / scale
        z = z - torch.logsumexp(z, axes, keepdim=True)
        result = z.exp() if name == "softmax" else z
    return result if where is None else result.masked_fill(~where, excluded)


def scaled(logits, axes, temperature, bias, where):
    """(logits / temperature + bias in operators that can be differentiated, the classes that take part or None)."""
    z = logits.to(_wide(logits))
    if hasattr(temperature, "scale") and hasattr(temperature, "bias"):
        z = z * _by_class(temperature.scale, z, axes) + _by_class(temperature.bias, z, axes)
    elif _is_number(temperature):
        z = z / number(temperature)
    elif hasattr(temperature, "apply"):
        raise _torch_checks.no_gradient("apply", "temperature")
    else:
        temperature = torch.as_tensor(temperature, dtype=z.dtype)
        batch = tuple(n for i, n in enumerate(z.shape) if i not in axes)
        if functional.path(temperature) is _autograd:
            _checks_filters.filter_parameter("temperature", array(temperature), batch)
        z = z / _autograd.kept(temperature.expand(batch), axes, z.dim()) if temperature.dim() else z / temperature
    z = z.masked_fill(logits == -torch.inf, -torch.inf)
    if bias is not None:
        bias = _by_class(bias, z, axes)
        there = (bias > -torch.inf).expand_as(z)
        where = there if where is None else there & torch.as_tensor(where).expand_as(z)
        z = z + torch.where(bias > -torch.inf, bias, 0)
    return z, where


def _is_number(temperature):
    """Whether it is one for all rows, and no derivative may be asked for."""
    return not isinstance(temperature, Tensor) and is_number(temperature)


def _by_class(values, z, axes):
    values = torch.as_tensor(values, dtype=z.dtype)
    if len(axes) != 1 or tuple(values.shape) != (z.shape[axes[0]],):
        raise ValueError(f"bias: expected one number for each class of one axis, got shape {tuple(values.shape)}")
    return values.reshape([-1 if i == axes[0] else 1 for i in range(z.dim())])


def _wide(tensor):
    return torch.promote_types(tensor.dtype, torch.float32)


def logsumexp(a, axis=-1, *, b=None, keepdims=False, return_sign=False, where=None):
    a = _floats("a", a)
    if b is not None:
        b = _floats("b", torch.as_tensor(b))
    if functional.path(a, b) is _autograd and not _tracked(a, b):
        function = fastlogits.logsumexp
        return _numpy(function, a, axis, b=b, keepdims=keepdims, return_sign=return_sign, where=where)
    if where is not None:
        where = torch.as_tensor(where)
        if b is None:
            a = a.masked_fill(~where.expand_as(a), -torch.inf)
        else:
            b = b * where
    if b is None:
        values = functional.along_dims(_axes(axis, a), a, keepdims, "a", _wide(a))
        sign = torch.where(values.isnan(), values, values > -torch.inf).detach()
    else:
        a, b = (x.to(_wide(x)) for x in _torch_checks.broadcast(a=a, b=b))
        values, sign = _weighted_logsumexp(a, b, axis, keepdims)
        if not return_sign:
            values = torch.where(sign < 0, torch.nan, values)
    return (values, sign) if return_sign else values


def _weighted_logsumexp(a, b, axis, keepdims):
    axes = _axes(axis, a)
    nothing = ((b == 0) | (a == -torch.inf)).all(axes, keepdim=True)
    a = torch.where((b == 0) & ~nothing, -torch.inf, torch.where(nothing, 0, a))
    m = a.detach().amax(axes, keepdim=True)
    m = torch.where(m.isfinite(), m, 0)
    total = torch.where(nothing, 1, (b * (a - m).exp()).sum(axes, keepdim=True))
    values = torch.where(nothing, -torch.inf, total.abs().log() + m)
    sign = torch.where(nothing, 0, total.detach().sign())
    return (values, sign) if keepdims else (values.squeeze(axes), sign.squeeze(axes))


def argmax(logits, axis=-1):
    return _untracked(inspect.unwrap(fastlogits.argmax), logits, axis)


def softmax_backward(grad_probs, probs, axis=-1, *, out=None):
    if functional.path(grad_probs, probs) is _autograd and not _tracked(grad_probs, probs, out=out):
        return _numpy(fastlogits.softmax_backward, grad_probs, probs, axis, out=out)
    return _autograd.softmax_formula(grad_probs, probs, _axes(axis, probs))


def log_softmax_backward(grad_log_probs, log_probs, axis=-1, *, out=None):
    if functional.path(grad_log_probs, log_probs) is _autograd and not _tracked(grad_log_probs, log_probs, out=out):
        return _numpy(fastlogits.log_softmax_backward, grad_log_probs, log_probs, axis, out=out)
    return _autograd.log_softmax_formula(grad_log_probs, log_probs, _axes(axis, log_probs))


def selective_log_softmax(logits, ids, axis=-1, *, temperature=1.0, bias=None, where=None):
    logits = _floats("logits", logits)
    axis = _axes(_checks.one_axis(axis), logits)[0]
    options = {"temperature": temperature, "bias": bias, "where": where}
    if functional.path(logits) is _autograd and not _tracked(logits, *filter(torch.is_tensor, options.values())):
        return _numpy(fastlogits.selective_log_softmax, logits, ids, axis, **options)
    dtype = _wide(logits)
    if not (_is_number(temperature) and number(temperature) == 1 and bias is None and where is None):
        logits, where = scaled(logits, (axis,), temperature, bias, where)
        if where is not None:
            logits = logits.masked_fill(~torch.as_tensor(where).expand_as(logits), -torch.inf)
    return functional.selected(axis, logits, torch.as_tensor(ids), dtype=dtype)


def selective_log_softmax_backward(grad, logits, ids, axis=-1, *, out=None):
    if functional.path(grad, logits) is _autograd and not _tracked(grad, logits, out=out):
        return _numpy(fastlogits.selective_log_softmax_backward, grad, logits, ids, axis, out=out)
    axis = _axes(_checks.one_axis(axis), logits)[0]
    probs = functional.softmax(logits, axis)
    return _autograd.selective_log_softmax_formula(grad, logits, torch.as_tensor(ids), axis, probs)


def cross_entropy(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
):  # fmt: skip
    tensors = _loss_tensors(logits, labels, weight, sample_weight, ignore_index)
    options = LossOptions(
        _checks.one_axis(axis), int(ignore_index), label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer
    )  # fmt: skip
    return functional.along(tensors, options, loss_dtype=_loss_dtype(*tensors))


def _loss_dtype(logits, labels, *weights):
    """float32 at least."""
    return torch.promote_types(_wide(logits), labels.dtype) if labels.is_floating_point() else _wide(logits)


def cross_entropy_with_grad(
    logits, labels, *, axis=-1, weight=None, sample_weight=None, ignore_index=IGNORE_INDEX,
    label_smoothing=0.0, z_loss=0.0, softcap=None, logit_scale=1.0, reduction="mean", normalizer=None,
    grad_loss=None, out=None,
):  # fmt: skip
    tensors = _loss_tensors(logits, labels, weight, sample_weight, ignore_index)
    options = LossOptions(
        axis, int(ignore_index), label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer
    ).checked()  # fmt: skip
    tensors, dtype = [None if t is None else t.detach() for t in tensors], _loss_dtype(*tensors)
    if functional.path(*tensors) is not _autograd:
        loss = _library.cross_entropy(*tensors, dtype, *options)
        grad_loss = torch.ones_like(loss) if grad_loss is None else torch.as_tensor(grad_loss)
        return CrossEntropy(loss, _library.cross_entropy_backward(grad_loss, *tensors, dtype, *options))
    _torch_checks.loss_tensors(("logits", "labels"), *tensors)
    if isinstance(grad_loss, Tensor) and not grad_loss.dim():
        grad_loss = grad_loss.item()
    memory, arriving = None if out is None else array(out), 1.0 if grad_loss is None else grad_loss
    loss, grad = _autograd.loss_and_gradient(tensors, LossOptions.of_plain(options), dtype, arriving, memory)
    return CrossEntropy(loss, grad if out is None else _written(out))


def _loss_tensors(logits, labels, weight, sample_weight, ignore_index):
    labels = torch.as_tensor(labels)
    LossOptions(ignore_index=ignore_index).check_labels(labels.is_floating_point())
    weights = (None if w is None else torch.as_tensor(w) for w in (weight, sample_weight))
    return _floats("logits", logits), labels, *weights


def _floats(name, values):
    _torch_checks.real(name, values)
    return values if values.is_floating_point() else values.double()


def _axes(axis, tensor):
    axis = _checks.axis(axis)
    return _checks.axes(axis, tensor.dim())


def _tracked(*tensors, out=None):
    tracked = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if out is not None:
        if tracked or out.requires_grad:
            raise RuntimeError("out: does not go with gradients; use torch.no_grad(), or leave it out")
    return tracked


def _written(out):
    torch.autograd.graph.increment_version(out)
    return out


def by_memory(function, *args, **kwargs):
    """`function` of fastlogits, which has no gradient here, on the memory of the tensors among its arguments."""
    for name, value in _named(function, args, kwargs).items():
        if isinstance(value, Tensor) and _tracked(value):
            raise _torch_checks.no_gradient(function.__name__, name)
    return _untracked(function, *args, **kwargs)


def _untracked(function, *args, out=None, **kwargs):
    if not _transforms.are_active():
        return _numpy(function, *args, out=out, **kwargs)
    if out is not None:
        raise RuntimeError("out: does not go with transforms; leave it out")
    return _transforms.apply(function, functools.partial(_by_numpy, function), _named(function, args, kwargs))


def _numpy(function, *args, out=None, **kwargs):
    named = _named(inspect.unwrap(function), args, kwargs)
    if out is not None:
        _by_numpy(function, **named, out=array(out))
        return _written(out)
    return converted(_by_numpy(function, **named), numbers)


def _by_numpy(function, **named):
    return function(**{name: _memory(name, value) for name, value in named.items()})


def _named(function, args, kwargs):
    return dict(zip(function.__code__.co_varnames, args, strict=False)) | kwargs


def _memory(name, value):
    if not isinstance(value, Tensor):
        return value
    _torch_checks.dense(name, value)
    return array(value)
