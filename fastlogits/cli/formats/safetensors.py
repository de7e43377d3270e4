"""safetensors: named arrays behind a JSON header of their dtypes, shapes and places.

Its own library writes only arrays that are wholly in memory; the format is a length, the header and the data, so that
it is read and written here.
"""

import json
import math
import os
import reprlib
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
LONGEST_HEADER = 100_000_000  # the library's own bound


def open_array(path, key):
    with kept(open, path, "rb") as file:
        entries, start = read_header(file, path)
        entry = entries[choose(path, sorted(entries), key)]
        shape, code, (begin, end) = (entry[name] for name in ("shape", "dtype", "data_offsets"))
        if code not in CODES:
            raise Failure(path, f"expected one of {', '.join(CODES)}, found {reprlib.repr(code)}")
        dtype = bfloat16(path) if code == "BF16" else np.dtype(CODES[code]).newbyteorder("<")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise Failure(path, f"damaged: {end - begin} bytes for {code} of shape {reprlib.repr(shape)}")
        return RawArray(path, file, start + begin, shape, dtype)


def read_header(file, path):
    """The entries by name, and where the data begin."""
    size = file.read(8)
    length = struct.unpack("<Q", size)[0] if len(size) == 8 else LONGEST_HEADER + 1
    text = file.read(length) if length <= LONGEST_HEADER else b""
    if len(text) != length:
        raise Failure(path, "not a safetensors file, or a truncated one")
    entries = json.loads(text)
    if not isinstance(entries, dict):
        raise Failure(path, "damaged: the header is no table of arrays")
    entries.pop("__metadata__", None)
    for name, entry in entries.items():
        if not _is_entry(entry):
            raise Failure(path, f"damaged: the entry of {reprlib.repr(name)}")
    _check_offsets(path, entries, 8 + length, os.fstat(file.fileno()).st_size)
    return entries, 8 + length


def _is_entry(entry):
    if not isinstance(entry, dict):
        return False
    code, shape, offsets = (entry.get(name) for name in ("dtype", "shape", "data_offsets"))
    lists = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2
    return isinstance(code, str) and lists and all(type(n) is int and n >= 0 for n in (*shape, *offsets))


def _check_offsets(path, entries, start, size):
    """That the arrays lie one behind the other, up to the end of the file: the format allows nothing else."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = entry["data_offsets"]
        if begin != end or stop < begin:
            raise Failure(path, f"damaged: {reprlib.repr(name)} lies at {begin} to {stop}, after what ends at {end}")
        end = stop
    if start + end != size:
        what = "truncated" if start + end > size else "damaged"
        raise Failure(path, f"{what}: {start + end} bytes expected, {size} found")


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
