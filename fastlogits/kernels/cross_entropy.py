"""Cross-entropy of rows and its gradient in one sweep: the steps of softmax.py with labels, see loss.py."""

from fastlogits.kernels import machine
from fastlogits.kernels.loss import (
    FRACTION,
    bend,
    bent_slope,
    cap_slope,
    finish,
    gap_part,
    log_norms,
    mass_lanes,
    may_dominate,
    nearly_even,
    pick,
    read_labels,
)
from fastlogits.kernels.numbers import finite_peak, flush, flush_lanes, rounded_away, weigh
from fastlogits.kernels.shared import blocks_of, padded, row_blocks
from fastlogits.kernels.sizes import BLOCK, DISCARD, IGNORED, KEEP_PADDED, NONE, NOTHING, TERMS
from fastlogits.kernels.softmax import block_sum, group_of, group_peaks, group_rests, kept_in, merge, rescale, scale_row
from fastlogits.kernels.sums import exp_sum, find, load_some, maximum, rest_of, save_some, sweep_from


def masses_of(task, at, c, left):
    """mass_c of the classes that are left for lanes, from c on; of a distribution at `at`"""
    weight = load_some(task.weight, c, left) if task.loss.weighted else machine.splat(1.0)
    mass = mass_lanes(task, task.targets, at, weight, left)
    return mass if left >= machine.WIDTH else machine.keep_first(mass, left)


def gap_sum(task, z, at, row, first, n, peak):
    """(sum_c mass_c (peak - z_c) times `gap_part`, sum_c mass_c) of n classes from `first` on; a mass of 0 counts 0"""
    gap, mass = gap_of_parts(task, z, at, row, first, n, peak, 1.0)
    if abs(gap) < machine.INF:
        return gap * gap_part(), mass
    gap, mass = gap_of_parts(task, z, at, row, first, n, peak, FRACTION)
    return gap * (gap_part() / FRACTION), mass


def gap_of_parts(task, z, at, row, first, n, peak, part):
    """(part times sum_c mass_c (peak - z_c), sum_c mass_c)"""
    w = machine.WIDTH
    targets_at = row * task.targets_stride + first
    nothing = machine.splat(0.0)
    by = machine.splat(part)
    shift = by * machine.splat(finite_peak(peak))
    gap = 0.0
    total = 0.0
    i = 0
    while i < n:
        end = min(n, i + TERMS * w)
        gaps = masses = nothing
        while i < end:
            mass = masses_of(task, targets_at + i, first + i, n - i)
            d = shift - by * load_some(z, at + i, n - i)
            gaps = gaps + machine.zero_where_equal(mass, nothing, mass * d)
            masses = masses + mass
            i += w
        gap += machine.add_lanes(gaps)
        total += machine.add_lanes(masses)
    return gap, total


def look_at_top(task, row, top, first, n, j, work):
    """TOP_j, TOP_MASS_j and OTHERS_j, of n classes from `first` on, of a row whose maximum is at `top`: where they are
    needed, see loss.py.
    """
    own = 0.0 + machine.lane(masses_of(task, row * task.targets_stride + top, top, 1))
    if work.peak[j] > -machine.INF and nearly_even(work.mass[j], own, work.rest[j]):
        work.top[j] = top
        work.top_mass[j] = own
        work.others[j] = mass_sum(task, row, first, top) + mass_sum(task, row, top + 1, first + n)
        work.top_slope[j] = 1.0
        if task.loss.softcap > 0.0:
            work.top_slope[j] = cap_slope(task, machine.number(task.x, row * task.x_stride + top))


def mass_sum(task, row, first, last):
    """sum_c mass_c of the classes [first, last)"""
    w = machine.WIDTH
    at = row * task.targets_stride
    total = 0.0
    c = first
    while c < last:
        end = min(last, c + TERMS * w)
        masses = machine.splat(0.0)
        while c < end:
            masses = masses + masses_of(task, at + c, c, last - c)
            c += w
        total += machine.add_lanes(masses)
    return total


def boost_exps(exps, at, n, boost):
    """The exponentials of a row times what its factor lacks"""
    if boost != 1.0:
        by = machine.splat(boost)
        i = 0
        while i < n:
            save_some(exps, at + i, n - i, by * load_some(exps, at + i, n - i))
            i += machine.WIDTH


