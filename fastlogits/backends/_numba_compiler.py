"""How the kernel text and its drivers are compiled, for long vectors, and cached, until any of it changes."""

import hashlib
import sys
from pathlib import Path

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering

from fastlogits import kernels

TEXT_FOLDER = Path(kernels.__file__).parent
FILES = [*sorted(TEXT_FOLDER.glob("*.p*")), *sorted(Path(__file__).parent.glob("*numba*.py"))]
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


class TextCache(FunctionCache):
    """Numba's own looks at the file of the driver alone, this one at every file that goes into it."""

    def __init__(self, function, name):
        super().__init__(function)
        name = f"fastlogits.{name}.{sys.implementation.cache_tag}"
        self._cache_file = IndexDataCacheFile(self.cache_path, name, STAMP)

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple()


# A lost sign of 0 does no harm; nothing may change the order of a formula, or fuse what it does not call fma.
JIT = {"nogil": True, "error_model": "numpy", "fastmath": {"nsz"}}
TEXT = {**JIT, "pipeline_class": WideCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function, name, **options):
    """`function`, to be compiled or loaded from the cache when it is called."""
    dispatcher = njit(function, **JIT, **options)
    if dispatcher is not function:  # NUMBA_DISABLE_JIT
        dispatcher._cache = TextCache(function, name)
    return dispatcher
