"""The C core: the operations as include/fastlogits.h has them, from calls to the kernels of their type of array.

Nothing in it needs the interpreter or its lock, but to listen to signals.
"""

import importlib.util
from pathlib import Path

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport INFINITY
from libc.stdint cimport int32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastlogits.backends._team cimport (
    held, help, hold, join, limit_of_threads, openmp_threads_here, part_of_job, release, share, team_pool,
)

from fastlogits._memory import LAST_CACHE
from fastlogits.backends.threads import SERIAL_BELOW

include "plan.pxi"

cdef extern from "<stdlib.h>" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef extern from "machine.h" nogil:
    void end_streams()

cdef extern from "Python.h":
    int PyErr_CheckSignals()  # without Cython's notice of the exception, which is left to the caller

cdef Py_ssize_t last_cache = LAST_CACHE
cdef Py_ssize_t serial_below = SERIAL_BELOW

cdef enum:
    LINE = 64       # bytes of a cache line
    ROOM = 256      # so many rows have their labels and losses on the stack


# The kernels

DTYPES = {"float32": FL_FLOAT32, "float64": FL_FLOAT64, "float16": FL_FLOAT16, "bfloat16": FL_BFLOAT16}

cdef Unit units[5]      # by dtype
cdef int processors, environment_threads


