"""The text compiled by Numba, once for each type of array: each function replaced by its jitted self."""

import collections
import functools
import sys
import types

import numba
import numpy as np
from llvmlite import ir
from numba import types as nb
from numba.extending import intrinsic

from fastlogits.backends import _interpreted
from fastlogits.backends import _numba_team as team
from fastlogits.backends._numba_compiler import TEXT, TEXT_FOLDER, compiled
from fastlogits.backends._numba_records import TUPLES, Records
from fastlogits.backends._numba_unit_machine import machine_of
from fastlogits.kernels import machine as interpreter
from fastlogits.kernels import unit as text

Driver = collections.namedtuple("Driver", "alone part shared")


@intrinsic
def prepare(typingctx, memory, work_bytes, fields):
    """The beginning of a thread's memory: where the numbers of a long row are, and behind them its exponentials."""

    def emit(context, builder, signature, args):
        memory_, work_, fields_ = args
        word = ir.IntType(64)
        places = builder.inttoptr(memory_, word.as_pointer())
        blocks = builder.add(memory_, work_)
        builder.store(blocks, places)
        row = builder.add(blocks, builder.mul(fields_, word(8)))
        builder.store(row, builder.gep(places, [word(1)]))
        return context.get_dummy_value()

    return nb.none(nb.intp, nb.intp, nb.intp), emit


@intrinsic
def prepare_filters(typingctx, memory, survivors, room):
    """The beginning of a thread's memory: where the survivors of filters are, and for how many there is room."""

    def emit(context, builder, signature, args):
        memory_, survivors_, room_ = args
        word = ir.IntType(64)
        places = builder.inttoptr(memory_, word.as_pointer())
        builder.store(survivors_, builder.gep(places, [word(2)]))
        builder.store(room_, builder.gep(places, [word(3)]))
        return context.get_dummy_value()

    return nb.none(nb.intp, nb.intp, nb.intp), emit


class Unit:
    """The kernels for arrays of a type, each compiled when it is first called."""

    def __init__(self, stored):
        self.stored = stored
        self.halves = stored in ("float16", "bfloat16")
        self.itemsize = 8 if stored == "float64" else 4
        jitted = not numba.config.DISABLE_JIT
        package = types.ModuleType(f"{__name__}.{stored}")
        sys.modules[package.__name__] = package
        self.package = package
        add(package, "machine", vars(machine_of(stored) if jitted else interpreter.machine_of(stored)))
        add(package, "records", TUPLES)
        for name in text.MODULES:
            self.load(name)
        if jitted:
            real = nb.float64 if stored == "float64" else nb.float32
            self.records = Records(real, nb.uint16 if self.halves else real, package.sizes)
        else:
            real = "float64" if stored == "float64" else "float32"
            self.records = _interpreted.Records(real, "uint16" if self.halves else real, package.sizes)
        self.work_bytes = self.records.work_bytes
        self.sizes, self.plan = package.sizes, self.interpreted("plan")
        self.kernels = {
            key: name for name in text.MODULES for key, line in text.signatures(name).items() if text.is_kernel(line)
        }

    def interpreted(self, name):
        """A module of the text, with what it imports from there taken from this package."""
        path = TEXT_FOLDER / f"{name}.py"
        source = path.read_text(encoding="utf-8").replace("fastlogits.kernels", self.package.__name__)
        module = types.ModuleType(f"{self.package.__name__}.{name}")
        exec(compile(source, path, "exec"), vars(module))
        return module

    def load(self, name):
        """The same, its functions jitted, as part of the package."""
        module = self.interpreted(name)
        sys.modules[module.__name__] = module
        setattr(self.package, name, module)
        for key, value in list(vars(module).items()):
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
                setattr(module, key, numba.njit(value, **TEXT))

    @functools.cache  # noqa: B019 (units live as long as the process)
    def driver(self, name):
        """`alone` for all items of a kernel, for one part of them, and for all parts on the threads of the team."""
        kernel = getattr(getattr(self.package, self.kernels[name]), name)
        if numba.config.DISABLE_JIT:
            return _interpreted.driver_of(kernel, self.records)
        task_at, work_at = self.records.task_at, self.records.work_at

        def alone(memory, work_bytes, fields, start, stop, task):
            prepare(memory, work_bytes, fields)
            kernel(task_at(task), work_at(memory), start, stop)

        return self.shared_driver(alone, name)

    @functools.cache  # noqa: B019
    def filter_driver(self, name):
        """As `driver`, of a kernel that leaves the survivors of filters in memory: `room` of them, or what a row needs."""
        kernel = getattr(getattr(self.package, self.kernels[name]), name)
        if numba.config.DISABLE_JIT:
            return _interpreted.filter_driver_of(kernel, self)
        task_at, work_at, fields = self.records.task_at, self.records.work_at, self.sizes.SURVIVOR_FIELDS
        field_of = self.package.plan.field_of

        def alone(memory, work_bytes, room, start, stop, task):
            own = memory + work_bytes
            row = start
            while True:
                prepare_filters(memory, own, room)
                work = work_at(memory)
                kernel(task_at(task), work, row, stop)
                row = work.reached[0]
                if row == stop:
                    return
                needed = work.needed[0]
                more = np.empty(fields * field_of(needed))
                prepare_filters(memory, more.ctypes.data, needed)
                kernel(task_at(task), work_at(memory), row, row + 1)
                more[0] = 0.0  # Numba would free it before
                row += 1

        return self.shared_driver(alone, name)

    def shared_driver(self, alone, name):
        """`alone`, compiled, and what shares it out."""

        def part(memory, number, parts, work_bytes, fields, start, stop, task):
            first, last = start + (stop - start) * number // parts, start + (stop - start) * (number + 1) // parts
            alone(memory, work_bytes, fields, first, last, task)

        def shared(addresses, parts, threads, nbytes, work_bytes, fields, start, stop, task):
            team.share(part, addresses, parts, threads, nbytes, (parts, work_bytes, fields, start, stop, task))

        alone = compiled(alone, f"{self.stored}.{name}")
        part = compiled(part, f"{self.stored}.{name}.part")
        return Driver(alone, part, compiled(shared, f"{self.stored}.{name}.shared"))


def add(package, name, values):
    module = types.ModuleType(f"{package.__name__}.{name}")
    vars(module).update((key, value) for key, value in values.items() if not key.startswith("__"))
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    return module


@functools.cache
def unit_of(stored):
    return Unit(stored)
