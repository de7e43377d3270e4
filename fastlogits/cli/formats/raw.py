"""Arrays that lie in a file as one piece of plain memory: .npy, .safetensors, what .npz stores uncompressed.

They are read and written with system calls into the same buffers again and again. A memory map would do as well,
but a file cut short or a full disk would kill the process, and its pages would count as ours.
"""

import math
import os

import numpy as np

from fastlogits.cli.failures import Failure, kept, named
from fastlogits.cli.positioned import read_at, write_at
from fastlogits.cli.regions import lengths, runs


class RawArray:
    """An array at `offset` of a file; `fortran` says that its first axis runs fastest."""

    chunks = None
    ordered = False

    def __init__(self, path, file, offset, shape, dtype, fortran=False):
        self.path, self.file, self.offset = path, file, offset
        self.shape, self.dtype, self.fortran = tuple(shape), dtype, fortran
        needed = offset + dtype.itemsize * math.prod(shape)
        if (size := os.fstat(file.fileno()).st_size) < needed:
            raise Failure(path, f"truncated: {needed} bytes expected, {size} found")

    def read(self, region, buffer=None):
        part = lengths(region)
        size = math.prod(part) * self.dtype.itemsize
        if buffer is None:
            buffer = np.empty(size, np.uint8)
        view, done = memoryview(buffer)[:size], 0
        shape = self.shape
        if self.fortran:
            shape, region = shape[::-1], region[::-1]
        starts, length = runs(shape, region, self.dtype.itemsize)
        for start in starts:
            self._fill(view[done : done + length], self.offset + start)
            done += length
        array = buffer[:size].view(self.dtype)
        return array.reshape(part[::-1]).T if self.fortran else array.reshape(part)

    def _fill(self, view, offset):
        with named(self.path):
            while view:
                count = read_at(self.file, view, offset)
                if not count:
                    raise Failure(self.path, "became shorter while it was read")
                view, offset = view[count:], offset + count

    def close(self):
        self.file.close()

class RawFile:
    """A file of results, written piece by piece in any order; what is there of it stays."""

    def __init__(self, path, specs, layout):
        self.path, self.specs = path, specs
        header, self.offsets, size = layout(specs)
        mode = "r+b" if os.path.exists(path) else "w+b"
        if mode == "r+b" and os.path.getsize(path) != size:
            raise Failure(path, f"damaged: {size} bytes expected, {os.path.getsize(path)} found")
        with kept(open, path, mode, buffering=0) as self.file:
            self.file.truncate(size)
            self._put(memoryview(header), 0)

    def write(self, name, region, values):
        shape, dtype = self.specs[name]
        view, done = memoryview(np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)), 0
        starts, length = runs(shape, region, dtype.itemsize)
        for start in starts:
            self._put(view[done : done + length], self.offsets[name] + start)
            done += length

    def _put(self, view, offset):
        with named(self.path):
            while view:
                count = write_at(self.file, view, offset)
                view, offset = view[count:], offset + count

    def sync(self):
        with named(self.path):
            os.fsync(self.file.fileno())

    def arrays(self):
        """What was written, to read."""
        return {n: RawArray(self.path, self.file, self.offsets[n], *spec) for n, spec in self.specs.items()}

    def close(self):
        self.file.close()
