"""NumPy's .npy: one array."""

import io

from numpy.lib import format as npy

from fastlogits.cli.failures import Failure, kept
from fastlogits.cli.formats import NUMBERS, choose
from fastlogits.cli.formats.raw import RawArray

HOLDS = NUMBERS
SEVERAL = False
ROWS = False
FOLDER = False
NEEDS = ()


def open_array(path, key):
    if key is not None:
        choose(path, [], key)
    with kept(open, path, "rb") as file:
        shape, fortran, dtype = read_header(file, path)
        return RawArray(path, file, file.tell(), shape, dtype, fortran)


def read_header(file, path):
    """(shape, whether in Fortran order, dtype); the file stands at the data afterwards."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise Failure(path, f"version {version[0]}.{version[1]} of .npy, which holds records only")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise Failure(path, "expected numbers, found Python objects")
    return shape, fortran, dtype


def header(shape, dtype):
    """The bytes before the data."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return file.getvalue()


def layout(specs):
    ((name, (shape, dtype)),) = specs.items()
    begin = header(shape, dtype)
    size = dtype.itemsize
    for n in shape:
        size *= n
    return begin, {name: len(begin)}, len(begin) + size
