"""As sampling.py has it, of rows of few classes and of columns, SIEVE lanes at a time, see filter_tiles.py."""

from fastlogits.kernels import machine
from fastlogits.kernels.columns import lane_maxima, start_peaks
from fastlogits.kernels.filter_ranks import some_lane
from fastlogits.kernels.filter_tiles import few_at, filter_tile, load_tile, read_rules, tile_peaks
from fastlogits.kernels.numbers import exp, log1p
from fastlogits.kernels.philox import lane_uniforms
from fastlogits.kernels.plan import few_lanes
from fastlogits.kernels.sizes import SIEVE, TEMPERATURE, TYPICAL_P


def lane_masses(classes, n, work):
    """masses_cj = exp(z_cj - peak_j), 0 in the place of the first maximum, which is class kept_j; sum_j = their sum."""
    for j in range(n):
        work.kept[j] = -1.0
        work.sum[j] = 0.0
    for c in range(classes):
        for j in range(n):
            d = work.tile[c * n + j] - work.peak[j]
            others = 0.0 if d == 0.0 and work.kept[j] < 0.0 else exp(d)
            work.kept[j] = c if d == 0.0 and work.kept[j] < 0.0 else work.kept[j]
            work.masses[c * n + j] = others
            work.sum[j] += others


def draw_lanes(task, row, n, work):
    """A class of each lane: the first at which the masses, the likeliest first, exceed a random share of them all."""
    lane_uniforms(task, row, n, work)
    lane_masses(task.classes, n, work)
    for j in range(n):
        work.limit[j] = work.total[j] * (1.0 + work.sum[j]) - 1.0
        if work.rules[TEMPERATURE * SIEVE + j] == 0.0:
            work.limit[j] = -1.0
            work.sum[j] = 0.0
        work.count[j] = work.kept[j]
        work.whole[j] = log1p(work.sum[j])
    for c in range(task.classes):
        for j in range(n):
            mass = work.masses[c * n + j]
            work.count[j] = c if work.limit[j] >= 0.0 and mass > 0.0 else work.count[j]
            work.limit[j] -= mass
    for j in range(n):
        if task.indices[row + j] >= 0:
            chosen = machine.whole(work.count[j])
            task.indices[row + j] = chosen
            task.log_probs[row + j] = (work.tile[chosen * n + j] - work.peak[j]) - work.whole[j]


def sample_short(task, work, start, stop):
    """As sample_rows, of the tiles [start, stop)."""
    if task.rules_stride == 0:
        read_rules(task, 0, few_lanes(task.classes), work)
    for item in range(start, stop):
        outer, first, n = few_at(task, item)
        row = outer * task.inner + first
        if task.rules_stride > 0:
            read_rules(task, row, n, work)
        load_tile(task, outer, first, n, work)
        tile_peaks(task.classes, n, work)
        for j in range(n):
            task.indices[row + j] = -1 if not work.peak[j] < machine.INF else -2 if work.peak[j] == -machine.INF else 0
        filter_tile(task.classes, n, work)
        if some_lane(machine.stretch(work.rules, TYPICAL_P * SIEVE), n, -1.0, 1.0):
            # The likeliest class may be gone.
            start_peaks(n, work)
            lane_maxima(work.tile, 0, n, task.classes, n, work)
            for j in range(n):
                work.peak[j] = work.peaks[j]
        draw_lanes(task, row, n, work)
