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
        added = 0.0
        lost = 0.0
        for row in range(rows):
            label = labels[row]
            if label != options.ignore_index:
                term = weight[label] if options.weighted else 1.0
                term *= sample_weight[row] if options.sampled else 1.0
                lost += primitives.rounded_away(added, term)
                added += term
        total[0] = added + lost
    return -1


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


def pick(x, at, apart, step, labels, row, n, options, state, work):
    """PICKED = z_label and SLOPE = dz_label/dx_label of n rows, before the gradient may take the place of x.

    Row `row + j` begins at `at + j * apart`, its classes lie `step` apart, and its field F is state[F + j].
    """
    for j in range(n):
        state[primitives.PICKED + j] = 0.0
        state[primitives.SLOPE + j] = 1.0
        if not ignored(labels, row + j, options) and not options.soft:
            place = at + j * apart + labels[row + j] * step
            z = transform(x, place, 1, options, work)
            state[primitives.PICKED + j] = z[0]
            if options.softcap > 0.0:
                slope = primitives.slot(work, 2)
                slope[0] = 1
                multiply_slope(x, place, slope, 1, options, work)
                state[primitives.SLOPE + j] = slope[0]


def ignored(labels, row, options):
    return not options.soft and labels[row] == options.ignore_index


def reduce(x, at, kept, kept_at, keep, targets, targets_at, weight, options, state, first, last, work):
    """Per block: peak and sum as in softmax.py; gap_b = sum mass_c (peak_b - z_c), mass_b = sum mass_c."""
    fields = primitives.ROW_FIELDS + first * primitives.BLOCK_FIELDS
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        logits = transform(x, at + start, size, options, work)
        shift = softmax.block_peak(logits, size, state, fields)
        if options.spread:
            mass = class_mass(targets, targets_at, start, size, weight, options, work)
            gaps = primitives.slot(work, 4)
            peak = primitives.cast(shift, work)
            for c in range(size):
                gaps[c] = primitives.weigh(mass[c], peak - logits[c])
            state[fields + primitives.BLOCK_GAP] = primitives.total(gaps, size)
            state[fields + primitives.BLOCK_MASS] = primitives.total(mass, size)
        softmax.block_sum(logits, size, shift, options.scale, kept, kept_at + start, keep, state, fields)
        fields += primitives.BLOCK_FIELDS


def settle(x, at, kept, kept_at, keep, options, state, work):
    """PEAK, REST, LOG_NORM, MASS and GAP of a row from its blocks."""
    again = softmax.merge(options.classes, options.scale, state)
    if again >= 0:
        start = again * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        if keep:
            exps = primitives.stretch(kept, kept_at + start, size)
        else:
            logits = transform(x, at + start, size, options, work)
            exps = primitives.slot(work, 5)
            primitives.keep_exp(logits, size, state[primitives.PEAK], options.scale, exps, primitives.KEEP_PADDED)
        state[primitives.REST] += softmax.without_maximum(exps, size, work)
    state[primitives.LOG_NORM] = primitives.log1p(state[primitives.REST])
    mass = 0.0
    gap = 0.0
    if options.spread:
        fields = primitives.ROW_FIELDS
        for _ in range(softmax.blocks_of(options.classes)):
            block_mass = state[fields + primitives.BLOCK_MASS]
            block_peak = state[fields + primitives.BLOCK_PEAK]
            shift = block_peak if block_peak > primitives.NEG_INF else 0.0
            mass += block_mass
            gap += state[fields + primitives.BLOCK_GAP]
            gap += primitives.weigh(block_mass, state[primitives.PEAK] - shift)
            fields += primitives.BLOCK_FIELDS
    state[primitives.MASS] = mass
    state[primitives.GAP] = gap


