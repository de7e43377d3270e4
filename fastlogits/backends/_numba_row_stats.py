"""Partial results of rows, by Numba."""

import collections

import numpy as np

from fastlogits.backends import _numba_text as text
from fastlogits.backends._numba_drivers import STATE_CLASSES, flat, optional, quiet, run, storage_of
from fastlogits.backends._numba_text import primitives

Options = collections.namedtuple(
    "Options",
    "classes x_stride group_step top_k sort_at storage labelled swept sums moment located second ranked ordered",
)

driver = optional(text.row_stats.rows, Options)

# In the place of arrays that are not there
NO_FLOATS, NO_INTEGERS = np.empty(0), np.empty(0, np.intp)
NO_VALUES = {np.dtype(np.float32): np.empty(0, np.float32), np.dtype(np.float64): NO_FLOATS}


@quiet
def row_stats(
    x, labels, thresholds, label_logits, peak, rest, moment, argmax, second, above, top_values, top_ids,
    rows, classes, x_stride, ordered, threads,
):  # fmt: skip
    k = 0 if top_ids is None else top_ids.shape[1]
    fields = primitives.ROW_FIELDS + -(-classes // primitives.BLOCK) * primitives.BLOCK_FIELDS
    sort_at = fields if k >= text.topk.HEAP_K else 0
    options = (
        classes, x_stride, primitives.GROUPS if classes <= STATE_CLASSES else 0, k, sort_at, storage_of(x),
        label_logits is not None, peak is not None, rest is not None, moment is not None, argmax is not None,
        second is not None, above is not None, ordered,
    )  # fmt: skip
    no_values = NO_VALUES[np.dtype(np.float64 if x.dtype == np.float64 else np.float32)]
    empty = NO_INTEGERS, NO_FLOATS, NO_FLOATS, NO_FLOATS, NO_FLOATS, NO_FLOATS
    empty = *empty, NO_INTEGERS, NO_FLOATS, NO_INTEGERS, no_values, NO_INTEGERS
    given = labels, thresholds, label_logits, peak, rest, moment, argmax, second, above, top_values, top_ids
    arrays = (none if array is None else flat(array) for array, none in zip(given, empty, strict=True))
    x = flat(x, (rows - 1) * x_stride + classes)
    room = primitives.BUCKETS + 4 * classes  # as radix.room, which cannot be called from here
    fields = max(primitives.STATE, sort_at + room if sort_at else 0)
    run(driver, rows, threads, classes, 1, options, x, *arrays, fields=fields)
