"""The operations, by the compiled text: from NumPy arrays to the kernels of their type."""

import importlib.util
from pathlib import Path

import numpy as np

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastlogits.backends._team cimport held, hold, part_of_job, release, share

from fastlogits._memory import LAST_CACHE

include "plan.pxi"

cnp.import_array()

cdef extern from "<stdlib.h>" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef extern from "machine.h" nogil:
    void end_streams()

cdef Py_ssize_t last_cache = LAST_CACHE

cdef enum:
    LINE = 64   # bytes of a cache line


cdef class Unit:
    """The text compiled for one type of array."""
    def __init__(self, path, itemsize, halves):
        spec = importlib.util.spec_from_file_location("unit", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        kernels = module.KERNELS
        self.work = module.WORK
        self.itemsize = itemsize
        self.halves = halves
        self.softmax = ways_of(kernels, "softmax")
        self.logsumexp = ways_of(kernels, "logsumexp")
        self.argmax = ways_of(kernels, "argmax")
        self.gradient = ways_of(kernels, "gradient")
        self.loss = ways_of(kernels, "loss")
        self.count = ways_of(kernels, "count")
        self.blocks = ways_of(kernels, "blocks")
        self.merged = ways_of(kernels, "merged")
        self.piece = ways_of(kernels, "piece")
        self.moments = ways_of(kernels, "moments")
        self.stats = ways_of(kernels, "stats")
        self.filter = ways_of(kernels, "filter")
        self.sample = ways_of(kernels, "sample")


cdef Ways ways_of(dict kernels, str name):
    cdef Ways ways
    cdef size_t address
    cdef kernel found
    memset(&ways, 0, sizeof(ways))
    for i, way in enumerate(("rows", "short", "columns", "pick", "reduce", "settle", "write")):
        address = kernels.get(f"{name}_{way}", 0)
        (<kernel*>&ways)[i] = <kernel><void*>address
    return ways


_folder = None
cdef Unit float32 = None, float64 = None, float16 = None, bfloat16 = None


def use(folder, isa):
    """Take the kernels that were built for an instruction set."""
    global _folder, float32, float64, float16, bfloat16
    _folder = Path(folder), isa
    float32 = float64 = float16 = bfloat16 = None


def load(stored, itemsize, halves):
    folder, isa = _folder
    path, = folder.glob(f"{isa}_{stored}.*")
    return Unit(path, itemsize, halves)


cdef Unit unit_of(cnp.ndarray array):
    """The text for the array's type, loaded when it is first needed."""
    return unit_for(cnp.PyArray_TYPE(array))


cdef Unit unit_for(int kind):
    global float32, float64, float16, bfloat16
    if kind == cnp.NPY_FLOAT:
        if float32 is None:
            float32 = load("float32", 4, False)
        return float32
    if kind == cnp.NPY_DOUBLE:
        if float64 is None:
            float64 = load("float64", 8, False)
        return float64
    if kind == cnp.NPY_FLOAT16:
        if float16 is None:
            float16 = load("float16", 4, True)
        return float16
    if bfloat16 is None:
        bfloat16 = load("bfloat16", 4, True)
    return bfloat16


# Shares of the work

cdef void do_part(void* shared, ptrdiff_t part) noexcept nogil:
    cdef Job* job = <Job*>shared
    cdef Memory* work = <Memory*>held()
    work.blocks = <double*>(<char*>work + job.work)
    work.row = work.blocks + job.row_fields
    job.function(job.task, work, job.start + job.size * part // job.parts,
                 job.start + job.size * (part + 1) // job.parts)
    if job.task.past:
        end_streams()


cdef Py_ssize_t fields_of(Task* task) noexcept nogil:
    """How many numbers a long row has, a whole number of cache lines; and what a radix sort takes."""
    cdef Py_ssize_t sorting = sort_fields(task.classes) if task.stats.sorting else 0
    return (BLOCK_FIELDS * blocks_in(task.classes) + PARKED + sorting + 7) // 8 * 8


cdef inline Py_ssize_t blocks_in(Py_ssize_t classes) noexcept nogil:
    return (classes + BLOCK - 1) // BLOCK


cdef size_t room(Unit unit, Task* task) noexcept:
    """The scratch memory of a thread: what the text calls Work, the blocks of a long row, and its exponentials."""
    cdef size_t size = unit.work + fields_of(task) * sizeof(double)
    if task.keep == KEEP_PADDED:
        size += blocks_in(task.classes) * BLOCK * unit.itemsize
    return size


cdef Job new_job(kernel function, Unit unit, Task* task) noexcept:
    cdef Job job
    memset(&job, 0, sizeof(job))
    job.function = function
    job.task = task
    job.work = unit.work
    job.row_fields = fields_of(task)
    return job


cdef int run(kernel function, Unit unit, Task* task, Py_ssize_t items, Py_ssize_t logits, int threads) except -1:
    """All items."""
    cdef Job job = new_job(function, unit, task)
    return run_job(do_part, &job, items, logits, threads, room(unit, task))


cdef int run_job(part_of_job part, Job* job, Py_ssize_t items, Py_ssize_t logits, int threads,
                 size_t size) except -1:
    """All items, by threads that hold `size` bytes of scratch memory."""
    if hold(size) == NULL:
        raise MemoryError
    try:
        share_out(part, job, items, logits, threads, size)
    finally:
        release()
    return 0


cdef int share_out(part_of_job part, Job* job, Py_ssize_t items, Py_ssize_t logits, int threads,
                   size_t size) except -1:
    """All items, by threads that hold as much scratch memory as this one does."""
    cdef Py_ssize_t region = max(1, REGION // max(1, logits))
    job.start = 0
    while job.start < items:
        job.size = min(region, items - job.start)
        job.parts = parts_of(job.size, logits, threads)
        with nogil:
            share(part, job, job.parts, threads, size)
        job.start += job.size
        if job.start < items:
            PyErr_CheckSignals()
    return 0


cdef int share_step(kernel function, Unit unit, Task* task, Py_ssize_t items, Py_ssize_t logits,
                    int threads) except -1:
    """All items of a step of rows that threads share; scratch memory is held."""
    cdef Job job = new_job(function, unit, task)
    return share_out(do_part, &job, items, logits, threads, room(unit, task))


cdef int run_way(Ways* ways, int way, Unit unit, Task* task, int threads) except -1:
    cdef Py_ssize_t items, logits
    if way == SHARED_WAY:
        return run_shared(ways, unit, task, threads)
    items = items_of(way, task.rows, task.classes, task.inner, unit.halves)
    logits = logits_of(way, task.classes, unit.halves)
    cdef kernel function = ways.rows
    if way == COLUMNS_WAY:
        function = ways.columns
    elif way == SHORT_WAY:
        function = ways.short
    return run(function, unit, task, items, logits, threads)


cdef int run_shared(Ways* ways, Unit unit, Task* task, int threads) except -1:
    """The steps of long rows, of as many as stay in cache from one step to the next."""
    cdef Py_ssize_t fields = BLOCK_FIELDS * blocks_in(task.classes) + PARKED, row = 0, n
    cdef Py_ssize_t together = min(task.rows, max(1, IN_CACHE // task.classes))
    cdef Py_ssize_t pieces = (blocks_in(task.classes) + PIECE - 1) // PIECE
    cdef size_t kept = together * blocks_in(task.classes) * BLOCK * unit.itemsize
    if hold(room(unit, task)) == NULL:
        raise MemoryError
    task.sharing = True
    task.shared = <double*>malloc(together * fields * sizeof(double))
    task.kept = <real*>(aligned_alloc(LINE, kept) if task.keep == KEEP_PADDED else NULL)
    try:
        if task.shared == NULL or (task.kept == NULL and task.keep == KEEP_PADDED):
            raise MemoryError
        while row < task.rows:
            n = min(together, task.rows - row)
            task.first = row
            if ways.pick != NULL:
                share_step(ways.pick, unit, task, n, BLOCK, 1)
            share_step(ways.reduce, unit, task, n * pieces, PIECE * BLOCK, threads)
            if ways.settle != NULL:
                share_step(ways.settle, unit, task, n, BLOCK, 1)
            if ways.write != NULL:
                share_step(ways.write, unit, task, n * pieces, PIECE * BLOCK, threads)
            row += n
    finally:
        free(task.shared)
        free(task.kept)
        release()
    return 0


cdef void* data(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef Task new_task(cnp.ndarray x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes,
                   Py_ssize_t inner) noexcept:
    cdef Task task
    memset(&task, 0, sizeof(task))
    task.x = <stored*>data(x)
    task.x_stride = x_stride
    task.rows = outer
    task.classes = classes
    task.inner = inner
    task.scale = 1.0
    return task


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


cpdef softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
              Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    softmax_of(x, y, &task, y_stride, scale, threads)


cpdef log_softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                  Py_ssize_t x_stride, Py_ssize_t y_stride, double scale, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    task.log = True
    softmax_of(x, y, &task, y_stride, scale, threads)


cpdef logsumexp(cnp.ndarray x, cnp.ndarray lse, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
                Py_ssize_t x_stride, int threads):
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    cdef Unit unit = unit_of(x)
    task.lse = <real*>data(lse)
    run_way(&unit.logsumexp, way_of(outer, classes, inner, threads), unit, &task, threads)


cpdef argmax(cnp.ndarray x, cnp.ndarray indices, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner,
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
    cdef int way = gradient_way_of(task.rows, task.classes, task.inner, threads)
    cdef void* result = cnp.PyArray_DATA(out)
    task.y = <stored*>data(p)
    task.y_stride = p_stride
    task.z = <stored*>result
    task.z_stride = out_stride
    if result != cnp.PyArray_DATA(g) and result != cnp.PyArray_DATA(p):
        task.past = past_caches(way, 3 * cnp.PyArray_NBYTES(g), last_cache, unit.halves)
    return run_way(&unit.gradient, way, unit, task, threads)


cpdef softmax_backward(cnp.ndarray g, cnp.ndarray p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                       Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t p_stride, Py_ssize_t out_stride, int threads):
    cdef Task task = new_task(g, g_stride, outer, classes, inner)
    gradient_of(g, p, out, &task, p_stride, out_stride, threads)


cpdef log_softmax_backward(cnp.ndarray g, cnp.ndarray log_p, cnp.ndarray out, Py_ssize_t outer, Py_ssize_t classes,
                           Py_ssize_t inner, Py_ssize_t g_stride, Py_ssize_t log_p_stride, Py_ssize_t out_stride,
                           int threads):
    cdef Task task = new_task(g, g_stride, outer, classes, inner)
    task.log = True
    gradient_of(g, log_p, out, &task, log_p_stride, out_stride, threads)


# The loss

def cross_entropy(arrays, Py_ssize_t outer, Py_ssize_t classes, Py_ssize_t inner, strides, options,
                  double grad_scale, int threads):
    cdef Py_ssize_t x_stride, targets_stride, grad_stride
    x_stride, targets_stride, grad_stride = strides
    # Records by position, as the tuples that they are: by name they cost 1 us more.
    x, targets, grad, labels, sample_weight, grad_loss, losses, weight = <tuple>arrays
    _, ignore_index, smoothing, z_loss, softcap, logit_scale, _, _, _ = <tuple>options
    cdef Task task = new_task(x, x_stride, outer, classes, inner)
    task.targets = <stored*>data(targets)
    task.targets_stride = targets_stride
    task.y = <stored*>data(grad)
    task.y_stride = grad_stride
    task.labels = <int64_t*>data(labels)
    task.sample_weight = <double*>data(sample_weight)
    task.grad_loss = <double*>data(grad_loss)
    task.losses = <double*>data(losses)
    task.weight = <real*>data(weight)
    task.loss.ignore_index = ignore_index
    task.loss.smoothing = smoothing
    task.loss.z_loss = z_loss
    task.loss.softcap = 0.0 if softcap is None else softcap
    loss_of(x, &task, logit_scale, grad_scale, threads)


cdef int loss_of(cnp.ndarray x, Task* task, double logit_scale, double grad_scale, int threads) except -1:
    cdef Unit unit = unit_of(x)
    cdef Loss* loss = &task.loss
    cdef int way = way_of(task.rows, task.classes, task.inner, threads)
    task.scale = scale_of(logit_scale)
    loss.grad_scale = grad_scale * logit_scale
    loss.soft = task.targets != NULL
    loss.weighted = task.weight != NULL
    loss.sampled = task.sample_weight != NULL
    loss.upstream = task.grad_loss != NULL
    loss.spread = loss.soft or loss.smoothing > 0
    loss.prescale = prescale_of(logit_scale)
    loss.bent = loss.softcap > 0 or loss.prescale != 1.0
    loss.with_grad = task.y != NULL
    if loss.with_grad:
        task.keep = keep_of(way, task.classes, not unit.halves and not loss.bent)
        if task.keep != KEEP and task.x != task.y:
            task.past = past_caches(way, 2 * cnp.PyArray_NBYTES(x), last_cache, unit.halves)
    return run_way(&unit.loss, way, unit, task, threads)


def count_labels(cnp.ndarray labels, weight, sample_weight, Py_ssize_t classes, int64_t ignore_index):
    """The first row with a label that is no class, or -1; what a mean divides by."""
    cdef double total
    bad = counted(labels, weight, sample_weight, classes, ignore_index, &total)
    return bad, total


cdef Py_ssize_t counted(cnp.ndarray labels, weight, sample_weight, Py_ssize_t classes, int64_t ignore_index,
                        double* total) except -2:
    cdef Task task = new_task(labels, 0, cnp.PyArray_SIZE(labels), classes, 1)
    cdef Unit unit = unit_for(cnp.NPY_FLOAT if weight is None else cnp.PyArray_TYPE(<cnp.ndarray>weight))
    cdef Py_ssize_t bad
    task.labels = <int64_t*>data(labels)
    task.weight = <real*>data(weight)
    task.sample_weight = <double*>data(sample_weight)
    task.loss.ignore_index = ignore_index
    task.loss.weighted = weight is not None
    task.loss.sampled = sample_weight is not None
    task.losses = total
    task.indices = &bad
    with nogil:
        unit.count.rows(&task, NULL, 0, task.rows)
    return bad
