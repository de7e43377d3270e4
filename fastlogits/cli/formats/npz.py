"""NumPy's .npz: a zip file of .npy files.

What is stored as it is (`np.savez`) is read in place, after its check sum was compared; what is compressed is unpacked
first, to a file without a name in the folder for temporary files (TMPDIR).
"""

import math
import struct
import tempfile
import zipfile

from fastlogits.cli.failures import Failure, kept, named
from fastlogits.cli.formats import NUMBERS, choose, npy
from fastlogits.cli.formats.raw import RawArray
from fastlogits.cli.regions import regions, steps

HOLDS = NUMBERS
SEVERAL = True
ROWS = False
FOLDER = False
NEEDS = ()

COPY = 1 << 24


def open_array(path, key):
    with kept(open, path, "rb") as file:
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            member = archive.getinfo(choose(path, names, key) + ".npy")
            with archive.open(member) as content:
                shape, fortran, dtype = npy.read_header(content, path)
                start = content.tell()
                _check_size(path, member, start + dtype.itemsize * math.prod(shape))
                if member.compress_type != zipfile.ZIP_STORED:
                    with kept(lambda _: tempfile.TemporaryFile(), path) as unpacked:
                        _unpack(content, unpacked)
                        file.close()
                        return RawArray(path, unpacked, 0, shape, dtype, fortran)
                # zipfile compares the check sum at the end.
                while content.read(COPY):
                    pass
        file.seek(member.header_offset + 26)
        start += member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
        return RawArray(path, file, start, shape, dtype, fortran)


def _check_size(path, member, size):
    """That the member holds what its header declares: less would end in the next one, more may fill the disk."""
    sizes = {member.file_size} | ({member.compress_size} if member.compress_type == zipfile.ZIP_STORED else set())
    if sizes != {size}:
        found = next(iter(sizes - {size}))
        raise Failure(path, f"damaged: {size} bytes of {member.filename} expected, {found} found")


def _unpack(content, file):
    while data := content.read(COPY):
        with named(tempfile.gettempdir()):
            file.write(data)
            file.flush()


def assemble(path, arrays):
    # Members get zip's earliest date, so that equal arrays make equal files.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as content:
                content.write(npy.header(array.shape, array.dtype))
                for region in regions(array.shape, steps(array.shape, array.dtype.itemsize, COPY)):
                    content.write(array.read(region).reshape(-1).view("uint8"))
