"""Arrays in files of every format, written and read by the formats' own libraries."""

import json
import os
from typing import NamedTuple

import ml_dtypes
import numpy as np
from conftest import need

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Format(NamedTuple):
    write: object  # (path, {name: array})
    read: object  # path -> {name: array}
    library: str = "numpy"


def write_npy(path, arrays):
    (array,) = arrays.values()
    np.save(path, array)


def read_npz(path):
    with np.load(path) as file:
        return dict(file)


def write_safetensors(path, arrays):
    if any(array.dtype == BFLOAT16 for array in arrays.values()):  # which only its torch side knows
        torch = need("torch")
        tensors = {n: torch.from_numpy(a.view(np.int16)).view(torch.bfloat16) for n, a in arrays.items()}
        need("safetensors.torch").save_file(tensors, path)
    else:
        need("safetensors.numpy").save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, path)


def read_safetensors(path):
    if "BF16" not in json.dumps(header(path)):
        return need("safetensors.numpy").load_file(path)
    torch = need("torch")
    tensors = need("safetensors.torch").load_file(path)
    return {n: t.view(torch.int16).numpy().view(BFLOAT16) for n, t in tensors.items()}


def header(path):
    """Of a .safetensors, as text and numbers."""
    with open(path, "rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def write_h5(path, arrays):
    with need("h5py").File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True if array.ndim and array.size else None)


def read_h5(path):
    with need("h5py").File(path) as file:
        return {name: file[name][...] for name in file}


def write_zarr(path, arrays):
    group = need("zarr").open_group(path, mode="w")
    for name, array in arrays.items():
        group.create_array(name, data=array, chunks=tuple(max(1, n // 3) for n in array.shape))


def read_zarr(path):
    return {name: array[...] for name, array in need("zarr").open_group(path, mode="r").arrays()}


def write_parquet(path, arrays):
    arrow = need("pyarrow")
    columns = {name: arrow.array(array.tolist(), _lists(arrow, array)) for name, array in arrays.items()}
    need("pyarrow.parquet").write_table(arrow.table(columns), path, row_group_size=7)


def _lists(arrow, array):
    kind = arrow.from_numpy_dtype(array.dtype)
    for _ in array.shape[1:]:
        kind = arrow.list_(kind)
    return kind


def read_parquet(path):
    table, arrays = need("pyarrow.parquet").read_table(path), {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        while hasattr(kind, "value_type"):
            kind = kind.value_type
        arrays[name] = np.array(table[name].to_pylist(), kind.to_pandas_dtype())
    return arrays


FORMATS = {
    ".npy": Format(write_npy, lambda path: {None: np.load(path)}),
    ".npz": Format(lambda path, arrays: np.savez(path, **arrays), read_npz),
    ".safetensors": Format(write_safetensors, read_safetensors, "safetensors"),
    ".h5": Format(write_h5, read_h5, "h5py"),
    ".zarr": Format(write_zarr, read_zarr, "zarr"),
    ".parquet": Format(write_parquet, read_parquet, "pyarrow"),
}


def read(path):
    """{name: array}; the one array of an .npy has no name."""
    return FORMATS[os.path.splitext(path)[1]].read(path)
