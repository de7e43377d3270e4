"""HDF5: datasets in groups. A file under construction that is left alone cannot be opened: it is made at the end."""

from fastlogits.cli.failures import kept, library, named
from fastlogits.cli.formats import NUMBERS, choose
from fastlogits.cli.regions import regions, steps

HOLDS = NUMBERS
SEVERAL = True
ROWS = False
FOLDER = False
NEEDS = ("h5py",)

COPY = 1 << 24


class Dataset:
    ordered = fortran = False

    def __init__(self, path, file, dataset):
        self.path, self.file, self.dataset = path, file, dataset
        self.shape, self.dtype, self.chunks = dataset.shape, dataset.dtype, dataset.chunks

    def read(self, region, buffer=None):
        with named(self.path):
            return self.dataset[region].view(self.dtype)

    def close(self):
        self.file.close()


def open_array(path, key):
    h5py = library("h5py", path)
    with kept(h5py.File, path, "r") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if _is_array(item, h5py) else None)
        return Dataset(path, file, file[choose(path, names, key)])


def _is_array(item, h5py):
    return isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "biufV"


def assemble(path, arrays):
    h5py = library("h5py", path)
    with named(path), h5py.File(path, "w") as file:
        for name, array in arrays.items():
            dataset = file.create_dataset(name, array.shape, array.dtype)
            for region in regions(array.shape, steps(array.shape, array.dtype.itemsize, COPY)):
                dataset[region] = array.read(region)
