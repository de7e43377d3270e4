"""`fastlogits apply`: every operation, from and to every format, equals the function on the array in memory."""

import contextlib
import io
import json

import files
import numpy as np
import oracle
import pytest
from conftest import need
from files import BFLOAT16, FORMATS
from tolerance import assert_close

import fastlogits
from fastlogits.cli import main


def apply(*words):
    """What the command says in JSON."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["apply", *map(str, words), "--json", "--no-progress"]) == 0
    return json.loads(output.getvalue())


@pytest.fixture
def logits(rng):
    x = rng.normal(scale=4, size=(60, 33)).astype(np.float32)
    x[3, 5] = np.nan
    x[4] = -np.inf
    x[5, 7] = np.inf
    x[6, ::2] = -np.inf
    return x


@pytest.fixture
def labels(rng):
    labels = rng.integers(33, size=60)
    labels[10] = -100
    return labels


def top(logits, k, axis=-1):
    return fastlogits.topk(logits, k, axis)._asdict()


def drawn(logits, axis=-1, seed=0, **filters):
    """Of rows that cannot be sampled, -1 and NaN."""
    bad = ~np.isfinite(logits.max(axis))
    sample = fastlogits.sample(
        np.where(np.expand_dims(bad, axis), np.float32(0), logits), seed=seed, axis=axis, **filters
    )
    return {"ids": np.where(bad, -1, sample.ids), "log_probs": np.where(bad, np.float32("nan"), sample.log_probs)}


def stats(logits, labels=None, axis=-1, **options):
    return vars(fastlogits.row_stats(logits, labels, axis=axis, **options))


# name: (options, what the results must be)
OPERATIONS = {
    "softmax": ([], lambda x, y, axis: {"probs": fastlogits.softmax(x, axis)}),
    "softmax, warm": (
        ["--temperature", "2.5"],
        lambda x, y, axis: {"probs": fastlogits.softmax(x, axis, temperature=2.5)},
    ),
    "log-softmax": ([], lambda x, y, axis: {"log_probs": fastlogits.log_softmax(x, axis)}),
    "logsumexp": ([], lambda x, y, axis: {"lse": np.asarray(fastlogits.logsumexp(x, axis))}),
    "argmax": ([], lambda x, y, axis: {"argmax": fastlogits.argmax(x, axis)}),
    "topk": (["--top-k", "4"], lambda x, y, axis: top(x, 4, axis)),
    "stats": ([], lambda x, y, axis: stats(x, axis=axis)),
    "stats, some": (
        ["--want", "margin,topk_log_probs", "--top-k", "3"],
        lambda x, y, axis: stats(x, want=["margin", "topk_log_probs"], top_k=3, axis=axis),
    ),
    "stats, labels": (["--labels"], lambda x, y, axis: stats(x, y, axis=axis)),
    "sample": ([], lambda x, y, axis: drawn(x, axis)),
    "sample, filtered": (
        ["--seed", "7", "--temperature", "1.5", "--top-k", "20", "--top-p", "0.9", "--min-keep", "2"],
        lambda x, y, axis: drawn(x, axis, seed=7, temperature=1.5, top_k=20, top_p=0.9, min_keep=2),
    ),
    "temperature": (
        ["--temperature", "1.7"],
        lambda x, y, axis: {"logits": (x.astype(np.float64) / 1.7).astype(x.dtype)},
    ),
}


def run(name, source, target, labels, *words):
    options = list(OPERATIONS[name][0])
    if "--labels" in options:
        options.append(labels)
    apply(name.partition(",")[0], source, target, *options, *words)


def assert_same(path, expected):
    found = files.read(path)
    if set(found) == {None}:
        found = dict.fromkeys(expected, found[None])
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("target", [".npz", ".safetensors"])
def test_operations(name, target, logits, labels, tmp_path):
    np.save(tmp_path / "x.npy", logits)
    np.save(tmp_path / "y.npy", labels)
    run(name, tmp_path / "x.npy", tmp_path / f"out{target}", tmp_path / "y.npy")
    assert_same(tmp_path / f"out{target}", OPERATIONS[name][1](logits, labels, -1))


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_formats(source, target, logits, tmp_path):
    for suffix in (source, target):
        need(FORMATS[suffix].library)
    FORMATS[source].write(tmp_path / f"x{source}", {"logits": logits})
    apply("softmax", tmp_path / f"x{source}", tmp_path / f"out{target}")
    assert_same(tmp_path / f"out{target}", {"probs": fastlogits.softmax(logits)})


@pytest.mark.parametrize("target", [suffix for suffix in FORMATS if suffix != ".npy"])
def test_several_results(target, logits, labels, tmp_path):
    """Also: labels from the file of the logits."""
    FORMATS[target].write(tmp_path / f"x{target}", {"logits": logits, "labels": labels})
    x, out = f"{tmp_path / 'x'}{target}", tmp_path / f"out{target}"
    apply("stats", f"{x}:logits", out, "--labels", f"{x}:labels", "--top-k", 2)
    assert_same(out, stats(logits, labels, top_k=2))


AXES = [((7, 5, 6), axis) for axis in (0, 1, 2, -2)] + [((9,), 0), ((3, 4, 2, 5), 1)]


@pytest.mark.parametrize(("shape", "axis"), AXES)
@pytest.mark.parametrize("name", ["softmax", "logsumexp", "topk", "stats, labels", "sample"])
@pytest.mark.parametrize("memory", ["512MB", "3KB", "200"])
def test_any_axis_in_blocks(shape, axis, name, memory, rng, tmp_path):
    x = rng.normal(size=shape).astype(np.float32)
    y = rng.integers(shape[axis], size=np.delete(shape, axis))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    run(name, *(tmp_path / n for n in ("x.npy", "out.npz", "y.npy")), "--axis", axis, "--memory", memory)
    expected = OPERATIONS[name][1](x, y, axis)
    found = files.read(tmp_path / "out.npz")
    for result, array in expected.items():
        if array.dtype.kind == "f" and memory != "512MB":
            np.testing.assert_array_max_ulp(found[result], array, 2)
        else:
            np.testing.assert_array_equal(found[result], array)


DTYPES = ["float16", "float32", "float64", "int8", "int64", "uint16", "bool", ">f4", "<f8"]


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype, source, rng, tmp_path):
    need(FORMATS[source].library)
    x = rng.normal(scale=3, size=(20, 9)).astype(dtype)
    if source == ".parquet":
        x = x.astype(x.dtype.newbyteorder("="))
    FORMATS[source].write(tmp_path / f"x{source}", {"x": x})
    target = source if x.dtype.kind == "f" else ".npz"
    apply("softmax", tmp_path / f"x{source}", tmp_path / f"out{target}")
    assert_same(tmp_path / f"out{target}", {"probs": fastlogits.softmax(x.astype(x.dtype.newbyteorder("=")))})


@pytest.mark.parametrize("source", [".npy", ".npz", ".safetensors", ".h5"])
def test_bfloat16(source, rng, tmp_path):
    """NumPy and HDF5 store its raw bytes."""
    x = rng.normal(scale=3, size=(20, 9)).astype(BFLOAT16)
    FORMATS[source].write(tmp_path / f"x{source}", {"x": x.view("V2") if source == ".h5" else x})
    apply("softmax", tmp_path / f"x{source}", tmp_path / "out.safetensors")
    assert_same(tmp_path / "out.safetensors", {"probs": fastlogits.softmax(x)})


@pytest.mark.parametrize("op", ["softmax", "logsumexp", "stats"])
def test_dtype_option(op, rng, tmp_path):
    """Results are computed in the wider of both types."""
    x = rng.normal(scale=3, size=(20, 9))
    for given, wanted, computed in (("f2", "float32", "f4"), ("f8", "float16", "f8"), ("i4", "float32", "f8")):
        np.save(tmp_path / "x.npy", x.astype(given))
        apply(op, tmp_path / "x.npy", tmp_path / "out.npz", "--dtype", wanted, "--force")
        expected = OPERATIONS[op][1](x.astype(given).astype(computed), None, -1)
        floats = {n: a.astype(wanted) if a.dtype.kind == "f" else a for n, a in expected.items()}
        assert_same(tmp_path / "out.npz", floats)


def test_fortran_order(rng, tmp_path):
    x = rng.normal(size=(11, 7, 5))
    np.save(tmp_path / "x.npy", np.asfortranarray(x))
    for axis in range(3):
        for memory in ("1MB", "4KB", "500"):
            apply("softmax", tmp_path / "x.npy", tmp_path / "out.npy", "--force", "--axis", axis, "--memory", memory)
            np.testing.assert_array_max_ulp(np.load(tmp_path / "out.npy"), fastlogits.softmax(x, axis), 2)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (2, 0, 3)])
def test_empty(shape, tmp_path):
    x = np.zeros(shape, np.float32)
    np.save(tmp_path / "x.npy", x)
    for target in (".npy", ".npz", ".safetensors", ".h5", ".zarr"):
        need(FORMATS[target].library)
        apply("softmax", tmp_path / "x.npy", tmp_path / f"p{target}")
        assert_same(tmp_path / f"p{target}", {"probs": x if x.size == 0 else np.ones_like(x)})
        apply("logsumexp", tmp_path / "x.npy", tmp_path / f"l{target}")
        assert_same(tmp_path / f"l{target}", {"lse": fastlogits.logsumexp(x)})


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax", "softmax, warm", "log-softmax", "logsumexp", "argmax", "topk", "stats"])
def test_the_bits_of_the_same_call_in_memory(name, axis, dtype, rng, tmp_path):
    x = (5 * rng.normal(size=(300, 1200))).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    for memory in ("512MB", "100KB"):
        run(name, tmp_path / "x.npy", tmp_path / "o.npz", None, "--axis", axis, "--force", "--memory", memory)
        assert_same(tmp_path / "o.npz", OPERATIONS[name][1](x, None, axis))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("op", ["softmax", "log-softmax", "logsumexp"])
def test_the_same_bits_of_pieces(op, dtype, rng, tmp_path):
    """Of rows that do not fit into the memory."""
    x = (5 * rng.normal(size=(3, 20_000))).astype(dtype)
    x[0, 7] = 100
    x[1] = -np.inf
    x[2, 12_345] = np.nan
    np.save(tmp_path / "x.npy", x)
    apply(op, tmp_path / "x.npy", tmp_path / "out.npy", "--memory", "50KB" if dtype == "float32" else "100KB")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), getattr(fastlogits, op.replace("-", "_"))(x))


def test_integers_are_compared_exactly(tmp_path):
    x = 2**60 + np.array([[0, 1, 2, 1], [3, 1, 2, 4]])
    np.save(tmp_path / "x.npy", x)
    apply("argmax", tmp_path / "x.npy", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), [2, 3])
    apply("topk", tmp_path / "x.npy", tmp_path / "out.npz", "--top-k", 3)
    np.testing.assert_array_equal(files.read(tmp_path / "out.npz")["indices"], [[2, 1, 3], [3, 0, 2]])


def test_one_row(rng, tmp_path):
    """Results without an axis."""
    x = rng.normal(size=9)
    np.save(tmp_path / "x.npy", x)
    for target in (".npy", ".npz", ".safetensors", ".h5", ".zarr"):
        need(FORMATS[target].library)
        apply("logsumexp", tmp_path / "x.npy", tmp_path / f"l{target}")
        assert_same(tmp_path / f"l{target}", {"lse": np.asarray(fastlogits.logsumexp(x))})


def test_pieces_are_accurate(rng, tmp_path):
    """Rows in pieces: far-away maxima, dominated rows, infinities and NaN, at any temperature."""
    x = rng.normal(scale=20, size=(12, 5000)).astype(np.float32)
    x[0] = -np.inf
    x[1, 4000] = np.inf
    x[2, 17] = np.nan
    x[3, :4500] = -np.inf
    x[4] = 3
    x[5] = np.linspace(-40, 0, 5000)
    x[6, 4321] = 1000
    np.save(tmp_path / "x.npy", x)
    for op, exact in (("softmax", oracle.softmax), ("log-softmax", oracle.log_softmax)):
        for temperature in (1.0, 0.37):
            words = "--temperature", temperature, "--memory", "4KB", "--force"
            summary = apply(op, tmp_path / "x.npy", tmp_path / "out.npy", *words)
            found = np.load(tmp_path / "out.npy")
            assert np.isnan(found[:3]).all()
            assert_close(found[3:], exact(x[3:], temperature))
            assert summary["nan_rows"] == 3


def test_summary(logits, tmp_path):
    np.save(tmp_path / "x.npy", logits)
    summary = apply("topk", tmp_path / "x.npy", tmp_path / "out.npz", "--top-k", 2, "--memory", "4KB", "--threads", 2)
    assert summary.pop("seconds") > 0
    assert summary.pop("bytes_per_second") > 0
    assert summary == {
        "operation": "topk",
        "source": str(tmp_path / "x.npy"),
        "target": str(tmp_path / "out.npz"),
        "shape": [60, 33],
        "dtype": "float32",
        "axis": 1,
        "results": {
            "values": {"shape": [60, 2], "dtype": "float32"},
            "indices": {"shape": [60, 2], "dtype": "int64"},
        },
        "rows": 60,
        "nan_rows": 1,
        "blocks": 30,
        "resumed_after_blocks": 0,
    }


NAN_ROWS = dict.fromkeys(("logsumexp", "argmax", "topk", "temperature"), 1)
NAN_ROWS |= dict.fromkeys(("softmax", "log-softmax", "stats", "sample"), 3)


@pytest.mark.parametrize("name", NAN_ROWS)
@pytest.mark.parametrize("memory", ["1MB", "400"])
def test_nan_rows_are_counted(name, memory, logits, capsys, tmp_path):
    """Rows with NaN among the logits or the results, for whole rows and (but for samples) for pieces of rows."""
    if name == "sample" and memory == "400":
        memory = "600"
    np.save(tmp_path / "x.npy", logits)
    words = [*OPERATIONS[name][0], "--memory", memory]
    assert apply(name, tmp_path / "x.npy", tmp_path / "out.npz", *words)["nan_rows"] == NAN_ROWS[name]
    main(["apply", name, *map(str, (tmp_path / "x.npy", tmp_path / "out.npz", *words, "--force"))])
    assert capsys.readouterr().out.endswith(f"; rows with NaN in logits or results: {NAN_ROWS[name]}\n")


def test_in_place(logits, tmp_path):
    """SOURCE may be TARGET: it is read to the end before it is replaced."""
    np.save(tmp_path / "x.npy", logits)
    apply("softmax", tmp_path / "x.npy", tmp_path / "x.npy", "--force", "--memory", "4KB")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), fastlogits.softmax(logits))


def test_number_of_threads_changes_nothing(logits, tmp_path):
    np.save(tmp_path / "x.npy", logits)
    for threads in (1, 2, 5):
        apply("softmax", tmp_path / "x.npy", tmp_path / "out.npy", "--threads", threads, "--memory", "4KB", "--force")
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), fastlogits.softmax(logits))


def test_compressed_npz(logits, tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=logits)
    apply("softmax", tmp_path / "x.npz", tmp_path / "out.npy", "--memory", "4KB")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), fastlogits.softmax(logits))


@pytest.mark.parametrize("kind", ["list", "large list", "fixed-size list"])
def test_lists_of_parquet(kind, logits, tmp_path):
    """In small row groups, beside other columns, and read in blocks that fit neither."""
    arrow = need("pyarrow")
    kinds = {
        "list": arrow.list_(arrow.float32()),
        "large list": arrow.large_list(arrow.float32()),
        "fixed-size list": arrow.list_(arrow.float32(), logits.shape[1]),
    }
    rows = [f"row {i}" for i in range(len(logits))]
    table = arrow.table({"id": rows, "logits": arrow.array(logits.tolist(), kinds[kind]), "label": range(len(logits))})
    need("pyarrow.parquet").write_table(table, tmp_path / "x.parquet", row_group_size=11)
    for memory in ("1MB", "10KB"):
        source, target = f"{tmp_path / 'x.parquet'}:logits", tmp_path / "out.npy"
        apply("softmax", source, target, "--memory", memory, "--force", "--threads", 3)
        np.testing.assert_array_equal(np.load(target), fastlogits.softmax(logits))


def test_nested_arrays(logits, tmp_path):
    """FILE:NAME with groups in it, in HDF5 and zarr; a zarr array without a group."""
    h5py, zarr = need("h5py"), need("zarr")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["run/test/logits"] = logits
        file["run/about"] = "text"
    zarr.create_group(tmp_path / "x.zarr").create_array("run/logits", data=logits)
    zarr.save_array(tmp_path / "bare.zarr", logits)
    for source in ("x.h5", "x.h5:run/test/logits", "x.zarr", "x.zarr:run/logits", "bare.zarr"):
        apply("softmax", tmp_path / source, tmp_path / "out.npy", "--force")
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), fastlogits.softmax(logits))


def table(path, array, **more):
    """A table with a column per class, and what more there is."""
    arrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    columns = {f"c{i}": column for i, column in enumerate(array.T)}
    parquet.write_table(arrow.table(columns | more), path, row_group_size=7)


@pytest.mark.parametrize("name", ["softmax", "logsumexp", "stats, labels"])
def test_columns_of_classes(name, logits, labels, tmp_path):
    """All that a table has, or those of a pattern beside others; in blocks that fit no row group."""
    np.save(tmp_path / "y.npy", labels)
    table(tmp_path / "a.parquet", logits)
    table(tmp_path / "b.parquet", logits, id=[f"row {i}" for i in range(len(logits))], label=labels)
    for source in ("a.parquet", "a.parquet:c*", "b.parquet:c*"):
        for memory in ("1MB", "3KB"):
            target = tmp_path / "out.npz"
            run(name, tmp_path / source, target, tmp_path / "y.npy", "--force", "--memory", memory)
            assert_same(target, OPERATIONS[name][1](logits, labels, -1))
    run(name, tmp_path / "b.parquet:c*", tmp_path / "out.npz", f"{tmp_path / 'b.parquet'}:label", "--force")
    assert_same(tmp_path / "out.npz", OPERATIONS[name][1](logits, labels, -1))


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "float16"])
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_labels_as_they_come(dtype, kept, axis, logits, tmp_path):
    """Whole numbers of any type, in rows or in columns."""
    labels = np.arange(60 if axis else 33) % 9
    np.save(tmp_path / "x.npy", logits)
    np.save(tmp_path / "y.npy", np.expand_dims(labels, 1 if axis else kept).astype(dtype))
    run("stats, labels", *(tmp_path / n for n in ("x.npy", "out.npz", "y.npy")), "--axis", axis)
    assert_same(tmp_path / "out.npz", stats(logits, labels, axis))


def test_names_in_capitals(logits, tmp_path):
    np.save(tmp_path / "x.npy", logits)
    (tmp_path / "x.npy").rename(tmp_path / "UP.NPY")
    apply("softmax", tmp_path / "UP.NPY", tmp_path / "OUT.Npz")
    apply("softmax", f"{tmp_path / 'OUT.Npz'}:probs", tmp_path / "OUT.NPY")
    twice = fastlogits.softmax(fastlogits.softmax(logits))
    with open(tmp_path / "OUT.NPY", "rb") as file:
        np.testing.assert_array_equal(np.load(file), twice)
