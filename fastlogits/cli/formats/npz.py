"""NumPy's .npz: a zip file of .npy files.

What is stored as it is (`np.savez`) is read in place; what is compressed is unpacked first, to a file without a
name in the folder for temporary files (TMPDIR).
"""

import shutil
import struct
import tempfile
import zipfile

from fastlogits.cli.failures import kept
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
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            member = archive.getinfo(choose(path, names, key) + ".npy")
            with archive.open(member) as content:
                shape, fortran, dtype = npy.read_header(content, path)
                start = content.tell()
                if member.compress_type != zipfile.ZIP_STORED:
                    unpacked = tempfile.TemporaryFile()
                    shutil.copyfileobj(content, unpacked, COPY)
                    unpacked.flush()
                    file.close()
                    return RawArray(path, unpacked, 0, shape, dtype, fortran)
        file.seek(member.header_offset + 26)
        start += member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
        return RawArray(path, file, start, shape, dtype, fortran)


def assemble(path, arrays):
    # Members get zip's earliest date, so that equal arrays make equal files.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as content:
                content.write(npy.header(array.shape, array.dtype))
                for region in regions(array.shape, steps(array.shape, array.dtype.itemsize, COPY)):
                    content.write(array.read(region).reshape(-1).view("uint8"))