def finish(labels, row, weight, sample_weight, grad_loss, losses, n, options, state):
    """The losses of n rows; FACTOR, COUNTER and TARGET for their gradients, all 0 where the label is ignored.

    grad_c = FACTOR e_c - COUNTER mass_c for e_c = exp(z_c - m), and TARGET at the label.
    """
    for j in range(n):
        label = -1 if options.soft else labels[row + j]
        hard = 0.0
        row_scale = 0.0
        if options.soft or label != options.ignore_index:
            row_scale = sample_weight[row + j] if options.sampled else 1.0
            hard = (weight[label] if options.weighted else 1.0) if label >= 0 else 0.0
        state[primitives.SCALE + j] = row_scale
        state[primitives.HARD + j] = (1.0 - options.smoothing) * hard
        state[primitives.SMOOTH + j] = options.smoothing / options.classes * hard
        state[primitives.COUNTER + j] = row_scale * (grad_loss[row + j] if options.upstream else 1.0)
    # What the loops read of `options` is read before them: a store to `state` might change it, for all C knows.
    scale = options.scale
    z_loss = options.z_loss
    for j in range(n):
        peak = state[primitives.PEAK + j]
        log_norm = state[primitives.LOG_NORM + j]
        lse = scale * peak + log_norm
        loss = primitives.weigh(state[primitives.HARD + j], log_norm + scale * (peak - state[primitives.PICKED + j]))
        loss += primitives.weigh(state[primitives.MASS + j], log_norm) + scale * state[primitives.GAP + j]
        loss += primitives.weigh(z_loss, lse * lse)
        losses[row + j] = primitives.weigh(state[primitives.SCALE + j], loss)
    if options.with_grad:
        gradients(n, scale, z_loss, options.grad_scale, state)


def gradients(n, scale, z_loss, grad_scale, state):
    """FACTOR, COUNTER and TARGET of n rows; COUNTER comes as what arrives at the loss."""
    for j in range(n):
        peak = state[primitives.PEAK + j]
        rest = state[primitives.REST + j]
        hard = state[primitives.HARD + j]
        distance = scale * (state[primitives.PICKED + j] - peak)
        norm = 1.0 + rest if peak > primitives.NEG_INF else primitives.NAN
        common = state[primitives.MASS + j]
        common += primitives.weigh(2.0 * z_loss, scale * peak + state[primitives.LOG_NORM + j])
        exp_label = primitives.exp(distance)
        others = rest if distance == 0.0 else norm - exp_label
        target = (common * exp_label - hard * others) / norm - state[primitives.SMOOTH + j]
        counter = grad_scale * state[primitives.COUNTER + j]
        state[primitives.COUNTER + j] = counter
        state[primitives.FACTOR + j] = primitives.weigh(counter, (hard + common) / norm)
        state[primitives.TARGET + j] = primitives.weigh(counter, target * state[primitives.SLOPE + j])


def write(
    x, at, kept, kept_at, keep, grad, grad_at, label, targets, targets_at, weight, options, state, first, last, work
):
    """grad_c = FACTOR exp(z_c - PEAK) - COUNTER mass_c of a row, times the softcap's slope; TARGET at the label."""
    counter = primitives.cast(state[primitives.COUNTER], work)
    for block in range(first, last):
        start = block * primitives.BLOCK
        size = min(primitives.BLOCK, options.classes - start)
        if keep:
            exps = primitives.stretch(kept, kept_at + start, size)
        else:
            logits = transform(x, at + start, size, options, work)
            exps = primitives.slot(work, 5)
            softmax.block_exps(logits, size, block, options.scale, exps, state)
        ratio = softmax.rescale(state[primitives.PEAK], block, options.scale, state)
        factor = primitives.cast(ratio * state[primitives.FACTOR], work)
        grads = exps
        if options.spread:
            mass = class_mass(targets, targets_at, start, size, weight, options, work)
            for c in range(size):
                grads[c] = primitives.flush(grads[c] * factor - counter * mass[c])
        else:
            # Not over x, which the slope is computed from.
            if not options.bent:
                grads = primitives.place(grad, grad_at + start, exps, options.storage)
            primitives.scale_each(exps, size, factor, grads)
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
    blocks = softmax.blocks_of(options.classes)
    # A row's result must not depend on its neighbours: which way it takes depends on the options alone.
    uneven = options.spread and (options.weighted or (options.soft and options.smoothing > 0.0))
    together = blocks == 1 and not options.bent and not uneven
    group = softmax.group_of(options.classes) if together else 1
    row = start
    while row < stop:
        at = row * options.x_stride
        grad_at = row * options.grad_stride
        targets_at = row * options.targets_stride
        if ignored(labels, row, options):
            losses[row] = 0.0
            if options.with_grad:
                write_zeros(grad, grad_at, options.classes, options, work)
            row += 1
            continue
        n = 1
        while n < min(group, stop - row) and not ignored(labels, row + n, options):
            n += 1
        kept = grad
        kept_at = grad_at
        kept_stride = options.grad_stride
        keep = options.keep
        if softmax.in_scratch(options.classes, keep):
            kept = softmax.scratch(options.classes, work)
            kept_at = 0
            kept_stride = softmax.padded(options.classes)
            keep = primitives.KEEP_PADDED
        pick(x, at, options.x_stride, 1, labels, row, n, options, state, work)
        if together:
            group_sums(x, at, kept, kept_at, kept_stride, keep, targets, targets_at, n, options, state, work)
        else:
            reduce(x, at, kept, kept_at, keep, targets, targets_at, weight, options, state, 0, blocks, work)
            settle(x, at, kept, kept_at, keep, options, state, work)
        finish(labels, row, weight, sample_weight, grad_loss, losses, n, options, state)
        if options.with_grad and together:
            group_write(
                kept, kept_at, kept_stride, grad, grad_at, labels, row, targets, targets_at, n, options, state, work
            )
        elif options.with_grad:
            write(
                x, at, kept, kept_at, keep, grad, grad_at, -1 if options.soft else labels[row], targets, targets_at,
                weight, options, state, 0, blocks, work,
            )  # fmt: skip
        row += n


