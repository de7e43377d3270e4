"""The loss in plain torch operators: what autograd differentiates where the kernels' gradient is not enough.

Second derivatives, gradients of anything but the logits, torch.func and forward mode come from here. With our
logsumexp, whose derivative is our softmax, the second derivative is its closed form p * (v - sum(p * v)), on
the kernels; without one the logarithm is log1p of the sum over all but one maximum.
"""

import torch

from fastlogits import formula
from fastlogits.formula import Operations, Targets


def cross_entropy(tensors, options, dtype, logsumexp=None):
    """As `fastlogits.cross_entropy`, for any logits, target, weight and sample_weight; labels are not checked."""
    logits, target, weight, sample_weight = tensors
    z = logits.movedim(options.axis, -1)
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    soft = target.is_floating_point()
    # torch wraps ignore_index around into the range of unsigned labels.
    target = target.movedim(options.axis, -1).to(z.dtype) if soft else target.long()
    weight = None if weight is None else weight.to(z.dtype)
    targets = Targets(target, soft, weight, sample_weight)
    ops = OPERATIONS._replace(logsumexp=logsumexp)
    normalizer = options.normalizer
    if normalizer is not None:
        normalizer = torch.as_tensor(normalizer, dtype=z.dtype, device=z.device)
    return formula.cross_entropy(ops, z, targets, options, normalizer).to(dtype)


def _max(x, axis):
    return x.amax(axis, keepdim=True) if x.shape[axis] else x.sum(axis, keepdim=True) - torch.inf


def _at(values, labels):
    return values.expand(*labels.shape, values.shape[-1]).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


OPERATIONS = Operations(
    where=torch.where,
    exp=torch.exp,
    log1p=torch.log1p,
    tanh=torch.tanh,
    max=_max,
    sum=lambda x, axis: x.sum(axis, keepdim=True),
    total=torch.sum,
    count=torch.sum,
    sizes=lambda x: (x.shape[:-1].numel(), x.shape[-1]),
    at=_at,
    constant=torch.Tensor.detach,
)


def over(total, normalizer):
    """`total` divided; a normalizer of 0, where no label counts, makes it 0."""
    normalizer = torch.as_tensor(normalizer, dtype=total.dtype, device=total.device)
    return formula.over(OPERATIONS, total, normalizer)


def logsumexp(x, dims, keepdim=False):
    """As torch's, with the gradient 0 where there is nothing but -inf."""
    nothing = (x == -torch.inf).all(dims, keepdim=True)
    lse = torch.logsumexp(torch.where(nothing, 0, x), dims, keepdim=True)
    lse = torch.where(nothing, -torch.inf, lse)
    return lse if keepdim else lse.squeeze(dims)


def selective_log_softmax(logits, ids, dim):
    """As `fastlogits.selective_log_softmax`; ids are not checked."""
    one, ids = ids.dim() < logits.dim(), ids.long()
    log_probs = torch.log_softmax(logits, dim).gather(dim, ids.unsqueeze(dim) if one else ids)
    return log_probs.squeeze(dim) if one else log_probs
