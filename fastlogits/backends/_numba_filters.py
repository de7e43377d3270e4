"""filter_logits and sample, by Numba."""

import numpy as np
from numba import njit

from fastlogits.backends import _numba_text as text
from fastlogits.backends._numba_compiler import TEXT
from fastlogits.backends._numba_drivers import WORK, driver, flat, quiet, run, storage_of
from fastlogits.backends._numba_text import machine, primitives

COLUMNS = 0  # columns of at most so many classes are taken as they lie; `inner` is 1


def in_scratch(kernel):
    """A driver for all rows: in the part's own memory, and those for which it has no room in more."""

    # A function of its own, so that Numba keeps the array `scratch` while the kernel has its pointer.
    def some_rows(scratch, start, stop, storage, args):
        own = machine.pointers((scratch, *args))
        row = kernel(*own[1:], own[0], machine.stack(WORK, own[1]), storage, start, stop)
        machine.end_streams()
        return row

    some_rows = njit(some_rows, **TEXT)

    def alone(part, start, stop, states, rooms, storage, args):
        own = states[part]
        own[primitives.ROOM] = (len(own) - primitives.FIRST_SECTION) // primitives.SECTIONS
        row = some_rows(own, start, stop, storage, args)
        while row < stop:
            larger = np.empty(text.filters.size_of(np.int64(own[primitives.NEEDED])))
            larger[primitives.ROOM] = own[primitives.NEEDED]
            row = some_rows(larger, row, row + 1, storage, args)
            row = some_rows(own, row, stop, storage, args)

    return driver(alone, kernel)


filter_rows = in_scratch(text.filters.filter_rows)
sample_rows = in_scratch(text.sampling.sample_rows)


@quiet
def filter_logits(x, y, rules, rows, classes, inner, x_stride, y_stride, threads):
    args = flat(x, (rows - 1) * x_stride + classes), x_stride, flat(y, (rows - 1) * y_stride + classes), y_stride
    run_in_scratch(filter_rows, rows, threads, classes, storage_of(x), *args, *flat_rules(rules))


@quiet
def sample(x, rules, numbers, key_0, key_1, ids, log_probs, rows, classes, inner, x_stride, threads):
    args = flat(x, (rows - 1) * x_stride + classes), x_stride, *flat_rules(rules), numbers, key_0, key_1, ids, log_probs
    run_in_scratch(sample_rows, rows, threads, classes, storage_of(x), *args)


def in_python(function):
    """The function that Numba has compiled for others of its own."""
    return getattr(function, "py_func", function)


def flat_rules(rules):
    return flat(rules), rules.shape[1] if len(rules) > 1 else 0


def run_in_scratch(driver, rows, threads, classes, storage, *args):
    room = in_python(text.filters.room_of)(classes)
    run(driver, rows, threads, classes, 1, storage, *args, classes, fields=in_python(text.filters.size_of)(room))