def group_sums(x, at, kept, kept_at, kept_stride, keep, targets, targets_at, n, options, state, work):
    """As `sums`, of n rows of one block, none ignored, whose masses are even or the distribution itself."""
    classes = options.classes
    readable = primitives.readable(options.storage)
    apart = options.x_stride if readable else softmax.padded(classes)
    logits = softmax.some_rows(
        x, at, options.x_stride, classes, n, primitives.slot(work, primitives.TILE), apart, options.storage
    )
    peaks = primitives.stretch(state, primitives.PEAK, n)
    rests = primitives.stretch(state, primitives.REST, n)
    gaps = primitives.stretch(state, primitives.GAP, n)
    masses = primitives.stretch(state, primitives.MASS, n)
    exps = primitives.stretch(kept, kept_at, n * kept_stride)
    even = options.smoothing / classes
    for j in range(n):
        gaps[j] = 0.0
        masses[j] = options.smoothing
    primitives.row_maxima(logits, apart, classes, n, peaks)
    if options.spread and not options.soft:
        primitives.row_exps_gaps(
            logits, apart, classes, n, peaks, options.scale, exps, kept_stride, keep, rests, gaps
        )
        for j in range(n):
            gaps[j] *= even
    else:
        if options.soft:
            mass_apart = options.targets_stride if readable else classes
            mass = softmax.some_rows(
                targets, targets_at, options.targets_stride, classes, n,
                primitives.slot(work, primitives.OTHER_TILE), mass_apart, options.storage,
            )  # fmt: skip
            primitives.row_gaps(logits, apart, classes, n, peaks, mass, mass_apart, gaps, masses)
        primitives.row_exps(logits, apart, classes, n, peaks, options.scale, exps, kept_stride, keep, rests)
    softmax.take_out_maxima(exps, kept_stride, classes, n, state, work)
    for j in range(n):
        state[primitives.LOG_NORM + j] = primitives.log1p(rests[j])


def group_write(
    kept, kept_at, kept_stride, grad, grad_at, labels, row, targets, targets_at, n, options, state, work
):
    """As `write`, of the rows of `group_sums`."""
    classes = options.classes
    even = options.smoothing / classes
    counters = primitives.stretch(state, primitives.COUNTER, n)
    factors = primitives.stretch(state, primitives.FACTOR, n)
    exps = primitives.stretch(kept, kept_at, n * kept_stride)
    grads = primitives.place(grad, grad_at, primitives.slot(work, primitives.CHUNK), options.storage)
    apart = options.grad_stride if options.storage == primitives.NATIVE else classes
    if options.soft:
        mass_apart = options.targets_stride if primitives.readable(options.storage) else classes
        mass = softmax.some_rows(
            targets, targets_at, options.targets_stride, classes, n, primitives.slot(work, primitives.OTHER_TILE),
            mass_apart, options.storage,
        )  # fmt: skip
        primitives.row_slope(exps, kept_stride, classes, n, factors, mass, mass_apart, counters, grads, apart)
    else:
        for j in range(n):
            counters[j] = primitives.weigh(even, counters[j])
        primitives.row_scale(exps, kept_stride, classes, n, factors, counters, grads, apart)
        for j in range(n):
            grads[j * apart + labels[row + j]] = primitives.flush(primitives.cast(state[primitives.TARGET + j], work))
    softmax.store_rows(grad, grad_at, options.grad_stride, classes, n, grads, apart, options.storage)