def write_gradient(task, row, first, n, exps, at, factor, counter):
    """grad_c = factor e_c - counter mass_c of n classes of a row from `first` on, times the softcap's slope."""
    y_at = row * task.y_stride + first
    if not task.loss.spread and not task.loss.softcap > 0.0:
        scale_row(exps, at, n, factor, task.y, y_at, task.past)
        return
    x_at = row * task.x_stride + first
    targets_at = row * task.targets_stride + first
    by = machine.splat(factor)
    less = machine.splat(counter)
    i = 0
    while i < n:
        v = by * load_some(exps, at + i, n - i)
        if task.loss.spread:
            v = v - less * masses_of(task, targets_at + i, first + i, n - i)
        v = flush_lanes(v)
        if task.loss.softcap > 0.0:
            v = bent_slope(task, v, load_some(task.x, x_at + i, n - i))
        save_some(task.y, y_at + i, n - i, v)
        i += machine.WIDTH


def write_target(task, row, first, n, j, work):
    """The gradient at the label of a row, if it is one of n classes from `first` on."""
    label = work.label[j]
    if label >= first and label < first + n:
        machine.put(task.y, row * task.y_stride + label, flush(work.target[j]))


def write_top(task, row, first, n, j, work):
    """The gradient at the class that dominates a row, if it is one of n classes from `first` on."""
    if work.top[j] >= first and work.top[j] < first + n:
        machine.put(task.y, row * task.y_stride + work.top[j], work.top_target[j])


def write_zeros(task, row, first, n):
    """The gradient of an ignored row"""
    at = row * task.y_stride + first
    i = 0
    while i < n:
        save_some(task.y, at + i, n - i, machine.splat(0.0))
        i += machine.WIDTH


# Rows of one block


def group_loss(task, row, n, work):
    """The losses and, where asked, the gradients of n rows, none of them ignored."""
    classes = task.classes
    at = row * task.x_stride
    kept = kept_in(task, work, row)
    pick(task, task.x, at, task.x_stride, 1, n, work)
    if task.loss.bent:
        for j in range(n):
            bend(task, task.x, at + j * task.x_stride, classes, work.other_tile, j * padded(classes))
        bent_sums(task, work.other_tile, 0, padded(classes), row, n, kept, work)
    else:
        bent_sums(task, task.x, at, task.x_stride, row, n, kept, work)
    log_norms(n, work)
    group_tops(task, row, n, kept, work)
    finish(task, row, n, work)
    if task.loss.with_grad:
        for j in range(n):
            exps_at = kept.at + j * kept.stride
            boost_exps(kept.exps, exps_at, classes, work.boost[j])
            write_gradient(task, row + j, 0, classes, kept.exps, exps_at, work.factor[j], work.counter[j])
            write_top(task, row + j, 0, classes, j, work)
            write_target(task, row + j, 0, classes, j, work)


def group_tops(task, row, n, kept, work):
    """TOP of n rows, and what belongs to it, if they have a gradient."""
    for j in range(n):
        work.top[j] = NOTHING
    if task.loss.with_grad and task.loss.spread and may_dominate(task):
        for j in range(n):
            if work.rest[j] < 0.5:
                top = find(kept.exps, kept.at + j * kept.stride, task.classes, 1.0)
                look_at_top(task, row + j, top, 0, task.classes, j, work)


def bent_sums(task, z, at, stride, row, n, kept, work):
    """PEAK, REST, GAP and MASS of n rows. The gaps come before the exponentials, which may be kept over z."""
    group_peaks(z, at, stride, task.classes, n, work)
    for j in range(n):
        work.gap[j] = 0.0
        work.mass[j] = 0.0
    if task.loss.spread:
        for j in range(n):
            gap, mass = gap_sum(task, z, at + j * stride, row + j, 0, task.classes, work.peak[j])
            work.gap[j] = gap
            work.mass[j] = mass
    group_rests(z, at, stride, task.classes, n, task.scale, kept, work)


# Rows of several blocks


def reduce_loss(task, row, kept, work, first, last):
    """Per block: peak and sum as in softmax.py; gap_b = sum mass_c (peak_b - z_c), mass_b = sum mass_c."""
    for block in range(first, last):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        at = row * task.x_stride + start
        if task.loss.bent:
            bend(task, task.x, at, size, work.other_tile, 0)
            reduce_block(task, work.other_tile, 0, row, block, size, kept, work)
        else:
            reduce_block(task, task.x, at, row, block, size, kept, work)


def reduce_block(task, z, at, row, block, size, kept, work):
    blocks = row_blocks(task, work, row)
    start = block * BLOCK
    peak = maximum(z, at, size)
    blocks.peak[block] = peak
    blocks.gap[block] = 0.0
    blocks.mass[block] = 0.0
    if task.loss.spread:
        gap, mass = gap_sum(task, z, at, row, start, size, peak)
        blocks.gap[block] = gap
        blocks.mass[block] = mass
    blocks.sum[block] = block_sum(z, at, size, peak, task.scale, kept, start)


