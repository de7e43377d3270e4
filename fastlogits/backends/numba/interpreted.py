"""The text run by the interpreter, for debugging and coverage: what units.py has, without Numba's compiler."""

import ctypes

import numpy as np

from fastlogits.backends.numba.drivers import Job
from fastlogits.backends.numba.records import STRUCTURES, TUPLES, fields_of, length_of
from fastlogits.kernels.machine import Pointer


def job_at(address):
    return Job.from_address(address)


def memory_of(held, memory):
    return memory


def put(address, index, value):
    ctypes.c_ssize_t.from_address(address + 8 * index).value = value


def call(function, argument):
    return ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_ssize_t)(function)(argument)


class Records:
    """As Records of records.py: from addresses to records."""

    job_at, memory_of = staticmethod(job_at), staticmethod(memory_of)
    put, call = staticmethod(put), staticmethod(call)

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


def quiet(driver):
    """Infinity and NaN are results."""

    def run(address, part):
        with np.errstate(all="ignore"):
            driver(address, part)

    return run
