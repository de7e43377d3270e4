"""Each operation of the vector machine, by the C compiler for each instruction set and by Numba, gives the bits that
kernels/machine.py says: of plain numbers, NaN, infinities, zeros of both signs, the smallest and largest of all.
"""

import contextlib
import ctypes
import functools
import importlib.util
import runpy
import tempfile
import types
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import probes
import pytest
from conftest import missing, need
from guards import guarded

from fastlogits.backends.numba.interpreted import Records
from fastlogits.backends.numba.records import STRUCTURES
from fastlogits.kernels import machine as specification
from fastlogits.kernels import sizes
from fastlogits.kernels import unit as text

ROOT = Path(__file__).parents[1]
STORED = ("float32", "float64", "float16", "bfloat16")
LEVELS = ("generic", "v2", "v3", "v4")
ARGUMENTS = 4  # vectors that an operation takes
NUMBERS = 2048  # of each argument
GUARD = 7.25  # what the memory holds that nothing may write
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_ssize_t)


def real_of(stored):
    return np.dtype(np.float64 if stored == "float64" else np.float32)


# What operations are told to be for: `exponent` of numbers from 1 on, and so on


def from_one_on(values):
    with np.errstate(over="ignore"):
        return np.where(np.isnan(values) | (np.abs(values) < 1), 1 + np.abs(np.nan_to_num(values) % 1), np.abs(values))


def shifted(values):
    """Numbers with an exponent in their low bits."""
    wide = values.dtype == np.float64
    magic, lowest = (6755399441055744.0, -1022) if wide else (12582912.0, -126)
    return (magic + np.random.default_rng(2).integers(lowest - 1, 1 - lowest, values.shape)).astype(values.dtype)


def countable(values):
    return np.clip(np.nan_to_num(values), -(2.0**50), 2.0**50).astype(values.dtype)


DOMAINS = {
    "exponent": from_one_on, "mantissa": from_one_on, "double_exponent": from_one_on, "double_mantissa": from_one_on,
    "two_to": shifted, "double_two_to": shifted, "whole": countable, "largest": np.nan_to_num,
}  # fmt: skip


def special(real):
    info = np.finfo(real)
    sizes = [0, info.smallest_subnormal, info.tiny / 2, info.tiny, info.eps, 0.5, 1, 1 + info.eps, 3, info.max, np.inf]
    return np.array([*sizes, *(-np.array(sizes)), np.nan], real)


def numbers(real, shape, rng):
    """Every pair of special numbers, then a third of each: special, plain, of any exponent."""
    some = special(real)
    exponents = np.finfo(real).minexp, np.finfo(real).maxexp
    with np.errstate(over="ignore", under="ignore"):
        spread = np.ldexp(rng.uniform(-2, 2, shape), rng.integers(*exponents, shape)).astype(real)
    kinds = [rng.choice(some, shape), rng.standard_normal(shape).astype(real), spread]
    values = np.choose(rng.integers(0, 3, shape), kinds)
    pairs = np.array(np.meshgrid(some, some)).reshape(2, -1)
    values[:2, : pairs.shape[1]] = pairs
    return rng.permutation(values, axis=1)


def between_halves(stored, shape, rng):
    """Numbers about those of a half type and the midpoints between them."""
    bits = rng.integers(0, 1 << 16, shape).astype(np.uint16)
    lost = 16 if stored == "bfloat16" else 13
    with np.errstate(invalid="ignore"):  # NaNs that signal, on processors whose casts say so
        wide = specification.bfloat16_of(bits) if stored == "bfloat16" else bits.view(np.float16).astype(np.float32)
    offsets = np.array([0, 1, (1 << lost - 1) - 1, 1 << lost - 1, (1 << lost - 1) + 1], np.uint32)
    return (wide.view(np.uint32) + rng.choice(offsets, shape)).view(np.float32)


