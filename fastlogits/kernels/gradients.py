"""Gradients of softmax and log-softmax of rows.

With p = softmax(z): dp_j/dz_k = p_j (delta_jk - p_k), so grad_z = p (g - sum_k g_k p_k).
With l = log_softmax(z): dl_j/dz_k = delta_jk - exp(l_k), so grad_z = g - exp(l) sum_k g_k.
`task` has g in x, p or l in y, and the gradient goes to z, which may be either.

Where a class m dominates, little of g_m is left in these differences. A row that has lost more than half of it is
looked at again: grad_z = p ((g - g_m) - sum_k (g_k - g_m) p_k), the same since the p add up to 1; and for log-softmax
grad_z_m = g_m (the others' p) - p_m (the others' g). Such a row has more than half of what its sum is made of in one
lane, which few others have; of short rows the p are looked at themselves.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import LOG2_E, exp, exp_lanes, floor_of, flush, flush_lanes, rounded_away
from fastlogits.kernels.shared import blocks_of, row_blocks
from fastlogits.kernels.sizes import BLOCK, LANES, NOTHING, TERMS
from fastlogits.kernels.sums import find, load_some, maximum, narrow_sum, next_above, save_some, sum_run

# What p_m, and its logarithm, are above where class m dominates
MOST, LOG_MOST = 0.75, -0.2876820724517809


def gradient_group(classes):
    """How many rows take the steps together: as many as stay in the first cache; 1 of long rows."""
    n = 2 * BLOCK // classes
    return max(1, n if n < 8 else min(LANES, n // 8 * 8))


def gradient_rows(task, work, start, stop):
    """The gradient of softmax, or of log-softmax, for the rows [start, stop)."""
    group = gradient_group(task.classes)
    n = 1
    row = start
    while row < stop:
        if task.classes > BLOCK:
            reduce_gradient(task, row, work, 0, blocks_of(task.classes))
            settle_gradient(task, row, work)
            write_slopes(task, row, 0, task.classes, 0, 1, work)
        else:
            n = min(group, stop - row)
            group_gradient(task, row, n, work)
        row += n


def group_gradient(task, row, n, work):
    """The gradient of n rows of one block."""
    # Which way a row's sum is taken depends on its length alone, not on its neighbours.
    doubtful = 0
    if task.classes <= 8 * machine.WIDTH and not machine.NARROW:
        short_totals(task, row, n, work.rest)
        if largest_prob(task, row, n) > limit(task):
            doubtful = n
            find_dominated(task, row, n, work)
    else:
        for j in range(n):
            total, concentrated = row_total(task, row + j, 0, task.classes)
            work.rest[j] = total
            work.top[j] = dominating(task, row + j, 0, task.classes) if concentrated > 0 else NOTHING
            doubtful += 0 if work.top[j] == NOTHING else 1
    if doubtful == 0:
        group_slopes(task, row, n, n, work.rest)
        return
    for j in range(n):
        work.lead[j] = 0.0
        if work.top[j] != NOTHING:
            look_again(task, row + j, j, work)
    j = 0
    while j < n:
        first = j
        while j < n and work.lead[j] == 0.0:
            j += 1
        group_slopes(task, row + first, j - first, n, machine.stretch(work.rest, first))
        if j < n:
            led_slopes(task, row + j, 0, task.classes, work.lead[j], work.rest[j])
        j += 1
    for j in range(n):
        put_top(task, row + j, 0, task.classes, j, work)


def group_slopes(task, row, n, ahead, totals):
    """The gradient of n rows of one block from their sums; the rows `ahead` are asked for."""
    for j in range(n):
        row_slopes(task, row + j, 0, task.classes, totals[j], ahead)


def limit(task):
    """What p_m, or its logarithm, is above where class m dominates"""
    return LOG_MOST if task.log else MOST


def largest_prob(task, row, n):
    """max p of n rows; one stretch stands for all of them where nothing lies between."""
    if task.y_stride == task.classes:
        return maximum(task.y, row * task.y_stride, n * task.classes)
    most = -machine.INF
    for j in range(n):
        most = max(most, maximum(task.y, (row + j) * task.y_stride, task.classes))
    return most


def find_dominated(task, row, n, work):
    """TOP_j = the class that dominates row j of n, or NOTHING"""
    classes = task.classes
    together = n if task.y_stride == classes else 1
    size = together * classes
    j = 0
    while j < n:
        at = (row + j) * task.y_stride
        for k in range(j, j + together):
            work.top[k] = NOTHING
        i = next_above(task.y, at, 0, size, limit(task))
        while i < size:
            work.top[j + i // classes] = i % classes
            i = next_above(task.y, at, i + 1, size, limit(task))
        j += together


# Rows of several blocks


def reduce_gradient(task, row, work, first, last):
    """Per block: sum g_k p_k, or sum g_k; and whether a class may dominate there, in the place of its peak."""
    blocks = row_blocks(task, work, row)
    for block in range(first, last):
        at = block * BLOCK
        total, concentrated = row_total(task, row, at, min(BLOCK, task.classes - at))
        blocks.sum[block] = total
        blocks.peak[block] = concentrated


def settle_gradient(task, row, work):
    """REST = the sum over the blocks, LEAD and TOP of a row, see `look_again`."""
    blocks = row_blocks(task, work, row)
    total = 0.0
    lost = 0.0
    for block in range(blocks_of(task.classes)):
        lost += rounded_away(total, blocks.sum[block])
        total += blocks.sum[block]
    work.rest[0] = total + lost
    work.lead[0] = 0.0
    work.top[0] = NOTHING
    for block in range(blocks_of(task.classes)):
        if blocks.peak[block] > 0.0:
            at = block * BLOCK
            work.top[0] = dominating(task, row, at, min(BLOCK, task.classes - at))
            if work.top[0] != NOTHING:
                look_again(task, row, 0, work)
                break


# Rows that a class dominates


def dominating(task, row, first, n):
    """Which of n classes from `first` on has more than 3/4; NOTHING if none has."""
    at = row * task.y_stride + first
    most = maximum(task.y, at, n)
    return first + find(task.y, at, n, most) if most > limit(task) else NOTHING


def look_again(task, row, j, work):
    """Row j of those at hand, whose REST_j is known and which class TOP_j dominates: see above.

    Of softmax LEAD_j = g_top and REST_j becomes the sum; of log-softmax the result at TOP_j is TOP_TARGET_j. Otherwise
    TOP_j becomes NOTHING.
    """
    top = work.top[j]
    work.top[j] = NOTHING
    own = 0.0 + machine.number(task.x, row * task.x_stride + top)
    prob = 0.0 + machine.number(task.y, row * task.y_stride + top)
    if task.log:
        prob = exp(prob)
    if nearly_lost(own, prob, task.log, work.rest[j]):
        lead = 0.0 if task.log else own
        grads, probs = others_of(task, row, 0, top, lead)
        more_grads, more_probs = others_of(task, row, top + 1, task.classes, lead)
        settle_again(task, own, prob, grads + more_grads, probs + more_probs, top, j, work)


def nearly_lost(own, prob, log, total):
    """Whether more than half of g_m is lost in the plain formula; not of an infinite one."""
    return abs(own - (prob if log else 1.0) * total) < 0.5 * abs(own)


def settle_again(task, own, prob, grads, probs, top, j, work):
    """What `look_again` leaves, from g_m, p_m and the others' sums."""
    # Only of probabilities that add up to 1, as far as they are rounded, are the formulas the same.
    if abs(prob + probs - 1.0) < 0.01:
        if task.log:
            work.top[j] = top
            work.top_target[j] = own * probs - prob * grads
        else:
            work.lead[j] = own
            work.rest[j] = grads


