"""Zarr: a folder with one file per chunk."""

from fastlogits.cli.failures import library, named
from fastlogits.cli.formats import NUMBERS, choose
from fastlogits.cli.regions import regions, steps

HOLDS = NUMBERS
SEVERAL = True
ROWS = False
FOLDER = True
NEEDS = ("zarr",)

CHUNK = 1 << 24


class Chunked:
    ordered = fortran = False

    def __init__(self, path, array):
        self.path, self.array = path, array
        self.shape, self.dtype = array.shape, array.dtype
        self.chunks = array.chunks  # also within shards, whose chunks are read one by one

    def read(self, region, buffer=None):
        with named(self.path):
            return self.array[region]

    def close(self):
        pass


def open_array(path, key):
    zarr = library("zarr", path)
    with named(path):
        found = zarr.open(path, mode="r")
        if isinstance(found, zarr.Group):
            arrays = {n: item for n, item in found.members(max_depth=None) if isinstance(item, zarr.Array)}
            found = arrays[choose(path, sorted(arrays), key)]
        elif key is not None:
            choose(path, [], key)
        return Chunked(path, found)


def assemble(path, arrays):
    zarr = library("zarr", path)
    with named(path):
        group = zarr.open_group(path, mode="a")
        for name, array in arrays.items():
            step = steps(array.shape, array.dtype.itemsize, CHUNK)
            chunks = tuple(max(1, n) for n in step)
            target = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks)
            for region in regions(array.shape, step):
                target[region] = array.read(region)
