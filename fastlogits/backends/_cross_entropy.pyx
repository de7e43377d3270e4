"""cross_entropy and its gradient, by the compiled kernels."""

import numpy as np

from fastlogits.kernels cimport cross_entropy as ce, cross_entropy_lanes as ce_lanes

include "_run.pxi"


cdef void ce_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    ce.rows(<real*>c.x, <real*>c.y, c.labels, <real*>c.z, <real*>c.weight, c.sample_weight, c.grad_loss, c.losses,
            &c.options, state, work, start, stop)


cdef void ce_pick(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t row
    for row in range(start, stop):
        if not ce.ignored(c.labels, c.first_row + row, &c.options):
            ce.pick(<real*>c.x, (c.first_row + row) * c.x_stride, 0, 1, c.labels, c.first_row + row, 1, &c.options,
                    row_state(c, row), work)


cdef void ce_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row, n
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        if not ce.ignored(c.labels, n, &c.options):
            ce.reduce(<real*>c.x, n * c.x_stride, kept_row(which, c, row), 0, c.keep, <real*>c.z, n * c.z_stride,
                      <real*>c.weight, &c.options, row_state(c, row), piece_first(c, item), piece_last(c, item), work)


cdef void ce_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t row, n
    for row in range(start, stop):
        n = c.first_row + row
        if ce.ignored(c.labels, n, &c.options):
            c.losses[n] = 0.0
        else:
            ce.settle(<real*>c.x, n * c.x_stride, kept_row(which, c, row), 0, c.keep, &c.options, row_state(c, row),
                      work)
            ce.finish(c.labels, n, <real*>c.weight, c.sample_weight, c.grad_loss, c.losses, 1, &c.options,
                      row_state(c, row))


cdef void ce_write(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row, n, first, last
    if not c.options.with_grad:
        return
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        first = piece_first(c, item)
        last = piece_last(c, item)
        if ce.ignored(c.labels, n, &c.options):
            ce.write_zeros(<real*>c.y, n * c.y_stride + first * BLOCK,
                                      min(c.classes, last * BLOCK) - first * BLOCK, &c.options, work)
        else:
            ce.write(<real*>c.x, n * c.x_stride, kept_row(which, c, row), 0, c.keep, <real*>c.y, n * c.y_stride,
                     -1 if c.options.soft else c.labels[n], <real*>c.z, n * c.z_stride, <real*>c.weight, &c.options,
                     row_state(c, row), first, last, work)


cdef void ce_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    ce_lanes.columns(<real*>c.x, <real*>c.y, c.labels, <real*>c.z, <real*>c.weight, c.sample_weight,
                                c.grad_loss, c.losses, c.inner, &c.options, state, work, start, stop)


cdef void ce_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    ce_lanes.short_rows(<real*>c.x, <real*>c.y, c.labels, <real*>c.z, <real*>c.weight, c.sample_weight,
                                   c.grad_loss, c.losses, c.rows, &c.options, &c.in_tile, state, work, start, stop)


cdef int ce_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>ce_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>ce_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>ce_rows, <chunk>ce_pick, <chunk>ce_reduce, <chunk>ce_settle, <chunk>ce_write, which, call,
                    threads)


def cross_entropy(cnp.ndarray x, grad, labels, targets, weight, sample_weight, grad_loss, cnp.ndarray losses,
                  Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, Py_ssize_t x_stride,
                  Py_ssize_t grad_stride, Py_ssize_t target_stride, int64_t ignore_index, double label_smoothing,
                  double z_loss, double softcap, double logit_scale, double grad_scale, int threads):
    cdef Call call = new_call(x, x_stride, outer, classes, inner)
    cdef Options* options = &call.options
    call.y = data(grad)
    call.y_stride = grad_stride
    call.z = data(targets)
    call.z_stride = target_stride
    call.labels = <int64_t*>data(labels)
    options.weighted = weight is not None
    if weight is None and (targets is not None or label_smoothing > 0):
        weight = np.ones(classes, losses.dtype if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE else np.float32)
    call.weight = data(weight)
    call.sample_weight = <double*>data(sample_weight)
    call.grad_loss = <double*>data(grad_loss)
    call.losses = <double*>data(losses)
    options.classes = classes
    options.x_stride = x_stride
    options.grad_stride = grad_stride
    options.targets_stride = target_stride
    options.ignore_index = ignore_index
    options.smoothing = label_smoothing
    options.z_loss = z_loss
    options.softcap = softcap
    options.scale = -logit_scale if logit_scale < 0 else logit_scale
    options.grad_scale = grad_scale * logit_scale
    options.soft = targets is not None
    options.sampled = sample_weight is not None
    options.upstream = grad_loss is not None
    options.spread = options.soft or label_smoothing > 0
    options.negative = logit_scale < 0
    options.bent = softcap > 0 or options.negative
    options.with_grad = grad is not None
    if options.with_grad:
        call.keep = keep_of(&call, call.storage == NATIVE and not options.bent)
    options.keep = call.keep
    if options.with_grad and call.keep != KEEP and inner == 1 and call.x != call.y:
        stream_if_large(&call, 2 * cnp.PyArray_NBYTES(x), threads)
    options.storage = call.storage
    call.in_tile = call.options
    call.in_tile.storage = NATIVE
    call.in_tile.keep = DISCARD if options.bent else KEEP
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        ce_of(<double*>NULL, &call, threads)
    else:
        ce_of(<float*>NULL, &call, threads)


def count_labels(cnp.ndarray labels, weight, sample_weight, Py_ssize_t classes, int64_t ignore_index):
    cdef Options options
    cdef double total
    cdef Py_ssize_t bad
    options.classes = classes
    options.ignore_index = ignore_index
    options.weighted = weight is not None
    options.sampled = sample_weight is not None
    if weight is not None and cnp.PyArray_TYPE(<cnp.ndarray>weight) == cnp.NPY_DOUBLE:
        bad = ce.count_labels(<int64_t*>data(labels), <double*>data(weight), <double*>data(sample_weight),
                                         cnp.PyArray_SIZE(labels), &options, &total)
    else:
        bad = ce.count_labels(<int64_t*>data(labels), <float*>data(weight), <double*>data(sample_weight),
                                         cnp.PyArray_SIZE(labels), &options, &total)
    return bad, total
