"""`RowStats` as something to hold: rows of it, its fields, a table, what it shows; of dask, a collection."""

import copy
import pickle
import re
import sys

import numpy as np
import pytest
from conftest import need
from refusals import refused

import fastlogits

X = np.random.default_rng(0).standard_normal((4, 5, 3))
LABELS = np.arange(12).reshape(4, 3) % 5
INDEX = ["w", "x", "y", "z"]


def stats_of(x=X, labels=LABELS, axis=1):
    return fastlogits.row_stats(x, labels, axis=axis, top_k=2)


def assert_same(found, expected):
    assert list(found.keys()) == list(expected.keys())
    for name in found.keys():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(expected[name]))


def test_length_keys_and_dicts():
    stats = stats_of()
    assert len(stats) == 4
    assert len(stats_of(axis=0, labels=LABELS[[0, 1, 2, 3, 0]] % 4)) == 5
    assert list(stats.keys()) == list(vars(stats)) == list(stats._asdict())
    assert stats["nll"] is stats.nll is stats._asdict()["nll"] is dict(**stats)["nll"]
    assert stats._asdict() is not vars(stats)
    assert len(fastlogits.row_stats(X, want="topk_ids", top_k=2, axis=1)) == 4
    assert len(fastlogits.row_stats(X, want="topk_ids", top_k=2, axis=0)) == 5
    for want in ("lse", "topk_ids"):
        with refused(TypeError, "one row"):
            len(fastlogits.row_stats(X[0, 0], want=want, top_k=2 if want == "topk_ids" else None))
    with pytest.raises(AttributeError, match="'nll'.*lse"):
        fastlogits.row_stats(X, want="lse").nll  # noqa: B018
    with pytest.raises(KeyError):
        stats["logits"]


