# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""From NumPy arrays to the compiled kernels: pointers, scratch memory, threads.

An operation is a `Call`, its arguments, and a function `(which, call, start, stop)` for each way through memory: rows,
columns, short rows, or the three steps of a long row. `which` is a null pointer of the computing type. `run` hands
the items [start, stop) to the threads of an OpenMP region. Scratch memory lies on the stack of each thread.
"""

cimport numpy as cnp
import numpy as np
from cpython.exc cimport PyErr_CheckSignals
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastlogits.kernels cimport backward, cross_entropy as ce, cross_entropy_lanes as ce_lanes, lanes, softmax as rows
from fastlogits.kernels.cross_entropy cimport Options
from fastlogits.kernels.primitives cimport (
    BFLOAT16, BLOCK, BLOCK_FIELDS, FLOAT16, LANES, NATIVE, ROW_FIELDS, SHORT, SLOTS, STATE, real,
)

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    #define omp_get_max_threads() 1
    #endif
    """
    int omp_get_max_threads() nogil

cnp.import_array()

cdef enum:
    SHORT_CLASSES = 32   # rows of at most so many classes are transposed
    PIECE = 16           # blocks of a long row that a thread takes at once
    REGION = 1 << 25     # logits in one OpenMP region: tens of milliseconds, between which Ctrl-C is heard
    IN_CACHE = 1 << 18   # logits of the long rows that go through the three steps together

cdef struct Call:
    void* x
    void* y
    void* z
    Py_ssize_t x_stride, y_stride, z_stride, rows, first_row, classes, inner, blocks
    double scale
    int storage
    bint log, keep
    double* states
    Py_ssize_t* indices
    int64_t* labels
    void* weight
    double* sample_weight
    double* grad_loss
    double* losses
    Options options, in_tile

ctypedef void (*chunk)(real* which, Call* call, Py_ssize_t start, Py_ssize_t stop) noexcept nogil


def max_threads():
    """What OpenMP would use: follows OMP_NUM_THREADS, threadpoolctl and torch.set_num_threads."""
    return omp_get_max_threads()


