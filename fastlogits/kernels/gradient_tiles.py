"""Gradients of softmax and log-softmax of columns and of short rows: gradients.py on tiles, see tiles.py.

Of a tile g lies at `at`, p where the distributions of a loss would, and the gradient where the results do.
"""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import start_peaks, to_lanes, to_rows
from fastlogits.kernels.gradients import limit, slope
from fastlogits.kernels.numbers import LOG2_E, exp_lanes, floor_of, flush_lanes
from fastlogits.kernels.records import Tile
from fastlogits.kernels.sizes import LANES, SHORT, TERMS
from fastlogits.kernels.sums import load_some, lost_by, save_some
from fastlogits.kernels.tiles import tile_at


def lane_totals(g, p, tile, first, count, work, times):
    """rest_j + lost_j += sum_c g_cj p_cj, or sum_c g_cj without `times`, and peaks_j = max(peaks_j, max_c p_cj), of at
    most TERMS classes from `first` on. Terms of both signs may come to far less than they are: what sums round away is
    kept (two-sum). The next tile is asked for, whose rows lie pages apart.
    """
    w = machine.WIDTH
    j = 0
    while j < tile.n:
        left = tile.n - j
        total = away = machine.splat(0.0)
        most = load_some(work.peaks, j, left)
        for c in range(first, first + count):
            g_at = tile.at + c * tile.step + j
            p_at = tile.targets_at + c * tile.targets_step + j
            v = load_some(g, g_at, left)
            other = load_some(p, p_at, left)
            machine.prefetch(g, g_at + LANES)
            machine.prefetch(p, p_at + LANES)
            most = machine.larger(other, most)
            if times:
                v = v * other
            away = away + lost_by(total, v)
            total = total + v
        save_some(work.peaks, j, left, most)
        machine.add_exactly_to(work.rest, work.lost, j, total)
        machine.add_to(work.lost, j, machine.zero_nan(away))
        j += w


def gradient_tile(task, g, p, z, tile, work):
    """The gradient of a tile; z may be g or p."""
    for j in range(tile.n):
        work.rest[j] = 0.0
        work.lost[j] = 0.0
    start_peaks(tile.n, work)
    c = 0
    while c < task.classes:
        count = min(TERMS, task.classes - c)
        if task.log:
            lane_totals(g, p, tile, c, count, work, False)
        else:
            lane_totals(g, p, tile, c, count, work, True)
        c += TERMS
    doubtful = 0
    most = limit(task)
    for j in range(tile.n):
        work.factors[j] = work.rest[j] + work.lost[j]
        doubtful += 1 if work.peaks[j] > most else 0
    if doubtful > 0:
        look_at_tile(task, g, p, tile, work)
        led_slopes_of_tile(task, g, p, z, tile, work)
    elif task.log:
        lane_slopes(task, g, p, z, tile, work, True)
    else:
        lane_slopes(task, g, p, z, tile, work, False)


def look_at_tile(task, g, p, tile, work):
    """`look_again` of gradients.py in lanes: shifts_j = LEAD_j and factors_j = REST_j; or of a log-softmax shifts_j =
    TOP_TARGET_j and peaks_j = l at the class for which it is, NaN where there is none.
    """
    w = machine.WIDTH
    j = 0
    while j < tile.n:
        peaks = machine.load_tail(work.peaks, j, min(w, tile.n - j), -machine.INF)
        if machine.count_above(peaks, machine.splat(limit(task))) > 0:
            look_at_lanes(task, g, p, tile, j, work)
        else:
            machine.save(work.shifts, j, machine.splat(0.0))
            machine.save(work.peaks, j, machine.splat(machine.NAN))
        j += w