MASK = np.array([True, False, True, True])
KEYS = [
    slice(1, 3), slice(None, None, -1), 2, -1, MASK, [3, 0], np.array([1, 1, 2]), (slice(2), 1), (1, slice(None, 2)),
    (slice(None), [2, 0]), (..., 1), (3, ...), (MASK, slice(1)), (1, 2),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_of_it_are_rows_of_its_fields(axis, key):
    """As of logits with the classes last, of which the same rows are taken before."""
    x = np.moveaxis(X, 1, axis)
    labels = LABELS
    stats, last = stats_of(x, labels, axis), stats_of(np.moveaxis(X, 1, -1), labels, -1)
    found = stats[key]
    np.testing.assert_array_equal(found.nll, last.nll[key])
    parts = key if isinstance(key, tuple) else (key,)
    expected = last.topk_ids[(*parts, slice(None)) if any(part is ... for part in parts) else parts]
    place = found.topk_ids.ndim - expected.ndim + found._axis
    np.testing.assert_array_equal(np.moveaxis(found.topk_ids, place, -1), expected)


def test_rows_one_by_one():
    stats = stats_of(X[..., 0], LABELS[:, 0])
    rows = list(stats)
    assert len(rows) == 4
    assert [row.nll for row in rows] == stats.nll.tolist()
    assert rows[1].topk_ids.tolist() == stats.topk_ids[1].tolist()
    assert_same(stats[1:][1:], stats[2:])
    with refused(IndexError, "None"):
        stats[None]
    for again in (pickle.loads(pickle.dumps(stats)), copy.copy(stats), copy.deepcopy(stats)):
        assert_same(again[2:], stats[2:])


def test_repr_shows_what_is_inside():
    stats = stats_of(X[..., 0], LABELS[:, 0])
    lines = repr(stats).splitlines()
    assert lines[0] == "RowStats of 4 rows"
    assert [line.split()[0] for line in lines[1:]] == list(stats.keys())
    assert all(getattr(stats, line.split()[0]).dtype == line.split()[1] for line in lines[1:])
    assert f"{stats.nll[0]:.4f}"[:-1] in repr(stats)
    assert repr(stats_of()).startswith("RowStats of 4 x 3 rows\n")
    assert repr(fastlogits.row_stats(X[0, 0], want="lse")).startswith("RowStats of one row\n  lse  float64  ")
    large = fastlogits.row_stats(np.zeros((10**5, 4)), want=("lse", "entropy"))
    assert len(repr(large)) < 200
    pd = need("pandas")
    assert re.search(r"lse +float64 +\[", repr(fastlogits.row_stats(pd.DataFrame(X[..., 0]))))
    da = need("dask.array")
    lazy = repr(fastlogits.row_stats(da.from_array(X[..., 0])))
    assert re.search(r"lse +float64 +dask\.array", lazy)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tables_of_arrays(library, axis):
    need(library)
    stats = stats_of(np.moveaxis(X, 1, axis), LABELS, axis)
    table = stats.to_frame(library)
    assert type(table).__module__.partition(".")[0] == library
    names = table.schema.names if library == "pyarrow" else list(table.columns)
    exact = stats_of()
    for name in names:
        values = table[name]
        if name.startswith("topk"):
            field, _, place = name.rpartition("_")
            expected = np.moveaxis(exact[field], 1, -1)[..., int(place)]
        else:
            expected = exact[name]
        np.testing.assert_array_equal(np.asarray(values), expected.ravel())
    assert {*names} == {*exact.keys()} - {"topk_ids", "topk_log_probs"} | {
        f"{name}_{i}" for name in ("topk_ids", "topk_log_probs") for i in range(2)
    }


def test_tables_of_tables():
    """Of the library that the logits came from, with their index."""
    pd, pl, pa = need("pandas"), need("polars"), need("pyarrow")
    x, labels = X[..., 0], LABELS[:, 0]
    exact = stats_of(x, labels).to_frame("pandas")
    frame = stats_of(pd.DataFrame(x, INDEX), labels).to_frame()
    pd.testing.assert_frame_equal(frame, exact.set_axis(INDEX))
    only = fastlogits.row_stats(pd.DataFrame(x, INDEX), want="topk_ids", top_k=1).to_frame()
    assert list(only.index) == INDEX
    polars = stats_of(pl.DataFrame(x), labels).to_frame()
    assert isinstance(polars, pl.DataFrame)
    assert polars.columns == list(exact.columns)
    arrow = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 5)
    for held in (arrow, pa.table({"logits": arrow}), pa.table(pl.DataFrame(x).to_arrow())):
        table = stats_of(held, labels).to_frame()
        assert isinstance(table, pa.Table)
        assert table.column("topk_ids_1").to_pylist() == exact.topk_ids_1.tolist()
    assert stats_of(pd.Series(list(x), INDEX), labels).to_frame().index.tolist() == INDEX
    with refused(ValueError, "library", "'pandas'", "'spark'"):
        stats_of().to_frame("spark")


