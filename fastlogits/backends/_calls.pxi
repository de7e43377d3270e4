# Included by the modules that call the compiled text: from NumPy arrays to the kernels of their type.

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

# The beginning of a thread's scratch memory, see records.pxd
cdef struct Memory:
    double* blocks
    void* row
    double* survivors
    Py_ssize_t room
    Py_ssize_t needed
    Py_ssize_t reached

ctypedef void (*kernel)(Task* task, Memory* work, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

# The kernels of an operation for each way; what it lacks is NULL.
cdef struct Ways:
    kernel rows
    kernel short
    kernel columns
    kernel pick
    kernel reduce
    kernel settle
    kernel write


cdef class Unit:
    """The text compiled for one type of array."""
    cdef Ways softmax, logsumexp, argmax, gradient, loss, blocks, merged, piece, filter, sample
    cdef size_t work
    cdef int itemsize
    cdef bint halves

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
        self.blocks = ways_of(kernels, "blocks")
        self.merged = ways_of(kernels, "merged")
        self.piece = ways_of(kernels, "piece")
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
    global float32, float64, float16, bfloat16
    cdef int kind = cnp.PyArray_TYPE(array)
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

cdef struct Job:
    kernel function
    Task* task
    size_t work
    Py_ssize_t row_fields, start, size, parts
    Py_ssize_t room     # for the survivors of the filters
    bint out_of_memory


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
    """How many numbers a long row has, a whole number of cache lines."""
    return (BLOCK_FIELDS * blocks_in(task.classes) + PARKED + 7) // 8 * 8


cdef inline Py_ssize_t blocks_in(Py_ssize_t classes) noexcept nogil:
    return (classes + BLOCK - 1) // BLOCK


cdef size_t room(Unit unit, Task* task) noexcept:
    """The scratch memory of a thread: what the text calls Work, the blocks of a long row, and its exponentials."""
    cdef size_t size = unit.work + fields_of(task) * sizeof(double)
    if task.keep == KEEP_PADDED:
        size += blocks_in(task.classes) * BLOCK * unit.itemsize
    return size


cdef int run(kernel function, Unit unit, Task* task, Py_ssize_t items, Py_ssize_t logits, int threads) except -1:
    """All items."""
    cdef Job job = new_job(function, unit, task)
    run_job(do_part, &job, items, logits, threads, room(unit, task))
    return 0


cdef Job new_job(kernel function, Unit unit, Task* task) noexcept:
    cdef Job job
    memset(&job, 0, sizeof(job))
    job.function = function
    job.task = task
    job.work = unit.work
    job.row_fields = fields_of(task)
    return job


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
    share_out(do_part, &job, items, logits, threads, room(unit, task))
    return 0


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
            share_step(ways.settle, unit, task, n, BLOCK, 1)
            if ways.write != NULL:
                share_step(ways.write, unit, task, n * pieces, PIECE * BLOCK, threads)
            row += n
    finally:
        free(task.shared)
        free(task.kept)
        release()
    return 0


cdef inline void* data(object array) noexcept:
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