cdef int run(chunk function, real* which, Call* call, Py_ssize_t items, Py_ssize_t item_logits, int threads) except -1:
    cdef Py_ssize_t start = 0, size, parts, part, region = max(1, REGION // max(1, item_logits))
    while start < items:
        size = min(region, items - start)
        parts = min(size, 8 * threads) if threads > 1 else 1
        with nogil:
            if parts == 1:
                function(which, call, start, start + size)
            else:
                for part in prange(parts, num_threads=threads, schedule="dynamic", chunksize=1):
                    function(which, call, start + size * part // parts, start + size * (part + 1) // parts)
        start += size
        if start < items:
            PyErr_CheckSignals()
    return 0


cdef int run_rows(chunk whole, chunk begin, chunk reduce, chunk settle, chunk write, real* which, Call* call,
                  int threads) except -1:
    """Whole rows where there are enough of them, else the steps of long rows, shared between the threads."""
    cdef Py_ssize_t fields = ROW_FIELDS + call.blocks * BLOCK_FIELDS
    cdef Py_ssize_t together = max(1, IN_CACHE // call.classes), row = 0, pieces = (call.blocks + PIECE - 1) // PIECE, n
    if fields <= STATE and (threads == 1 or call.rows >= 4 * threads or call.blocks < PIECE):
        return run(whole, which, call, call.rows, call.classes, threads)
    call.states = <double*>malloc(min(together, call.rows) * fields * sizeof(double))
    if call.states == NULL:
        raise MemoryError
    try:
        while row < call.rows:
            n = min(together, call.rows - row)
            call.first_row = row
            run(begin, which, call, n, BLOCK, 1)
            run(reduce, which, call, n * pieces, PIECE * BLOCK, threads)
            run(settle, which, call, n, BLOCK, 1)
            run(write, which, call, n * pieces, PIECE * BLOCK, threads)
            row += n
    finally:
        free(call.states)
    return 0


cdef void nothing(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    pass


cdef inline Py_ssize_t piece_row(Call* call, Py_ssize_t item) noexcept nogil:
    return item // ((call.blocks + PIECE - 1) // PIECE)


cdef inline Py_ssize_t piece_first(Call* call, Py_ssize_t item) noexcept nogil:
    return item % ((call.blocks + PIECE - 1) // PIECE) * PIECE


cdef inline Py_ssize_t piece_last(Call* call, Py_ssize_t item) noexcept nogil:
    return min(call.blocks, piece_first(call, item) + PIECE)


cdef inline double* row_state(Call* call, Py_ssize_t row) noexcept nogil:
    return call.states + row * (ROW_FIELDS + call.blocks * BLOCK_FIELDS)


cdef inline Py_ssize_t tiles(Py_ssize_t outer, Py_ssize_t inner) noexcept nogil:
    return outer * ((inner + LANES - 1) // LANES)


cdef int storage_of(cnp.ndarray array):
    cdef int kind = cnp.PyArray_TYPE(array)
    if kind == cnp.NPY_FLOAT or kind == cnp.NPY_DOUBLE:
        return NATIVE
    return FLOAT16 if kind == cnp.NPY_FLOAT16 else BFLOAT16


cdef inline void* data(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef Call new_call(cnp.ndarray x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner):
    cdef Call call
    call.x = data(x)
    call.x_stride = x_stride
    call.rows = outer
    call.first_row = 0
    call.classes = classes
    call.inner = inner
    call.blocks = (classes + BLOCK - 1) // BLOCK
    call.scale = 1.0
    call.storage = storage_of(x)
    call.keep = False
    call.log = False
    return call


# softmax, log_softmax, logsumexp

cdef void softmax_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    if c.log:
        rows.log_softmax_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.classes, c.scale, state, work,
                              c.storage, start, stop)
    else:
        rows.softmax_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.classes, c.scale, c.keep, state, work,
                          c.storage, start, stop)


cdef void softmax_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t item, row
    for item in range(start, stop):
        row = piece_row(c, item)
        rows.reduce(<real*>c.x, (c.first_row + row) * c.x_stride, c.classes, c.scale, <real*>c.y,
                    (c.first_row + row) * c.y_stride, c.keep, row_state(c, row), piece_first(c, item),
                    piece_last(c, item), work, c.storage)


cdef void softmax_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t row
    for row in range(start, stop):
        rows.settle(<real*>c.x, (c.first_row + row) * c.x_stride, c.classes, c.scale, <real*>c.y,
                    (c.first_row + row) * c.y_stride, c.keep, row_state(c, row), work, c.storage)


cdef void softmax_write(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t item, row, at, y_at
    for item in range(start, stop):
        row = piece_row(c, item)
        at = (c.first_row + row) * c.x_stride
        y_at = (c.first_row + row) * c.y_stride
        if c.log:
            rows.log_softmax_write(<real*>c.x, at, <real*>c.y, y_at, c.classes, c.scale, row_state(c, row),
                                   piece_first(c, item), piece_last(c, item), work, c.storage)
        else:
            rows.softmax_write(<real*>c.x, at, <real*>c.y, y_at, c.classes, c.scale, c.keep, row_state(c, row),
                               piece_first(c, item), piece_last(c, item), work, c.storage)


cdef void softmax_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    lanes.softmax_columns(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.classes, c.inner, c.scale, c.log, c.keep,
                          state, work, c.storage, start, stop)


cdef void softmax_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    lanes.softmax_short(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, c.rows, c.classes, c.scale, c.log, state,
                        work, c.storage, start, stop)


cdef int softmax_of(real* which, Call* call, int threads) except -1:
    call.keep = call.storage == NATIVE and not call.log
    if call.inner > 1:
        return run(<chunk>softmax_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>softmax_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>softmax_rows, <chunk>nothing, <chunk>softmax_reduce, <chunk>softmax_settle,
                    <chunk>softmax_write, which, call, threads)


cdef int softmax_call(cnp.ndarray x, cnp.ndarray y, Call* call, Py_ssize_t y_stride, double scale, bint log,
                      int threads) except -1:
    call.y = data(y)
    call.y_stride = y_stride
    call.scale = scale
    call.log = log
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


cdef void logsumexp_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    rows.logsumexp_rows(<real*>c.x, c.x_stride, <real*>c.y, c.classes, state, work, c.storage, start, stop)


cdef void logsumexp_write(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t item, row
    for item in range(start, stop):
        if piece_first(c, item) == 0:
            row = piece_row(c, item)
            (<real*>c.y)[c.first_row + row] = <real>rows.log_norm(
                <real*>c.x, (c.first_row + row) * c.x_stride, c.classes, row_state(c, row), work, c.storage
            )


cdef void logsumexp_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    lanes.logsumexp_columns(<real*>c.x, c.x_stride, <real*>c.y, c.classes, c.inner, state, work, c.storage, start, stop)


cdef void logsumexp_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    lanes.logsumexp_short(<real*>c.x, c.x_stride, <real*>c.y, c.rows, c.classes, state, work, c.storage, start, stop)


cdef int logsumexp_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>logsumexp_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>logsumexp_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>logsumexp_rows, <chunk>nothing, <chunk>softmax_reduce, <chunk>softmax_settle,
                    <chunk>logsumexp_write, which, call, threads)


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
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    backward.backward_rows(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, <real*>c.z, c.z_stride, c.classes, c.log,
                           state, work, c.storage, start, stop)


cdef void backward_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
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
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t item, row, n
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        backward.write(<real*>c.x, n * c.x_stride, <real*>c.y, n * c.y_stride, <real*>c.z, n * c.z_stride, c.classes,
                       c.log, row_state(c, row), piece_first(c, item), piece_last(c, item), work, c.storage)


cdef void backward_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    lanes.backward_columns(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, <real*>c.z, c.z_stride, c.classes, c.inner,
                           c.log, state, work, c.storage, start, stop)


cdef void backward_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    lanes.backward_short(<real*>c.x, c.x_stride, <real*>c.y, c.y_stride, <real*>c.z, c.z_stride, c.rows, c.classes,
                         c.log, state, work, c.storage, start, stop)


cdef int backward_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>backward_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>backward_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run_rows(<chunk>backward_rows, <chunk>nothing, <chunk>backward_reduce, <chunk>backward_settle,
                    <chunk>backward_write, which, call, threads)


cdef int backward_call(cnp.ndarray p, cnp.ndarray out, Call* call, Py_ssize_t p_stride, Py_ssize_t out_stride,
                       bint log, int threads) except -1:
    call.y = data(p)
    call.y_stride = p_stride
    call.z = data(out)
    call.z_stride = out_stride
    call.log = log
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
    cdef real work[BLOCK]
    rows.argmax_rows(<real*>c.x, c.x_stride, c.indices, c.classes, work, c.storage, start, stop)


cdef void argmax_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    lanes.argmax_columns(<real*>c.x, c.x_stride, c.indices, c.classes, c.inner, work, c.storage, start, stop)


cdef void argmax_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    lanes.argmax_short(<real*>c.x, c.x_stride, c.indices, c.rows, c.classes, work, c.storage, start, stop)


cdef int argmax_of(real* which, Call* call, int threads) except -1:
    if call.inner > 1:
        return run(<chunk>argmax_columns, which, call, tiles(call.rows, call.inner), LANES * call.classes, threads)
    if call.classes <= SHORT_CLASSES:
        return run(<chunk>argmax_short, which, call, (call.rows + SHORT - 1) // SHORT, SHORT * call.classes, threads)
    return run(<chunk>argmax_rows, which, call, call.rows, call.classes, threads)


def argmax(cnp.ndarray x, cnp.ndarray indices, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
           Py_ssize_t x_stride, int threads):
    cdef Call call = new_call(x, x_stride, outer, classes, inner)
    call.indices = <Py_ssize_t*>data(indices)
    if cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE:
        argmax_of(<double*>NULL, &call, threads)
    else:
        argmax_of(<float*>NULL, &call, threads)


# cross_entropy

cdef void ce_rows(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    ce.rows(<real*>c.x, <real*>c.y, c.labels, <real*>c.z, <real*>c.weight, c.sample_weight, c.grad_loss,
                       c.losses, &c.options, state, work, start, stop)


cdef inline bint ignored(Call* c, Py_ssize_t row) noexcept nogil:
    return not c.options.soft and c.labels[row] == c.options.ignore_index


cdef void ce_pick(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t row
    for row in range(start, stop):
        if not ignored(c, c.first_row + row):
            ce.pick(<real*>c.x, (c.first_row + row) * c.x_stride, 1, c.labels, c.first_row + row, 1, &c.options,
                    row_state(c, row), work)


cdef void ce_reduce(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t item, row, n
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        if not ignored(c, n):
            ce.reduce(<real*>c.x, n * c.x_stride, <real*>c.y, n * c.y_stride, <real*>c.z, n * c.z_stride,
                                 <real*>c.weight, &c.options, row_state(c, row), piece_first(c, item),
                                 piece_last(c, item), work)


cdef void ce_settle(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t row, n
    for row in range(start, stop):
        n = c.first_row + row
        if ignored(c, n):
            c.losses[n] = 0.0
        else:
            ce.settle(<real*>c.x, n * c.x_stride, <real*>c.y, n * c.y_stride, &c.options, row_state(c, row), work)
            ce.finish(c.labels, n, <real*>c.weight, c.sample_weight, c.grad_loss, c.losses, 1, &c.options,
                      row_state(c, row))


cdef void ce_write(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef Py_ssize_t item, row, n, first, last
    if not c.options.with_grad:
        return
    for item in range(start, stop):
        row = piece_row(c, item)
        n = c.first_row + row
        first = piece_first(c, item)
        last = piece_last(c, item)
        if ignored(c, n):
            ce.write_zeros(<real*>c.y, n * c.y_stride + first * BLOCK,
                                      min(c.classes, last * BLOCK) - first * BLOCK, &c.options, work)
        else:
            ce.write(<real*>c.x, n * c.x_stride, <real*>c.y, n * c.y_stride,
                                -1 if c.options.soft else c.labels[n], <real*>c.z, n * c.z_stride, <real*>c.weight,
                                &c.options, row_state(c, row), first, last, work)


cdef void ce_columns(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
    ce_lanes.columns(<real*>c.x, <real*>c.y, c.labels, <real*>c.z, <real*>c.weight, c.sample_weight,
                                c.grad_loss, c.losses, c.inner, &c.options, state, work, start, stop)


cdef void ce_short(real* which, Call* c, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef real work[SLOTS * BLOCK]
    cdef double state[STATE]
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
    options.storage = call.storage
    options.soft = targets is not None
    options.weighted = weight is not None
    options.sampled = sample_weight is not None
    options.upstream = grad_loss is not None
    options.spread = options.soft or label_smoothing > 0
    options.negative = logit_scale < 0
    options.bent = softcap > 0 or options.negative
    options.with_grad = grad is not None
    options.keep = options.with_grad and options.storage == NATIVE and not options.bent
    call.in_tile = call.options
    call.in_tile.storage = NATIVE
    call.in_tile.keep = not options.bent
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
