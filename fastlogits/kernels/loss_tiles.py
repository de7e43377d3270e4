"""Cross-entropy of columns and of short rows: the formulas of loss.py on tiles, see tiles.py."""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import (
    finish_sums,
    lane_argmax,
    lane_exps,
    lane_maxima,
    lane_scale,
    start_peaks,
    start_sums,
    to_lanes,
    to_rows,
)
from fastlogits.kernels.loss import (
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
from fastlogits.kernels.numbers import LOG2_E, exp_lanes, floor_of, flush, flush_lanes, rounded_away, weigh
from fastlogits.kernels.records import Kept, Tile
from fastlogits.kernels.sizes import DISCARD, KEEP, NOTHING, SHORT, TERMS, TILE
from fastlogits.kernels.sums import load_some, lost_by, save_some
from fastlogits.kernels.tiles import tile_at


def class_mass(task, targets, at, c, left):
    """mass_c of the lanes that are left; of distributions at `at`"""
    weight = machine.splat(task.weight[c]) if task.loss.weighted else machine.splat(1.0)
    return mass_lanes(task, targets, at, weight, left)


def lane_gaps(task, z, targets, tile, first, count, work):
    """gap_j += sum_c mass_c (shift_j - z_cj), where a mass of 0 counts 0, and mass_j += sum_c mass_c of at most TERMS
    classes from `first` on, whose z begin at tile.at.
    """
    w = machine.WIDTH
    nothing = machine.splat(0.0)
    j = 0
    while j < tile.n:
        left = tile.n - j
        shift = load_some(work.shifts, j, left)
        gaps = masses = nothing
        for c in range(count):
            at = tile.targets_at + (first + c) * tile.targets_step + j
            mass = class_mass(task, targets, at, first + c, left)
            d = shift - load_some(z, tile.at + c * tile.step + j, left)
            gaps = gaps + machine.zero_where_equal(mass, nothing, mass * d)
            masses = masses + mass
        if machine.any_nan(gaps - gaps, nothing):
            machine.save(work.spare, 0, gaps)
            add_far_gaps(task, z, targets, tile, first, count, j, work)
        else:
            machine.add_exactly_to(work.gap, work.gap_lost, j, machine.splat(gap_part()) * gaps)
        machine.add_to(work.mass, j, masses)
        j += w


def add_far_gaps(task, z, targets, tile, first, count, j, work):
    """As lane_gaps, of a vector of lanes from j on, whose sums are in `spare`: what is infinite or NaN is summed anew,
    of parts.
    """
    part = gap_part()
    for i in range(min(machine.WIDTH, tile.n - j)):
        gap = part * work.spare[i]
        if not abs(gap) < machine.INF:
            gap = 0.0
            for c in range(count):
                at = tile.targets_at + (first + c) * tile.targets_step + j + i
                mass = 0.0 + machine.lane(class_mass(task, targets, at, first + c, 1))
                d = part * work.shifts[j + i] - part * machine.number(z, tile.at + c * tile.step + j + i)
                gap += weigh(mass, d)
        work.gap_lost[j + i] += rounded_away(work.gap[j + i], gap)
        work.gap[j + i] += gap


def bend_classes(task, x, tile, first, count, work):
    """`count` classes from `first` on, transformed, to `chunk`, n apart"""
    for c in range(count):
        bend(task, x, tile.at + (first + c) * tile.step, tile.n, work.chunk, c * tile.n)


def loss_sums(task, x, targets, tile, kept, work):
    """As tile_sums of tiles.py; gap_j = sum_c mass_c (peaks_j - z_cj), mass_j = sum_c mass_c and the picked."""
    start_peaks(tile.n, work)
    c = 0
    while c < task.classes:
        count = min(TERMS, task.classes - c)
        if task.loss.bent:
            bend_classes(task, x, tile, c, count, work)
            lane_maxima(work.chunk, 0, tile.n, count, tile.n, work)
        else:
            lane_maxima(x, tile.at + c * tile.step, tile.step, count, tile.n, work)
        c += TERMS
    # Now the tile is in cache, and exponentials have not been written over it.
    pick(task, x, tile.at, 1, tile.step, tile.n, work)
    start_sums(tile.n, work)
    for j in range(tile.n):
        work.gap[j] = 0.0
        work.gap_lost[j] = 0.0
        work.mass[j] = 0.0
    c = 0
    while c < task.classes:
        count = min(TERMS, task.classes - c)
        here = Kept(kept.exps, kept.at + c * kept.stride, kept.stride, kept.how)
        if task.loss.bent:
            bend_classes(task, x, tile, c, count, work)
            add_classes(task, work.chunk, targets, chunk_of(tile, 0, tile.n), c, count, here, work)
        else:
            add_classes(task, x, targets, chunk_of(tile, tile.at + c * tile.step, tile.step), c, count, here, work)
        c += TERMS
    finish_sums(tile.n, work)
    for j in range(tile.n):
        work.gap[j] += work.gap_lost[j]


def chunk_of(tile, at, step):
    """The tile whose z begin at `at` and lie `step` apart"""
    return Tile(at, step, tile.row, tile.n, tile.y_at, tile.y_step, tile.targets_at, tile.targets_step)


def add_classes(task, z, targets, tile, first, count, kept, work):
    """The sums of at most TERMS classes; the gaps come before the exponentials, which may be kept over z."""
    if task.loss.spread:
        lane_gaps(task, z, targets, tile, first, count, work)
    lane_exps(z, tile.at, tile.step, count, tile.n, task.scale, kept, work)


def kept_of(task, y, tile, work):
    """Where the exponentials of a tile stay: in y, in scratch memory, or nowhere."""
    if task.loss.with_grad and not task.loss.bent:
        if machine.is_scratch(y):
            return Kept(machine.in_place(y), tile.y_at, tile.y_step, KEEP)
        if tile.n * task.classes <= TILE:
            return Kept(machine.stretch_real(work.tile, 0), 0, tile.n, KEEP)
    return Kept(machine.stretch_real(work.tile, 0), 0, 0, DISCARD)


def loss_tile(task, x, y, targets, tile, work):
    """losses_j and, where asked, the gradient of a tile whose lane j is row `tile.row + j`."""
    n = tile.n
    kept = kept_of(task, y, tile, work)
    read_labels(task, tile.row, n, work)
    loss_sums(task, x, targets, tile, kept, work)
    for j in range(n):
        work.peak[j] = work.peaks[j]
    log_norms(n, work)
    tile_tops(task, x, targets, tile, kept, work)
    finish(task, tile.row, n, work)
    if not task.loss.with_grad:
        return
    boosted = 0
    for j in range(n):
        work.factors[j] = work.factor[j]
        work.counters[j] = work.counter[j]
        boosted += 0 if work.boost[j] == 1.0 else 1
    if kept.how == KEEP and not task.loss.spread and boosted == 0:
        lane_scale(kept, task.classes, n, work.factors, y, tile.y_at, tile.y_step, False)
    else:
        write_classes(task, x, y, targets, tile, kept, work)
    for j in range(n):
        if work.top[j] != NOTHING:
            machine.put(y, tile.y_at + work.top[j] * tile.y_step + j, work.top_target[j])
        if work.label[j] >= 0:
            machine.put(y, tile.y_at + work.label[j] * tile.y_step + j, flush(work.target[j]))


def write_classes(task, x, y, targets, tile, kept, work):
    """The gradient of a tile but for its labels"""
    n = tile.n
    boosted = 0
    for j in range(n):
        boosted += 0 if work.boost[j] == 1.0 else 1
    for c in range(task.classes):
        if kept.how == DISCARD:
            class_exps(task, x, tile, c, work)
            if boosted > 0:
                boost_lanes(work.spare, 0, n, work)
            write_class(task, x, y, targets, tile, c, Kept(machine.stretch_real(work.spare, 0), 0, 0, KEEP), work)
        else:
            here = Kept(kept.exps, kept.at + c * kept.stride, 0, KEEP)
            if boosted > 0:
                boost_lanes(here.exps, here.at, n, work)
            write_class(task, x, y, targets, tile, c, here, work)


def tile_tops(task, x, targets, tile, kept, work):
    """TOP_j and what belongs to it, of a tile that has a gradient: see loss.py. `peak` has its peaks already."""
    n = tile.n
    doubtful = 0
    for j in range(n):
        work.top[j] = NOTHING
        doubtful += 1 if work.rest[j] < 0.5 else 0
    if doubtful == 0 or not task.loss.with_grad or not task.loss.spread or not may_dominate(task):
        return
    start_peaks(n, work)
    c = 0
    while c < task.classes:
        count = min(TERMS, task.classes - c)
        if kept.how == KEEP:
            lane_argmax(kept.exps, kept.at + c * kept.stride, kept.stride, count, n, c, work)
        elif task.loss.bent:
            bend_classes(task, x, tile, c, count, work)
            lane_argmax(work.chunk, 0, n, count, n, c, work)
        else:
            lane_argmax(x, tile.at + c * tile.step, tile.step, count, n, c, work)
        c += TERMS
    for j in range(n):
        work.peaks[j] = work.index[j]
    j = 0
    while j < n:
        doubtful = 0
        for i in range(j, min(n, j + machine.WIDTH)):
            doubtful += 1 if work.rest[i] < 0.5 else 0
        if doubtful > 0:
            lane_tops(task, x, targets, tile, j, work)
        j += machine.WIDTH


def lane_tops(task, x, targets, tile, first, work):
    """tile_tops of a vector of lanes from `first` on, whose maxima are at `index`, and as numbers in `peaks`"""
    w = machine.WIDTH
    left = min(w, tile.n - first)
    place = load_some(work.peaks, first, left)
    own = others = lost = machine.splat(0.0)
    for c in range(task.classes):
        mass = class_mass(task, targets, tile.targets_at + c * tile.targets_step + first, c, left)
        other = machine.zero_where_equal(machine.splat(c), place, mass)
        own = own + (mass - other)
        lost = lost + lost_by(others, other)
        others = others + other
    machine.save(work.spare, 0, own)
    machine.save(work.spare, w, others)
    machine.save(work.spare, 2 * w, lost)
    for i in range(left):
        j = first + i
        mass_of_top = 0.0 + work.spare[i]
        if work.peak[j] > -machine.INF and nearly_even(work.mass[j], mass_of_top, work.rest[j]):
            top = work.index[j]
            work.top[j] = top
            work.top_mass[j] = mass_of_top
            work.others[j] = 0.0 + work.spare[w + i] + work.spare[2 * w + i]
            work.top_slope[j] = 1.0
            if task.loss.softcap > 0.0:
                work.top_slope[j] = cap_slope(task, machine.number(x, tile.at + top * tile.step + j))


def boost_lanes(exps, at, n, work):
    """The exponentials of a class times what the factors of its lanes lack"""
    for j in range(n):
        exps[at + j] *= work.boost[j]


def class_exps(task, x, tile, c, work):
    """The exponentials of a class that were not kept, once more, to `spare`."""
    rate = machine.splat(task.scale * LOG2_E)
    floor = machine.splat(floor_of(task.scale))
    bend(task, x, tile.at + c * tile.step, tile.n, work.spare, 0)
    j = 0
    while j < tile.n:
        d = machine.load(work.spare, j) - machine.load(work.shifts, j)
        machine.save(work.spare, j, exp_lanes(d, rate, floor))
        j += machine.WIDTH


def write_class(task, x, y, targets, tile, c, kept, work):
    """grad_cj = factor_j e_cj - counter_j mass_cj, times the softcap's slope; a factor or a counter of 0 makes 0 of
    what it multiplies.
    """
    w = machine.WIDTH
    nothing = machine.splat(0.0)
    y_at = tile.y_at + c * tile.y_step
    j = 0
    while j < tile.n:
        left = tile.n - j
        by = load_some(work.factors, j, left)
        v = by * load_some(kept.exps, kept.at + j, left)
        v = machine.zero_where_equal(by, nothing, v)
        if task.loss.spread:
            less = load_some(work.counters, j, left)
            at = tile.targets_at + c * tile.targets_step + j
            mass = less * class_mass(task, targets, at, c, left)
            v = v - machine.zero_where_equal(less, nothing, mass)
        v = flush_lanes(v)
        if task.loss.softcap > 0.0:
            v = bent_slope(task, v, load_some(x, tile.at + c * tile.step + j, left))
        save_some(y, y_at + j, left, v)
        j += w


def loss_columns(task, work, start, stop):
    """losses_i and, where asked, the gradient of the tiles [start, stop)."""
    for item in range(start, stop):
        outer, first, n = tile_at(task, item)
        inner = task.inner
        tile = Tile(
            outer * task.x_stride + first, inner, outer * inner + first, n, outer * task.y_stride + first, inner,
            outer * task.targets_stride + first, inner,
        )  # fmt: skip
        loss_tile(task, task.x, task.y, task.targets, tile, work)


def loss_short(task, work, start, stop):
    """losses_i and, where asked, the gradient of the groups of SHORT rows [start, stop)."""
    for item in range(start, stop):
        first = item * SHORT
        n = min(SHORT, task.rows - first)
        to_lanes(task.x, first * task.x_stride, task.x_stride, task.classes, n, work.tile)
        if task.loss.soft:
            targets_at = first * task.targets_stride
            to_lanes(task.targets, targets_at, task.targets_stride, task.classes, n, work.other_tile)
        tile = Tile(0, n, first, n, 0, n, 0, n)
        loss_tile(task, work.tile, work.tile, work.other_tile, tile, work)
        if task.loss.with_grad:
            to_rows(work.tile, task.classes, n, task.y, first * task.y_stride, task.y_stride)
