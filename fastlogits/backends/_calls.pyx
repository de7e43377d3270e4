"""The operations, by the compiled text: from NumPy arrays to the kernels of their type."""

include "_calls.pxi"


# softmax, log_softmax, logsumexp, argmax

cdef int softmax_of(cnp.ndarray x, cnp.ndarray y, Task* task, Py_ssize_t y_stride, double scale, int threads) except -1:
    cdef Unit unit = unit_of(x)
    cdef int way = way_of(task.rows, task.classes, task.inner, threads)
    cdef bint apart = cnp.PyArray_DATA(x) != cnp.PyArray_DATA(y)
    task.y = <stored*>data(y)
    task.y_stride = y_stride
    task.scale = scale
    if task.log:
        # What is left in y is written over: that claims its memory while there is work to do.
        task.keep = KEEP if apart and not unit.halves else DISCARD
    else:
        task.keep = keep_of(way, task.classes, not unit.halves)
    # Not where the exponentials wait in y: by way of scratch memory that gains nothing.
    if apart and (task.log or task.keep != KEEP):
        task.past = past_caches(way, 2 * cnp.PyArray_NBYTES(x), last_cache, unit.halves)
        if task.past and task.log:
            task.keep = DISCARD
    return run_way(&unit.softmax, way, unit, task, threads)


def softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
            Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    softmax_of(x, y, &task, y_stride, scale, threads)


def log_softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    task.log = True
    softmax_of(x, y, &task, y_stride, scale, threads)


def logsumexp(cnp.ndarray x, cnp.ndarray lse, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
              Py_ssize_t x_stride, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    cdef Unit unit = unit_of(x)
    task.lse = <real*>data(lse)
    run_way(&unit.logsumexp, way_of(outer, classes, inner, threads), unit, &task, threads)


def argmax(cnp.ndarray x, cnp.ndarray indices, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
           Py_ssize_t x_stride, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    cdef Unit unit = unit_of(x)
    task.indices = <Py_ssize_t*>data(indices)
    run_way(&unit.argmax, way_of(outer, classes, inner, threads), unit, &task, threads)


# Rows that are at hand in pieces

def softmax_blocks(cnp.ndarray x, cnp.ndarray peaks, cnp.ndarray sums, cnp.ndarray rests, Py_ssize_t rows,
                   Py_ssize_t classes, Py_ssize_t x_stride, double scale, int threads):
    cdef Task task = new_task(x, x_stride, rows, classes, 1)
    cdef Unit unit = unit_of(x)
    task.peaks = <double*>data(peaks)
    task.sums = <double*>data(sums)
    task.rests = <double*>data(rests)
    task.scale = scale
    run(unit.blocks.rows, unit, &task, rows, classes, threads)


def softmax_merged(cnp.ndarray peaks, cnp.ndarray sums, cnp.ndarray rests, cnp.ndarray row_peaks,
                   cnp.ndarray row_rests, Py_ssize_t classes, double scale):
    cdef Task task = new_task(peaks, 0, row_peaks.shape[0], classes, 1)
    cdef Unit unit = unit_of(peaks)
    task.peaks = <double*>data(peaks)
    task.sums = <double*>data(sums)
    task.rests = <double*>data(rests)
    task.row_peaks = <double*>data(row_peaks)
    task.row_rests = <double*>data(row_rests)
    task.scale = scale
    run(unit.merged.rows, unit, &task, task.rows, BLOCK, 1)


def softmax_piece(cnp.ndarray x, cnp.ndarray y, cnp.ndarray peaks, cnp.ndarray rests, Py_ssize_t rows,
                  Py_ssize_t classes, Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, bint log, int threads):
    cdef Task task = new_task(x, x_stride, rows, classes, 1)
    cdef Unit unit = unit_of(x)
    task.y = <stored*>data(y)
    task.y_stride = y_stride
    task.row_peaks = <double*>data(peaks)
    task.row_rests = <double*>data(rests)
    task.scale = scale
    task.log = log
    run(unit.piece.rows, unit, &task, rows, classes, threads)


# Gradients of softmax and log-softmax

cdef int gradient_of(cnp.ndarray g, cnp.ndarray p, cnp.ndarray out, Task* task, Py_ssize_t p_stride,
                     Py_ssize_t out_stride, int threads) except -1:
    cdef Unit unit = unit_of(g)
    cdef int way = way_of(task.rows, task.classes, task.inner, threads)
    cdef void* result = cnp.PyArray_DATA(out)
    if way == SHORT_WAY:
        way = ROWS_WAY
    task.y = <stored*>data(p)
    task.y_stride = p_stride
    task.z = <stored*>result
    task.z_stride = out_stride
    if result != cnp.PyArray_DATA(g) and result != cnp.PyArray_DATA(p):
        task.past = past_caches(way, 3 * cnp.PyArray_NBYTES(g), last_cache, unit.halves)
    return run_way(&unit.gradient, way, unit, task, threads)


def softmax_backward(cnp.ndarray g, cnp.ndarray p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                     Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t p_stride, Py_ssize_t out_stride, int threads):
    cdef Task task = new_task(g, g_stride, outer, classes, inner)
    gradient_of(g, p, out, &task, p_stride, out_stride, threads)


def log_softmax_backward(cnp.ndarray g, cnp.ndarray log_p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                         Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t log_p_stride, Py_ssize_t out_stride,
                         int threads):
    cdef Task task = new_task(g, g_stride, outer, classes, inner)
    task.log = True
    gradient_of(g, log_p, out, &task, log_p_stride, out_stride, threads)


# The loss

def cross_entropy(cnp.ndarray x, grad, labels, targets, weight, sample_weight, grad_loss, cnp.ndarray losses,
                  Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, Py_ssize_t x_stride,
                  Py_ssize_t grad_stride, Py_ssize_t target_stride, int64_t ignore_index, double label_smoothing,
                  double z_loss, double softcap, double logit_scale, double grad_scale, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    cdef Unit unit = unit_of(x)
    cdef Loss* loss = &task.loss
    cdef int way = way_of(outer, classes, inner, threads)
    task.y = <stored*>data(grad)
    task.y_stride = grad_stride
    task.targets = <stored*>data(targets)
    task.targets_stride = target_stride
    task.labels = <int64_t*>data(labels)
    task.weight = <real*>data(weight)
    task.sample_weight = <double*>data(sample_weight)
    task.grad_loss = <double*>data(grad_loss)
    task.losses = <double*>data(losses)
    task.scale = -logit_scale if logit_scale < 0 else logit_scale
    loss.ignore_index = ignore_index
    loss.smoothing = label_smoothing
    loss.z_loss = z_loss
    loss.softcap = softcap
    loss.grad_scale = grad_scale * logit_scale
    loss.soft = targets is not None
    loss.weighted = weight is not None
    loss.sampled = sample_weight is not None
    loss.upstream = grad_loss is not None
    loss.spread = loss.soft or label_smoothing > 0
    loss.negative = logit_scale < 0
    loss.bent = softcap > 0 or loss.negative
    loss.with_grad = grad is not None
    if loss.with_grad:
        task.keep = keep_of(way, classes, not unit.halves and not loss.bent)
        if task.keep != KEEP and task.x != task.y:
            task.past = past_caches(way, 2 * cnp.PyArray_NBYTES(x), last_cache, unit.halves)
    run_way(&unit.loss, way, unit, &task, threads)
