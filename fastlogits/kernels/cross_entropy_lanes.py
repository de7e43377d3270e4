"""Cross-entropy of columns and of short rows: the formulas of cross_entropy.py on the tiles of lanes.py."""

from fastlogits.kernels import cross_entropy, lanes, primitives


def some_classes(x, at, step, count, n, options, work):
    """z of `count` classes of n lanes, see lanes.py; transformed ones lie n apart too."""
    chunk = primitives.slot(work, primitives.CHUNK)
    if not options.bent:
        return lanes.some_classes(x, at, step, count, n, chunk, options.storage)
    for c in range(count):
        z = cross_entropy.transform(x, at + c * step, n, options, work)
        for j in range(n):
            chunk[c * n + j] = z[j]
    return chunk


def tile_sums(x, at, step, grad, grad_at, row, labels, targets, targets_at, weight, n, options, state, work):
    """As lanes.tile_sums; gaps_j = sum_c mass_c (peaks_j - z_cj), masses_j = sum_c mass_c and the picked, in state."""
    classes = options.classes
    apart = step if primitives.readable(options.storage) and not options.bent else n
    peaks = lanes.start_peaks(n, work)
    c = 0
    while c < classes:
        count = min(primitives.TERMS, classes - c)
        logits = some_classes(x, at + c * step, step, count, n, options, work)
        primitives.lane_maxima(logits, apart, count, n, peaks)
        c += primitives.TERMS
    # Now the tile is in cache, and exponentials have not been written over it.
    cross_entropy.pick(x, at, 1, step, labels, row, n, options, state, work)
    lanes.start_sums(n, state, work)
    start_gaps(n, state)
    c = 0
    while c < classes:
        count = min(primitives.TERMS, classes - c)
        logits = some_classes(x, at + c * step, step, count, n, options, work)
        if options.spread:
            add_gaps(logits, apart, targets, targets_at + c * step, step, weight, c, count, n, options, state, work)
        exps = primitives.stretch(grad, grad_at + c * step, count * step)
        lanes.add_exps(logits, apart, count, n, options.scale, exps, step, options.keep, state, work)
        c += primitives.TERMS
    lanes.finish_sums(n, state)


def start_gaps(n, state):
    """The sums of gaps and masses start at 0."""
    for j in range(n):
        state[primitives.GAP + j] = 0.0
        state[primitives.MASS + j] = 0.0


def add_gaps(logits, apart, targets, targets_at, step, weight, first, count, n, options, state, work):
    """gaps_j += mass_c (shifts_j - z_cj) and masses_j += mass_c of at most TERMS classes from `first` on."""
    mass = some_masses(targets, targets_at, step, weight, first, count, n, options, work)
    primitives.lane_gaps(
        logits, apart, mass, masses_apart(step, n, options), count, n, primitives.slot(work, primitives.SHIFTS),
        primitives.stretch(state, primitives.GAP, n), primitives.stretch(state, primitives.MASS, n),
    )  # fmt: skip


def some_masses(targets, at, step, weight, first, count, n, options, work):
    """mass_c of `count` classes of n lanes, `masses_apart` from each other."""
    masses = primitives.slot(work, primitives.MASS_TILE)
    if plain(options):
        return lanes.some_classes(targets, at, step, count, n, masses, options.storage)
    kept = primitives.cast(1.0 - options.smoothing, work)
    even = primitives.cast(options.smoothing / options.classes, work)
    for c in range(count):
        mass = primitives.stretch(masses, c * n, n)
        class_weight = primitives.cast(weight[first + c], work)
        if options.soft:
            probs = primitives.load(targets, at + c * step, n, primitives.slot(work, 4), options.storage)
            for j in range(n):
                mass[j] = class_weight * (kept * probs[j] + even)
        else:
            for j in range(n):
                mass[j] = class_weight * even
    return masses


def masses_apart(step, n, options):
    return step if plain(options) and primitives.readable(options.storage) else n


def plain(options):
    """Whether the masses are the targets as they are."""
    return options.soft and not options.weighted and options.smoothing == 0.0


