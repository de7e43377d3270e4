"""The loss of a row and what its gradient is made of, once the sums over its classes are known.

With z the transformed logits (softcap, logit_scale), m = max z, log s = log sum exp(z - m), lse = m + log s and
p = exp(z - lse), every loss of a row is

    hard (log s + m - z_label) + sum_c mass_c (log s + m - z_c) + z_loss lse^2

times its sample weight, where class indices have hard = (1 - smoothing) w_label and mass_c = smoothing / C w_c, and
distributions have hard = 0 and mass_c = w_c ((1 - smoothing) t_c + smoothing / C). The gradient is, for each class,

    (hard + sum mass + 2 z_loss lse) p_c - mass_c - hard [c = label]

times what arrives at the loss, times dz_c/dx_c. At the label hard (p - 1) is -hard (sum of the other p): p - 1 loses
every digit where the label dominates.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import exp, log1p, rounded_away, sech2_lanes, tanh_lanes, weigh
from fastlogits.kernels.sizes import IGNORED, SOFT
from fastlogits.kernels.sums import load_some, save_some


def read_labels(task, row, n, work):
    """label_j of n rows, each read once: another thread may write to them. IGNORED, also where it is no class; SOFT where a
    distribution is in its place.
    """
    for j in range(n):
        if task.loss.soft:
            work.label[j] = SOFT
        else:
            label = task.labels[row + j]
            work.label[j] = IGNORED
            if label >= 0 and label < task.classes and label != task.loss.ignore_index:
                work.label[j] = label


def bend(task, x, at, n, z, to):
    """z_j = softcap tanh(x_j / softcap), negated for a negative logit_scale"""
    sign = machine.splat(-1.0 if task.loss.negative else 1.0)
    cap = machine.splat(task.loss.softcap)
    i = 0
    while i < n:
        v = load_some(x, at + i, n - i)
        if task.loss.softcap > 0.0:
            v = cap * tanh_lanes(v / cap)
        save_some(z, to + i, n - i, sign * v)
        i += machine.WIDTH


def bent_slope(task, v, x):
    """v times the slope of the softcap, 1 - tanh(x / softcap)^2; a 0 stays 0."""
    slope = sech2_lanes(x / machine.splat(task.loss.softcap))
    return machine.zero_where_equal(v, machine.splat(0.0), v * slope)


def pick(task, x, at, apart, step, n, work):
    """PICKED = z_label and SLOPE = dz_label/dx_label of n rows, before the gradient may take the place of x.

    Row j begins at `at + j * apart`, and its classes lie `step` apart.
    """
    for j in range(n):
        work.picked[j] = 0.0
        work.slope[j] = 1.0
        if work.label[j] >= 0:
            logit = machine.number(x, at + j * apart + work.label[j] * step)
            work.picked[j] = logit
            if task.loss.bent:
                pick_bent(task, logit, j, work)


def pick_bent(task, logit, j, work):
    v = machine.splat(logit)
    if task.loss.softcap > 0.0:
        cap = machine.splat(task.loss.softcap)
        v = cap * tanh_lanes(v / cap)
        work.slope[j] = machine.largest(bent_slope(task, machine.splat(1.0), machine.splat(logit)))
    work.picked[j] = (-1.0 if task.loss.negative else 1.0) * machine.lane(v)


def finish(task, row, n, work):
    """The losses of n rows; FACTOR, COUNTER and TARGET for their gradients, all 0 where the label is ignored.

    grad_c = FACTOR e_c - COUNTER mass_c for e_c = exp(z_c - m), and TARGET at the label.
    """
    for j in range(n):
        label = work.label[j]
        hard = 0.0
        scale = 0.0
        if label != IGNORED:
            scale = task.sample_weight[row + j] if task.loss.sampled else 1.0
            if label >= 0:
                hard = task.weight[label] if task.loss.weighted else 1.0
        work.scale[j] = scale
        work.hard[j] = (1.0 - task.loss.smoothing) * hard
        work.smooth[j] = task.loss.smoothing / task.classes * hard
        work.counter[j] = scale * (task.grad_loss[row + j] if task.loss.upstream else 1.0)
    # What the loops read of `task` is read before them: a store to `work` might change it, for all C knows.
    factor = task.scale
    z_loss = task.loss.z_loss
    for j in range(n):
        peak = work.peak[j]
        log_norm = work.log_norm[j]
        lse = factor * peak + log_norm
        loss = weigh(work.hard[j], log_norm + factor * (peak - work.picked[j]))
        loss += weigh(work.mass[j], log_norm) + factor * work.gap[j]
        loss += weigh(z_loss, lse * lse)
        task.losses[row + j] = weigh(work.scale[j], loss)
    if task.loss.with_grad:
        gradient_factors(n, factor, z_loss, task.loss.grad_scale, work)


def gradient_factors(n, scale, z_loss, grad_scale, work):
    """FACTOR, COUNTER and TARGET of n rows; COUNTER comes as what arrives at the loss."""
    for j in range(n):
        peak = work.peak[j]
        rest = work.rest[j]
        hard = work.hard[j]
        distance = scale * (work.picked[j] - peak)
        norm = 1.0 + rest if peak > -machine.INF else machine.NAN
        common = work.mass[j]
        common += weigh(2.0 * z_loss, scale * peak + work.log_norm[j])
        exp_label = exp(distance)
        others = rest if distance == 0.0 else norm - exp_label
        target = (common * exp_label - hard * others) / norm - work.smooth[j]
        counter = grad_scale * work.counter[j]
        work.counter[j] = counter
        work.factor[j] = weigh(counter, (hard + common) / norm)
        work.target[j] = weigh(counter, target * work.slope[j])


def log_norms(n, work):
    """log(1 + REST) of n rows"""
    for j in range(n):
        work.log_norm[j] = log1p(work.rest[j])



def count_rows(task, work, start, stop):
    """losses_0 = the sum of sample_weight_i w_label_i over the rows not ignored; indices_0 = the first bad row, or -1."""
    bad = 0
    valid = 0
    task.indices[0] = -1
    for row in range(start, stop):
        label = task.labels[row]
        if label != task.loss.ignore_index:
            valid += 1
            bad += 0 if label >= 0 and label < task.classes else 1
    task.losses[0] = valid
    if bad > 0:
        for row in range(start, stop):
            label = task.labels[row]
            if label != task.loss.ignore_index and (label < 0 or label >= task.classes):
                task.indices[0] = row
                return
    if task.loss.weighted or task.loss.sampled:
        total = 0.0
        lost = 0.0
        for row in range(start, stop):
            label = task.labels[row]
            if label != task.loss.ignore_index and label >= 0 and label < task.classes:
                term = task.weight[label] if task.loss.weighted else 1.0
                term *= task.sample_weight[row] if task.loss.sampled else 1.0
                lost += rounded_away(total, term)
                total += term
        task.losses[0] = total + lost
