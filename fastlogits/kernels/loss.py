"""The loss of a row and what its gradient is made of, once the sums over its classes are known.

With z the transformed logits (softcap, logit_scale), m = max z, log s = log sum exp(z - m), lse = m + log s and
p = exp(z - lse), every loss of a row is

    hard (log s + m - z_label) + sum_c mass_c (log s + m - z_c) + z_loss lse^2

times its sample weight, where class indices have hard = (1 - smoothing) w_label and mass_c = smoothing / C w_c, and
distributions have hard = 0 and mass_c = w_c ((1 - smoothing) t_c + smoothing / C). The gradient is, for each class,

    (hard + sum mass + 2 z_loss lse) p_c - mass_c - hard [c = label]

times what arrives at the loss, times dz_c/dx_c. At the label hard (p - 1) is -hard (sum of the other p): p - 1 loses
every digit where the label dominates. So does the rest where a class t with most of the mass dominates; it gets

    ((sum of the others' mass) - mass_t (sum of the other e)) / (1 + (sum of the other e)) + 2 z_loss lse p_t

with e = exp(z - m), and with its `hard` among the masses.

Near the largest numbers differences, and what is multiplied by something small, are taken of parts of them.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import exp, flush, log1p, rounded_away, sech2_lanes, tanh_lanes, weigh
from fastlogits.kernels.sizes import IGNORED, NOTHING, SOFT
from fastlogits.kernels.sums import load_some, save_some

FRACTION = 2.0**-32  # of a difference that may be too large
BOOST = 2.0**96  # of exponentials whose factor may be too large


def mass_lanes(task, targets, at, weight, left):
    """mass_c of the lanes that are left, whose classes have these weights; of distributions at `at`"""
    mass = machine.splat(task.loss.smoothing / task.classes)
    if task.loss.soft:
        probs = load_some(targets, at, left)
        less = machine.splat(1.0 - task.loss.smoothing)
        mass = machine.fma(less, probs, mass) if task.loss.smoothing > 0.0 else probs
    return weight * mass if task.loss.weighted else mass


def read_labels(task, row, n, work):
    """label_j of n rows, each read once: another thread may write to them. IGNORED, also where it is no class; SOFT
    where a distribution is in its place.
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
    """z_j = prescale softcap tanh(x_j / softcap)"""
    by = machine.splat(task.loss.prescale)
    cap = machine.splat(task.loss.softcap)
    i = 0
    while i < n:
        v = load_some(x, at + i, n - i)
        if task.loss.softcap > 0.0:
            v = cap * tanh_lanes(v / cap)
        save_some(z, to + i, n - i, by * v)
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
        work.slope[j] = cap_slope(task, logit)
    work.picked[j] = machine.lane(machine.splat(task.loss.prescale) * v)


def cap_slope(task, logit):
    """The slope of the softcap at a logit"""
    return machine.lane(bent_slope(task, machine.splat(1.0), machine.splat(logit)))


def gap_part():
    """Which part of a sum of mass (peak - z) is kept: sums of floats are doubles, which they cannot overflow."""
    return FRACTION if machine.DOUBLE else 1.0


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
    part = gap_part()
    for j in range(n):
        peak = work.peak[j]
        log_norm = work.log_norm[j]
        scale = work.scale[j]
        lse = factor * peak + log_norm
        gap = weigh(work.hard[j], part * peak - part * work.picked[j]) + work.gap[j]
        loss = weigh(scale, weigh(work.hard[j], log_norm) + weigh(work.mass[j], log_norm))
        loss += weigh(scale, factor * gap) / part
        # With z_loss first: the square may be too large.
        loss += 0.0 if z_loss == 0.0 or scale == 0.0 else scale * z_loss * lse * lse
        task.losses[row + j] = loss
    if task.loss.with_grad:
        gradient_factors(n, factor, z_loss, task.loss.grad_scale, work)
        boost_factors(n, factor, z_loss, work)
        if task.loss.spread:
            top_gradients(n, factor, z_loss, work)


def gradient_factors(n, scale, z_loss, grad_scale, work):
    """FACTOR, COUNTER and TARGET of n rows; COUNTER comes as what arrives at the loss."""
    for j in range(n):
        rest = work.rest[j]
        hard = work.hard[j]
        mass = work.mass[j]
        distance = scale * (work.picked[j] - work.peak[j])
        norm = norm_of(work.peak[j], rest)
        exp_label = exp(distance)
        others = rest if distance == 0.0 else norm - exp_label
        target = (mass * exp_label - hard * others) / norm - work.smooth[j]
        lse = (scale * work.peak[j] + work.log_norm[j]) / norm
        counter = grad_scale * work.counter[j]
        pull = 2.0 * z_loss * counter
        work.counter[j] = counter
        work.factor[j] = weigh(counter, (hard + mass) / norm) + weigh(pull, lse)
        work.target[j] = (weigh(counter, target) + weigh(pull, lse * exp_label)) * work.slope[j]


def norm_of(peak, rest):
    """1 + REST; NaN for a row of nothing but -inf."""
    return 1.0 + rest if peak > -machine.INF else machine.NAN


def boost_factors(n, scale, z_loss, work):
    """FACTOR / BOOST and BOOST in the place of a FACTOR that is too large for its type."""
    for j in range(n):
        work.boost[j] = 1.0
    for j in range(n):
        if abs(machine.cast(work.factor[j])) == machine.INF:
            norm = norm_of(work.peak[j], work.rest[j])
            counter = work.counter[j] / BOOST
            lse = (scale * work.peak[j] + work.log_norm[j]) / norm
            work.boost[j] = BOOST
            work.factor[j] = weigh(counter, (work.hard[j] + work.mass[j]) / norm) + weigh(2.0 * z_loss * counter, lse)


def may_dominate(task):
    """Whether one class may have most of the masses: not of many that are even."""
    return task.loss.soft or task.loss.weighted or task.classes < 6


def nearly_even(mass, own, rest):
    """Whether of M p - mass, the gradient at a maximum that dominates, with mass `own`, less than half of M is left."""
    return rest < 0.5 and abs(mass / (1.0 + rest) - own) < 0.5 * abs(mass)


def top_gradients(n, scale, z_loss, work):
    """TOP_TARGET of n rows, and TARGET where the label is at TOP: see above; after `gradient_factors`."""
    for j in range(n):
        if work.top[j] != NOTHING:
            rest = work.rest[j]
            norm = norm_of(work.peak[j], rest)
            own = work.top_mass[j]
            others = work.others[j]
            if work.label[j] == work.top[j]:
                own += work.hard[j]
            else:
                others += work.hard[j]
            counter = work.counter[j]
            lse = (scale * work.peak[j] + work.log_norm[j]) / norm
            target = weigh(counter, (others - own * rest) / norm) + weigh(2.0 * z_loss * counter, lse)
            work.top_target[j] = flush(target) * work.top_slope[j]
            if work.label[j] == work.top[j]:
                work.target[j] = target * work.top_slope[j]


def log_norms(n, work):
    """log(1 + REST) of n rows"""
    for j in range(n):
        work.log_norm[j] = log1p(work.rest[j])


def count_rows(task, work, start, stop):
    """losses_0 = the sum of sample_weight_i w_label_i over rows not ignored; indices_0 = the first bad row, or -1."""
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