def use(folder, isa, cpus, threads):
    """Take the kernels built for an instruction set; and so many threads, unless a call or OpenMP says otherwise."""
    global processors, environment_threads
    processors, environment_threads = cpus, threads
    for stored, dtype in DTYPES.items():
        path, = Path(folder).glob(f"{isa}_{stored}.*")
        spec = importlib.util.spec_from_file_location("unit", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        units[dtype] = new_unit(module.KERNELS, module.WORK, dtype)


cdef Unit new_unit(dict kernels, size_t work, int dtype):
    cdef Unit unit
    memset(&unit, 0, sizeof(unit))
    unit.work = work
    unit.itemsize = 8 if dtype == FL_FLOAT64 else 4
    unit.halves = dtype == FL_FLOAT16 or dtype == FL_BFLOAT16
    unit.width = 2 if unit.halves else unit.itemsize
    unit.softmax = ways_of(kernels, "softmax")
    unit.logsumexp = ways_of(kernels, "logsumexp")
    unit.argmax = ways_of(kernels, "argmax")
    unit.gradient = ways_of(kernels, "gradient")
    unit.loss = ways_of(kernels, "loss")
    unit.count = ways_of(kernels, "count")
    unit.blocks = ways_of(kernels, "blocks")
    unit.merged = ways_of(kernels, "merged")
    unit.piece = ways_of(kernels, "piece")
    unit.moments = ways_of(kernels, "moments")
    unit.stats = ways_of(kernels, "stats")
    unit.filter = ways_of(kernels, "filter")
    unit.sample = ways_of(kernels, "sample")
    return unit


cdef Ways ways_of(dict kernels, str name):
    cdef Ways ways
    cdef size_t address
    memset(&ways, 0, sizeof(ways))
    for i, way in enumerate(("rows", "short", "columns", "pick", "reduce", "settle", "write")):
        address = kernels.get(f"{name}_{way}", 0)
        (<kernel*>&ways)[i] = <kernel><void*>address
    return ways


cdef Unit* unit_of(int dtype) noexcept nogil:
    return &units[dtype]


# Shares of the work

cdef Crew crew_for(int threads, bint listen, Py_ssize_t logits) noexcept nogil:
    cdef Crew crew
    cdef int allowed
    crew.listen = listen
    if logits < serial_below:
        threads = 1
    elif threads == 0:
        threads = openmp_threads_here() or environment_threads
        allowed = limit_of_threads() or threads
        threads = max(1, min(threads, allowed, processors))
    crew.threads = threads
    return crew


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


cdef size_t room(Unit* unit, Task* task) noexcept nogil:
    """The scratch memory of a thread: what the text calls Work, the blocks of a long row, and its exponentials."""
    cdef size_t size = unit.work + fields_of(task) * sizeof(double)
    if task.keep == KEEP_PADDED:
        size += blocks_in(task.classes) * BLOCK * unit.itemsize
    return size


cdef Job new_job(kernel function, Unit* unit, Task* task) noexcept nogil:
    cdef Job job
    memset(&job, 0, sizeof(job))
    job.function = function
    job.task = task
    job.work = unit.work
    job.row_fields = fields_of(task)
    return job


cdef int run(kernel function, Unit* unit, Task* task, Py_ssize_t items, Py_ssize_t logits, Crew crew) noexcept nogil:
    """All items."""
    cdef Job job = new_job(function, unit, task)
    return run_job(do_part, &job, items, logits, crew, room(unit, task))


cdef int run_job(part_of_job part, Job* job, Py_ssize_t items, Py_ssize_t logits, Crew crew,
                 size_t size) noexcept nogil:
    """All items, by threads that hold `size` bytes of scratch memory."""
    if hold(size) == NULL:
        return FL_NO_MEMORY
    cdef int code = share_out(part, job, items, logits, crew, size)
    release()
    return code


cdef int share_out(part_of_job part, Job* job, Py_ssize_t items, Py_ssize_t logits, Crew crew,
                   size_t size) noexcept nogil:
    """All items, by threads that hold as much scratch memory as this one does."""
    cdef Py_ssize_t region = max(1, REGION // max(1, logits))
    job.start = 0
    while job.start < items:
        job.size = min(region, items - job.start)
        job.parts = parts_of(job.size, logits, crew.threads)
        share(part, job, job.parts, crew.threads, size)
        job.start += job.size
        if crew.listen and job.start < items and check_signals() < 0:
            return FL_INTERRUPTED
    return FL_OK


cdef int check_signals() noexcept with gil:
    return PyErr_CheckSignals()


cdef int share_step(kernel function, Unit* unit, Task* task, Py_ssize_t items, Py_ssize_t logits,
                    Crew crew) noexcept nogil:
    """All items of a step of rows that threads share; scratch memory is held."""
    cdef Job job = new_job(function, unit, task)
    return share_out(do_part, &job, items, logits, crew, room(unit, task))


cdef int run_way(Ways* ways, int way, Unit* unit, Task* task, Crew crew) noexcept nogil:
    cdef Py_ssize_t items, logits
    if way == SHARED_WAY:
        return run_shared(ways, unit, task, crew)
    items = items_of(way, task.rows, task.classes, task.inner, unit.halves)
    logits = logits_of(way, task.classes, unit.halves)
    cdef kernel function = ways.rows
    if way == COLUMNS_WAY:
        function = ways.columns
    elif way == SHORT_WAY:
        function = ways.short
    return run(function, unit, task, items, logits, crew)


cdef int run_shared(Ways* ways, Unit* unit, Task* task, Crew crew) noexcept nogil:
    """Long rows in steps, of as many as stay in cache from one step to the next."""
    cdef Py_ssize_t fields = BLOCK_FIELDS * blocks_in(task.classes) + PARKED
    cdef Py_ssize_t together = min(task.rows, max(1, IN_CACHE // task.classes))
    cdef size_t kept = together * blocks_in(task.classes) * BLOCK * unit.itemsize
    cdef int code = FL_NO_MEMORY
    if hold(room(unit, task)) == NULL:
        return FL_NO_MEMORY
    task.sharing = True
    task.shared = <double*>malloc(together * fields * sizeof(double))
    task.kept = <real*>(aligned_alloc(LINE, kept) if task.keep == KEEP_PADDED else NULL)
    if task.shared != NULL and (task.kept != NULL or task.keep != KEEP_PADDED):
        code = run_steps(ways, unit, task, together, crew)
    free(task.shared)
    free(task.kept)
    release()
    return code


cdef int run_steps(Ways* ways, Unit* unit, Task* task, Py_ssize_t together, Crew crew) noexcept nogil:
    cdef Py_ssize_t pieces = (blocks_in(task.classes) + PIECE - 1) // PIECE, row = 0, n
    cdef Crew alone = crew
    cdef int code = FL_OK
    alone.threads = 1
    while row < task.rows and code == FL_OK:
        n = min(together, task.rows - row)
        task.first = row
        if ways.pick != NULL:
            code = share_step(ways.pick, unit, task, n, BLOCK, alone)
        if code == FL_OK:
            code = share_step(ways.reduce, unit, task, n * pieces, PIECE * BLOCK, crew)
        if code == FL_OK and ways.settle != NULL:
            code = share_step(ways.settle, unit, task, n, BLOCK, alone)
        if code == FL_OK and ways.write != NULL:
            code = share_step(ways.write, unit, task, n * pieces, PIECE * BLOCK, crew)
        row += n
    return code


cdef Task new_task(const void* x, Py_ssize_t x_stride, Py_ssize_t outer, Py_ssize_t classes,
                   Py_ssize_t inner) noexcept nogil:
    cdef Task task
    memset(&task, 0, sizeof(task))
    task.x = <stored*>x
    task.x_stride = x_stride
    task.rows = outer
    task.classes = classes
    task.inner = inner
    task.scale = 1.0
    return task


# softmax, log_softmax, logsumexp, argmax

cdef bint is_sound(const fl_rows* call, bint gradient) noexcept nogil:
    return (call.size >= sizeof(fl_rows) and FL_FLOAT32 <= call.dtype <= FL_BFLOAT16 and call.threads >= 0
            and call.outer >= 0 and call.inner >= 0 and call.classes > 0 and (
                call.outer * call.inner == 0
                or (call.x != NULL and call.z != NULL and (call.y != NULL or not gradient))))


cdef Task task_of(const fl_rows* call) noexcept nogil:
    return new_task(call.x, call.x_stride, call.outer, call.classes, call.inner)


cdef Py_ssize_t logits_in(const fl_rows* call) noexcept nogil:
    return call.outer * call.classes * call.inner


cdef Crew crew_of(const fl_rows* call) noexcept nogil:
    return crew_for(call.threads, call.listen, logits_in(call))


cdef int softmax_of(const fl_rows* call, bint log, double* scales) noexcept nogil:
    """With `scales`, and 0 for call.scale, the logits of each row are multiplied by its own."""
    if not is_sound(call, False):
        return FL_BAD_ARGUMENT
    cdef Unit* unit = unit_of(call.dtype)
    cdef Task task = task_of(call)
    cdef Crew crew = crew_of(call)
    cdef int way = way_of(task.rows, task.classes, task.inner, crew.threads)
    cdef bint apart = call.x != call.z
    task.log = log
    task.y = <stored*>call.z
    task.y_stride = call.z_stride
    task.scale = call.scale
    task.scales = scales
    if log:
        # What is left in y is written over: that claims its memory while there is work to do.
        task.keep = KEEP if apart and not unit.halves else DISCARD
    else:
        task.keep = keep_of(way, task.classes, not unit.halves)
    # Not where the exponentials wait in y: by way of scratch memory that gains nothing.
    if apart and (log or task.keep != KEEP):
        task.past = past_caches(way, 2 * logits_in(call) * unit.width, last_cache, unit.halves)
        if task.past and log:
            task.keep = DISCARD
    return run_way(&unit.softmax, way, unit, &task, crew)


cdef int softmax(const fl_rows* call) noexcept nogil:
    return softmax_of(call, False, NULL)


cdef int log_softmax(const fl_rows* call) noexcept nogil:
    return softmax_of(call, True, NULL)


cdef int logsumexp(const fl_rows* call) noexcept nogil:
    if not is_sound(call, False):
        return FL_BAD_ARGUMENT
    cdef Unit* unit = unit_of(call.dtype)
    cdef Task task = task_of(call)
    cdef Crew crew = crew_of(call)
    task.lse = <real*>call.z
    return run_way(&unit.logsumexp, way_of(task.rows, task.classes, task.inner, crew.threads), unit, &task, crew)


cdef int argmax(const fl_rows* call) noexcept nogil:
    if not is_sound(call, False):
        return FL_BAD_ARGUMENT
    cdef Unit* unit = unit_of(call.dtype)
    cdef Task task = task_of(call)
    cdef Crew crew = crew_of(call)
    task.indices = <Py_ssize_t*>call.z
    return run_way(&unit.argmax, way_of(task.rows, task.classes, task.inner, crew.threads), unit, &task, crew)


# Their gradients

cdef int gradient_of(const fl_rows* call, bint log) noexcept nogil:
    if not is_sound(call, True):
        return FL_BAD_ARGUMENT
    cdef Unit* unit = unit_of(call.dtype)
    cdef Task task = task_of(call)
    cdef Crew crew = crew_of(call)
    cdef int way = gradient_way_of(task.rows, task.classes, task.inner, crew.threads)
    task.log = log
    task.y = <stored*>call.y
    task.y_stride = call.y_stride
    task.z = <stored*>call.z
    task.z_stride = call.z_stride
    if call.z != call.x and call.z != call.y:
        task.past = past_caches(way, 3 * logits_in(call) * unit.width, last_cache, unit.halves)
    return run_way(&unit.gradient, way, unit, &task, crew)


cdef int softmax_backward(const fl_rows* call) noexcept nogil:
    return gradient_of(call, False)


cdef int log_softmax_backward(const fl_rows* call) noexcept nogil:
    return gradient_of(call, True)


# The loss

cdef int cross_entropy(fl_loss* call) noexcept nogil:
    """All of it: labels checked and counted, the losses of rows, their gradient, their reduction."""
    cdef Py_ssize_t rows = call.outer * call.inner
    cdef int64_t few_labels[ROOM]
    cdef double few_losses[ROOM]
    cdef int64_t* labels = few_labels
    cdef double* losses = few_losses
    cdef void* memory = NULL
    if not is_sound_loss(call):
        return FL_BAD_ARGUMENT
    if rows > ROOM:
        memory = malloc(rows * (sizeof(int64_t) + sizeof(double)))
        if memory == NULL:
            return FL_NO_MEMORY
        losses = <double*>memory
        labels = <int64_t*>(losses + rows)
    if call.labels == NULL:
        labels = NULL
    else:
        copy_labels(call, rows, labels)
    cdef int code = loss_with(call, rows, labels, losses)
    free(memory)
    return code


cdef bint is_sound_loss(const fl_loss* call) noexcept nogil:
    return (call.size >= sizeof(fl_loss) and FL_FLOAT32 <= call.dtype <= FL_BFLOAT16 and call.threads >= 0
            and call.outer >= 0 and call.inner >= 0 and call.classes > 0 and (
                call.outer * call.inner == 0 or (call.x != NULL and (call.labels != NULL or call.targets != NULL)))
            and (call.label_dtype == FL_INT64 or call.label_dtype == FL_INT32)
            and (call.loss_dtype == FL_FLOAT64 or call.loss_dtype == FL_FLOAT32)
            and FL_NONE <= call.reduction <= FL_NORMALIZED)


cdef void copy_labels(const fl_loss* call, Py_ssize_t rows, int64_t* labels) noexcept nogil:
    """What is checked must be what is used, whoever else writes to the labels meanwhile."""
    cdef const int32_t* narrow = <const int32_t*>call.labels
    cdef Py_ssize_t i
    if call.label_dtype == FL_INT64:
        memcpy(labels, call.labels, rows * sizeof(int64_t))
    else:
        for i in range(rows):
            labels[i] = narrow[i]


cdef int loss_with(fl_loss* call, Py_ssize_t rows, const int64_t* labels, double* losses) noexcept nogil:
    cdef double total = rows, divisor = 1.0
    cdef int code
    if labels != NULL and rows:
        call.bad_row = count_labels(call, labels, &total)
        if call.bad_row >= 0:
            return FL_BAD_LABEL
    elif call.sample_weight != NULL:
        total = sum_of(call.sample_weight, rows)
    if call.reduction == FL_MEAN:
        divisor = total
    elif call.reduction == FL_NORMALIZED:
        divisor = call.normalizer
    # Nothing counted, nothing to learn: without this, 0 / 0 would be the gradient of rows of weight 0.
    code = losses_of_rows(call, labels, call.upstream / divisor if divisor else 0.0, losses)
    if code != FL_OK:
        return code
    call.divisor = divisor
    if call.reduction == FL_NONE:
        if call.losses != NULL:
            hand_over(call, rows, losses)
        return FL_OK
    total = sum_of(losses, rows)
    if divisor:
        call.loss = total / divisor
    else:
        call.loss = 0.0 if call.reduction == FL_NORMALIZED else total * INFINITY
    return FL_OK


cdef void hand_over(const fl_loss* call, Py_ssize_t rows, const double* losses) noexcept nogil:
    cdef float* singles = <float*>call.losses
    cdef Py_ssize_t i
    if call.loss_dtype == FL_FLOAT64:
        memcpy(call.losses, losses, rows * sizeof(double))
    else:
        for i in range(rows):
            singles[i] = <float>losses[i]


cdef Py_ssize_t count_labels(const fl_loss* call, const int64_t* labels, double* total) noexcept nogil:
    """The first row with a label that is no class, or -1; in `total`, what a mean divides by, if it is one."""
    cdef Task task = new_task(NULL, 0, call.outer * call.inner, call.classes, 1)
    cdef Py_ssize_t bad
    task.labels = <int64_t*>labels
    task.weight = <real*>call.weight
    task.sample_weight = <double*>call.sample_weight
    task.loss.ignore_index = call.ignore_index
    task.loss.weighted = call.weight != NULL and call.reduction == FL_MEAN
    task.loss.sampled = call.sample_weight != NULL and call.reduction == FL_MEAN
    task.losses = total
    task.indices = &bad
    unit_of(call.dtype).count.rows(&task, NULL, 0, task.rows)
    return bad


cdef int losses_of_rows(const fl_loss* call, const int64_t* labels, double grad_scale, double* losses) noexcept nogil:
    """The loss of each row; and the gradient, whatever arrives at them multiplied by `grad_scale`."""
    cdef Unit* unit = unit_of(call.dtype)
    cdef Task task = new_task(call.x, call.x_stride, call.outer, call.classes, call.inner)
    cdef Loss* loss = &task.loss
    cdef Py_ssize_t logits = call.outer * call.classes * call.inner
    cdef Crew crew = crew_for(call.threads, call.listen, logits)
    cdef int way = way_of(task.rows, task.classes, task.inner, crew.threads)
    task.y = <stored*>call.grad
    task.y_stride = call.grad_stride
    task.targets = <stored*>call.targets
    task.targets_stride = call.targets_stride
    task.labels = <int64_t*>labels
    task.weight = <real*>call.weight
    task.sample_weight = <double*>call.sample_weight
    task.grad_loss = <double*>call.grad_loss
    task.losses = losses
    task.scale = scale_of(call.logit_scale)
    loss.ignore_index = call.ignore_index
    loss.smoothing = call.label_smoothing
    loss.z_loss = call.z_loss
    loss.softcap = call.softcap
    loss.grad_scale = grad_scale * call.logit_scale
    loss.soft = call.targets != NULL
    loss.weighted = call.weight != NULL
    loss.sampled = call.sample_weight != NULL
    loss.upstream = call.grad_loss != NULL
    loss.spread = loss.soft or loss.smoothing > 0
    loss.prescale = prescale_of(call.logit_scale)
    loss.bent = loss.softcap > 0 or loss.prescale != 1.0
    loss.with_grad = call.grad != NULL
    if loss.with_grad:
        task.keep = keep_of(way, task.classes, not unit.halves and not loss.bent)
        if task.keep != KEEP and call.x != call.grad:
            task.past = past_caches(way, 2 * logits * unit.width, last_cache, unit.halves)
    return run_way(&unit.loss, way, unit, &task, crew)


cdef double sum_of(const double* values, Py_ssize_t n) noexcept nogil:
    """In pairs, in the order of `np.add.reduce`, so that a mean is the same number wherever it is formed."""
    cdef double sums[8]
    cdef double total = 0.0
    cdef Py_ssize_t i, j, half
    if n < 8:
        for i in range(n):
            total += values[i]
        return total
    if n > 128:
        half = n // 2 // 8 * 8
        return sum_of(values, half) + sum_of(values + half, n - half)
    for j in range(8):
        sums[j] = values[j]
    for i in range(8, n // 8 * 8, 8):
        for j in range(8):
            sums[j] += values[i + j]
    total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    for i in range(n // 8 * 8, n):
        total += values[i]
    return total


# For others than Python

cdef void join_pool(fl_pool* pool) noexcept nogil:
    join(<team_pool*>pool)


cdef void help_others() noexcept nogil:
    help()


cdef fl_api api
api.size = sizeof(api)
api.abi = FL_ABI
api.softmax = softmax
api.log_softmax = log_softmax
api.logsumexp = logsumexp
api.argmax = argmax
api.softmax_backward = softmax_backward
api.log_softmax_backward = log_softmax_backward
api.cross_entropy = cross_entropy
api.join = join_pool
api.help = help_others

API = PyCapsule_New(<void*>&api, FL_CAPSULE, NULL)
