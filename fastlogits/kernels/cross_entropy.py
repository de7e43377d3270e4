"""Cross-entropy of rows and its gradient in one sweep: the steps of softmax.py with labels.

With z the transformed logits (softcap, logit_scale), m = max z, log s = log sum exp(z - m), lse = m + log s and
p = exp(z - lse), every loss of a row is

    hard (log s + m - z_label) + sum_c mass_c (log s + m - z_c) + z_loss lse^2

times its sample weight, where class indices have hard = (1 - smoothing) w_label and mass_c = smoothing / C w_c, and
distributions have hard = 0 and mass_c = w_c ((1 - smoothing) t_c + smoothing / C). The gradient is, for each class,

    (hard + sum mass + 2 z_loss lse) p_c - mass_c - hard [c = label]

times what arrives at the loss, times dz_c/dx_c. At the label hard (p - 1) is -hard (sum of the other p): p - 1 loses
every digit where the label dominates.
"""

import math

from fastlogits.kernels import primitives, softmax


def count_labels(labels, weight, sample_weight, rows, options, total):
    """total_0 = sum of sample_weight_i w_label_i over the rows not ignored; returns the first bad row, or -1."""
    bad = 0
    valid = 0
    for row in range(rows):
        kept = labels[row] != options.ignore_index
        inside = labels[row] >= 0 and labels[row] < options.classes
        valid += 1 if kept else 0
        bad += 0 if inside or not kept else 1
    total[0] = valid
    if bad > 0:
        for row in range(rows):
            label = labels[row]
            if label != options.ignore_index and (label < 0 or label >= options.classes):
                return row
    if options.weighted or options.sampled:
        total[0] = 0.0
        for row in range(rows):
            if labels[row] != options.ignore_index:
                total[0] += row_weight(sample_weight, row, options) * label_weight(weight, labels[row], options)
    return -1


def row_weight(sample_weight, row, options):
    return sample_weight[row] if options.sampled else 1.0


def label_weight(weight, label, options):
    return weight[label] if options.weighted else 1.0


def transform(x, at, size, options, work):
    """z_j = softcap tanh(x_j / softcap), negated for a negative logit_scale; x itself where nothing is to be done."""
    logits = primitives.load(x, at, size, primitives.slot(work, 0), options.storage)
    if not options.bent:
        return logits
    z = primitives.slot(work, 1)
    cap = primitives.cast(options.softcap, work)
    sign = primitives.cast(-1.0 if options.negative else 1.0, work)
    if options.softcap > 0.0:
        for j in range(size):
            z[j] = sign * (cap * primitives.tanh(logits[j] / cap))
    else:
        for j in range(size):
            z[j] = sign * logits[j]
    return z


def multiply_slope(x, at, values, size, options, work):
    """values_j *= dz_j/dx_j of the softcap: 1 - tanh(x_j / softcap)^2; a 0 stays 0."""
    if options.softcap > 0.0:
        logits = primitives.load(x, at, size, primitives.slot(work, 0), options.storage)
        cap = primitives.cast(options.softcap, work)
        for j in range(size):
            values[j] = primitives.weigh(values[j], primitives.sech2(logits[j] / cap))


def class_mass(targets, at, start, size, weight, options, work):
    """mass_c for the classes [start, start + size)."""
    mass = primitives.slot(work, 3)
    weights = primitives.stretch(weight, start, size)
    even = primitives.cast(options.smoothing / options.classes, work)
    if options.soft:
        kept = primitives.cast(1.0 - options.smoothing, work)
        probs = primitives.load(targets, at + start, size, primitives.slot(work, 4), options.storage)
        for j in range(size):
            mass[j] = weights[j] * (kept * probs[j] + even)
    else:
        for j in range(size):
            mass[j] = weights[j] * even
    return mass


