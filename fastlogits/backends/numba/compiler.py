"""How the kernel text and its drivers are compiled, for long vectors, and cached, until what they use changes."""

import contextlib
import functools
import hashlib
import pickle
import sys
import warnings
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import numpy as np
from numba import _dynfunc, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering

from fastlogits import _checks, kernels

TEXT_FOLDER = Path(kernels.__file__).parent
DIGEST_SIZE = hashlib.sha256().digest_size
MACHINE = [*sorted(Path(__file__).parent.glob("*.py")), TEXT_FOLDER / "records.pxd", TEXT_FOLDER / "task.pxd"]


@functools.cache
def machine_stamp():
    return hashlib.sha256(b"".join(path.read_bytes() for path in MACHINE)).hexdigest()


def stamp(function):
    """A digest of all that the compiled `function` depends on: this backend, and the kernel text that it reaches."""
    reached, todo = {}, [function]
    while todo:
        value = todo.pop()
        value = getattr(value, "py_func", value)
        if isinstance(value, FunctionType) and value not in reached:
            reached[value], names = own(value)
            todo += names
    return hashlib.sha256(repr((machine_stamp(), sorted(reached.values()))).encode()).hexdigest()


@functools.cache
def own(function):
    """A function's own text with the numbers that it names, and all that it names."""
    values = used(function)
    numbers = sorted(repr(value) for value in values if isinstance(value, (bool, int, float, np.generic)))
    return repr((function.__qualname__, meaning(function.__code__, function.__doc__), numbers)), values


def used(function):
    """What a function names: variables around it, its module's, and those of modules that it names."""
    names, values, spaces = set(named(function.__code__)), [], [function.__globals__]
    for space in spaces:  # which grows
        found = [value for name, value in space.items() if name in names]
        values += found
        modules = (vars(value) for value in found if isinstance(value, ModuleType))
        spaces += [module for module in modules if not any(module is known for known in spaces)]
    return values + [cell.cell_contents for cell in function.__closure__ or ()]


def named(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from named(constant)


def meaning(code, doc=None):
    """A function's text without its comments, layout and docstring."""
    constants = (meaning(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts)
    inner = [constant for constant in constants if doc is None or constant != repr(doc)]
    return code.co_code.hex(), *inner, *code.co_names, *code.co_varnames, *code.co_freevars


class WideLower(Lower):
    def pre_lower(self):
        super().pre_lower()
        # LLVM prefers 256 bits even where there are 512; where there are not, this has no effect.
        set.add(self.function.attributes, '"prefer-vector-width"="512"')


class DriverLower(WideLower):
    def pre_lower(self):
        super().pre_lower()
        self.function.attributes.add("noinline")  # into Numba's wrapper, which prefers what LLVM prefers


class TextLibrary(JITCodeLibrary):
    """Of a function that is optimised and translated only as part of the drivers that reach it."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class DriverLowering(NativeLowering):
    _name = "fastlogits_driver_lowering"
    lowering_class = DriverLower


@register_pass(mutates_CFG=True, analysis_only=False)
class TextLowering(NativeLowering):
    _name = "fastlogits_text_lowering"
    lowering_class = WideLower

    def run_pass(self, state):
        state.library = TextLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered, library = state["cr"], state.library
        # What other functions know it by
        name, module = lowered.fndesc.qualname, lowered.fndesc.lookup_module()
        function = _dynfunc.make_function(module, name, "", 0, lowered.env, (library,))
        state.targetctx.insert_user_function(function, lowered.fndesc, [library])
        state["cr"] = lowered._replace(cfunc=function)
        return True


class DriverCompiler(CompilerBase):
    lowering = DriverLowering

    def define_pipelines(self):
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [(self.lowering if p is NativeLowering else p, name) for p, name in manager.passes]
        manager.finalize()
        return [manager]


class TextCompiler(DriverCompiler):
    lowering = TextLowering


class CheckedFiles(IndexDataCacheFile):
    """Numba's files of a function, with a checksum; what is damaged counts as absent."""

    def _load_index(self):
        with contextlib.suppress(Exception):  # unpickling raises whatever the damage suggests
            return super()._load_index()
        return {}

    def _load_data(self, name):
        content = Path(self._data_path(name)).read_bytes()
        data, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
        return pickle.loads(data) if hashlib.sha256(data).digest() == digest else None

    def _dump(self, obj):
        data = super()._dump(obj)
        return data + hashlib.sha256(data).digest()


class TextCache(FunctionCache):
    """Numba's own looks at the file of the driver alone, this one at every function that goes into it."""

    def __init__(self, function, name):
        super().__init__(function)
        name = f"fastlogits.{name}.{sys.implementation.cache_tag}"
        self._cache_file = CheckedFiles(self.cache_path, name, stamp(function))

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            without_cache(error.strerror)

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple()


# A lost sign of 0 does no harm; nothing may change the order of a formula, or fuse what it does not call fma.
JIT = {"nogil": True, "error_model": "numpy", "fastmath": {"nsz"}, "_nrt": False}
TEXT = {**JIT, "pipeline_class": TextCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@functools.cache
def without_cache(reason):
    """Say so, once for each reason."""
    warnings.warn(_checks.not_cached(reason), stacklevel=2)


def compiled(function, name):
    """`function(address, part)` as a function of C, compiled or loaded from the cache."""
    # Numba numbers what a process compiles, and links by name and number: functions of the same name that two processes
    # have compiled and a third one loads would be taken for each other.
    function.__qualname__ = name
    signature = (types.intp, types.intp), types.none
    driver = CFunc(function, signature, {}, JIT, pipeline_class=DriverCompiler)
    try:
        driver._cache = TextCache(function, name)
    except (OSError, RuntimeError):
        without_cache("no folder is writeable")
    driver.compile()
    return driver