def others_of(task, row, first, last, lead):
    """(sum (g_k - lead) p_k, or sum g_k of a log-softmax; sum p_k) of the classes [first, last)"""
    w = machine.WIDTH
    shift = machine.splat(lead)
    rate = machine.splat(LOG2_E)
    floor = machine.splat(floor_of(1.0))
    padding = -machine.INF if task.log else 0.0
    g_at = row * task.x_stride
    p_at = row * task.y_stride
    grads = 0.0
    probs = 0.0
    lost_grads = 0.0
    lost_probs = 0.0
    c = first
    while c < last:
        end = min(last, c + TERMS * w)
        some_grads = some_probs = machine.splat(0.0)
        while c < end:
            g = load_some(task.x, g_at + c, last - c)
            if c + w <= last:
                p = machine.load(task.y, p_at + c)
            else:
                p = machine.load_tail(task.y, p_at + c, last - c, padding)
            if task.log:
                p = exp_lanes(p, rate, floor)
            else:
                g = (g - shift) * p
            some_grads = some_grads + g
            some_probs = some_probs + p
            c += w
        part = machine.add_lanes_exactly(some_grads)
        lost_grads += rounded_away(grads, part)
        grads += part
        part = machine.add_lanes_exactly(some_probs)
        lost_probs += rounded_away(probs, part)
        probs += part
    return grads + lost_grads, probs + lost_probs


def write_slopes(task, row, first, n, j, ahead, work):
    """The gradient of n classes from `first` on of row j of those at hand."""
    if work.lead[j] != 0.0:
        led_slopes(task, row, first, n, work.lead[j], work.rest[j])
    else:
        row_slopes(task, row, first, n, work.rest[j], ahead)
    put_top(task, row, first, n, j, work)


def put_top(task, row, first, n, j, work):
    """What the second look found, at the class that dominates a row, if it is one of n classes from `first` on."""
    if work.top[j] >= first and work.top[j] < first + n:
        machine.put(task.z, row * task.z_stride + work.top[j], flush(work.top_target[j]))


