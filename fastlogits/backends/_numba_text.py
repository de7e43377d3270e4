"""The kernel text, each function replaced by its jitted self; as it stands with NUMBA_DISABLE_JIT=1.

They are read by path into modules of their own, since `fastlogits.kernels.softmax` may be the compiled one.
"""

import sys
import types

import numba

from fastlogits.backends import _numba_machine, _numba_squares
from fastlogits.backends._numba_compiler import KERNELS, TEXT


def load(name):
    """kernels/<name>.py, with what it imports from there taken from here."""
    path = KERNELS / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    source = source.replace("from fastlogits.kernels import", f"from {__name__} import")
    module = types.ModuleType(f"{__name__}.{name}")
    sys.modules[module.__name__] = module  # where Numba's cache looks for it
    exec(compile(source, path, "exec"), vars(module))
    for key, value in list(vars(module).items()):
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            setattr(module, key, numba.njit(value, **TEXT))
    return module


machine = load("machine") if numba.config.DISABLE_JIT else _numba_machine
squares = load("squares") if numba.config.DISABLE_JIT else _numba_squares
scalars = load("scalars")
reductions = load("reductions")
order = load("order")
each = load("each")
rows = load("rows")
tiles = load("tiles")
storage = load("storage")
primitives = load("primitives")
softmax = load("softmax")
pieces = load("pieces")
backward = load("backward")
lanes = load("lanes")
cross_entropy = load("cross_entropy")
cross_entropy_lanes = load("cross_entropy_lanes")
moments = load("moments")
radix = load("radix")
topk = load("topk")
row_stats = load("row_stats")
filters = load("filters")
philox = load("philox")
sampling = load("sampling")
