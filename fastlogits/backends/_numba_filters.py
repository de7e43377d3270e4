"""filter_logits and sample, by Numba."""

import numpy as np
from numba import njit

from fastlogits.backends import _numba_team as team
from fastlogits.backends import _numba_text as text
from fastlogits.backends._numba_compiler import TEXT
from fastlogits.backends._numba_drivers import driver, flat, quiet, run, storage_of
from fastlogits.backends._numba_text import machine, primitives


def in_scratch(kernel):
    """A driver for all rows: in the thread's own memory, and those for which it has no room in more."""

    # A function of its own, so that Numba keeps the array while the kernel has its pointer.
    def in_array(scratch, work, row, storage, args):
        own = machine.pointers((scratch, *args))
        return kernel(*own[1:], own[0], work, storage, row, row + 1)

    in_array = njit(in_array, **TEXT)

    def alone(memory, fields, start, stop, options, args):
        storage, out_of_memory = options
        own = machine.pointers(args)
        scratch, work = team.state(memory), team.work(memory, fields, own[0])
        scratch[primitives.ROOM] = (fields - primitives.FIRST_SECTION) // primitives.SECTIONS
        row = kernel(*own, scratch, work, storage, start, stop)
        while row < stop:
            try:
                larger = np.empty(text.filters.size_of(np.int64(scratch[primitives.NEEDED])))
            except Exception:  # in Numba there is no MemoryError to name
                out_of_memory[0] = True
                return
            larger[primitives.ROOM] = scratch[primitives.NEEDED]
            row = in_array(larger, work, row, storage, args)
            row = kernel(*own, scratch, work, storage, row, stop)
        machine.end_streams()

    return driver(alone, kernel)


filter_rows = in_scratch(text.filters.filter_rows)
sample_rows = in_scratch(text.sampling.sample_rows)


@quiet
def filter_logits(x, y, rules, rows, classes, x_stride, y_stride, threads):
    args = flat(x, (rows - 1) * x_stride + classes), x_stride, flat(y, (rows - 1) * y_stride + classes), y_stride
    run_in_scratch(filter_rows, rows, threads, classes, storage_of(x), *args, *flat_rules(rules))


@quiet
def sample(x, rules, numbers, key_0, key_1, ids, log_probs, rows, classes, x_stride, threads):
    args = flat(x, (rows - 1) * x_stride + classes), x_stride, *flat_rules(rules), numbers, key_0, key_1, ids, log_probs
    run_in_scratch(sample_rows, rows, threads, classes, storage_of(x), *args)


def in_python(function):
    """The function that Numba has compiled for others of its own."""
    return getattr(function, "py_func", function)


def flat_rules(rules):
    return flat(rules), rules.shape[1] if len(rules) > 1 else 0


def run_in_scratch(driver, rows, threads, classes, storage, *args):
    room, out_of_memory = in_python(text.filters.room_of)(classes), np.zeros(1, bool)
    fields = in_python(text.filters.size_of)(room)
    run(driver, rows, threads, classes, 1, (storage, out_of_memory), *args, classes, fields=fields)
    if out_of_memory[0]:
        raise MemoryError