def look_at_lanes(task, g, p, tile, first, work):
    """look_at_tile of a vector of lanes from `first` on"""
    left = min(machine.WIDTH, tile.n - first)
    nothing = machine.splat(0.0)
    one = machine.splat(1.0)
    rate = machine.splat(LOG2_E)
    floor = machine.splat(floor_of(1.0))
    peaks = load_some(work.peaks, first, left)
    total = load_some(work.factors, first, left)
    own = times = grads = lost_grads = probs = lost_probs = nothing
    for c in range(task.classes):
        v = load_some(g, tile.at + c * tile.step + first, left)
        q = load_some(p, tile.targets_at + c * tile.targets_step + first, left)
        own = own + (v - machine.zero_where_equal(q, peaks, v))
        times = times + (one - machine.zero_where_equal(q, peaks, one))
    for c in range(task.classes):
        v = load_some(g, tile.at + c * tile.step + first, left)
        q = load_some(p, tile.targets_at + c * tile.targets_step + first, left)
        e = q
        if task.log:
            e = exp_lanes(q, rate, floor)
        else:
            v = (v - own) * q
        v = machine.zero_where_equal(q, peaks, v)
        e = machine.zero_where_equal(q, peaks, e)
        lost_grads = lost_grads + lost_by(grads, v)
        grads = grads + v
        lost_probs = lost_probs + lost_by(probs, e)
        probs = probs + e
    grads = grads + lost_grads
    probs = probs + lost_probs
    prob = peaks
    kept = total
    if task.log:
        prob = exp_lanes(peaks, rate, floor)
        kept = prob * total
    # Where more than half of g_m is lost, of probabilities that add up to 1, as far as they are rounded. What is no
    # distribution may have several such classes.
    half = machine.splat(0.5)
    found = machine.where_larger(half * machine.magnitude(own), machine.magnitude(own - kept), one, nothing)
    found = machine.where_larger(peaks, machine.splat(limit(task)), found, nothing)
    found = machine.where_larger(machine.splat(1.5), times, found, nothing)
    found = machine.where_larger(machine.splat(0.01), machine.magnitude(prob + probs - one), found, nothing)
    if task.log:
        target = machine.fma(own, probs, nothing - prob * grads)
        machine.save(work.shifts, first, machine.where_larger(found, nothing, flush_lanes(target), nothing))
        machine.save(work.peaks, first, machine.where_larger(found, nothing, peaks, machine.splat(machine.NAN)))
    else:
        machine.save(work.shifts, first, machine.where_larger(found, nothing, own, nothing))
        machine.save(work.factors, first, machine.where_larger(found, nothing, grads, total))


def led_slopes_of_tile(task, g, p, z, tile, work):
    """z_cj = p_cj ((g_cj - shift_j) - factor_j); or of a log-softmax the slope, or shift_j where l_cj is peaks_j"""
    for c in range(task.classes):
        j = 0
        while j < tile.n:
            left = tile.n - j
            v = load_some(g, tile.at + c * tile.step + j, left)
            q = load_some(p, tile.targets_at + c * tile.targets_step + j, left)
            shift = load_some(work.shifts, j, left)
            total = load_some(work.factors, j, left)
            if task.log:
                peaks = load_some(work.peaks, j, left)
                v = machine.zero_where_equal(q, peaks, slope(v, q, total, True))
                v = v + (shift - machine.zero_where_equal(q, peaks, shift))
            else:
                v = slope(v - shift, q, total, False)
            save_some(z, tile.y_at + c * tile.y_step + j, left, v)
            j += machine.WIDTH


def lane_slopes(task, g, p, z, tile, work, log):
    """z_cj = the slope of g_cj and p_cj"""
    w = machine.WIDTH
    for c in range(task.classes):
        g_at = tile.at + c * tile.step
        p_at = tile.targets_at + c * tile.targets_step
        at = tile.y_at + c * tile.y_step
        j = 0
        if task.past:
            j = min(tile.n, machine.until_line(z, at))
            here = Tile(g_at, 0, 0, j, at, 0, p_at, 0)
            slopes_some(task, g, p, z, here, 0, work)
            while j + w <= tile.n:
                v = slope(machine.load(g, g_at + j), machine.load(p, p_at + j), machine.load(work.factors, j), log)
                machine.save_past(z, at + j, v)
                j += w
        while j + w <= tile.n:
            v = slope(machine.load(g, g_at + j), machine.load(p, p_at + j), machine.load(work.factors, j), log)
            machine.save(z, at + j, v)
            j += w
        slopes_some(task, g, p, z, Tile(g_at, 0, 0, tile.n, at, 0, p_at, 0), j, work)


def slopes_some(task, g, p, z, tile, first, work):
    """As lane_slopes, of the lanes of a class from `first` on, fewer than two vectors."""
    j = first
    while j < tile.n:
        left = min(machine.WIDTH, tile.n - j)
        v = machine.load_tail(g, tile.at + j, left, 0.0)
        q = machine.load_tail(p, tile.targets_at + j, left, 0.0)
        total = machine.load_tail(work.factors, j, left, 0.0)
        machine.save_tail(z, tile.y_at + j, left, slope(v, q, total, task.log))
        j += left


def gradient_columns(task, work, start, stop):
    """The gradient of softmax, or of log-softmax, for the tiles [start, stop)."""
    step = task.inner
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        g_at = outer * task.x_stride + first
        p_at = outer * task.y_stride + first
        tile = Tile(g_at, step, 0, n, outer * task.z_stride + first, step, p_at, step)
        gradient_tile(task, task.x, task.y, task.z, tile, work)


def gradient_short(task, work, start, stop):
    """The gradient of softmax, or of log-softmax, for the groups of SHORT rows [start, stop)."""
    for item in range(start, stop):
        first = item * SHORT
        n = min(SHORT, task.rows - first)
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
        to_lanes(task.y, first * task.y_stride, task.y_stride, task.classes, n, work.other_tile)
        gradient_tile(task, work.tile, work.other_tile, work.tile, Tile(0, n, first, n, 0, n, 0, n), work)
        to_rows(work.tile, task.classes, n, task.z, first * task.z_stride, task.z_stride)
