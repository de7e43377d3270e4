"""softmax, log_softmax, logsumexp, their gradients and argmax, by the compiled kernels."""

from fastlogits.kernels cimport backward, lanes, pieces, softmax as rows

include "_run.pxi"

# softmax, log_softmax, logsumexp

cdef void softmax_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    if c.log:
        rows.log_softmax_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.classes, c.scale, c.keep, state, work,
                              c.storage, start, stop)
    else:
        rows.softmax_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.classes, c.scale, c.keep, state, work,
                          c.storage, start, stop)


cdef void softmax_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row
    for item in range(start, stop):
        row = piece_row(c, item)
        rows.reduce(<real*>c.x, (c.first_row + row) * c.x_stride, c.classes, c.scale, kept_row(which, c, row), 0,
                    c.keep, row_state(c, row), piece_first(c, item), piece_last(c, item), work, c.storage)


cdef void softmax_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t row
    for row in range(start, stop):
        rows.settle(<real*>c.x, (c.first_row + row) * c.x_stride, c.classes, c.scale, kept_row(which, c, row), 0,
                    c.keep, row_state(c, row), work, c.storage)


cdef void softmax_write(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row, at, y_at
    for item in range(start, stop):
        row = piece_row(c, item)
        at = (c.first_row + row) * c.x_stride
        y_at = (c.first_row + row) * c.y_stride
        if c.log:
            rows.log_softmax_write(<real*>c.x, at, <real*>c.y, y_at, c.classes, c.scale, row_state(c, row),
                                   piece_first(c, item), piece_last(c, item), work, c.storage)
        else:
            rows.softmax_write(<real*>c.x, at, kept_row(which, c, row), 0, c.keep, <real*>c.y, y_at, c.classes, c.scale,
                               row_state(c, row), piece_first(c, item), piece_last(c, item), work, c.storage)


cdef void softmax_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    lanes.softmax_columns(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.classes, c.inner, c.scale, c.log,
                          c.keep == KEEP, state, work, c.storage, start, stop)


cdef void softmax_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    lanes.softmax_short(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.rows, c.classes, c.scale, c.log, state,
                        work, c.storage, start, stop)


cdef int softmax_of(real* which, Call* call, int threads) except -1:
    if not call.log:
        call.keep = keep_of(call, call.storage == NATIVE)
    elif call.storage == NATIVE and call.x != call.y:
        call.keep = KEEP
    if call.inner > 1:
        return run(<chunk>softmax_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>softmax_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>softmax_rows, NULL, <chunk>softmax_reduce, <chunk>softmax_settle,
                    <chunk>softmax_write, which, call, threads)


cdef int softmax_call(cnp.ndarray x, cnp.ndarray y, Call* call, Py_ssize_t y_stride, double scale, bint log,
                      int threads) except -1:
    call.y = data(y)
    call.y_stride = y_stride
    call.scale = scale
    call.log = log
    # Not the softmax of rows, whose exponentials wait in y: by way of scratch memory it gains nothing.
    if call.x != call.y and (log or call.inner > 1 or call.storage != NATIVE):
        stream_if_large(call, 2 * cnp.PyArray_NBYTES(x), threads)
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        return softmax_of(<double*>NULL, call, threads)
    return softmax_of(<float*>NULL, call, threads)


def softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
            Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads):
    cdef Call call = new_call(x, x_stride, outer, classes, inner)
    softmax_call(x, y, &call, y_stride, scale, False, threads)


def log_softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads):
    cdef Call call = new_call(x, x_stride, outer, classes, inner)
    softmax_call(x, y, &call, y_stride, scale, True, threads)


cdef void blocks_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    pieces.blocks_rows(<real*>c.x, c.x_stride, c.peaks, <double*>c.y, c.rests, c.classes, c.scale, state, work,
                     c.storage, start, stop)


cdef int blocks_call(real* which, Call* call, int threads) except -1:
    return run(<chunk>blocks_rows, which, call, call.rows, call.classes, threads)


