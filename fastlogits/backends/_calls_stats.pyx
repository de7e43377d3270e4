"""Statistics of rows, by the compiled text: see _calls.pyx."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from machine cimport real

from fastlogits.backends._calls cimport (
    ROWS_WAY, SHORT_WAY, SORT_K, Stats, Task, Unit, data, new_task, run, run_way, unit_of, way_of,
)

cnp.import_array()


def moments(cnp.ndarray x, cnp.ndarray labels, cnp.ndarray results, Py_ssize_t outer, Py_ssize_t classes,
            Py_ssize_t inner, Py_ssize_t x_stride, double beta, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    cdef Unit unit = unit_of(x)
    task.labels = <int64_t*>data(labels)
    task.results = <double*>data(results)
    task.scale = beta
    run_way(&unit.moments, way_of(outer, classes, inner, threads), unit, &task, threads)


def row_stats(cnp.ndarray x, labels, thresholds, label_logits, peak, rest, moment, argmax, second, above, top_values,
              top_ids, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t x_stride, bint ordered, int threads):
    cdef Task task = new_task(x, x_stride, rows, classes, 1)
    cdef Unit unit = unit_of(x)
    cdef Stats* stats = &task.stats
    cdef int way = ROWS_WAY
    task.labels = <int64_t*>data(labels)
    task.row_peaks = <double*>data(peak)
    task.row_rests = <double*>data(rest)
    task.indices = <Py_ssize_t*>data(argmax)
    stats.label_logits = <double*>data(label_logits)
    stats.thresholds = <double*>data(thresholds)
    stats.moments = <double*>data(moment)
    stats.seconds = <double*>data(second)
    stats.above = <Py_ssize_t*>data(above)
    stats.top_values = <real*>data(top_values)
    stats.top_ids = <Py_ssize_t*>data(top_ids)
    stats.top_k = 0 if top_ids is None else top_ids.shape[1]
    stats.labelled = label_logits is not None
    stats.swept = peak is not None
    stats.sums = rest is not None
    stats.moment = moment is not None
    stats.located = argmax is not None
    stats.second = second is not None
    stats.ranked = above is not None
    stats.ordered = ordered
    stats.sorting = stats.top_k >= SORT_K
    if stats.swept and not stats.sorting:
        way = way_of(rows, classes, 1, threads)
    if way == SHORT_WAY:
        way = ROWS_WAY
    run_way(&unit.stats, way, unit, &task, threads)