def led_slopes(task, row, first, n, lead, total):
    """p ((g - lead) - total) of n classes of a row from `first` on"""
    g_at = row * task.x_stride + first
    p_at = row * task.y_stride + first
    at = row * task.z_stride + first
    shift = machine.splat(lead)
    rest = machine.splat(total)
    i = 0
    while i < n:
        g = load_some(task.x, g_at + i, n - i) - shift
        save_some(task.z, at + i, n - i, slope(g, load_some(task.y, p_at + i, n - i), rest, False))
        i += machine.WIDTH


# Sums and slopes


def row_total(task, row, first, n):
    """(sum g_k p_k, or sum g_k of a log-softmax, over n classes from `first` on; 1 if most may be in one lane, or 0)"""
    if task.log:
        return some_total(task, row, first, n, False)
    return some_total(task, row, first, n, True)


def some_total(task, row, first, n, times):
    x_at = row * task.x_stride + first
    y_at = row * task.y_stride + first
    if machine.NARROW:
        return narrow_sum(task.x, x_at, task.y, y_at, n, times), 1
    run = 4 * TERMS * machine.WIDTH
    total = 0.0
    concentrated = 0
    i = 0
    while i < n:
        sums = sum_run(task.x, x_at + i, task.y, y_at + i, min(run, n - i), times)
        total += machine.add_lanes_exactly(sums)
        size = machine.magnitude(sums)
        concentrated |= 1 if 2.0 * machine.largest(size) > machine.add_lanes(size) else 0
        i += run
    return total, concentrated


def short_totals(task, row, n, totals):
    """row_total of n whole rows of at most eight vectors, whose lanes are added together"""
    if task.log:
        some_totals(task, row, n, totals, False)
    else:
        some_totals(task, row, n, totals, True)


def some_totals(task, row, n, totals, times):
    j = 0
    while j + 8 <= n:
        machine.add_eight(
            row_part(task, row + j, times), row_part(task, row + j + 1, times), row_part(task, row + j + 2, times),
            row_part(task, row + j + 3, times), row_part(task, row + j + 4, times), row_part(task, row + j + 5, times),
            row_part(task, row + j + 6, times), row_part(task, row + j + 7, times), totals, j,
        )  # fmt: skip
        j += 8
    while j < n:
        totals[j] = machine.add_lanes_exactly(row_part(task, row + j, times))
        j += 1


def row_part(task, row, times):
    """The sums by lane of a whole row of at most eight vectors"""
    return sum_run(task.x, row * task.x_stride, task.y, row * task.y_stride, task.classes, times)


def row_slopes(task, row, first, n, total, ahead):
    """The gradient of n classes of a row from `first` on; the row `ahead` is asked for."""
    if task.log:
        slopes(task, row, first, n, machine.splat(total), ahead, True)
    else:
        slopes(task, row, first, n, machine.splat(total), ahead, False)


def slopes(task, row, first, n, total, ahead, log):
    g_at = row * task.x_stride + first
    p_at = row * task.y_stride + first
    at = row * task.z_stride + first
    g_ahead = ahead * task.x_stride
    p_ahead = ahead * task.y_stride
    w = machine.WIDTH
    i = 0
    if task.past:
        i = min(n, machine.until_line(task.z, at))
        if i > 0:
            end_slopes(task, g_at, p_at, at, i, total, log)
        while i + w <= n:
            v = slope(machine.load(task.x, g_at + i), machine.load(task.y, p_at + i), total, log)
            machine.prefetch(task.x, g_at + i + g_ahead)
            machine.prefetch(task.y, p_at + i + p_ahead)
            machine.save_past(task.z, at + i, v)
            i += w
    while i + w <= n:
        v = slope(machine.load(task.x, g_at + i), machine.load(task.y, p_at + i), total, log)
        machine.prefetch(task.x, g_at + i + g_ahead)
        machine.prefetch(task.y, p_at + i + p_ahead)
        machine.save(task.z, at + i, v)
        i += w
    if i < n:
        end_slopes(task, g_at + i, p_at + i, at + i, n - i, total, log)


def end_slopes(task, g_at, p_at, at, n, total, log):
    """The gradient of n classes, n at most a vector's or few more."""
    i = 0
    while i < n:
        left = min(machine.WIDTH, n - i)
        g = machine.load_tail(task.x, g_at + i, left, 0.0)
        p = machine.load_tail(task.y, p_at + i, left, 0.0)
        machine.save_tail(task.z, at + i, left, slope(g, p, total, log))
        i += left


def slope(g, p, total, log):
    """p (g - total), 0 below the smallest normal number; or g - exp(p) total"""
    if log:
        nothing = machine.splat(0.0)
        least = machine.splat((machine.LOWEST_EXPONENT - 2.0) / LOG2_E)
        d = nothing - machine.larger(least, nothing - p)  # a log-probability above 88 (709) would overflow
        e = exp_lanes(d, machine.splat(LOG2_E), machine.splat(floor_of(1.0)))
        return machine.fma(nothing - total, e, g)
    return flush_lanes(p * (g - total))
