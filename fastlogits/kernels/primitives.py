"""The primitives of the kernel text for Numba and the interpreter; primitives.h and what it includes are their C.

Each group of them has a module, as each header has: numbers (`scalars`), stretches (`reductions`, `each`), `rows`,
`tiles`, what arrays hold (`storage`), and what `row_stats` selects by (`order`). What differs between Numba and the
interpreter is in `machine`.
"""

import math

from fastlogits.kernels import each, machine, order, reductions, rows, scalars, storage, tiles

BLOCK = reductions.BLOCK
SLOTS = 29
LANES = 256
SHORT = 128
ROWS = 16
TERMS = reductions.TERMS
GROUPS = order.GROUPS

PEAKS, SHIFTS, SUMS, SQUARES, FACTORS, COUNTERS, TILE = range(6, 13)
OTHER_TILE = TILE + 4
CHUNK = OTHER_TILE + 4
MASS_TILE = CHUNK + 4

FIELD = LANES + 40
PEAK, REST, TIED, LOG_NORM, PICKED, SLOPE, MASS, GAP = range(0, 8 * FIELD, FIELD)
SCALE, HARD, SMOOTH, FACTOR, COUNTER, TARGET, LOST, ROW_FIELDS = range(8 * FIELD, 16 * FIELD, FIELD)
BLOCK_PEAK, BLOCK_SUM, BLOCK_GAP, BLOCK_MASS, BLOCK_SQUARE, BLOCK_FIELDS = range(6)
BLOCK_SPREAD = BLOCK_MASS
MOST_BLOCKS = 256
STATE = ROW_FIELDS + MOST_BLOCKS * BLOCK_FIELDS

SURVIVOR, SURVIVOR_MASS, SURVIVOR_ID, KEY, NARROWED, NARROWED_MASS, SPAN_PEAK, HISTOGRAM, FOUND, SECTIONS = range(10)
BEFORE, ONE = range(2)
ROOM, NEEDED, FIRST_SECTION, NO_ROOM, MOST_ROOM = 0, 1, 8, -2, 1 << 20
TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, EPSILON, ETA, MIN_KEEP, RULES = range(9)
ALL_TIES, FIRST_TIES, LAST_TIES = range(3)
SPAN, BUCKETS = 256, 2048
LOWEST = -1.7976931348623157e308
NEAR = 2.0**-42

WORD, MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1 = 0xFFFFFFFF, 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85

NATIVE, FLOAT16, BFLOAT16, STREAMED = storage.NATIVE, storage.FLOAT16, storage.BFLOAT16, storage.STREAMED
DISCARD, KEEP, KEEP_PADDED = range(3)
INF, NEG_INF, NAN = math.inf, -math.inf, math.nan
LOG2_E = scalars.LOG2_E

stretch = machine.stretch
cast = machine.cast
exp = scalars.exp
log1p = scalars.log1p
tanh = scalars.tanh
sech2 = scalars.sech2
flush = scalars.flush
below_one = scalars.below_one
finite_peak = scalars.finite_peak
beats = scalars.beats
larger = scalars.larger
weigh = scalars.weigh
rounded_away = scalars.rounded_away
whole = scalars.whole
group_maxima = order.group_maxima
count_above = order.count_above
next_above = order.next_above
digit = order.digit
places = order.places
readable = storage.readable
load = storage.load
place = storage.place
store = storage.store
to_lanes = tiles.to_lanes
to_rows = tiles.to_rows
lane_maxima = tiles.lane_maxima
lane_argmax = tiles.lane_argmax
lane_exps = tiles.lane_exps
lane_scale = tiles.lane_scale
lane_gaps = tiles.lane_gaps
lane_slope = tiles.lane_slope
lane_shift = tiles.lane_shift
lane_totals = tiles.lane_totals
lane_dots = tiles.lane_dots
lane_softmax_slopes = tiles.lane_softmax_slopes
lane_log_softmax_slopes = tiles.lane_log_softmax_slopes
maximum = reductions.maximum
minimum = reductions.minimum
sum_exp = reductions.sum_exp
sum_exp_moment = reductions.sum_exp_moment
keep_exp = reductions.keep_exp
total = reductions.total
dot = reductions.dot
maximum_or_nan = reductions.maximum_or_nan
find = reductions.find
scale_each = each.scale_each
exp_each = each.exp_each
row_maxima = rows.row_maxima
row_exps = rows.row_exps
row_exps_gaps = rows.row_exps_gaps
row_scale = rows.row_scale
row_shift = rows.row_shift
row_gaps = rows.row_gaps
row_slope = rows.row_slope
row_totals = rows.row_totals
row_dots = rows.row_dots
row_softmax_slopes = rows.row_softmax_slopes
row_log_softmax_slopes = rows.row_log_softmax_slopes


def slot(work, index):
    return stretch(work, index * BLOCK, storage.REST)