class Memory:
    """What a probe reads and writes, the same for every machine."""

    def __init__(self, probe, stored):
        rng = np.random.default_rng(1)
        real, name = real_of(stored), probes.operation_of(probe)
        domain = DOMAINS.get(name, lambda values: values)
        reals = numbers(real, (ARGUMENTS, NUMBERS), rng)
        if stored in ("float16", "bfloat16"):
            reals[:, NUMBERS // 2 :] = between_halves(stored, (ARGUMENTS, NUMBERS // 2), rng)
        if name == "fma" and real == np.float32:  # a sum that is rounded twice where a double holds it first
            reals[:3, 0] = 1 + 2.0**-15, 2.0**-24 * (1 - 2.0**-15), 1 + 2.0**-23
        reals = domain(reals)
        if name == "copy_sign":
            reals[0] = np.abs(reals[0])
        doubles = domain(numbers(np.float64, (3, NUMBERS), rng))
        if stored in ("float16", "bfloat16"):  # all of them
            arrays = rng.permutation(np.arange(1 << 16)).astype(np.uint16)
        else:
            arrays = reals.ravel()
        self.stored, self.name, self.probe = stored, name, probe
        # Every number that a half type has is loaded.
        self.all = probe in ("load", "number") and stored in ("float16", "bfloat16")
        room = arrays.size if self.all else 8 * NUMBERS
        arguments = {"x": arrays, "weight": reals.ravel(), "sample_weight": doubles.ravel()}
        self.inputs = {field: guarded(array) for field, array in arguments.items()}
        self.outputs = {
            "y": aligned(room, arrays.dtype, GUARD),
            "kept": aligned(room, real, GUARD),
            "losses": aligned(room, np.float64, GUARD),
            "sums": aligned(room, np.float64, GUARD),
            "indices": aligned(room, np.int64, -7),
        }
        if name in ("add_to", "add_exactly_to"):
            self.outputs["losses"][: 3 * NUMBERS] = doubles.ravel()
        self.task = STRUCTURES["Task"](
            rows=reals.size, classes=arrays.size, x_stride=NUMBERS, y_stride=NUMBERS,
            **{name: array.ctypes.data for name, array in (self.inputs | self.outputs).items()},
        )  # fmt: skip
        self.address = ctypes.addressof(self.task)
        self.before = {name: array.copy() for name, array in self.inputs.items()}

    def items(self, width):
        """How many times the probe does what it does."""
        if probes.takes_vectors(self.probe):
            return (1 << 16) // width - 1 if self.all else NUMBERS // width
        return 1 << 16 if self.all else NUMBERS

    def difference(self, expected):
        """Where this differs from what the specification has left, in words; None where it does not."""
        for name, array in self.inputs.items():
            if array.tobytes() != self.before[name].tobytes():
                return f"{name} was written to"
        for name, array in self.outputs.items():
            other = expected.outputs[name]
            bad = np.flatnonzero(~self.same(array, other))
            if len(bad):
                at = bad[0]
                return f"{name}[{at}] is {array[at]!r}, not {other[at]!r}; {len(bad)} differ"
        return None

    def same(self, array, other):
        """The same bits, or NaN both."""
        bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[array.itemsize]
        equal = array.view(bits) == other.view(bits)
        if array.dtype == np.uint16:
            largest = 0x7F80 if self.stored == "bfloat16" else 0x7C00
            return equal | ((array & 0x7FFF > largest) & (other & 0x7FFF > largest))
        if self.name == "largest":
            equal |= array == other  # which of two zeros is the larger is left open
        return equal | (np.isnan(array) & np.isnan(other))


def aligned(n, dtype, value):
    dtype = np.dtype(dtype)
    room = np.empty(n * dtype.itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64
    array = room[start : start + n * dtype.itemsize].view(dtype)
    array[:] = value
    return array


# The machines: each runs a probe on a task


@functools.cache
def folder():
    return tempfile.TemporaryDirectory(prefix="fastlogits-")


@functools.cache
def setup():
    """setup.py as a module that builds nothing."""
    with contextlib.chdir(ROOT), mock.patch("setuptools.setup"), mock.patch("sys.argv", ["setup.py"]):
        return types.SimpleNamespace(**runpy.run_path("setup.py"))


@functools.cache
def translated():
    """The C file of the probes."""
    build = need("Cython.Build")
    where = Path(folder().name)
    path = where / "unit.pyx"
    path.write_text(text.unit((*text.PLAN, probes.write(where))), encoding="utf-8")
    made = setup()
    (extension,) = build.cythonize(
        [setup().Extension("unit", [str(path)])],
        include_path=[str(ROOT / made.TEXT)],
        compiler_directives={**made.DIRECTIVES, "infer_types": True},
        quiet=True,
    )
    return extension.sources


@functools.cache
def compiled(isa, stored):
    """{probe: its address} for an instruction set, built as setup.py builds the text."""
    setuptools = need("setuptools")
    with contextlib.chdir(ROOT), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = setup()
        try:
            made.compiler_is_there()
        except SystemExit as error:
            missing("cython", error)
        march = {"generic": None, **made.LEVELS}[isa]
        extension = made.unit(f"{isa}_{stored}", translated(), march, made.STORED[stored])
        command = setuptools.Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = folder().name, str(Path(folder().name, isa, stored))
        command.ensure_finalized()
        command.run()
        path = Path(command.get_ext_fullpath(extension.name))
    spec = importlib.util.spec_from_file_location("unit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.KERNELS


def by_c(isa, stored):
    """(constants, {probe: its memory}) of the C compiler's machine."""
    cython = need("fastlogits.backends.cython")
    able = cython.LEVELS[: cython.LEVELS.index(cython._cpu.best()) + 1]
    if isa not in able or not any(cython.UNITS.glob(f"{isa}_*")):
        pytest.skip(f"{isa} was not built, or does not run here")
    kernels = {name: KERNEL(address) for name, address in compiled(isa, stored).items()}
    memory = Memory("constants", stored)
    kernels["probe_constants"](memory.address, None, 0, 1)
    constants = dict(zip(probes.CONSTANTS, memory.outputs["losses"].tolist(), strict=False))
    memories = {}
    for probe in wanted(constants):
        memory = memories[probe] = Memory(probe, stored)
        kernels[f"probe_{probe}"](memory.address, None, 0, memory.items(int(constants["WIDTH"])))
    return constants, memories


def by_numba(stored):
    numba = need("numba")
    from fastlogits.backends.numba.compiler import JIT
    from fastlogits.backends.numba.units import unit_of

    unit = unit_of(stored)
    machine = unit.package.machine
    namespace = {"machine": machine, "task_at": unit.records.task_at}
    exec(compile(probes.all_in_one(), "<probes>", "exec"), namespace)
    memories = {probe: Memory(probe, stored) for probe in probes.STATEMENTS}
    addresses = np.array([memory.address for memory in memories.values()])
    items = np.array([memory.items(machine.WIDTH) for memory in memories.values()])
    numba.njit(namespace["all_probes"], **JIT)(addresses, items)
    return {key: float(getattr(machine, key)) for key in probes.CONSTANTS}, memories


def wanted(constants):
    """The probes without the squares, where there are none."""
    return [probe for probe in probes.STATEMENTS if constants["SQUARES"] or not probe.startswith("square")]


@functools.cache
def interpreted(stored, lane_bytes, fused):
    machine = specification.machine_of(stored, lane_bytes)
    if not fused:
        machine.fma = machine.double_fma = lambda a, b, c: a * b + c
    kernels = {"machine": machine}
    exec(compile(probes.source(), "<probes>", "exec"), kernels)
    real = real_of(stored).name
    records = Records(real, "uint16" if stored in ("float16", "bfloat16") else real, sizes)

    def run(memory):
        with np.errstate(all="ignore"):
            task, n = records.task_at(memory.address), memory.items(machine.WIDTH)
            kernels[f"probe_{memory.probe}"](task, None, 0, n)

    return machine, run


@pytest.fixture(params=[*LEVELS, "numba"])
def name(request):
    return request.param


def test_every_operation_has_a_probe_and_every_machine_has_every_operation():
    declared = set(probes.OPERATIONS)
    assert len(declared) > 50  # so many are found
    assert {probes.operation_of(probe) for probe in probes.STATEMENTS} == declared
    for stored in STORED:
        names = declared | set(probes.CONSTANTS)
        machines = {"machine.py": specification.machine_of(stored)}
        if importlib.util.find_spec("numba"):
            machines["Numba's machine"] = need("fastlogits.backends.numba.machine").machine_of(stored)
        for machine, module in machines.items():
            there = {key for key in vars(module) if not key.startswith("__")}
            assert there == names, f"{machine} and machine.pxd differ: {sorted(there ^ names)}"


@pytest.mark.parametrize("stored", STORED)
def test_operations(name, stored):
    """Bit for bit, of vectors as wide as the machine's; which bits a NaN has is left open."""
    constants, memories = by_numba(stored) if name == "numba" else by_c(name, stored)
    # SSE2 has no instruction for a fused multiply-add: `fma` is a product, rounded, and a sum, rounded, there.
    fused = name == "numba" or not setup().X86 or name not in ("generic", "v2")
    machine, specified = interpreted(stored, int(constants["WIDTH"]) * real_of(stored).itemsize, fused)
    expected = {key: float(getattr(machine, key)) for key in probes.CONSTANTS}
    np.testing.assert_equal(constants, expected | ({} if constants["SQUARES"] else {"SQUARES": 0.0}))
    wrong = []
    for probe, ours in memories.items():
        expected = Memory(probe, stored)
        specified(expected)
        if difference := ours.difference(expected):
            wrong.append(f"{probe}: {difference}")
    assert not wrong, "\n".join(wrong)
