"""How Numba runs a kernel: drivers that call it on rows, and what they hand to the team of threads."""

import collections
import functools

import numba
import numpy as np

from fastlogits._memory import LAST_CACHE
from fastlogits.backends import _numba_team as team
from fastlogits.backends._numba_compiler import compiled
from fastlogits.backends._numba_text import machine, primitives

SHORT_CLASSES = 32  # rows of at most so many classes are transposed
IN_CACHE = 1 << 18  # logits of a row whose exponentials stay in scratch memory
PART = 1 << 17  # logits: some tens of microseconds
REGION = 1 << 25  # logits that are shared out at once: tens of milliseconds, between which Ctrl-C is heard
WORK = primitives.SLOTS * primitives.BLOCK
STATE = primitives.STATE
STATE_CLASSES = primitives.MOST_BLOCKS * primitives.BLOCK  # longer rows need more
NATIVE, DISCARD, KEEP, KEEP_PADDED = primitives.NATIVE, primitives.DISCARD, primitives.KEEP, primitives.KEEP_PADDED

Driver = collections.namedtuple("Driver", "alone part shared")


# A driver calls a kernel on the items [start, stop). `args` are what the kernel takes before its options, state and
# scratch memory; the thread's `memory` has `fields` of state, and what the kernel works in.


def driver(alone, kernel):
    """`alone` for all items, for one part of them, and for all parts on the threads of the team."""

    def part(memory, number, parts, fields, start, stop, options, args):
        first, last = start + (stop - start) * number // parts, start + (stop - start) * (number + 1) // parts
        alone(memory, fields, first, last, options, args)

    def shared(addresses, parts, threads, nbytes, fields, start, stop, options, args):
        team.share(part, addresses, parts, threads, nbytes, (parts, fields, start, stop, options, args))

    name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
    alone = compiled(alone, name)
    part = compiled(part, f"{name}.part")
    return Driver(alone, part, compiled(shared, f"{name}.shared"))


def plain(kernel):
    def alone(memory, fields, start, stop, storage, args):
        own = machine.pointers(args)
        kernel(*own, team.state(memory), team.work(memory, fields, own[0]), storage, start, stop)
        machine.end_streams()

    return driver(alone, kernel)


def stateless(kernel):
    def alone(memory, fields, start, stop, storage, args):
        own = machine.pointers(args)
        kernel(*own, team.work(memory, fields, own[0]), storage, start, stop)

    return driver(alone, kernel)


def optional(kernel, options_type):
    def alone(memory, fields, start, stop, options, args):
        own = machine.pointers(args)
        work = team.work(memory, fields, own[0])
        kernel(*own, options_type(*options), team.state(memory), work, start, stop)

    return driver(alone, kernel)


def run(driver, items, threads, classes, lanes, options, *args, fields=STATE, keep=DISCARD):
    """`driver` on all items, of `lanes` rows of `classes` logits each; each thread has at least `fields` of state, and
    room for a row's exponentials where they are to be kept."""
    blocks = -(-classes // primitives.BLOCK)
    if classes > STATE_CLASSES:
        fields = max(fields, primitives.ROW_FIELDS + blocks * primitives.BLOCK_FIELDS)
    reals = WORK + (blocks * primitives.BLOCK if keep == KEEP_PADDED else 0)
    nbytes = team.scratch_size(fields, reals, 8 if args[0].dtype == np.float64 else 4)
    region = REGION // (lanes * classes) or 1
    with team.held(nbytes) as memory:
        for start in range(0, items, region):
            stop = min(items, start + region)
            size = stop - start
            parts = min(size, max(8 * threads, size * lanes * classes // PART))
            if threads == 1 or parts == 1:
                driver.alone(memory, fields, start, stop, options, args)
            else:
                team.share_out(driver, parts, threads, nbytes, fields, start, stop, options, args)


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
