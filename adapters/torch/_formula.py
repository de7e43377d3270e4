"""The loss in plain torch operators: what autograd differentiates where the kernels' gradient is not enough.

Second derivatives, gradients of anything but the logits, torch.func and forward mode come from here. With our
logsumexp, whose derivative is our softmax, the second derivative is its closed form p * (v - sum(p * v)), on
the kernels; without one the logarithm is log1p of the sum over all but one maximum.
"""

import torch


def cross_entropy(logits, target, weight, sample_weight, options, logsumexp=None):
    """As `fastlogits.cross_entropy`, for any tensors; labels are not checked."""
    smoothing, z_loss, softcap, logit_scale = options.numbers
    z = logits.movedim(options.axis, -1)
    soft = target.is_floating_point()
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    valid = None
    if not soft:
        # torch wraps ignore_index around into the range of unsigned labels.
        target = target.long()
        valid = target != options.ignore_index
        # What is ignored must not reach a derivative, not even as 0 * NaN.
        z = torch.where(valid.unsqueeze(-1), z, 0)
    if softcap:
        z = softcap * torch.tanh(z / softcap)
    z = logit_scale * z
    pivot, below, log_s = _normalized(z, logsumexp)

    classes = z.shape[-1]
    w = torch.ones((), dtype=z.dtype) if weight is None else weight.to(z.dtype)
    if soft:
        share = w * ((1 - smoothing) * target.movedim(options.axis, -1).to(z.dtype) + smoothing / classes)
        losses = _expected(share, log_s, below)
        row_weight = None
    else:
        labels = torch.where(valid, target, 0).long()
        row_weight = None if weight is None else w.take(labels)
        losses = (1 - smoothing) * (log_s - below.gather(-1, labels.unsqueeze(-1)).squeeze(-1))
        if row_weight is not None:
            losses = losses * row_weight
        if smoothing:
            losses = losses + _expected((w * smoothing / classes).expand(classes), log_s, below)
    if z_loss:
        lse = pivot + log_s
        losses = losses + z_loss * lse * lse
    if sample_weight is not None:
        losses = losses * sample_weight
        row_weight = sample_weight if row_weight is None else row_weight * sample_weight
    if valid is not None:
        losses = torch.where(valid, losses, 0)
    if options.reduction == "none":
        return losses.to(options.dtype)
    total = losses.sum()
    if options.reduction == "mean":
        if options.normalizer is None:
            total = total / _divisor(valid, row_weight, losses)
        else:
            total = over(total, options.normalizer)
    return total.to(options.dtype)


def _normalized(z, logsumexp):
    """(m, z - m, log sum exp(z - m)), from which a class that dominates gets a gradient that does not cancel.

    Such a class is m itself, with a difference of constant 0: its gradient is then minus the sum of the others'. m is
    constant where none dominates.
    """
    if not z.shape[-1]:
        return torch.zeros_like(z.sum(-1)), z, z.sum(-1) - torch.inf
    peak = z.amax(-1, keepdim=True)
    dominated = (z - peak).detach().exp().sum(-1, keepdim=True) < 2
    own = dominated & (z == peak)
    pivot = torch.where(dominated, peak, peak.detach())
    below = torch.where(own, 0, z - pivot)
    if logsumexp is None:
        others = torch.where(own, 0, below.exp()).sum(-1)
        log_s = torch.log1p(others - torch.where(dominated, 0, 1).squeeze(-1))
    else:
        log_s = logsumexp(below, -1)
    return pivot.squeeze(-1), below, log_s


def _expected(share, log_s, below):
    """Sum over the classes of share * (log_s - below), where 0 * inf = 0."""
    nll = log_s.unsqueeze(-1) - below
    nll = torch.where((share == 0) & (nll == torch.inf), 0, nll)
    return (share * nll).sum(-1)


def over(total, normalizer):
    """`total` divided; a normalizer of 0, where no label counts, makes it 0."""
    normalizer = torch.as_tensor(normalizer, dtype=total.dtype, device=total.device)
    nothing = normalizer == 0
    return torch.where(nothing, 0, total / torch.where(nothing, 1, normalizer))


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


def _divisor(valid, row_weight, losses):
    if row_weight is None:
        return losses.numel() if valid is None else valid.sum()
    return row_weight.sum() if valid is None else torch.where(valid, row_weight, 0).sum()
