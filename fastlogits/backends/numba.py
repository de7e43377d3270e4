"""The kernel text compiled by Numba at its first use, for the processor at hand.

The texts are loaded by path under names of their own, since `fastlogits.kernels.softmax` may be the compiled module,
and each function is replaced by its jitted self. With NUMBA_DISABLE_JIT=1 the interpreter runs them.
"""

import collections
import importlib.machinery
import importlib.util
import sys
import threading
from pathlib import Path

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastlogits import kernels

FOLDER = Path(kernels.__file__).parent
INTERPRETED = bool(numba.config.DISABLE_JIT)
REGION = 1 << 25  # logits in one parallel region: tens of milliseconds, between which Ctrl-C is heard
SHORT_CLASSES = 32

# Contraction and -0 are free of harm everywhere; the order of additions only in the primitives that sum.
JIT = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}, "cache": True}
SUM = {**JIT, "fastmath": {"contract", "nsz", "reassoc"}}

Options = collections.namedtuple(
    "Options",
    "classes x_stride grad_stride targets_stride ignore_index smoothing z_loss softcap scale grad_scale storage "
    "soft weighted sampled upstream spread bent negative keep with_grad",
)
