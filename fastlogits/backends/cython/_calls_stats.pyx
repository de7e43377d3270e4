"""Statistics of rows, by the compiled text: see _calls.pyx."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from machine cimport real

from fastlogits.backends.cython._calls cimport answer, crew_of, data, dtype_of, new_task
from fastlogits.backends.cython._core cimport (
    COLUMN_CLASSES, COLUMN_K, ROWS_WAY, SORT_K, STATS_CLASSES, Crew, Stats, Task, Unit, run, run_way, stats_way_of,
    unit_of, way_of,
)

cnp.import_array()


def moments(cnp.ndarray x, cnp.ndarray labels, cnp.ndarray results, Py_ssize_t outer, Py_ssize_t classes,
            Py_ssize_t inner, Py_ssize_t x_stride, double beta, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    cdef Unit* unit = unit_of(dtype_of(x))
    cdef Crew crew = crew_of(threads)
    task.labels = <int64_t*>data(labels)
    task.results = <double*>data(results)
    task.scale = beta
    with nogil:
        code = run_way(&unit.moments, way_of(outer, classes, inner, threads), unit, &task, crew)
    answer(code)


def row_stats(cnp.ndarray x, labels, thresholds, dict results, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
              Py_ssize_t x_stride, bint ordered, int64_t ignore_index, int threads, double scale=1.0, scales=None,
              bias=None):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    cdef Unit* unit = unit_of(dtype_of(x))
    cdef Crew crew = crew_of(threads)
    cdef Stats* stats = &task.stats
    cdef int way = ROWS_WAY
    task.labels = <int64_t*>data(labels)
    task.loss.ignore_index = ignore_index
    task.scale = scale
    task.scales = <double*>data(scales)
    task.bias = <real*>data(bias)
    task.biased = bias is not None
    task.row_peaks = <double*>data(results.get("peak"))
    task.row_rests = <double*>data(results.get("rest"))
    task.indices = <Py_ssize_t*>data(results.get("argmax"))
    task.lse = <real*>data(results.get("lse"))
    stats.label_logits = <double*>data(results.get("label_logit"))
    stats.thresholds = <double*>data(thresholds)
    stats.moments = <double*>data(results.get("moment"))
    stats.seconds = <double*>data(results.get("second"))
    stats.nll = <real*>data(results.get("nll"))
    stats.entropy = <real*>data(results.get("entropy"))
    stats.max_prob = <real*>data(results.get("max_prob"))
    stats.margin = <real*>data(results.get("margin"))
    stats.ties = "ahead" in results
    stats.above = <Py_ssize_t*>data(results.get("ahead" if stats.ties else "above"))
    stats.top_values = <real*>data(results.get("top_values"))
    stats.top_ids = <Py_ssize_t*>data(results.get("top_ids"))
    stats.top_k = results["top_ids"].shape[1] if "top_ids" in results else 0
    stats.with_label_logits = stats.label_logits != NULL
    stats.with_peaks = task.row_peaks != NULL
    stats.with_rests = task.row_rests != NULL
    stats.with_moments = stats.moments != NULL
    stats.with_seconds = stats.seconds != NULL
    stats.with_lse = task.lse != NULL
    stats.with_nll = stats.nll != NULL
    stats.with_entropy = stats.entropy != NULL
    stats.with_max_prob = stats.max_prob != NULL
    stats.with_margin = stats.margin != NULL
    stats.moment = stats.with_moments or stats.with_entropy
    stats.sums = stats.with_rests or stats.moment or stats.with_lse or stats.with_nll or stats.with_max_prob
    stats.located = task.indices != NULL
    stats.second = stats.with_seconds or stats.with_margin
    stats.ranked = stats.above != NULL
    stats.given = thresholds is not None
    stats.labelled = stats.with_label_logits or stats.with_nll or (stats.ranked and not stats.given)
    stats.swept = len(results) > stats.with_label_logits
    stats.ordered = ordered
    stats.sorting = stats.top_k >= SORT_K
    cdef bint picked = inner == 1 and not stats.swept
    if not stats.sorting:
        way = stats_way_of(outer, classes, inner, threads, stats.top_k)
    with nogil:
        if picked:
            code = run(unit.stats.rows, unit, &task, outer, 1, crew)
        else:
            code = run_way(&unit.stats, way, unit, &task, crew)
    answer(code)


def columns_pay(Py_ssize_t classes, Py_ssize_t top_k):
    """Whether statistics of columns are taken where they lie, and not from rows that they are copied to."""
    return top_k == 0 or (top_k <= COLUMN_K and classes <= COLUMN_CLASSES) or classes <= STATS_CLASSES


def takes_bias(Py_ssize_t classes, Py_ssize_t top_k):
    """Whether statistics of rows come with a bias of each class; otherwise it is in the logits already."""
    return top_k == 0 and classes > STATS_CLASSES
