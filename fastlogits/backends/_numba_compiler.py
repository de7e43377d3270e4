"""How the kernel text and its drivers are compiled, for long vectors, and cached, until what they use changes."""

import contextlib
import functools
import hashlib
import pickle
import sys
import types
import warnings
from pathlib import Path

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering

from fastlogits import _checks, kernels

TEXT_FOLDER = Path(kernels.__file__).parent
DIGEST_SIZE = hashlib.sha256().digest_size
MACHINE = [*sorted(Path(__file__).parent.glob("*numba*.py")), TEXT_FOLDER / "records.pxd", TEXT_FOLDER / "task.pxd"]


@functools.cache
def machine_stamp():
    return hashlib.sha256(b"".join(path.read_bytes() for path in MACHINE)).hexdigest()


def stamp(function):
    """A digest of all that the compiled `function` depends on: this backend, and the kernel text that it reaches."""
    reached, todo = {}, [function]
    while todo:
        value = todo.pop()
        value = getattr(value, "py_func", value)
        if isinstance(value, types.FunctionType) and value not in reached:
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
        modules = (vars(value) for value in found if isinstance(value, types.ModuleType))
        spaces += [module for module in modules if not any(module is known for known in spaces)]
    return values + [cell.cell_contents for cell in function.__closure__ or ()]


def named(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from named(constant)


def meaning(code, doc=None):
    """A function's text without its comments, layout and docstring."""
    constants = (meaning(value) if isinstance(value, types.CodeType) else repr(value) for value in code.co_consts)
    inner = [constant for constant in constants if doc is None or constant != repr(doc)]
    return code.co_code.hex(), *inner, *code.co_names, *code.co_varnames, *code.co_freevars


class WideLower(Lower):
    def pre_lower(self):
        super().pre_lower()
        # LLVM prefers 256 bits even where there are 512; where there are not, this has no effect.
        set.add(self.function.attributes, '"prefer-vector-width"="512"')


@register_pass(mutates_CFG=True, analysis_only=False)
class WideLowering(NativeLowering):
    _name = "fastlogits_lowering"
    lowering_class = WideLower


class WideCompiler(CompilerBase):
    def define_pipelines(self):
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [(WideLowering if p is NativeLowering else p, name) for p, name in manager.passes]
        manager.finalize()
        return [manager]


class CheckedFiles(IndexDataCacheFile):
    """Numba's files of a function, with a checksum; what is damaged, or another signature's, counts as absent."""

    def save(self, key, data):
        # Two processes that save at once may take the same number for different signatures.
        super().save(key, (key, data))

    def load(self, key):
        saved = super().load(key)
        return saved[1] if saved is not None and saved[0] == key else None

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
JIT = {"nogil": True, "error_model": "numpy", "fastmath": {"nsz"}}
TEXT = {**JIT, "pipeline_class": WideCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@functools.cache
def without_cache(reason):
    """Say so, once for each reason."""
    warnings.warn(_checks.not_cached(reason), stacklevel=2)


def compiled(function, name, **options):
    """`function`, to be compiled or loaded from the cache when it is called."""
    dispatcher = njit(function, **JIT, **options)
    if dispatcher is not function:  # NUMBA_DISABLE_JIT
        try:
            dispatcher._cache = TextCache(function, name)
        except (OSError, RuntimeError):
            without_cache("no folder is writeable")
    return dispatcher
