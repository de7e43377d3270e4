"""The kernel text compiled by Numba at its first use, for the processor at hand.

With NUMBA_DISABLE_JIT=1 the interpreter runs the same text and the same drivers.
"""

import collections

import llvmlite.binding
import numpy as np

from fastlogits.backends import _numba_team as team
from fastlogits.backends import _numba_text as text
from fastlogits.backends._numba_compiler import compiled
from fastlogits.backends._numba_drivers import (
    DISCARD,
    KEEP,
    KEEP_PADDED,
    NATIVE,
    SHORT_CLASSES,
    driver,
    flat,
    groups,
    keep_of,
    optional,
    plain,
    quiet,
    run,
    run_any,
    stateless,
    storage_of,
    streamed,
    tiles,
)
from fastlogits.backends._numba_filters import COLUMNS, filter_logits, sample  # noqa: F401
from fastlogits.backends._numba_moments import moments  # noqa: F401
from fastlogits.backends._numba_row_stats import row_stats  # noqa: F401
from fastlogits.backends._numba_text import machine, primitives

isa = llvmlite.binding.get_host_cpu_name()

Options = collections.namedtuple(
    "Options",
    "classes x_stride grad_stride targets_stride ignore_index smoothing z_loss softcap scale grad_scale "
    "soft weighted sampled upstream spread bent negative with_grad storage keep",
)


def optional_in_tiles(kernel):
    def alone(memory, fields, start, stop, options, args):
        own = machine.pointers(args)
        whole = Options(*options)
        keep = DISCARD if whole.bent else KEEP
        in_tile = Options(*options[:-2], NATIVE, keep)
        kernel(*own, whole, in_tile, team.state(memory), team.work(memory, fields, own[0]), start, stop)

    return driver(alone, kernel)


softmax_rows = plain(text.softmax.softmax_rows)
softmax_columns = plain(text.lanes.softmax_columns)
softmax_short = plain(text.lanes.softmax_short)
log_softmax_rows = plain(text.softmax.log_softmax_rows)
logsumexp_rows = plain(text.softmax.logsumexp_rows)
logsumexp_columns = plain(text.lanes.logsumexp_columns)
logsumexp_short = plain(text.lanes.logsumexp_short)
blocks_rows = plain(text.pieces.blocks_rows)
piece_rows = plain(text.pieces.piece_rows)
backward_rows = plain(text.backward.backward_rows)
backward_columns = plain(text.lanes.backward_columns)
argmax_rows = plain(text.softmax.argmax_rows)
argmax_columns = stateless(text.lanes.argmax_columns)
argmax_short = stateless(text.lanes.argmax_short)
cross_entropy_rows = optional(text.cross_entropy.rows, Options)
cross_entropy_columns = optional(text.cross_entropy_lanes.columns, Options)
cross_entropy_short = optional_in_tiles(text.cross_entropy_lanes.short_rows)


def count(labels, weight, sample_weight, total, options):
    own = machine.pointers((labels, weight, sample_weight, total))
    return text.cross_entropy.count_labels(own[0], own[1], own[2], len(labels), Options(*options), own[3])


count = compiled(count, "cross_entropy.count_labels")


def merged(peaks, sums, rests, row_peaks, row_rests, state, classes, scale):
    own = machine.pointers((peaks, sums, rests, row_peaks, row_rests, state))
    text.pieces.merged_rows(
        own[0], own[1], own[2], own[3], own[4], classes, scale, own[5], 0, len(row_peaks)
    )


merged = compiled(merged, "pieces.merged_rows")


@quiet
def softmax(x, y, outer, classes, inner, x_stride, y_stride, scale, threads):
    softmax_of(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, False)


@quiet
def log_softmax(x, y, outer, classes, inner, x_stride, y_stride, scale, threads):
    softmax_of(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, True)


def softmax_of(x, y, outer, classes, inner, x_stride, y_stride, scale, threads, log):
    row, storage, in_place = classes * inner, storage_of(x), x.ctypes.data == y.ctypes.data
    if not in_place and (log or inner > 1):
        storage = streamed(storage, x, 2)
    native = storage == NATIVE
    keep = keep_of(native, classes, inner) if not log else KEEP if native and not in_place else DISCARD
    x, y = flat(x, (outer - 1) * x_stride + row), flat(y, (outer - 1) * y_stride + row)
    args = x, x_stride, y, y_stride
    if inner > 1:
        args = *args, classes, inner, scale, log, keep == KEEP
        run(softmax_columns, tiles(outer, inner), threads, classes, primitives.LANES, storage, *args)
    elif classes <= SHORT_CLASSES:
        args = *args, outer, classes, scale, log
        run(softmax_short, groups(outer), threads, classes, primitives.SHORT, storage, *args)
    elif log:
        run(log_softmax_rows, outer, threads, classes, 1, storage, *args, classes, scale, keep)
    else:
        run(softmax_rows, outer, threads, classes, 1, storage, *args, classes, scale, keep, keep=keep)


@quiet
def softmax_blocks(x, peaks, sums, rests, rows, classes, x_stride, scale, threads):
    args = flat(x, (rows - 1) * x_stride + classes), x_stride, peaks, sums, rests, classes, scale
    run(blocks_rows, rows, threads, classes, 1, storage_of(x), *args)


