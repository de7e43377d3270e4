"""Gradients of softmax and log-softmax of rows.

With p = softmax(z): dp_j/dz_k = p_j (delta_jk - p_k), so grad_z = p (g - sum_k g_k p_k).
With l = log_softmax(z): dl_j/dz_k = delta_jk - exp(l_k), so grad_z = g - exp(l) sum_k g_k.
`task` has g in x, p or l in y, and the gradient goes to z, which may be either.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.numbers import LOG2_E, exp_lanes, floor_of, flush_lanes, rounded_away
from fastlogits.kernels.sizes import BLOCK, LANES
from fastlogits.kernels.sums import load_some, sum_of, sum_run


def gradient_group(classes):
    """How many rows take the steps together: as many as stay in the first cache; 1 of long rows."""
    n = 2 * BLOCK // classes
    return max(1, n if n < 8 else min(LANES, n // 8 * 8))


def gradient_rows(task, work, start, stop):
    """The gradient of softmax, or of log-softmax, for the rows [start, stop)."""
    group = gradient_group(task.classes)
    row = start
    while row < stop:
        n = min(group, stop - row)
        # Which way a row's sum is taken depends on its length alone, not on its neighbours.
        if task.classes <= 8 * machine.WIDTH and not machine.NARROW:
            short_totals(task, row, n, work.rest)
        else:
            for j in range(n):
                work.rest[j] = row_total(task, row + j, 0, task.classes)
        if task.classes < machine.WIDTH and not task.past:
            short_slopes(task, row, n, work.rest)
        else:
            for j in range(n):
                row_slopes(task, row + j, 0, task.classes, work.rest[j], n)
        row += n


def row_total(task, row, first, n):
    """sum g_k p_k, or sum g_k of a log-softmax, over n classes from `first` on"""
    if task.log:
        return sum_of(task.x, row * task.x_stride + first, task.y, 0, n, False)
    return sum_of(task.x, row * task.x_stride + first, task.y, row * task.y_stride + first, n, True)


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


def short_slopes(task, row, n, totals):
    """The gradient of n rows shorter than a vector"""
    if task.log:
        some_slopes(task, row, n, totals, True)
    else:
        some_slopes(task, row, n, totals, False)


def some_slopes(task, row, n, totals, log):
    for j in range(n):
        g = machine.load_tail(task.x, (row + j) * task.x_stride, task.classes, 0.0)
        p = machine.load_tail(task.y, (row + j) * task.y_stride, task.classes, 0.0)
        v = slope(g, p, machine.splat(totals[j]), log)
        machine.save_tail(task.z, (row + j) * task.z_stride, task.classes, v)


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
