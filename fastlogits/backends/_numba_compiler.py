"""How the kernel text and its drivers are compiled, for long vectors, and cached, until any of it changes."""

import contextlib
import functools
import hashlib
import pickle
import sys
import warnings
from pathlib import Path

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering

from fastlogits import _checks, kernels

KERNELS = Path(kernels.__file__).parent
FILES = [*sorted(KERNELS.glob("*.py")), *sorted(Path(__file__).parent.glob("*numba*.py"))]
DIGEST_SIZE = hashlib.sha256().digest_size
STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in FILES)).hexdigest()


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
    """Numba's own looks at the file of the driver alone, this one at every file that goes into it."""

    def __init__(self, function, name):
        super().__init__(function)
        name = f"fastlogits.{name}.{sys.implementation.cache_tag}"
        self._cache_file = CheckedFiles(self.cache_path, name, STAMP)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            without_cache(error.strerror)

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple()


# Contraction and a lost sign of 0 do no harm; nothing may change the order of a formula.
JIT = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
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
