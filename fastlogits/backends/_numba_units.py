"""The text compiled by Numba, once for each type of array: each function replaced by its jitted self."""

import ast
import functools
import sys
import types

import numba
from numba import types as nb

from fastlogits.backends._numba_compiler import TEXT, TEXT_FOLDER, compiled
from fastlogits.backends._numba_records import TUPLES, Records
from fastlogits.backends._numba_unit_machine import machine_of
from fastlogits.text import unit

PACKAGE = "fastlogits.kernels"


class Unit:
    """The kernels for arrays of a type, compiled when they are first called; the memory that a thread needs for them."""

    def __init__(self, stored):
        self.stored = stored
        self.halves = stored in ("float16", "bfloat16")
        self.real = nb.float64 if stored == "float64" else nb.float32
        package = f"{__name__}.{stored}"
        modules = {"machine": machine_of(stored), "records": namespace(f"{package}.records", TUPLES)}
        for name in unit.MODULES:
            modules[name] = self.load(package, name)
            sys.modules[f"{package}.{name}"] = modules[name]
            vars(modules[name]).update(text_of(name, modules))
        self.modules = modules
        for name in ("machine", "records"):
            sys.modules[f"{package}.{name}"] = modules[name]
        for name in unit.MODULES:
            self.jit(modules[name], name)
        self.records = Records(self.real, nb.uint16 if self.halves else self.real, modules["sizes"])
