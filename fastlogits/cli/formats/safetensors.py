"""safetensors: named arrays behind a JSON header of their dtypes, shapes and places.

Its own library maps bfloat16 to no NumPy type, and writes only arrays that are wholly in memory; the format is a
length, the header and the data, so that it is read and written here.
"""

import json
import math
import struct

import numpy as np

from fastlogits.cli.failures import Failure, kept
from fastlogits.cli.formats import NUMBERS, bfloat16, choose
from fastlogits.cli.formats.raw import RawArray

HOLDS = NUMBERS | {"bfloat16"}
SEVERAL = True
ROWS = False
FOLDER = False
NEEDS = ()

CODES = {f"{kind[0].upper()}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
CODES |= {"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16"}
CODE_OF = {name: code for code, name in CODES.items()}
LONGEST_HEADER = 100_000_000    # the library's own bound


def open_array(path, key):
    with kept(open, path, "rb") as file:
        entries, start = read_header(file, path)
        entry = entries[choose(path, sorted(entries), key)]
        shape, code, (begin, end) = (entry[name] for name in ("shape", "dtype", "data_offsets"))
        if code not in CODES:
            raise Failure(path, f"expected one of {', '.join(CODES)}, found {code}")
        dtype = bfloat16(path) if code == "BF16" else np.dtype(CODES[code]).newbyteorder("<")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise Failure(path, f"damaged: {end - begin} bytes for {code} of shape {shape}")
        return RawArray(path, file, start + begin, shape, dtype)


def read_header(file, path):
    """The entries by name, and where the data begin."""
    size = file.read(8)
    length = struct.unpack("<Q", size)[0] if len(size) == 8 else LONGEST_HEADER + 1
    text = file.read(length) if length <= LONGEST_HEADER else b""
    if len(text) != length:
        raise Failure(path, "not a safetensors file, or a truncated one")
    entries = json.loads(text)
    entries.pop("__metadata__", None)
    return entries, 8 + length


def layout(specs):
    # The widest first, as the library does, so that all are aligned.
    names = sorted(specs, key=lambda name: (-specs[name][1].itemsize, name))
    entries, end = {}, 0
    for name in names:
        shape, dtype = specs[name]
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": CODE_OF[dtype.name], "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    offsets = {name: start + entries[name]["data_offsets"][0] for name in names}
    return struct.pack("<Q", len(text)) + text, offsets, start + end
