"""Partial results of rows, by the compiled kernels."""

from fastlogits.kernels cimport radix, row_stats as kernel, topk
from fastlogits.kernels.primitives cimport GROUPS, MOST_BLOCKS

include "_run.pxi"

cdef struct Sweep:
    int64_t* labels
    double* label_logits
    double* thresholds
    double* peak
    double* rest
    double* moment
    Py_ssize_t* argmax
    double* second
    Py_ssize_t* above
    void* top_values
    Py_ssize_t* top_ids
    radix.Options options


cdef void whole_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    cdef Sweep* s = <Sweep*>c.z
    kernel.rows(<real*>c.x, s.labels, s.thresholds, s.label_logits, s.peak, s.rest, s.moment, s.argmax, s.second,
                s.above, <real*>s.top_values, s.top_ids, &s.options, state, work, start, stop)


cdef void begin(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Sweep* s = <Sweep*>c.z
    cdef Py_ssize_t row
    s.options.group_step = 0  # the groups' place is in scratch memory, which each thread has for itself
    if s.options.labelled:
        for row in range(c.first_row + start, c.first_row + stop):
            kernel.pick(<real*>c.x, row * c.x_stride, s.labels, row, s.label_logits, &s.options, work)


cdef void reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Sweep* s = <Sweep*>c.z
    cdef Py_ssize_t item, row, n
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        kernel.reduce(<real*>c.x, n * c.x_stride, s.thresholds[n] if s.options.ranked else 0.0,
                      &s.options, row_state(c, row), piece_first(c, item), piece_last(c, item), work)


cdef void finish(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Sweep* s = <Sweep*>c.z
    cdef Py_ssize_t item, row, n
    for item in range(start, stop):
        if piece_first(c, item) == 0:
            row = piece_row(c, item)
            n = c.first_row + row
            kernel.finish(<real*>c.x, n * c.x_stride, n, s.peak, s.rest, s.moment, s.argmax,
                          s.second, s.above, <real*>s.top_values, s.top_ids, &s.options, row_state(c, row), work)


cdef int row_stats_of(real* which, Call* call, int threads) except -1:
    cdef Sweep* sweep = <Sweep*>call.z
    if not sweep.options.swept:
        return run(<chunk>whole_rows, which, call, call.rows, 1, threads)
    if sweep.options.sort_at:
        # the state of a thread that sorts
        call.fields = sweep.options.sort_at + radix.room(call.classes)
        return run(<chunk>whole_rows, which, call, call.rows, call.classes, threads)
    return run_rows(<chunk>whole_rows, <chunk>begin, <chunk>reduce, NULL, <chunk>finish, which, call,
                    threads)


def row_stats(cnp.ndarray x, labels, thresholds, label_logits, peak, rest, moment, argmax, second, above, top_values,
              top_ids, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t x_stride, bint ordered, int threads):
    cdef Call call = new_call(x, x_stride, rows, classes, 1)
    cdef Sweep sweep
    sweep.labels = <int64_t*>data(labels)
    sweep.label_logits = <double*>data(label_logits)
    sweep.thresholds = <double*>data(thresholds)
    sweep.peak = <double*>data(peak)
    sweep.rest = <double*>data(rest)
    sweep.moment = <double*>data(moment)
    sweep.argmax = <Py_ssize_t*>data(argmax)
    sweep.second = <double*>data(second)
    sweep.above = <Py_ssize_t*>data(above)
    sweep.top_values = data(top_values)
    sweep.top_ids = <Py_ssize_t*>data(top_ids)
    sweep.options.classes = classes
    sweep.options.x_stride = x_stride
    sweep.options.group_step = GROUPS
    sweep.options.top_k = 0 if top_ids is None else top_ids.shape[1]
    sweep.options.sort_at = 0
    if sweep.options.top_k >= topk.HEAP_K:
        sweep.options.sort_at = ROW_FIELDS + call.blocks * BLOCK_FIELDS
        if call.blocks > MOST_BLOCKS:
            sweep.options.group_step = 0  # the scratch memory has no room for more groups
    sweep.options.storage = call.storage
    sweep.options.labelled = label_logits is not None
    sweep.options.swept = peak is not None
    sweep.options.sums = rest is not None
    sweep.options.moment = moment is not None
    sweep.options.located = argmax is not None
    sweep.options.second = second is not None
    sweep.options.ranked = above is not None
    sweep.options.ordered = ordered
    call.z = &sweep
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        row_stats_of(<double*>NULL, &call, threads)
    else:
        row_stats_of(<float*>NULL, &call, threads)