def pick(x, at, options, state, work):
    """PICKED = z_label and SLOPE = dz_label/dx_label, before the gradient may take the place of x."""
    z = transform(x, at, 1, options, work)
    state[primitives.PICKED] = z[0]
    slope = primitives.slot(work, 2)
    slope[0] = 1
    multiply_slope(x, at, slope, 1, options, work)
    state[primitives.SLOPE] = slope[0]


def reduce(x, at, grad, grad_at, targets, targets_at, weight, options, state, first, last, work):
    """Per block: peak and sum as in softmax.py; gap_b = sum mass_c (peak_b - z_c), mass_b = sum mass_c."""
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
        logits = transform(x, at + start, size, options, work)
        shift = softmax.block_peak(logits, size, state, fields)
        if options.spread:
            mass = class_mass(targets, targets_at, start, size, weight, options, work)
            gaps = primitives.slot(work, 4)
            peak = primitives.cast(shift, work)
            for j in range(size):
                gaps[j] = primitives.weigh(mass[j], peak - logits[j])
            state[fields + primitives.BLOCK_GAP] = primitives.total(gaps, size)
            state[fields + primitives.BLOCK_MASS] = primitives.total(mass, size)
        softmax.block_sum(logits, size, shift, options.scale, grad, grad_at + start, options.keep, state, fields)


