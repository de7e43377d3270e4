"""Memory: the peak of a process, and what one call takes beyond the arrays it is given."""

import ctypes
import sys
from pathlib import Path

import fastlogits

from .common import DTYPES, OPERATIONS, Inputs, check

MEBIBYTE = 1 << 20
SIZE = "256x32000"
M_MMAP_THRESHOLD = -3


def resident_peak():
    """The largest resident size so far, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise NotImplementedError("no VmHWM in /proc/self/status")


def forget_what_is_free():
    """Give free memory back to the system, so that what a call takes next raises the peak.

    glibc keeps what was freed, of up to 32 MB once such a block was freed, and the package two large results.
    """
    fastlogits.empty_cache()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MEBIBYTE)
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak


class Memory:
    param_names = ("operation", "backend", "dtype")
    params = (tuple(OPERATIONS), ("cython", "numba"), tuple(DTYPES))

    def setup(self, operation, backend, dtype):
        inputs, self.operation = Inputs(SIZE, dtype), OPERATIONS[operation]
        arrays = [getattr(inputs, field).copy() for field in self.operation.takes]
        with fastlogits.settings(backend=backend):
            check(operation, self.operation.call(fastlogits, *arrays), inputs)
        self.arrays, self.backend = arrays, backend

    def track_beyond_the_inputs(self, *_):
        forget_what_is_free()
        before = resident_peak()
        with fastlogits.settings(backend=self.backend):
            self.operation.call(fastlogits, *self.arrays)
        return resident_peak() - before

    track_beyond_the_inputs.unit = "MiB"


class Peak:
    """Loss and gradient in place: the whole process, the interpreter and the setup included."""

    def setup(self):
        self.inputs = Inputs(SIZE, "float32")
        self.arrays = [self.inputs.logits, self.inputs.labels]

    def peakmem_loss_grad_in_place(self):
        OPERATIONS["loss_grad_in_place"].call(fastlogits, *self.arrays)
