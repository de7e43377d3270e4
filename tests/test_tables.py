"""docs/inputs.md, cell by cell: who holds logits and labels, what is copied, what comes back, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from conftest import need
from refusals import refused

import fastlogits
from fastlogits.numpy._labels import holder

pd, pl, pa, xr = need("pandas"), need("polars"), need("pyarrow"), need("xarray")
PAGE = (Path(__file__).parents[1] / "docs/inputs.md").read_text(encoding="utf-8")
X = np.random.default_rng(0).standard_normal((4, 3))
LABELS = np.array([0, 2, 1, 0])
CLASSES = ["cat", "dog", "eel"]
INDEX = pd.Index(["w", "x", "y", "z"])


def table(heading):
    """{first cell: the others} of the table under a heading, with what the columns are called as None."""
    lines = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, _, *rows = rows
    return {None: head[1:]} | {row[0]: row[1:] for row in rows}


class Mine(np.ndarray):
    pass


def frame(x=X, index=INDEX, **options):
    return pd.DataFrame(x, index, CLASSES, **options)


def fixed(x):
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])


def lists(x, kind=None, offset=np.int32):
    return (kind or pa.ListArray).from_arrays(pa.array(np.arange(len(x) + 1, dtype=offset) * x.shape[1]), x.ravel())


def rows_of(rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def memmap(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


# First cell of the table -> what holds x without a copy, and where the table has two cases, with one.
HOLDERS = {
    "`numpy.ndarray`": (lambda x: x, None),
    "one of arrays, one for each row": (lambda x: rows_of(list(x)), lambda x: rows_of([*x[:3], X[3]])),
    "a subclass of it": (lambda x: x.view(Mine), None),
    "`pandas.DataFrame` of one type of NumPy": (
        lambda x: frame(x, copy=False), lambda x: pd.DataFrame(x[:, :2], INDEX, CLASSES[:2]).assign(eel=x[:, 2]),
    ),
    "`pandas.DataFrame` of several types, nullable ones or Arrow's": (
        None, lambda x: [frame(x).astype(each) for each in ("Float64", "double[pyarrow]", {"cat": "float32"})],
    ),
    "`pandas.Series` of numbers, which is a row": (lambda x: pd.Series(x[1], CLASSES, copy=False), None),
    "`pandas.Series` of arrays": (lambda x: pd.Series(list(x), INDEX), lambda x: pd.Series(x.tolist(), INDEX)),
    "`pandas.Series` of Arrow's lists": (
        lambda x: [pd.Series(pd.arrays.ArrowExtensionArray(each), INDEX) for each in (fixed(x), lists(x))], None,
    ),
    "`pandas.DataFrame` with one column of arrays": (
        lambda x: pd.DataFrame({"z": list(x)}, INDEX), lambda x: pd.DataFrame({"z": x.tolist()}, INDEX),
    ),
    "`polars.DataFrame`": (lambda x: pl.from_numpy(np.asfortranarray(x), CLASSES), lambda x: pl.DataFrame(x, CLASSES)),
    "`polars.Series` of lists or arrays": (
        lambda x: [pl.Series("z", x), pl.Series("z", x).arr.to_list(), pl.Series(fixed(x))], None,
    ),
    "`polars.DataFrame` with one column of lists or arrays": (lambda x: pl.DataFrame({"z": x}), None),
    "`pyarrow.Table`": (None, lambda x: pa.table(dict(zip(CLASSES, x.T, strict=True)))),
    "`pyarrow.RecordBatch`": (None, lambda x: pa.RecordBatch.from_arrays(list(map(pa.array, x.T)), CLASSES)),
    "`pyarrow.Table` with one column of lists": (
        lambda x: pa.table({"z": lists(x)}), lambda x: pa.table({"z": pa.chunked_array([lists(x[:1]), lists(x[1:])])}),
    ),
    "`pyarrow.FixedSizeListArray`": (lambda x: fixed(x), None),
    "`pyarrow.ListArray`, `LargeListArray`": (lambda x: lists(x), None),
    "`pyarrow.FixedShapeTensorArray`": (lambda x: pa.FixedShapeTensorArray.from_numpy_ndarray(x), None),
    "`pyarrow.ChunkedArray` of lists": (
        lambda x: pa.chunked_array([fixed(x)]), lambda x: pa.chunked_array([fixed(x[:1]), fixed(x[1:])]),
    ),
    "`pyarrow.Tensor`": (lambda x: pa.Tensor.from_numpy(x), None),
    "`xarray.DataArray`, `Variable`": (
        lambda x: [xr.DataArray(x, dims=("row", "class")), xr.Variable(("row", "class"), x)], None,
    ),
    "what has `__array_namespace__`": (lambda x: need("array_api_strict").asarray(x), None),
    "what has `__dlpack__` alone, as ONNX Runtime's `OrtValue`": (
        lambda x: need("onnxruntime").OrtValue.ortvalue_from_numpy(x), None,
    ),
}  # fmt: skip
LOGITS = table("Logits")


def several(found):
    return found if isinstance(found, list) else [found]


def values(result):
    """As an array of NumPy."""
    return np.asarray(holder("logits", result).array)


@pytest.mark.parametrize("cell", [name for name in LOGITS if name])
def test_logits(cell, tmp_path):
    copied, *returned = LOGITS[cell]
    x = X.copy()
    if cell == "`numpy.memmap`":
        own, copy = lambda x: memmap(x, tmp_path), None
    else:
        own, copy = HOLDERS[cell]
    for make, shares in ((own, True), (copy, False)):
        for held in several(make(x)) if make else ():
            array = holder("logits", held).array
            exact = x[1] if array.ndim == 1 else x
            np.testing.assert_allclose(array, exact, rtol=1e-7)
            # What has memory of its own, apart from x, shares it with each array of it.
            assert (np.shares_memory(array, x) or np.shares_memory(array, holder("logits", held).array)) == shares
            for function, kind in zip((fastlogits.softmax, fastlogits.entropy), returned, strict=True):
                result = function(held)
                kind = type(held).__name__ if kind == "the same" else kind.strip("`")
                assert type(result).__name__ == kind
                expected = function(array if array.ndim == 1 else np.asarray(array))
                np.testing.assert_array_equal(values(result) if np.ndim(expected) else result, expected)
    assert (copied == "no") == (copy is None)
    assert (copied == "yes") == (own is None)


def test_no_row_of_the_table_is_forgotten():
    assert LOGITS.keys() - {None, "`numpy.memmap`"} == HOLDERS.keys()


def test_index_and_names_come_back():
    x = frame()
    probs = fastlogits.softmax(x)
    pd.testing.assert_frame_equal(probs, frame(fastlogits.softmax(X)))
    pd.testing.assert_series_equal(fastlogits.entropy(x), pd.Series(fastlogits.entropy(X), INDEX))
    pd.testing.assert_frame_equal(fastlogits.topk(x, 2).indices, pd.DataFrame(fastlogits.topk(X, 2).indices, INDEX))
    pd.testing.assert_series_equal(fastlogits.logsumexp(x, 0), pd.Series(fastlogits.logsumexp(X, 0), CLASSES))
    pd.testing.assert_frame_equal(
        fastlogits.logsumexp(x, keepdims=True), pd.DataFrame(fastlogits.logsumexp(X, keepdims=True), INDEX)
    )
    row = x.loc["y"]
    pd.testing.assert_series_equal(fastlogits.softmax(row), pd.Series(fastlogits.softmax(X[2]), CLASSES, name="y"))
    loss, grad = fastlogits.cross_entropy_with_grad(x, LABELS)
    assert np.isscalar(loss)
    assert grad.columns.equals(x.columns)
    polars = pl.DataFrame(X, CLASSES)
    assert fastlogits.softmax(polars).columns == CLASSES
    assert fastlogits.filter_logits(polars, top_k=1).columns == CLASSES
    assert fastlogits.topk(polars, 2).indices.columns == ["0", "1"]
    arrow = pa.table(polars.to_arrow())
    assert fastlogits.log_softmax(arrow).schema.names == CLASSES
    series = pd.Series(list(X), INDEX, name="z")
    assert fastlogits.softmax(series).name == "z"
    assert fastlogits.softmax(series).index.equals(INDEX)
    tensor = pa.Tensor.from_numpy(X, ["row", "class"])
    assert fastlogits.entropy(tensor, "class").dim_names == ["row"]


def test_lists_come_back_as_they_came():
    for kind, offset in ((pa.ListArray, np.int32), (pa.LargeListArray, np.int64)):
        held = lists(X, kind, offset)
        assert fastlogits.softmax(held).type == held.type
        assert type(fastlogits.topk(held, 2).indices) is kind
    deep = pa.FixedSizeListArray.from_arrays(lists(X), 2)
    np.testing.assert_array_equal(holder("logits", deep).array, X.reshape(2, 2, 3))
    assert fastlogits.softmax(deep).type == deep.type
    np.testing.assert_array_equal(fastlogits.entropy(deep).to_pylist(), fastlogits.entropy(X).reshape(2, 2))
    found = fastlogits.loglikelihood(deep, LABELS.reshape(2, 2))
    np.testing.assert_array_equal(found.tokens, [2, 2])
    sliced = pa.concat_arrays([lists(X), lists(X)])[3:6]
    np.testing.assert_array_equal(holder("logits", sliced).array, np.concatenate([X, X])[3:6])
    view = pa.array(X.tolist(), pa.list_view(pa.float64()))
    np.testing.assert_array_equal(fastlogits.entropy(view), fastlogits.entropy(X))
    nested = pl.Series("z", X.reshape(2, 2, 3))
    assert fastlogits.softmax(nested).dtype == nested.dtype
    ragged_kind = pl.Series("z", X.tolist())
    assert fastlogits.softmax(ragged_kind).dtype == pl.List(pl.Float64)
    assert fastlogits.softmax(pa.array([], pa.list_(pa.float32()))).type == pa.list_(pa.float32())


def test_measures_and_sets():
    calibration, conformal = (need(f"fastlogits.{name}") for name in ("calibration", "conformal"))
    x, labels = frame(), pd.Series(pd.Categorical.from_codes(LABELS, CLASSES), INDEX)
    assert calibration.fit_temperature(x, labels) == calibration.fit_temperature(X, LABELS)
    assert calibration.brier_score(x, labels) == calibration.brier_score(X, LABELS)
    curve = calibration.reliability_curve(x, labels, bins=4)
    assert all(type(values) is np.ndarray for values in curve)
    found = conformal.scores(x, labels)
    pd.testing.assert_series_equal(found, pd.Series(conformal.scores(X, LABELS), INDEX))
    limit = conformal.threshold(found, 0.4)
    assert limit == conformal.threshold(conformal.scores(X, LABELS), 0.4)
    sets = conformal.prediction_sets(x, limit)
    assert sets.columns.equals(x.columns)
    assert conformal.coverage(sets, labels) == conformal.coverage(conformal.prediction_sets(X, limit), LABELS)
    assert conformal.set_sizes(sets).index.equals(INDEX)


def test_beside_tensors_and_lazy_arrays():
    """Labels from a table are class indices before a framework sees them."""
    labels = pd.Series(pd.Categorical.from_codes(LABELS, CLASSES))
    exact = fastlogits.cross_entropy(X, LABELS)
    da = need("dask.array")
    lazy = fastlogits.cross_entropy(da.from_array(X, chunks=2), labels, classes=CLASSES)
    assert lazy.compute() == pytest.approx(exact)
    held = xr.DataArray(X, dims=("row", "class"), coords={"class": CLASSES})
    assert fastlogits.cross_entropy(held, labels) == exact
    assert fastlogits.cross_entropy(held.chunk({"row": 2}), labels).compute() == pytest.approx(exact)
    torch = need("torch")
    x = torch.tensor(X, requires_grad=True)
    loss = fastlogits.cross_entropy(x, labels, classes=CLASSES)
    loss.backward()
    np.testing.assert_allclose(x.grad, fastlogits.cross_entropy_with_grad(X, LABELS).grad_logits)


def texts(codes=LABELS):
    return [CLASSES[code] for code in codes]


def optional(labels):
    return [None, *labels[1:]]


INTEGERS = [LABELS, LABELS.astype(float)]
# First cell of the table -> the labels of NumPy, pandas, polars and pyarrow, what they mean and the logits' classes.
KINDS = {
    "integers": lambda: (
        LABELS, [pd.Series(LABELS, INDEX, dtype=each) for each in ("int8", "Int64", "int32[pyarrow]", "uint16")],
        pl.Series(LABELS), [pa.array(LABELS), pa.chunked_array([LABELS[:2], LABELS[2:]])],
    ),
    "floats that are whole numbers": lambda: (
        LABELS.astype(float),
        [pd.Series(LABELS, INDEX, dtype=each) for each in ("float32", "Float64", "float[pyarrow]")],
        pl.Series(LABELS.astype(float)), pa.array(LABELS.astype(float)),
    ),
    "other floats": lambda: (
        LABELS + 0.5, pd.Series(LABELS + 0.5, INDEX), pl.Series(LABELS + 0.5), pa.array(LABELS + 0.5),
    ),
    "`bool`, for two classes": lambda: (
        LABELS > 0, [pd.Series(LABELS > 0, INDEX, dtype=each) for each in ("bool", "boolean", "bool[pyarrow]", object)],
        pl.Series(LABELS > 0), pa.array(LABELS > 0),
    ),
    "of shape (N, 1), or a frame of one column": lambda: (
        LABELS[:, None], [pd.DataFrame({"label": each}, INDEX) for each in (LABELS, texts())],
        pl.DataFrame({"label": LABELS}), pa.table({"label": LABELS}),
    ),
    "text: names of classes": lambda: (
        [np.array(texts()), np.array(texts(), object), texts(), np.array(texts(), "S"), np.array(texts(), "T")],
        [pd.Series(texts(), INDEX, dtype=each) for each in ("str", object, "string[pyarrow]")],
        pl.Series(texts()), [pa.array(texts()), pa.array(texts(), pa.large_string())],
    ),
    "`Categorical`, `Enum`, dictionaries": lambda: (
        None,
        [pd.Series(texts(), INDEX, dtype="category"), pd.Categorical(texts(), ["eel", "cow", "dog", "cat"]),
         pd.Series(pd.arrays.ArrowExtensionArray(pa.array(texts()).dictionary_encode()), INDEX)],
        [pl.Series(texts(), dtype=pl.Enum(["eel", "cow", "dog", "cat"])), pl.Series(texts(), dtype=pl.Categorical)],
        [pa.array(texts()).dictionary_encode(),
         pa.chunked_array([pa.array(texts()[:2]).dictionary_encode(), pa.array(texts()[2:]).dictionary_encode()])],
    ),
    "missing ones": lambda: (
        [np.array(optional(texts()), object), np.array([np.nan, 2, 1, 0])],
        [pd.Series(optional(texts()), INDEX, dtype=each) for each in ("str", object, "category", "string[pyarrow]")]
        + [pd.Series(optional(LABELS), INDEX, dtype=each) for each in ("Int64", "float", "int64[pyarrow]")],
        [pl.Series(optional(LABELS)), pl.Series(optional(texts())), pl.Series(optional(texts()), dtype=pl.Categorical),
         pl.Series(optional(texts()), dtype=pl.Enum(CLASSES)), pl.Series([np.nan, 2.0, 1.0, 0.0])],
        [pa.array(optional(LABELS.tolist())), pa.array(optional(texts())),
         pa.array(optional(texts())).dictionary_encode(), pa.array([np.nan, 2.0, 1.0, 0.0])],
    ),
    "a distribution, a column for each class": lambda: (
        np.abs(X), frame(np.abs(X)), pl.DataFrame(np.abs(X), CLASSES), pl.DataFrame(np.abs(X), CLASSES).to_arrow(),
    ),
}  # fmt: skip
IGNORING = "missing ones, with `ignore_index=`"
KINDS[IGNORING] = KINDS["missing ones"]
LABEL_CELLS = table("Labels")


@pytest.mark.parametrize("library", LABEL_CELLS[None])
@pytest.mark.parametrize("cell", [name for name in LABEL_CELLS if name])
def test_labels(cell, library):
    said = LABEL_CELLS[cell][LABEL_CELLS[None].index(library)]
    cases = KINDS[cell]()[LABEL_CELLS[None].index(library)]
    assert (said == "-") == (cases is None)
    x, exact = X, LABELS
    if cell.startswith("`bool`"):
        x, exact = X[:, :2], (LABELS > 0).astype(int)
    if cell.startswith("a distribution"):
        exact = np.abs(X)
    options = {}
    if cell == IGNORING:
        exact, options = np.where(np.arange(4) == 0, -1, LABELS), {"ignore_index": -1}
    expected = fastlogits.cross_entropy(x, exact, reduction="none", **options)
    names = CLASSES[: x.shape[1]]
    for labels in () if cases is None else several(cases):
        for beside, own in ((pd.DataFrame(x, INDEX, names), {}), (pl.DataFrame(x, names), {}), (x, {"classes": names})):
            if said == "refused":
                with refused((TypeError, ValueError), "labels", "row 0"):
                    fastlogits.cross_entropy(beside, labels, **own)
            else:
                loss = fastlogits.cross_entropy(beside, labels, reduction="none", **options, **own)
                np.testing.assert_array_equal(np.asarray(loss), expected)
    assert LABEL_CELLS.keys() - {None} == KINDS.keys()


def test_missing_labels_name_the_way_out():
    with refused(ValueError, "labels", "row 0", "'w'", "ignore_index"):
        fastlogits.cross_entropy(frame(), pd.Series(optional(LABELS), INDEX, dtype="Int64"))
    conformal = need("fastlogits.conformal")
    for function, name in ((conformal.scores, "labels"), (fastlogits.selective_log_softmax, "ids")):
        with pytest.raises(ValueError, match=f"{name}: .*row 0.*; drop such rows$"):
            function(frame(), pd.Series(optional(LABELS), INDEX, dtype="Int64"))


def test_nothing_but_missing_labels():
    for labels in (pl.Series([None] * 4), pa.nulls(4), pd.Series([None] * 4, INDEX), pd.Categorical([None] * 4)):
        losses = fastlogits.cross_entropy(frame(), labels, ignore_index=-1, reduction="none")
        assert losses.tolist() == [0, 0, 0, 0]
        with refused(ValueError, "labels", "row 0"):
            fastlogits.cross_entropy(frame(), labels)
    for labels in (pd.Series([], dtype="str"), pd.Categorical([], CLASSES), pl.Series([], dtype=pl.String)):
        assert fastlogits.cross_entropy(frame()[:0], labels, reduction="none").shape == (0,)


def test_names_decide_not_places():
    labels = pd.Series(texts(), INDEX, dtype=pd.CategoricalDtype(["eel", "dog", "cat"]))
    exact = fastlogits.row_stats(X, LABELS).nll
    for own in (labels, labels.astype(str), labels.cat.set_categories(["ant", "eel", "dog", "cat", "gnu"])):
        np.testing.assert_array_equal(fastlogits.row_stats(frame(), own).nll, exact)
    turned = frame()[["dog", "eel", "cat"]]
    np.testing.assert_allclose(fastlogits.row_stats(turned, labels).nll, exact)
    assert fastlogits.accuracy(turned, labels) == fastlogits.accuracy(X, LABELS)
    plain = pd.Series(labels.to_numpy())
    np.testing.assert_array_equal(fastlogits.row_stats(X, plain, classes=pd.Index(CLASSES)).nll, exact)
    held = xr.DataArray(X, dims=("row", "class"), coords={"class": CLASSES})
    named = xr.DataArray(texts(), dims="row")
    np.testing.assert_array_equal(fastlogits.row_stats(held, named, axis="class").nll, exact)
    picked = fastlogits.selective_log_softmax(frame(), labels)
    np.testing.assert_array_equal(picked, -exact)


def test_declared_order_where_there_are_no_names():
    exact = fastlogits.cross_entropy(X, LABELS)
    for labels in (pd.Categorical(texts(), CLASSES), pl.Series(texts(), dtype=pl.Enum(CLASSES))):
        assert fastlogits.cross_entropy(X, labels) == exact
        assert fastlogits.cross_entropy(pd.DataFrame(X), labels) == exact
    text = pa.array(texts())
    for labels in (pd.Categorical(texts(), [*CLASSES, "fly"]), text, text.dictionary_encode(), np.array(texts())):
        with refused(TypeError, "labels", "cat", "classes="):
            fastlogits.cross_entropy(X, labels)
    # Codes of what happens to be there would be 0 and 1.
    assert fastlogits.cross_entropy(X[:2], pd.Categorical([0, 2])) == fastlogits.cross_entropy(X[:2], [0, 2])


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        ([281, 282, 285], [281, 285, 282, 281]),
        (["281", "282", "285"], [281, 285, 282, 281]),
        (["281", "282", "285"], ["281", "285", "282", "281"]),
        ([2, 0, 1], [2, 1, 0, 2]),
        (["logit_1", "logit_0", "logit_2"], [1, 2, 0, 1]),
        (["n02123045", "n02123159", "n02124075"], [0, 2, 1, 0]),
        (range(3), [0, 2, 1, 0]),
        ([True, False, None], [True, None, False, True]),
    ],
)
def test_numbers_in_names(columns, labels):
    logits = pd.DataFrame(X, columns=columns)
    options = {} if None not in labels else {"ignore_index": -1}
    expected = np.where([label is None for label in labels], -1, LABELS)
    loss = fastlogits.cross_entropy(logits, pd.Series(labels), **options)
    assert loss == fastlogits.cross_entropy(X, expected, ignore_index=-1)


def test_indices_must_be_those_of_the_logits():
    x, others = frame(), {
        "labels": LABELS, "sample_weight": np.arange(4.0), "weight": np.arange(3.0), "groups": LABELS,
    }  # fmt: skip
    wrong = pd.Index(["w", "x", "z", "y"])
    for name, values in others.items():
        own = pd.Index(CLASSES) if name == "weight" else INDEX
        function = fastlogits.loglikelihood if name == "groups" else fastlogits.cross_entropy
        labels = {} if name == "labels" else {"labels": LABELS}
        function(x, **labels, **{name: pd.Series(values, own)})
        with refused(ValueError, name, "index", "reindex"):
            function(x, **labels, **{name: pd.Series(values, own[::-1] if name == "weight" else wrong)})
    with refused(ValueError, "labels", "index", "'cat'", "'eel'"):
        fastlogits.cross_entropy(x, np.abs(x)[CLASSES[::-1]])
    shares = pl.DataFrame(np.abs(X), CLASSES)
    for held in (pl.DataFrame(X, CLASSES), x, pl.DataFrame(X, CLASSES).to_arrow()):
        assert fastlogits.cross_entropy(held, shares) == fastlogits.cross_entropy(X, np.abs(X))
        for turned in (shares[:, ::-1], shares[:, ::-1].to_arrow()):
            with refused(ValueError, "labels", "names", "'cat'", "'eel'"):
                fastlogits.cross_entropy(held, turned)
    with refused(ValueError, "where", "index"):
        fastlogits.softmax(x, where=(x > 0)[CLASSES[::-1]])
    np.testing.assert_array_equal(fastlogits.softmax(x, where=x > 0), fastlogits.softmax(X, where=X > 0))
    drawn = fastlogits.sample(x, seed=0, temperature=pd.Series([1.0, 2, 3, 4], INDEX))
    np.testing.assert_array_equal(drawn.ids, fastlogits.sample(X, seed=0, temperature=[1.0, 2, 3, 4]).ids)
    with refused(ValueError, "temperature", "index"):
        fastlogits.sample(x, seed=0, temperature=pd.Series([1.0, 2, 3, 4], wrong))
    fastlogits.loglikelihood(x, LABELS, lengths=pd.Series([3, 1], ["doc", "other"]))
    held = xr.DataArray(X, dims=("row", "class"), coords={"row": INDEX, "class": CLASSES})
    with refused(ValueError, "labels", "index"):
        fastlogits.cross_entropy(held, pd.Series(LABELS, wrong))


class OnDevice:
    def __dlpack__(self, **options):
        raise AssertionError

    def __dlpack_device__(self):
        return 2, 0


def missing(library, numbers=False):
    rows = X.tolist()
    rows[2][1] = None
    columns = {name: [row[i] for row in rows] for i, name in enumerate(CLASSES)}
    return {
        "pandas": [pd.DataFrame(columns, INDEX, dtype=each) for each in ("Float64", "double[pyarrow]")],
        "polars": [pl.DataFrame(columns)],
        "pyarrow": [pa.table(columns)],
        "lists": [
            pa.array(rows), pa.array(rows, pa.list_(pa.float64(), 3)), pa.array([*X[:2].tolist(), None]),
            pl.Series(rows), pl.Series([*X[:2].tolist(), None]), pd.Series([*X[:2], None, X[3]]),
        ],
    }[library]  # fmt: skip


def ragged():
    rows = X.tolist()
    rows[2] = rows[2][:2]
    return [
        rows, [rows, rows], pa.array(rows), pa.array(rows, pa.large_list(pa.float64())), pl.Series(rows),
        pd.Series(rows), pd.Series([np.array(row) for row in rows]), rows_of(list(map(np.array, rows))),
        pd.Series(pd.arrays.ArrowExtensionArray(pa.array(rows))), pa.array(rows, pa.list_view(pa.float64())),
    ]  # fmt: skip


def with_column(name, values):
    x = frame().assign(**{name: values})
    return [x, pl.from_pandas(x), pa.Table.from_pandas(x, preserve_index=False), x.convert_dtypes()]


# First cell of the table -> calls, what is refused, and what its error names.
REFUSED = {
    "a column of text": lambda: (with_column("name", list("abcd")), ["'name'"]),
    "a column of integers named like a label, `label` or `id` for one": lambda: (
        [x for name in ("label", "id", "y_true", "image_id", "Class", "y") for x in with_column(name, LABELS)]
        + [pa.Table.from_pandas(frame(index=[7, 8, 9, 11]))],
        ["'(label|id|y_true|image_id|Class|y|__index_level_0__)'"],
    ),
    "missing numbers": lambda: (
        [x for library in ("pandas", "polars", "pyarrow") for x in missing(library)], ["row 2", "'dog'"],
    ),
    "rows of several lengths, lists too": lambda: (ragged(), ["row 2"]),
    "a missing label": lambda: ([(frame(), pd.Series(optional(texts()), INDEX))], ["row 0"]),
    "a label of no class": lambda: (
        [(frame(), np.array(["cat", "gnu", "cat", "cat"])), (frame(), pl.Series(["cat", "gnu", "cat", "cat"])),
         (pl.DataFrame(X, ["5", "6", "7"]), pd.Series([5, 8, 5, 6]))],
        ["(gnu|8)", "row 1"],
    ),
    "labels with another index": lambda: ([(frame(), pd.Series(LABELS))], ["'w'"]),
    "`classes=` in another order than the columns": lambda: (
        [(frame(), LABELS, CLASSES[::-1])], ["cat, dog, eel", "eel, dog, cat"],
    ),
    "an array on a GPU": lambda: ([OnDevice()], [r"\(2, 0\)"]),
    "a `LazyFrame`": lambda: ([pl.DataFrame(X, CLASSES).lazy()], [r"collect\(\)"]),
}  # fmt: skip
REFUSALS = table("What is refused")


@pytest.mark.parametrize("cell", [name for name in REFUSALS if name])
def test_refused(cell):
    error, _ = REFUSALS[cell]
    calls, named = REFUSED[cell]()
    for call in calls:
        logits, *labels = call if isinstance(call, tuple) else (call,)
        kind = {"`TypeError`": TypeError, "`ValueError`": ValueError}[error]
        with refused(kind, "classes" if len(labels) == 2 else "labels" if labels else "logits", *named):
            if labels:
                fastlogits.cross_entropy(logits, labels[0], classes=labels[1] if len(labels) == 2 else None)
            else:
                fastlogits.softmax(logits)
    assert REFUSALS.keys() - {None} == REFUSED.keys()


def test_other_refusals():
    for held in missing("lists"):
        with refused(ValueError, "logits", "row 2"):
            fastlogits.softmax(held)
    with refused(TypeError, "logits", "DataFrameGroupBy"):
        fastlogits.softmax(frame().groupby("cat"))
    weight = pd.Series([1, None, 1, 1], INDEX, dtype="Float64")
    with refused(ValueError, "sample_weight", "row 1", "'x'", "fill it$"):
        fastlogits.cross_entropy(frame(), LABELS, sample_weight=weight)
    with refused(TypeError, "groups", "str"):
        fastlogits.loglikelihood(frame(), LABELS, groups=pd.Series(texts(), INDEX))
    with refused(TypeError, "labels", "bool", "3"):
        fastlogits.cross_entropy(frame(), pd.Series(LABELS > 0, INDEX))
    with refused(ValueError, "labels", "alike"):
        fastlogits.cross_entropy(pd.DataFrame(X, columns=["cat", "cat", "dog"]), texts())
    with refused(ValueError, "classes", "3 different names"):
        fastlogits.cross_entropy(X, LABELS, classes=["cat", "dog"])
    with refused(TypeError, "out", "DataFrame"):
        fastlogits.softmax(frame(), out=frame())
    with refused(TypeError, "labels", "datetime64"):
        fastlogits.cross_entropy(frame(), pd.Series(pd.date_range("2020", periods=4), INDEX))
    with refused(TypeError, "labels", "classes="):
        fastlogits.cross_entropy(X, texts())
    with refused(TypeError, r"softmax\(\)", "'classes'"):
        fastlogits.softmax(X, classes=CLASSES)
    with refused(TypeError, r"softmax\(\)", "'logits'"):
        fastlogits.softmax(frame(), logits=X)
    ort = need("onnxruntime")
    half = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros((2, 3), np.uint16), 16)
    with refused(TypeError, "logits", "OrtValue", "bfloat16"):
        fastlogits.softmax(half)
    with refused(TypeError, "logits", "masked"):
        fastlogits.softmax(np.ma.masked_array(X, X > 1))


def test_letters_are_classes_among_others():
    whole = np.round(4 * X).astype(int)
    letters = pd.DataFrame(whole, columns=["x", "y", "z"])
    np.testing.assert_array_equal(fastlogits.softmax(letters), fastlogits.softmax(whole))
