"""Which module reads and writes which files. A format is a module with these names; no base class, no registry:

HOLDS                       names of the dtypes that it can hold
SEVERAL                     whether a file holds several named arrays
ROWS                        whether they must have first axes of one length
FOLDER                      whether a folder is made, and no file
NEEDS                       the libraries that it is made with
open_array(path, key)       an array to read: `path`, `shape`, `dtype`, `chunks` (None, or lengths that are best read at
                            once), `fortran` (whether the first axis runs fastest), `ordered` (whether it is best
                            read from the beginning to the end), `read(region, buffer)` and `close()`
layout(specs)               where results are written straight into the file: header, offset of each array, file size
assemble(path, arrays)      where the file is made of finished arrays

Regions are as in `fastlogits.cli.regions`. `read` may put the result into `buffer`, bytes enough for it. `specs` are
{name: (shape, dtype)}.
"""

import hashlib
import importlib
import math
import numbers
import os
import re
import reprlib
import sys
from typing import NamedTuple

import numpy as np

from fastlogits.cli.failures import Failure, library

MODULES = {
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".zarr": "zarr",
    ".parquet": "parquet",
    ".h5": "h5",
    ".hdf5": "h5",
}
NAME = re.compile(rf"(.*?({'|'.join(map(re.escape, MODULES))}))(?::(.+))?", re.DOTALL | re.IGNORECASE)
NUMBERS = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"bool"}
NUMBERS |= {"float16", "float32", "float64"}
MOST_AXES = 64  # of NumPy's arrays
LISTED = 8


class Place(NamedTuple):
    """FILE or FILE:KEY, as typed."""

    path: str
    suffix: str
    key: str | None

    @property
    def format(self):
        return importlib.import_module(f"fastlogits.cli.formats.{MODULES[self.suffix]}")

    def open(self):
        """The array that lies there."""
        if not os.path.exists(self.path):
            raise Failure(self.path, "no such file")
        if not (os.path.isfile(self.path) or os.path.isdir(self.path)):
            raise Failure(self.path, "expected a file that can be read from any place")
        before = state(self.path)
        array = self.format.open_array(self.path, self.key)
        try:
            _check_shape(self.path, array.shape, array.dtype)
            if array.dtype == "V2":
                # What NumPy makes of bfloat16 when it is saved.
                array.dtype = bfloat16(self.path)
        except Failure:
            array.close()
            raise
        array.state = before
        return array


def _check_shape(path, shape, dtype):
    """That there can be such an array: a header may say anything."""
    lengths = all(isinstance(n, numbers.Integral) and not isinstance(n, bool) and n >= 0 for n in shape)
    if not lengths or len(shape) > MOST_AXES or math.prod(n for n in shape if n) * dtype.itemsize > sys.maxsize:
        raise Failure(path, f"damaged: no array is of shape {reprlib.repr(tuple(shape))}")


def place(text):
    """Raises ValueError where the format is not known."""
    match = NAME.fullmatch(text)
    if not match:
        raise ValueError(f"expected a file of {', '.join(MODULES)}, got {text!r}")
    path, suffix, key = match.groups()
    return Place(path, suffix.lower(), key)


def state(path):
    """What tells one state of a file or folder from another: sizes and times of the last change."""
    if not os.path.isdir(path):
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders.sort()
        for file in sorted(os.path.join(folder, name) for name in files):
            digest.update(repr((os.path.relpath(file, path), state(file))).encode())
    return digest.hexdigest()


def bfloat16(path):
    return np.dtype(library("ml_dtypes", path, "bf16").bfloat16)


def choose(path, names, key, example=None):
    """The name of the array that is meant; `example` is what one of them may be named."""
    if key is None and len(names) == 1:
        return names[0]
    listed = ", ".join(names[:LISTED]) or "none"
    if len(names) > LISTED:
        listed += f", ... ({len(names):,} in all)"
    if key is None:
        hint = f"; name one, as {path}:{example or names[0]}" if names else ""
        raise Failure(path, f"expected one array, found: {listed}{hint}")
    if key not in names:
        raise Failure(path, f"has no array {key!r}, only: {listed}")
    return key


def check_holds(target, results):
    """That `target` can hold arrays of these names, shapes and dtypes."""
    path, suffix, kind = target.path, target.suffix, target.format
    for name in kind.NEEDS:
        library(name, path)
    for _, dtype in results.values():
        if dtype.name not in kind.HOLDS:
            raise Failure(path, f"{suffix} cannot hold {dtype}: take .safetensors, or a --dtype")
    if len(results) > 1 and not kind.SEVERAL:
        raise Failure(path, f"{suffix} holds one array, not {' and '.join(results)}: take .npz or another")
    rows = {shape[:1] for shape, _ in results.values()}
    if kind.ROWS and (len(rows) > 1 or () in rows):
        raise Failure(path, f"{suffix} holds columns of equal length, which these are not: take .npz or another")
    if kind.ROWS and any(0 in shape[1:] for shape, _ in results.values()):
        raise Failure(path, f"{suffix} holds no rows without classes: take .npz or another")