def test_no_library_for_a_table(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastlogits.numpy._polars", raising=False)
    monkeypatch.setitem(sys.modules, "polars", None)
    with refused(ImportError, "to_frame", "polars", "library="):
        stats_of().to_frame("polars")


def test_tables_of_other_arrays():
    pd, xr, torch, da = need("pandas"), need("xarray"), need("torch"), need("dask.array")
    held = xr.DataArray(X, dims=("y", "class", "x"), coords={"y": INDEX})
    frame = fastlogits.row_stats(held, axis="class", top_k=2).to_frame()
    assert frame.index.names == ["y", "x"]
    assert frame.entropy[("z", 1)] == fastlogits.entropy(X, 1)[3, 1]
    pd.testing.assert_frame_equal(stats_of(torch.tensor(X), torch.tensor(LABELS)).to_frame(), stats_of().to_frame())
    with refused(TypeError, "to_frame", "compute"):
        fastlogits.row_stats(da.from_array(X)).to_frame()


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "xarray", "torch", "array_api_strict"])
def test_rows_of_tables(library):
    module = need(library)
    x, labels = X[..., 0], LABELS[:, 0]
    held = {
        "pandas": lambda: module.DataFrame(x, INDEX),
        "polars": lambda: module.DataFrame(x),
        "pyarrow": lambda: module.FixedSizeListArray.from_arrays(module.array(x.ravel()), 5),
        "xarray": lambda: module.DataArray(x, dims=("y", "class")),
        "torch": lambda: module.tensor(x),
        "array_api_strict": lambda: module.asarray(x),
    }[library]()
    stats, exact = stats_of(held, labels), stats_of(x, labels)
    assert len(stats) == 4
    for key in (slice(1, 3), np.array([2, 0]), MASK):
        some, expected = stats[key], exact[key]
        assert len(some) == len(expected)
        assert type(some.nll) is type(stats.nll)
        np.testing.assert_array_equal(np.asarray(some.nll), expected.nll)
        assert_tables(some, expected)
    if library in ("pandas", "polars", "xarray"):
        right = stats[stats.correct]
        np.testing.assert_array_equal(np.asarray(right.nll), exact.nll[exact.correct])
    assert float(np.asarray(stats[2].nll)) == exact.nll[2]


def assert_tables(some, expected):
    for name, values in expected.to_frame("pandas").items():
        np.testing.assert_array_equal(some.to_frame("pandas")[name], values)


@pytest.mark.parametrize("axis", [0, 1])
def test_dask_collection(axis):
    dask, da = need("dask"), need("dask.array")
    x, labels = np.moveaxis(X[..., 0], 1, axis), LABELS[:, 0]
    exact = stats_of(x, labels, axis)
    chunks = {axis: 5, 1 - axis: 2}
    lazy = stats_of(da.from_array(x, chunks=chunks), labels, axis)
    assert dask.is_dask_collection(lazy)
    persisted = lazy.persist()
    assert dask.is_dask_collection(persisted)
    assert isinstance(persisted.nll, da.Array)
    computed = [
        lazy.compute(), *dask.compute(lazy), dask.compute({"a": [lazy]})[0]["a"][0], persisted.compute(),
        dask.persist(lazy)[0].compute(), dask.optimize(lazy)[0].compute(),
        lazy.compute(scheduler="synchronous"),
    ]  # fmt: skip
    for found in computed:
        assert type(found) is fastlogits.RowStats
        assert all(type(values) is np.ndarray for values in vars(found).values())
        assert_same(found[1:], exact[1:])
    assert_same(lazy[1:].compute(), exact[1:])
    assert_same(pickle.loads(pickle.dumps(lazy)).compute(), exact)
    assert dask.base.tokenize(lazy) == dask.base.tokenize(stats_of(da.from_array(x, chunks=chunks), labels, axis))
    assert len(lazy) == 4


def test_dask_reads_once():
    """All fields of a computed one come of one read of the logits; those of a persisted one are there."""
    da = need("dask.array")
    read = []

    def block(x):
        read.append(x.shape)
        return x

    x = da.from_array(X[..., 0], chunks=(2, 5)).map_blocks(block, dtype=float, meta=np.empty((0, 0)))
    stats = stats_of(x, LABELS[:, 0])
    stats.compute(scheduler="synchronous")
    assert len(read) == 2
    persisted = stats.persist(scheduler="synchronous")
    assert len(read) == 4
    persisted.nll.compute()
    assert len(read) == 4


def test_lazy_xarray():
    xr = need("xarray")
    need("dask.array")
    held = xr.DataArray(X, dims=("y", "class", "x"), coords={"y": INDEX})
    lazy = fastlogits.row_stats(held.chunk({"y": 2}), LABELS, axis="class", top_k=2)
    found, exact = lazy.compute(), fastlogits.row_stats(held, LABELS, axis="class", top_k=2)
    for name in exact.keys():
        xr.testing.assert_identical(found[name], exact[name])
    assert lazy.persist().nll.chunks is not None
