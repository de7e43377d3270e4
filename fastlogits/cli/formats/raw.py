"""Arrays that lie in a file as one piece of plain memory: .npy, .safetensors, what .npz stores uncompressed.

They are read and written with system calls into the same buffers again and again. A memory map would do as well,
but a file cut short or a full disk would kill the process, and its pages would count as ours.
"""

import math
import os

import numpy as np

from fastlogits.cli.failures import Failure, named
from fastlogits.cli.positioned import read_at, write_at
from fastlogits.cli.regions import lengths, runs
from fastlogits.cli.whole import is_at, sync


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


class Written(RawArray):
    """Results, read again piece by piece; before each, `ask` may raise."""

    def __init__(self, ask, *array):
        self.ask = ask
        super().__init__(*array)

    def read(self, region, buffer=None):
        self.ask()
        return super().read(region, buffer)


class RawFile:
    """A file of results at `path`, open as `descriptor`, written piece by piece in any order."""

    def __init__(self, path, descriptor, specs, layout):
        self.path, self.specs = path, specs
        self.file = open(descriptor, "r+b", buffering=0)
        self.header, self.offsets, self.size = layout(specs)

    def begin(self):
        with named(self.path):
            self.file.truncate(self.size)
            self._put(memoryview(self.header), 0)

    def status(self):
        return os.fstat(self.file.fileno())

    def is_there(self):
        return is_at(self.path, self.status())

    def check_length(self):
        if (size := self.status().st_size) != self.size:
            raise Failure(self.path, f"damaged: {self.size} bytes expected, {size} found")

    def check(self):
        """That it is there in its whole length, and that nobody has put another file in its place."""
        self.check_length()
        if not self.is_there():
            raise Failure(self.path, "was removed or replaced while it was in use")

    def write(self, name, region, values):
        # What somebody has cut short would grow again with this, and have a hole.
        self.check_length()
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
            sync(self.file.fileno())

    def arrays(self, ask):
        """What was written, to read."""
        return {n: Written(ask, self.path, self.file, self.offsets[n], *spec) for n, spec in self.specs.items()}

    def close(self):
        self.file.close()
