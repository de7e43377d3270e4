"""The records of the text for Numba: read from its .pxd files, as tuples of pointers and numbers that kernels take
apart, and, for what they are called with, as ctypes structures that a driver fills.
"""

import collections
import ctypes
import re

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastlogits.backends.numba import drivers
from fastlogits.backends.numba.compiler import TEXT_FOLDER

C = {
    "Py_ssize_t": ctypes.c_ssize_t, "int64_t": ctypes.c_int64, "double": ctypes.c_double, "int": ctypes.c_int,
    "bint": ctypes.c_int,
}  # fmt: skip
NUMBERS = {"Py_ssize_t": types.intp, "int64_t": types.int64, "double": types.float64, "int": types.intp}
TEXT = "".join((TEXT_FOLDER / f"{file}.pxd").read_text(encoding="utf-8") for file in ("task", "records"))
LINE = re.compile(r"    (.+?)(\*?) (\w+)(?:\[(\w+)\])?$")


def fields_of(name):
    """(type, is pointer, name, length or None) of each field of a record."""
    body = re.search(rf"^cdef struct {name}:\n((?:    .*\n)+)", TEXT, re.M)[1]
    lines = (line.split("#")[0].rstrip() for line in body.splitlines())
    return [(match[1], bool(match[2]), match[3], match[4]) for match in map(LINE.match, filter(None, lines))]


def structure(name):
    fields = [
        (field, ctypes.c_void_p if pointer else C.get(kind) or STRUCTURES[kind])
        for kind, pointer, field, _ in fields_of(name)
    ]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


STRUCTURES = {}
for name in ("Loss", "Stats", "Task"):
    STRUCTURES[name] = structure(name)
TUPLES = {
    name: collections.namedtuple(name, [field for _, _, field, _ in fields_of(name)])
    for name in re.findall(r"^cdef struct (\w+):", TEXT, re.M)
}


class Records:
    """Of one type of array: `work_bytes` is for who calls drivers, the other functions are for the drivers."""

    job_at, memory_of = staticmethod(drivers.job_at), staticmethod(drivers.memory_of)
    put, call = staticmethod(drivers.put), staticmethod(drivers.call)

    def __init__(self, real, stored, sizes):
        self.kinds = {"real": real, "stored": stored, **NUMBERS}
        self.sizes = sizes
        self.task_at = self.reader(self.tuple_of("Task"), self.unpack_structure("Task"))
        places, self.work_bytes = self.layout_of_work()
        self.work_at = self.reader(self.tuple_of("Work"), self.unpack_work(places))

    def type_of(self, kind, pointer, length):
        if kind == "bint":
            return types.boolean
        if kind in TUPLES:
            return self.tuple_of(kind)
        return types.CPointer(self.kinds[kind]) if pointer or length else self.kinds[kind]

    def tuple_of(self, name):
        kinds = [self.type_of(kind, pointer, length) for kind, pointer, _, length in fields_of(name)]
        return types.NamedTuple(kinds, TUPLES[name])

    def reader(self, record, unpack):
        """An intrinsic that makes the record of an address."""

        @intrinsic
        def read(typingctx, address):
            def emit(context, builder, signature, args):
                base = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
                return unpack(context, builder, base)

            return record(types.intp), emit

        return read

    def unpack_structure(self, name):
        def unpack(context, builder, base):
            values = []
            for kind, pointer, field, length in fields_of(name):
                where = at(builder, base, getattr(STRUCTURES[name], field).offset)
                fe_type = self.type_of(kind, pointer, length)
                if kind in TUPLES:
                    values.append(self.unpack_structure(kind)(context, builder, where))
                elif kind == "int" and not pointer:
                    number = builder.load(builder.bitcast(where, ir.IntType(32).as_pointer()))
                    values.append(builder.sext(number, ir.IntType(64)))
                elif kind == "bint":
                    number = builder.load(builder.bitcast(where, ir.IntType(32).as_pointer()))
                    values.append(builder.icmp_unsigned("!=", number, number.type(0)))
                else:
                    values.append(builder.load(builder.bitcast(where, context.get_value_type(fe_type).as_pointer())))
            return context.make_tuple(builder, self.tuple_of(name), values)

        return unpack

    def layout_of_work(self):
        """{field: offset} of the arrays, and the size of all; pointers come first, as in C."""
        offset, places = 0, {}
        for kind, pointer, field, length in fields_of("Work"):
            places[field] = offset
            size = 8 if pointer or kind != "real" else self.kinds["real"].bitwidth // 8
            offset += size * length_of(length, self.sizes)
        return places, -(-offset // 64) * 64

    def unpack_work(self, places):
        def unpack(context, builder, base):
            values = []
            for kind, pointer, field, length in fields_of("Work"):
                where = at(builder, base, places[field])
                kind = context.get_value_type(self.type_of(kind, pointer, length))
                where = builder.bitcast(where, kind.as_pointer() if pointer else kind)
                values.append(builder.load(where) if pointer else where)
            return context.make_tuple(builder, self.tuple_of("Work"), values)

        return unpack


def length_of(length, sizes):
    """Of an array that a record has; 1 of what is none."""
    return int(length or 1) if length is None or length.isdigit() else getattr(sizes, length)


def at(builder, base, offset):
    return cgutils.pointer_add(builder, base, offset)