def settle_loss(task, row, kept, work):
    """PEAK, REST, LOG_NORM, MASS and GAP of a row from its blocks."""
    blocks = row_blocks(task, work, row)
    n = blocks_of(task.classes)
    again = merge(n, task.scale, blocks, work)
    if again >= 0:
        start = again * BLOCK
        size = min(BLOCK, task.classes - start)
        if kept.how == DISCARD:
            block_exps(task, row, start, size, work.peak[0], work)
            work.rest[0] += rest_of(work.spare, 0, size)
        else:
            work.rest[0] += rest_of(kept.exps, kept.at + start, size)
    mass = 0.0
    gap = 0.0
    part = gap_part()
    for block in range(n):
        mass += blocks.mass[block]
        gap += blocks.gap[block]
        gap += weigh(blocks.mass[block], part * work.peak[0] - part * finite_peak(blocks.peak[block]))
    work.mass[0] = mass
    work.gap[0] = gap
    log_norms(1, work)
    work.top[0] = NOTHING
    if again >= 0 and task.loss.with_grad and task.loss.spread and may_dominate(task):
        settle_top(task, row, again, kept, work)


def settle_top(task, row, block, kept, work):
    """TOP of a row and what belongs to it, given the block of its maximum; exponentials not kept are in `spare`."""
    start = block * BLOCK
    size = min(BLOCK, task.classes - start)
    if kept.how == DISCARD:
        top = start + find(work.spare, 0, size, 1.0)
    else:
        top = start + find(kept.exps, kept.at + start, size, 1.0)
    look_at_top(task, row, top, start, size, 0, work)
    if work.top[0] != NOTHING:
        blocks = row_blocks(task, work, row)
        lost = 0.0
        for other in range(blocks_of(task.classes)):
            if other != block:
                lost += rounded_away(work.others[0], blocks.mass[other])
                work.others[0] += blocks.mass[other]
        work.others[0] += lost


def block_exps(task, row, start, size, peak, work):
    """The exponentials of a block that were not kept, once more, to `spare`."""
    at = row * task.x_stride + start
    sweep = sweep_from(peak, task.scale, 0, KEEP_PADDED, NONE)
    if task.loss.bent:
        bend(task, task.x, at, size, work.other_tile, 0)
        exp_sum(work.other_tile, 0, size, sweep, work.spare, 0)
    else:
        exp_sum(task.x, at, size, sweep, work.spare, 0)


def write_loss(task, row, kept, work, first, last):
    """The gradient of some blocks of a row."""
    blocks = row_blocks(task, work, row)
    for block in range(first, last):
        start = block * BLOCK
        size = min(BLOCK, task.classes - start)
        factor = rescale(work.peak[0], blocks.peak[block], task.scale) * work.factor[0]
        if kept.how == DISCARD:
            block_exps(task, row, start, size, blocks.peak[block], work)
            boost_exps(work.spare, 0, size, work.boost[0])
            write_gradient(task, row, start, size, work.spare, 0, factor, work.counter[0])
        else:
            boost_exps(kept.exps, kept.at + start, size, work.boost[0])
            write_gradient(task, row, start, size, kept.exps, kept.at + start, factor, work.counter[0])
        write_top(task, row, start, size, 0, work)
        write_target(task, row, start, size, 0, work)


def loss_row(task, row, work):
    """The loss and, where asked, the gradient of a row of several blocks."""
    kept = kept_in(task, work, row)
    last = blocks_of(task.classes)
    pick(task, task.x, row * task.x_stride, 0, 1, 1, work)
    reduce_loss(task, row, kept, work, 0, last)
    settle_loss(task, row, kept, work)
    finish(task, row, 1, work)
    if task.loss.with_grad:
        write_loss(task, row, kept, work, 0, last)


def loss_rows(task, work, start, stop):
    """losses_i and, where asked, the gradient of the rows [start, stop)."""
    row = start
    while row < stop:
        most = min(group_of(task.classes), stop - row)
        read_labels(task, row, most, work)
        n = 0
        while n < most and work.label[n] != IGNORED:
            n += 1
        if n == 0:
            task.losses[row] = 0.0
            if task.loss.with_grad:
                write_zeros(task, row, 0, task.classes)
            n = 1
        elif task.classes > BLOCK:
            loss_row(task, row, work)
        else:
            group_loss(task, row, n, work)
        row += n