def softmax_blocks(cnp.ndarray x, cnp.ndarray peaks, cnp.ndarray sums, cnp.ndarray rests, Py_ssize_t rows,
                   Py_ssize_t classes, Py_ssize_t x_stride, double scale, int threads):
    cdef Call call = new_call(x, x_stride, rows, classes, 1)
    call.y = data(sums)
    call.scale = scale
    call.peaks = <double*>data(peaks)
    call.rests = <double*>data(rests)
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        blocks_call(<double*>NULL, &call, threads)
    else:
        blocks_call(<float*>NULL, &call, threads)


def softmax_merged(cnp.ndarray peaks, cnp.ndarray sums, cnp.ndarray rests, cnp.ndarray row_peaks,
                   cnp.ndarray row_rests, Py_ssize_t classes, double scale):
    cdef Py_ssize_t count = row_peaks.shape[0], fields = ROW_FIELDS + rows.blocks_of(classes) * BLOCK_FIELDS
    cdef double* state = <double*>malloc(fields * sizeof(double))
    cdef double* found[5]
    if state == NULL:
        raise MemoryError
    for i, array in enumerate((peaks, sums, rests, row_peaks, row_rests)):
        found[i] = <double*>data(array)
    with nogil:
        pieces.merged_rows(found[0], found[1], found[2], found[3], found[4], classes, scale, state, 0, count)
    free(state)


cdef void piece_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    pieces.piece_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.peaks, c.rests, c.classes, c.scale, c.log,
                    c.keep, state, work, c.storage, start, stop)


cdef int piece_of(real* which, Call* call, int threads) except -1:
    return run(<chunk>piece_rows, which, call, call.rows, call.classes, threads)


def softmax_piece(cnp.ndarray x, cnp.ndarray y, cnp.ndarray peaks, cnp.ndarray rests, Py_ssize_t rows,
                  Py_ssize_t classes, Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, bint log, int threads):
    cdef Call call = new_call(x, x_stride, rows, classes, 1)
    call.y = data(y)
    call.y_stride = y_stride
    call.scale = scale
    call.log = log
    call.keep = KEEP if call.storage == NATIVE else KEEP_PADDED
    call.peaks = <double*>data(peaks)
    call.rests = <double*>data(rests)
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        piece_of(<double*>NULL, &call, threads)
    else:
        piece_of(<float*>NULL, &call, threads)


cdef void logsumexp_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    rows.logsumexp_rows(<real*>c.x, c.x_stride, <real*>c.y, c.classes, state, work, c.storage, start, stop)


cdef void logsumexp_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t row
    softmax_settle(which, c, start, stop)
    for row in range(start, stop):
        (<real*>c.y)[c.first_row + row] = <real>rows.log_norm(
            <real*>c.x, (c.first_row + row) * c.x_stride, c.classes, row_state(c, row), 0, work, c.storage
        )


cdef void logsumexp_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    lanes.logsumexp_columns(<real*>c.x, c.x_stride, <real*>c.y, c.classes, c.inner, state, work, c.storage, start, stop)


cdef void logsumexp_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    lanes.logsumexp_short(<real*>c.x, c.x_stride, <real*>c.y, c.rows, c.classes, state, work, c.storage, start, stop)


cdef int logsumexp_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>logsumexp_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>logsumexp_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>logsumexp_rows, NULL, <chunk>softmax_reduce, <chunk>logsumexp_settle, NULL, which,
                    call, threads)


def logsumexp(cnp.ndarray x, cnp.ndarray lse, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
              Py_ssize_t x_stride, int threads):
    cdef Call call = new_call(x, x_stride, outer, classes, inner)
    call.y = data(lse)
    call.y_stride = 0
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        logsumexp_of(<double*>NULL, &call, threads)
    else:
        logsumexp_of(<float*>NULL, &call, threads)


# softmax_backward, log_softmax_backward

cdef void backward_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    backward.backward_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, <real*>c.z, c.z_stride, c.classes, c.log,
                           state, work, c.storage, start, stop)


