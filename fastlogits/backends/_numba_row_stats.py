"""Partial results of rows, by Numba."""

import collections

import numpy as np

from fastlogits.backends import _numba_text as text
from fastlogits.backends import _numpy_row_stats as _numpy
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


# What each result that is a formula of others is made of
MADE_OF = {
    "lse": ("peak", "rest"), "nll": ("peak", "rest", "label_logit"), "entropy": ("rest", "moment"),
    "max_prob": ("rest",), "margin": ("peak", "second"),
}  # fmt: skip
NAMES = ("label_logit", "peak", "rest", "moment", "argmax", "second", "above", "top_values", "top_ids")


def row_stats(x, labels, thresholds, results, rows, classes, inner, x_stride, ordered, ignore_index, threads):
    parts = {name: results.get(name) for name in NAMES}
    for name in results.keys() & MADE_OF.keys():
        for part in MADE_OF[name]:
            parts[part] = np.empty(rows) if parts[part] is None else parts[part]
    if "ahead" in results:
        _numpy.row_stats(
            x, labels, None, {"ahead": results["ahead"]}, rows, classes, 1, x_stride, ordered, ignore_index, threads
        )
    if parts["above"] is not None and thresholds is None and parts["label_logit"] is None:
        parts["label_logit"] = np.empty(rows)
    if thresholds is None:
        thresholds = parts["label_logit"]
    if any(array is not None for array in parts.values()):
        if parts["peak"] is None and any(parts[name] is not None for name in NAMES[2:]):
            parts["peak"] = np.empty(rows)
        sweep(x, labels, thresholds, *parts.values(), rows, classes, x_stride, ordered, threads)
    with np.errstate(all="ignore"):
        for name in results.keys() & MADE_OF.keys():
            results[name][:] = _numpy.FINISHED[name](parts, None if labels is None else labels == ignore_index)


def columns_pay(classes, top_k):
    """Whether `row_stats` takes the classes of columns where they lie."""
    return False


@quiet
def sweep(
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
