"""The text as the interpreter runs it, for debugging and coverage: what _numba_units.py has, without Numba's compiler."""

import collections
import ctypes

import numpy as np

from fastlogits.backends._numba_records import STRUCTURES, TUPLES, fields_of, length_of
from fastlogits.kernels.machine import Pointer

Driver = collections.namedtuple("Driver", "alone part")


class Records:
    """As Records of _numba_records.py: from addresses to records."""

    def __init__(self, real, stored, sizes):
        self.kinds = {"real": np.dtype(real), "stored": np.dtype(stored), "double": np.dtype(np.float64)}
        self.sizes = sizes
        self.work_bytes = -(-sum(size for *_, size in self.fields_of_work()) // 64) * 64

    def dtype_of(self, kind):
        return self.kinds.get(kind, np.dtype(np.int64))

    def task_at(self, address):
        return self.unpacked("Task", STRUCTURES["Task"].from_address(address))

    def unpacked(self, name, structure):
        values = []
        for kind, pointer, field, _ in fields_of(name):
            value = getattr(structure, field)
            if pointer:
                value = Pointer(value, self.dtype_of(kind))
            elif kind in TUPLES:
                value = self.unpacked(kind, value)
            values.append(bool(value) if kind == "bint" else value)
        return TUPLES[name](*values)

    def fields_of_work(self):
        for kind, pointer, _, length in fields_of("Work"):
            dtype = self.dtype_of(kind)
            yield dtype, pointer, 8 if pointer else dtype.itemsize * length_of(length, self.sizes)

    def work_at(self, address):
        values = []
        for dtype, pointer, size in self.fields_of_work():
            start = ctypes.c_void_p.from_address(address).value if pointer else address
            values.append(Pointer(start, dtype))
            address += size
        return TUPLES["Work"](*values)


def driver_of(kernel, records):
    def alone(memory, work_bytes, fields, start, stop, task):
        places = (ctypes.c_void_p * 2).from_address(memory)
        places[0], places[1] = memory + work_bytes, memory + work_bytes + 8 * fields
        with np.errstate(all="ignore"):  # infinity and NaN are results
            kernel(records.task_at(task), records.work_at(memory), start, stop)

    return Driver(alone, shared_by(alone))


def filter_driver_of(kernel, unit):
    def alone(memory, work_bytes, room, start, stop, task):
        places = (ctypes.c_int64 * 6).from_address(memory)
        row = start
        with np.errstate(all="ignore"):
            while True:
                places[2], places[3] = memory + work_bytes, room
                kernel(unit.records.task_at(task), unit.records.work_at(memory), row, stop)
                row = places[5]
                if row == stop:
                    return
                more = np.empty(unit.sizes.SURVIVOR_FIELDS * unit.plan.field_of(places[4]))
                places[2], places[3] = more.ctypes.data, places[4]
                kernel(unit.records.task_at(task), unit.records.work_at(memory), row, row + 1)
                row += 1

    return Driver(alone, shared_by(alone))


def shared_by(alone):
    def part(memory, number, parts, work_bytes, fields, start, stop, task):
        first, last = start + (stop - start) * number // parts, start + (stop - start) * (number + 1) // parts
        alone(memory, work_bytes, fields, first, last, task)

    return part