def tile(
    x, at, step, grad, grad_at, row, labels, targets, targets_at, weight, sample_weight, grad_loss, losses, n,
    options, state, work,
):  # fmt: skip
    """losses_j and, where asked, the gradient of a tile whose lane j is row `row + j`."""
    tile_sums(x, at, step, grad, grad_at, row, labels, targets, targets_at, weight, n, options, state, work)
    settle(n, state, work)
    cross_entropy.finish(
        labels, row, weight, sample_weight, grad_loss, losses, n, options, state
    )
    if not options.with_grad:
        return
    shifts = primitives.slot(work, primitives.SHIFTS)
    factors = primitives.slot(work, primitives.FACTORS)
    counters = primitives.slot(work, primitives.COUNTERS)
    for j in range(n):
        factors[j] = primitives.cast(state[primitives.FACTOR + j], work)
        counters[j] = primitives.cast(state[primitives.COUNTER + j], work)
    c = 0
    while c < options.classes:
        count = min(primitives.TERMS, options.classes - c)
        if options.keep:
            grads = primitives.stretch(grad, grad_at + c * step, count * step)
            apart = step
        else:
            grads = primitives.slot(work, primitives.CHUNK)
            apart = n
            for i in range(count):
                logits = cross_entropy.transform(x, at + (c + i) * step, n, options, work)
                exps = primitives.stretch(grads, i * n, n)
                primitives.exp_each(logits, shifts, n, options.scale, exps)
        if options.spread:
            mass = some_masses(targets, targets_at + c * step, step, weight, c, count, n, options, work)
            mass_apart = masses_apart(step, n, options)
            primitives.lane_slope(grads, apart, mass, mass_apart, count, n, factors, counters, grads, apart)
        else:
            primitives.lane_scale(grads, apart, count, n, factors, grads, apart)
        for i in range(count):
            values = primitives.stretch(grads, i * apart, n)
            cross_entropy.multiply_slope(x, at + (c + i) * step, values, n, options, work)
            primitives.store(grad, grad_at + (c + i) * step, n, values, options.storage)
        c += primitives.TERMS
    if not options.soft:
        write_labels(grad, grad_at, step, row, labels, n, options, state, work)


def settle(n, state, work):
    """PEAK and LOG_NORM of the lanes, beside REST."""
    peaks = primitives.slot(work, primitives.PEAKS)
    for j in range(n):
        state[primitives.PEAK + j] = peaks[j]
        state[primitives.LOG_NORM + j] = primitives.log1p(
            state[primitives.REST + j])


def write_labels(grad, grad_at, step, row, labels, n, options, state, work):
    """The gradients at the labels."""
    for j in range(n):
        if labels[row + j] != options.ignore_index:
            at = grad_at + labels[row + j] * step + j
            value = primitives.place(grad, at, primitives.slot(work, 0), options.storage)
            value[0] = primitives.flush(
                primitives.cast(state[primitives.TARGET + j], work)
            )
            primitives.store(grad, at, 1, value, options.storage)


def columns(
    x, grad, labels, targets, weight, sample_weight, grad_loss, losses, inner, options, state, work, start, stop
):
    """losses_i and, where asked, the gradient of the tiles [start, stop)."""
    tiles = (inner + primitives.LANES - 1) // primitives.LANES
    for item in range(start, stop):
        outer = item // tiles
        first = (item % tiles) * primitives.LANES
        n = min(primitives.LANES, inner - first)
        tile(
            x, outer * options.x_stride + first, inner, grad, outer * options.grad_stride + first,
            outer * inner + first, labels, targets, outer * options.targets_stride + first, weight, sample_weight,
            grad_loss, losses, n, options, state, work,
        )  # fmt: skip


def short_rows(
    x, grad, labels, targets, weight, sample_weight, grad_loss, losses, count, options, in_tile, state, work,
    start, stop,
):  # fmt: skip
    """losses_i and, where asked, the gradient of the SHORT-row groups [start, stop) of `count` rows.

    `in_tile` are the options for the transposed copies: native storage, the gradient in the place of the logits.
    """
    logits = primitives.slot(work, primitives.TILE)
    probs = primitives.slot(work, primitives.OTHER_TILE)
    for item in range(start, stop):
        first = item * primitives.SHORT
        n = min(primitives.SHORT, count - first)
        lanes.gather(x, first * options.x_stride, options.x_stride, options.classes, n, logits, work, options.storage)
        if options.soft:
            lanes.gather(
                targets, first * options.targets_stride, options.targets_stride, options.classes, n, probs, work,
                options.storage,
            )  # fmt: skip
        tile(
            logits, 0, n, logits, 0, first, labels, probs, 0, weight, sample_weight, grad_loss, losses, n,
            in_tile, state, work,
        )  # fmt: skip
        if options.with_grad:
            lanes.scatter(
                logits, grad, first * options.grad_stride, options.grad_stride, options.classes, n, work,
                options.storage,
            )  # fmt: skip
