"""How Numba runs a kernel: drivers that call it on rows, the threads that share them, and their memory."""

import collections
import functools
import warnings

import numba
import numpy as np

from fastlogits import _checks
from fastlogits._memory import LAST_CACHE
from fastlogits.backends._numba_compiler import compiled
from fastlogits.backends._numba_text import machine, primitives

SHORT_CLASSES = 32  # rows of at most so many classes are transposed
IN_CACHE = 1 << 18  # logits of a row whose exponentials stay in scratch memory
REGION = 1 << 25  # logits in one parallel region: tens of milliseconds, between which Ctrl-C is heard
WORK = primitives.SLOTS * primitives.BLOCK
STATE = primitives.STATE
STATE_CLASSES = primitives.MOST_BLOCKS * primitives.BLOCK  # longer rows need more
NATIVE, DISCARD, KEEP, KEEP_PADDED = primitives.NATIVE, primitives.DISCARD, primitives.KEEP, primitives.KEEP_PADDED

Driver = collections.namedtuple("Driver", "alone shared")


# A driver calls a kernel on the items [start, stop). `args` are what the kernel takes before its options, state and
# scratch memory. `states` has a row for each part, which is what a thread does; so has `rooms` where a row needs more
# scratch memory than the stack should hold.


def driver(alone, kernel):
    """`alone` for one part, and for several in parallel."""

    def shared(parts, start, stop, states, rooms, options, args):
        for index in numba.prange(parts):
            part = np.int64(index)  # which is unsigned: `alone` would be compiled once more
            first, last = start + (stop - start) * part // parts, start + (stop - start) * (part + 1) // parts
            alone(part, first, last, states, rooms, options, args)

    name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
    alone = compiled(alone, name)
    return Driver(alone, compiled(shared, f"{name}.shared", parallel=True))


def plain(kernel):
    def alone(part, start, stop, states, rooms, storage, args):
        own = machine.pointers((states[part], rooms[part], *args))
        work = own[1] if rooms.shape[1] > 0 else machine.stack(WORK, own[1])
        kernel(*own[2:], own[0], work, storage, start, stop)
        machine.end_streams()

    return driver(alone, kernel)


def stateless(kernel):
    def alone(part, start, stop, states, rooms, storage, args):
        own = machine.pointers(args)
        kernel(*own, machine.stack(WORK, own[0]), storage, start, stop)

    return driver(alone, kernel)


def optional(kernel, options_type):
    def alone(part, start, stop, states, rooms, options, args):
        own = machine.pointers((states[part], rooms[part], *args))
        work = own[1] if rooms.shape[1] > 0 else machine.stack(WORK, own[1])
        kernel(*own[2:], options_type(*options), own[0], work, start, stop)

    return driver(alone, kernel)


def run(driver, items, threads, classes, lanes, options, *args, fields=STATE, keep=DISCARD):
    """`driver` on all items, of `lanes` rows of `classes` logits each; each thread has at least `fields` of state, and
    room for a row's exponentials where they are to be kept."""
    if classes > STATE_CLASSES:
        blocks = -(-classes // primitives.BLOCK)
        fields = max(fields, primitives.ROW_FIELDS + blocks * primitives.BLOCK_FIELDS)
    region = REGION // (lanes * classes) or 1
    if threads > 1:
        threads = available(min(threads, items, region))
    room = WORK + -(-classes // primitives.BLOCK) * primitives.BLOCK if keep == KEEP_PADDED else 0
    real = np.float64 if args[0].dtype == np.float64 else np.float32
    memory = np.empty((threads, fields)), np.empty((threads, room), real)
    start = 0
    while start < items:
        stop = min(items, start + region)
        if threads == 1:
            driver.alone(0, start, stop, *memory, options, args)
        else:
            share(driver, threads, start, stop, *memory, options, args)
        start = stop


def available(threads):
    """As many as Numba can give: one where its only threading layer aborts on concurrent callers, or none loads."""
    return 1 if threading_layer() in (None, "workqueue") else min(threads, numba.config.NUMBA_NUM_THREADS)


@functools.cache
def threading_layer():
    try:
        numba.get_num_threads()  # starts them, so that their layer is known
    except ValueError as error:
        warnings.warn(_checks.no_threads(str(error).partition("\n")[0]), stacklevel=2)
        return None
    return numba.threading_layer()


def share(driver, threads, start, stop, *args):
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        driver.shared(threads, start, stop, *args)
    finally:
        numba.set_num_threads(before)


def flat(array, size=None):
    """What a driver takes: `size` numbers from the first on, gaps included, a half type's as their bits."""
    if array.itemsize == 2:
        array = array.view(np.uint16)
    return array.reshape(-1) if array.flags.carray else np.asarray(Flat(array, size or array.size))


class Flat:
    """Memory that a kernel could write to: Numba would compile it once more for memory that is read-only."""

    def __init__(self, array, size):
        interface = array.__array_interface__
        data = interface["data"][0], False
        self.__array_interface__ = {**interface, "data": data, "shape": (size,), "strides": None}


def storage_of(array):
    if array.itemsize != 2:
        return NATIVE
    return primitives.FLOAT16 if array.dtype == np.float16 else primitives.BFLOAT16


def streamed(storage, array, arrays):
    """`storage`; results go past the caches where `arrays` such arrays would not fit the last of them."""
    return storage | primitives.STREAMED if storage == NATIVE and 0 < LAST_CACHE < arrays * array.nbytes else storage


def keep_of(y_has_room, classes, inner):
    """Where the exponentials of rows stay; nowhere if they would not fit the cache."""
    if y_has_room:
        return KEEP
    return KEEP_PADDED if primitives.BLOCK < classes <= IN_CACHE and inner == 1 else DISCARD


def tiles(outer, inner):
    return outer * -(-inner // primitives.LANES)


def groups(outer):
    return -(-outer // primitives.SHORT)


def quiet(function):
    """Without warnings: infinity and NaN are results, and the interpreter computes with NumPy's numbers."""
    if not numba.config.DISABLE_JIT:
        return function

    @functools.wraps(function)
    def wrapped(*args):
        with np.errstate(all="ignore"):
            return function(*args)

    return wrapped


def run_any(drivers, outer, classes, inner, threads, storage, *args):
    columns, short, rows = drivers
    if inner > 1:
        run(columns, tiles(outer, inner), threads, classes, primitives.LANES, storage, *args, classes, inner)
    elif classes <= SHORT_CLASSES:
        run(short, groups(outer), threads, classes, primitives.SHORT, storage, *args, outer, classes)
    else:
        run(rows, outer, threads, classes, 1, storage, *args, classes)
