"""filter_logits and sample, by the compiled text."""

cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from machine cimport stored

from fastlogits.backends._team cimport held
from fastlogits.backends.cython._calls cimport answer, crew_of, data, dtype_of, new_task
from fastlogits.backends.cython._core cimport (
    FL_NO_MEMORY, RULES, SIEVE_CLASSES, SURVIVOR_FIELDS, Crew, Job, Memory, Task, Unit, Ways, few_items, few_lanes,
    field_of, new_job, room_of, run, run_job, unit_of,
)

cnp.import_array()

COLUMNS = SIEVE_CLASSES  # columns of at most so many classes are taken as they lie


cdef void filter_part(void* shared, ptrdiff_t part) noexcept nogil:
    """The rows of a part, in the thread's own memory; those for which it has no room in more."""
    cdef Job* job = <Job*>shared
    cdef Memory* work = <Memory*>held()
    cdef double* own = <double*>(<char*>work + job.work)
    cdef Py_ssize_t row = job.start + job.size * part // job.parts
    cdef Py_ssize_t stop = job.start + job.size * (part + 1) // job.parts
    while True:
        work.survivors = own
        work.room = job.room
        job.function(job.task, work, row, stop)
        row = work.reached
        if row == stop:
            return
        work.room = work.needed
        work.survivors = <double*>malloc(survivors_size(work.room))
        if work.survivors == NULL:
            job.out_of_memory = True
            return
        job.function(job.task, work, row, row + 1)
        free(work.survivors)
        row += 1


cdef inline size_t survivors_size(Py_ssize_t room) noexcept nogil:
    return SURVIVOR_FIELDS * field_of(room) * sizeof(double)


cdef Task filter_task(cnp.ndarray x, cnp.ndarray rules, Py_ssize_t rows, Py_ssize_t classes,
                      Py_ssize_t inner, Py_ssize_t x_stride) noexcept:
    cdef Task task = new_task(x, x_stride, rows, classes, inner)
    task.rules = <double*>data(rules)
    task.rules_stride = RULES if cnp.PyArray_DIM(rules, 0) > 1 else 0
    return task


cdef int run_filters(Ways* ways, Unit* unit, Task* task, Crew crew) noexcept nogil:
    """Rows of few classes, and columns, several at a time."""
    if task.classes <= SIEVE_CLASSES:
        return run(ways.short, unit, task, few_items(task.rows, task.classes, task.inner),
                   few_lanes(task.classes) * task.classes, crew)
    cdef Job job = new_job(ways.rows, unit, task)
    job.room = room_of(task.classes)
    code = run_job(filter_part, &job, task.rows, task.classes, crew, unit.work + survivors_size(job.room))
    return FL_NO_MEMORY if job.out_of_memory else code


def filter_logits(cnp.ndarray x, cnp.ndarray y, cnp.ndarray rules, Py_ssize_t rows, Py_ssize_t classes,
                  Py_ssize_t inner, Py_ssize_t x_stride, Py_ssize_t y_stride, int threads):
    cdef Task task = filter_task(x, rules, rows, classes, inner, x_stride)
    cdef Unit* unit = unit_of(dtype_of(x))
    cdef Crew crew = crew_of(threads)
    task.y = <stored*>data(y)
    task.y_stride = y_stride
    with nogil:
        code = run_filters(&unit.filter, unit, &task, crew)
    answer(code)


def sample(cnp.ndarray x, cnp.ndarray rules, cnp.ndarray numbers, int64_t key_0, int64_t key_1, cnp.ndarray ids,
           cnp.ndarray log_probs, Py_ssize_t rows, Py_ssize_t classes, Py_ssize_t inner, Py_ssize_t x_stride,
           int threads):
    cdef Task task = filter_task(x, rules, rows, classes, inner, x_stride)
    cdef Unit* unit = unit_of(dtype_of(x))
    cdef Crew crew = crew_of(threads)
    task.numbers = <int64_t*>data(numbers)
    task.key_0 = key_0
    task.key_1 = key_1
    task.indices = <Py_ssize_t*>data(ids)
    task.log_probs = <double*>data(log_probs)
    with nogil:
        code = run_filters(&unit.sample, unit, &task, crew)
    answer(code)