def settle(x, at, grad, grad_at, hard, smooth_label, row_scale, upstream, options, state, work):
    """The loss of the row, and in `state` what `write` needs: FACTOR and COUNTER with g_c = FACTOR e_c - COUNTER mass_c
    for e_c = exp(z_c - PEAK), and TARGET, the gradient at the label."""
    again = softmax.merge(options.classes, options.scale, state)
    if again >= 0:
        start = again * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        if options.keep:
            exps = primitives.stretch(grad, grad_at + start, size)
        else:
            logits = transform(x, at + start, size, options, work)
            exps = primitives.slot(work, 5)
            primitives.keep_exp(logits, size, state[primitives.PEAK], options.scale, exps)
        state[primitives.REST] += softmax.without_maximum(exps, size, work)
    peak = state[primitives.PEAK]
    mass = 0.0
    gap = 0.0
    if options.spread:
        for block in range((options.classes + primitives.BLOCK - 1) // primitives.BLOCK):
            fields = primitives.ROW_FIELDS + block * primitives.BLOCK_FIELDS
            block_mass = state[fields + primitives.BLOCK_MASS]
            block_peak = state[fields + primitives.BLOCK_PEAK]
            mass += block_mass
            gap += state[fields + primitives.BLOCK_GAP]
            if block_mass != 0.0:
                gap += block_mass * (peak - (block_peak if block_peak > primitives.NEG_INF else 0.0))
    rest = state[primitives.REST]
    picked = state[primitives.PICKED]
    log_norm = math.log1p(rest)
    if options.with_grad:
        exp_label = 0.0 if options.soft else math.exp(options.scale * (picked - peak))
        finish(peak, rest, log_norm, exp_label, hard, mass, smooth_label, row_scale * upstream, options, state)
    return row_scale * row_loss(peak, log_norm, picked, hard, mass, gap, options)


def row_loss(peak, log_norm, picked, hard, mass, gap, options):
    """hard (log s + m - z_label) + mass log s + gap + z_loss lse^2"""
    loss = 0.0
    if options.spread:
        loss = mass * log_norm + options.scale * gap
    if hard != 0.0:
        loss += hard * (log_norm + options.scale * (peak - picked))
    if options.z_loss != 0.0:
        lse = options.scale * peak + log_norm
        loss += options.z_loss * lse * lse
    return loss


def finish(peak, rest, log_norm, exp_label, hard, mass, smooth_label, arriving, options, state):
    """FACTOR, COUNTER and TARGET of a row; state holds PICKED and SLOPE, exp_label is exp(z_label - m)."""
    norm = 1.0 + rest if peak > primitives.NEG_INF else primitives.NAN
    common = mass
    if options.z_loss != 0.0:
        common += 2.0 * options.z_loss * (options.scale * peak + log_norm)
    counter = arriving * options.grad_scale
    state[primitives.COUNTER] = counter
    state[primitives.FACTOR] = counter * (hard + common) / norm
    if not options.soft:
        others = rest if state[primitives.PICKED] == peak else norm - exp_label
        target = (common * exp_label - hard * others) / norm - smooth_label
        state[primitives.TARGET] = counter * target * state[primitives.SLOPE]


def write(x, at, grad, grad_at, label, targets, targets_at, weight, options, state, first, last, work):
    """grad_c = FACTOR exp(z_c - PEAK) - COUNTER mass_c, times the softcap's slope; TARGET at the label."""
    counter = primitives.cast(state[primitives.COUNTER], work)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        if options.keep:
            grads = primitives.stretch(grad, grad_at + start, size)
            ratio = softmax.rescale(block, options.scale, state)
        else:
            logits = transform(x, at + start, size, options, work)
            grads = primitives.slot(work, 5)
            primitives.keep_exp(logits, size, state[primitives.PEAK], options.scale, grads)
            ratio = 1.0
        factor = primitives.cast(ratio * state[primitives.FACTOR], work)
        if options.spread:
            mass = class_mass(targets, targets_at, start, size, weight, options, work)
            for j in range(size):
                grads[j] = primitives.flush(grads[j] * factor - counter * mass[j])
        else:
            for j in range(size):
                grads[j] = primitives.flush(grads[j] * factor)
        multiply_slope(x, at + start, grads, size, options, work)
        if label >= start and label < start + size:
            grads[label - start] = primitives.flush(primitives.cast(state[primitives.TARGET], work))
        primitives.store(grad, grad_at + start, size, grads, options.storage)


def write_zeros(grad, at, n, options, work):
    """grad_c = 0, the gradient of an ignored row."""
    zeros = primitives.slot(work, 0)
    for j in range(min(primitives.BLOCK, n)):
        zeros[j] = 0
    for block in range((n + primitives.BLOCK - 1) // primitives.BLOCK):
        start = block * primitives.BLOCK
        primitives.store(grad, at + start, min(primitives.BLOCK, n - start), zeros, options.storage)


def rows(
    x, grad, labels, targets, weight, sample_weight, grad_loss, losses, options, state, work, start, stop
):
    """losses_i and, where asked, the gradient of the rows [start, stop)."""
    blocks = (options.classes + primitives.BLOCK - 1) // primitives.BLOCK
    for row in range(start, stop):
        at = row * options.x_stride
        grad_at = row * options.grad_stride
        targets_at = row * options.targets_stride
        label = -1 if options.soft else labels[row]
        if not options.soft and label == options.ignore_index:
            losses[row] = 0.0
            if options.with_grad:
                write_zeros(grad, grad_at, options.classes, options, work)
            continue
        if not options.soft:
            pick(x, at + label, options, state, work)
        reduce(x, at, grad, grad_at, targets, targets_at, weight, options, state, 0, blocks, work)
        losses[row] = settle_row(
            x, at, grad, grad_at, label, weight, sample_weight, grad_loss, row, options, state, work
        )
        if options.with_grad:
            write(x, at, grad, grad_at, label, targets, targets_at, weight, options, state, 0, blocks, work)


def settle_row(x, at, grad, grad_at, label, weight, sample_weight, grad_loss, row, options, state, work):
    """`settle` with the weights of this row and label."""
    hard = 0.0
    smooth_label = 0.0
    if not options.soft:
        hard = (1.0 - options.smoothing) * label_weight(weight, label, options)
        smooth_label = options.smoothing / options.classes * label_weight(weight, label, options)
    upstream = grad_loss[row] if options.upstream else 1.0
    return settle(
        x, at, grad, grad_at, hard, smooth_label, row_weight(sample_weight, row, options), upstream, options, state, work
    )
