"""The text compiled by Numba, once for each type of array: each function replaced by its jitted self."""

import functools
import sys
import types

import numba
from numba import types as nb

from fastlogits.backends.numba import interpreted
from fastlogits.backends.numba.compiler import TEXT, TEXT_FOLDER, compiled
from fastlogits.backends.numba.drivers import driver_of, filter_driver_of
from fastlogits.backends.numba.machine import machine_of
from fastlogits.backends.numba.records import TUPLES, Records
from fastlogits.kernels import machine as interpreter
from fastlogits.kernels import unit as text

FILTERS = ("filter_rows", "sample_rows")


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
            self.records = interpreted.Records(real, "uint16" if self.halves else real, package.sizes)
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
        """What runs a part of a kernel's items."""
        kernel = getattr(getattr(self.package, self.kernels[name]), name)
        if name in FILTERS:
            driver = filter_driver_of(kernel, self.records, self.package.plan.field_of)
        else:
            driver = driver_of(kernel, self.records)
        return interpreted.quiet(driver) if numba.config.DISABLE_JIT else compiled(driver, f"{self.stored}.{name}")


def add(package, name, values):
    module = types.ModuleType(f"{package.__name__}.{name}")
    vars(module).update((key, value) for key, value in values.items() if not key.startswith("__"))
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    return module


@functools.cache
def unit_of(stored):
    return Unit(stored)