@quiet
def softmax_merged(peaks, sums, rests, row_peaks, row_rests, classes, scale):
    blocks = -(-classes // primitives.BLOCK)
    state = np.empty(primitives.ROW_FIELDS + blocks * primitives.BLOCK_FIELDS)
    merged(flat(peaks), flat(sums), flat(rests), row_peaks, row_rests, state, classes, scale)


@quiet
def softmax_piece(x, y, peaks, rests, rows, classes, x_stride, y_stride, scale, log, threads):
    storage, gaps = storage_of(x), rows - 1
    args = flat(x, gaps * x_stride + classes), x_stride, flat(y, gaps * y_stride + classes), y_stride
    args = *args, flat(peaks), flat(rests), classes, scale, log, KEEP if storage == NATIVE else KEEP_PADDED
    run(piece_rows, rows, threads, classes, 1, storage, *args)


@quiet
def logsumexp(x, lse, outer, classes, inner, x_stride, threads):
    args = flat(x, (outer - 1) * x_stride + classes * inner), x_stride, lse
    drivers = logsumexp_columns, logsumexp_short, logsumexp_rows
    run_any(drivers, outer, classes, inner, threads, storage_of(x), *args)


@quiet
def argmax(x, indices, outer, classes, inner, x_stride, threads):
    args = flat(x, (outer - 1) * x_stride + classes * inner), x_stride, indices
    drivers = argmax_columns, argmax_short, argmax_rows
    run_any(drivers, outer, classes, inner, threads, storage_of(x), *args)


@quiet
def softmax_backward(g, p, out, outer, classes, inner, g_stride, p_stride, out_stride, threads):
    backward_of(g, p, out, outer, classes, inner, g_stride, p_stride, out_stride, threads, False)


@quiet
def log_softmax_backward(g, log_p, out, outer, classes, inner, g_stride, log_p_stride, out_stride, threads):
    backward_of(g, log_p, out, outer, classes, inner, g_stride, log_p_stride, out_stride, threads, True)


def backward_of(g, p, out, outer, classes, inner, g_stride, p_stride, out_stride, threads, log):
    row, gaps, storage = classes * inner, outer - 1, storage_of(g)
    if out.ctypes.data not in (g.ctypes.data, p.ctypes.data):
        storage = streamed(storage, g, 3)
    g, p, out = (
        flat(g, gaps * g_stride + row), flat(p, gaps * p_stride + row), flat(out, gaps * out_stride + row)
    )  # fmt: skip
    args = g, g_stride, p, p_stride, out, out_stride
    if inner > 1:
        args = *args, classes, inner, log
        run(backward_columns, tiles(outer, inner), threads, classes, primitives.LANES, storage, *args)
    else:
        run(backward_rows, outer, threads, classes, 1, storage, *args, classes, log)


# In the place of arrays that are not there
NO_LABELS = np.empty(0, np.int64)
NO_WEIGHT = {4: np.empty(0, np.float32), 8: np.empty(0, np.float64)}


@quiet
def count_labels(labels, weight, sample_weight, classes, ignore_index):
    total = np.empty(1)
    options = (
        classes, 0, 0, 0, ignore_index, 0.0, 0.0, 0.0, 0.0, 0.0, False, weight is not None,
        sample_weight is not None, False, False, False, False, False, NATIVE, 0,
    )  # fmt: skip
    weight = NO_WEIGHT[4] if weight is None else flat(weight)
    sample_weight = total if sample_weight is None else flat(sample_weight)
    return int(count(flat(labels), weight, sample_weight, total, options)), float(total[0])


@quiet
def cross_entropy(
    x, grad, labels, targets, weight, sample_weight, grad_loss, losses,
    outer, classes, inner, x_stride, grad_stride, target_stride,
    ignore_index, label_smoothing, z_loss, softcap, logit_scale, grad_scale, threads,
):  # fmt: skip
    row, gaps, storage = classes * inner, outer - 1, storage_of(x)
    soft, with_grad, negative = targets is not None, grad is not None, logit_scale < 0
    spread, bent = soft or label_smoothing > 0, softcap > 0 or negative
    no_weight = NO_WEIGHT[max(4, x.itemsize)]
    weighted = weight is not None
    if spread and not weighted:
        weight = np.ones(classes, no_weight.dtype)
    keep = keep_of(storage == NATIVE and not bent, classes, inner) if with_grad else DISCARD
    options = (
        classes, x_stride, grad_stride, target_stride, ignore_index, label_smoothing, z_loss, softcap,
        abs(logit_scale), grad_scale * logit_scale, soft, weighted, sample_weight is not None,
        grad_loss is not None, spread, bent, negative, with_grad,
        storage, keep,
    )  # fmt: skip
    x = flat(x, gaps * x_stride + row)
    args = (
        x,
        flat(grad, gaps * grad_stride + row) if with_grad else x,
        NO_LABELS if soft else flat(labels),
        flat(targets, gaps * target_stride + row) if soft else x,
        no_weight if weight is None else flat(weight),
        losses if sample_weight is None else flat(sample_weight),
        losses if grad_loss is None else flat(grad_loss),
        losses,
    )
    if inner > 1:
        lanes = primitives.LANES
        run(cross_entropy_columns, tiles(outer, inner), threads, classes, lanes, options, *args, inner)
    elif classes <= SHORT_CLASSES:
        run(cross_entropy_short, groups(outer), threads, classes, primitives.SHORT, options, *args, outer)
    else:
        run(cross_entropy_rows, outer, threads, classes, 1, options, *args, keep=keep)