cdef void backward_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row
    for item in range(start, stop):
        row = piece_row(c, item)
        backward.reduce(<real*>c.x, (c.first_row + row) * c.x_stride, <real*>c.y, (c.first_row + row) * c.y_stride,
                        c.classes, c.log, row_state(c, row), piece_first(c, item), piece_last(c, item), work,
                        c.storage)


cdef void backward_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(start, stop):
        backward.settle(c.classes, row_state(c, row))


cdef void backward_write(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row, n
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        backward.write(<real*>c.x, n * c.x_stride, <real*>c.y, n * c.y_stride, <real*>c.z, n * c.z_stride, c.classes,
                       c.log, row_state(c, row), piece_first(c, item), piece_last(c, item), work, c.storage)


cdef void backward_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    lanes.backward_columns(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, <real*>c.z, c.z_stride, c.classes, c.inner,
                           c.log, state, work, c.storage, start, stop)


cdef int backward_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>backward_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    return run_rows(<chunk>backward_rows, NULL, <chunk>backward_reduce, <chunk>backward_settle,
                    <chunk>backward_write, which, call, threads)


cdef int backward_call(cnp.ndarray p, cnp.ndarray out, Call* call, Py_ssize_t p_stride, Py_ssize_t out_stride,
                       bint log, int threads) except -1:
    call.y = data(p)
    call.y_stride = p_stride
    call.z = data(out)
    call.z_stride = out_stride
    call.log = log
    if call.z != call.x and call.z != call.y:
        stream_if_large(call, 3 * cnp.PyArray_NBYTES(p), threads)
    if cnp.PyArray_TYPE(p) == cnp.NPY_DOUBLE:
        return backward_of(<double*>NULL, call, threads)
    return backward_of(<float*>NULL, call, threads)


def softmax_backward(cnp.ndarray g, cnp.ndarray p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                     Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t p_stride, Py_ssize_t out_stride, int threads):
    cdef Call call = new_call(g, g_stride, outer, classes, inner)
    backward_call(p, out, &call, p_stride, out_stride, False, threads)


def log_softmax_backward(cnp.ndarray g, cnp.ndarray log_p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                         Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t log_p_stride, Py_ssize_t out_stride,
                         int threads):
    cdef Call call = new_call(g, g_stride, outer, classes, inner)
    backward_call(log_p, out, &call, log_p_stride, out_stride, True, threads)


# argmax

cdef void argmax_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef double* state = state_of(c)
    rows.argmax_rows(<real*>c.x, c.x_stride, c.indices, c.classes, state, work, c.storage, start, stop)


cdef void argmax_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t item, row
    for item in range(start, stop):
        row = piece_row(c, item)
        rows.argmax_reduce(<real*>c.x, (c.first_row + row) * c.x_stride, c.classes, row_state(c, row),
                           piece_first(c, item), piece_last(c, item), work, c.storage)


cdef void argmax_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    cdef Py_ssize_t row
    for row in range(start, stop):
        c.indices[c.first_row + row] = rows.argmax_of(<real*>c.x, (c.first_row + row) * c.x_stride, c.classes,
                                                      row_state(c, row), work, c.storage)


cdef void argmax_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    lanes.argmax_columns(<real*>c.x, c.x_stride, c.indices, c.classes, c.inner, work, c.storage, start, stop)


cdef void argmax_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real* work = work_of(which, c)
    lanes.argmax_short(<real*>c.x, c.x_stride, c.indices, c.rows, c.classes, work, c.storage, start, stop)


cdef int argmax_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>argmax_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>argmax_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>argmax_rows, NULL, <chunk>argmax_reduce, <chunk>argmax_settle, NULL, which, call,
                    threads)


def argmax(cnp.ndarray x, cnp.ndarray indices, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
           Py_ssize_t x_stride, int threads):
    cdef Call call = new_call(x, x_stride, outer, classes, inner)
    call.indices = <Py_ssize_t*>data(indices)
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        argmax_of(<double*>NULL, &call, threads)
    else:
        argmax_of(<float*>NULL, &call, threads)
