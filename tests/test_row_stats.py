"""row_stats and the functions on it: every field against the oracle, ties, NaN, bad input."""

import numpy as np
import oracle
import pytest
from operations import LAYOUTS, labels_like, make_logits
from refusals import refused
from tolerance import assert_close, compute_type

import fastlogits

SIZES = [(7, 1), (14, 2), (7, 3), (9, 7), (21, 10), (7, 127), (14, 1000), (3, 32003)]
FIELDS = set(oracle.row_stats(np.zeros((1, 2)), [0], 1))


def assert_stats(stats, exact):
    assert vars(stats).keys() == exact.keys()
    for name, expected in exact.items():
        actual = getattr(stats, name)
        if np.asarray(actual).dtype.kind not in "biu":
            assert_close(actual, expected, name)
        else:
            np.testing.assert_array_equal(actual, expected.value, name)


@pytest.mark.parametrize(("rows", "classes"), SIZES)
def test_values(fl, rows, classes, dtype):
    x = make_logits(rows, classes, dtype)
    labels, top_k = labels_like(x), min(classes, 5)
    stats = fl.row_stats(x, labels, top_k=top_k)
    assert_stats(stats, oracle.row_stats(x, labels, top_k))
    floats = {values.dtype for values in vars(stats).values() if values.dtype.kind == "f"}
    assert floats == {compute_type(dtype)}


def test_a_long_row(fl, rng):
    x = rng.standard_normal((1, 128256)).astype(np.float32)
    assert_stats(fl.row_stats(x, [77], top_k=50), oracle.row_stats(x, [77], 50))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(fl, layout, dtype):
    x, axis = LAYOUTS[layout](make_logits(6, 40, dtype))
    plain = np.moveaxis(x, axis, -1).astype(dtype)
    labels = labels_like(plain)
    stats = fl.row_stats(x, labels, top_k=3, axis=axis)
    assert stats.topk_ids.shape == tuple(3 if i == axis % x.ndim else n for i, n in enumerate(x.shape))
    for name in ("topk_ids", "topk_log_probs"):
        setattr(stats, name, np.moveaxis(getattr(stats, name), axis, -1))
    assert_stats(stats, oracle.row_stats(plain, labels, 3))
    top = fl.topk(x, 3, axis)
    np.testing.assert_array_equal(top.values, np.take_along_axis(x, top.indices, axis))
    np.testing.assert_array_equal(np.moveaxis(top.indices, axis, -1), stats.topk_ids)


@pytest.mark.parametrize("want", sorted(FIELDS))
def test_one_field_at_a_time(fl, want, rng):
    x = (4 * rng.standard_normal((7, 3000))).astype(np.float32)
    arguments = {"labels": labels_like(x)} if want in ("nll", "correct", "rank") else {}
    top_k = {"top_k": 4} if "topk" in want else {}
    alone = fl.row_stats(x, **arguments, want=[want], **top_k)
    together = fl.row_stats(x, labels_like(x), top_k=4)
    assert vars(alone).keys() == {want}
    np.testing.assert_array_equal(getattr(alone, want), getattr(together, want))


@pytest.mark.parametrize("shape", [(67, 4099), (3, 50_021), (1, 300_007), (5003, 10)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_same_bits_for_any_number_of_threads(backend, shape, dtype):
    x = make_logits(*shape, np.dtype(dtype))
    labels = labels_like(x)
    with fastlogits.settings(num_threads=1):
        expected = fastlogits.row_stats(x, labels, top_k=9)
    for threads in (2, 3, 7):
        with fastlogits.settings(num_threads=threads):
            stats = fastlogits.row_stats(x, labels, top_k=9)
        for name, values in vars(expected).items():
            assert getattr(stats, name).tobytes() == values.tobytes(), name


def test_what_is_wanted_by_default(fl):
    x = np.zeros((2, 3))
    labelled, ranked = {"nll", "correct", "rank"}, {"topk_ids", "topk_log_probs"}
    assert vars(fl.row_stats(x)).keys() == FIELDS - labelled - ranked
    assert vars(fl.row_stats(x, [0, 1])).keys() == FIELDS - ranked
    assert vars(fl.row_stats(x, top_k=2)).keys() == FIELDS - labelled


def test_one_row(fl):
    stats = fl.row_stats([1.0, 3.0, 2.0], 2, top_k=2)
    assert (stats.argmax, stats.correct, stats.rank, stats.margin) == (1, False, 1, 1.0)
    assert all(isinstance(value, np.generic) for name, value in vars(stats).items() if "topk" not in name)
    assert stats.topk_ids.tolist() == [1, 2]


@pytest.mark.parametrize("classes", [1, 2, 10, 40, 1030, 2500])
def test_nan(fl, classes, dtype, rng):
    """It is the largest logit, and spoils its row's floats and nothing else."""
    x = rng.standard_normal((5, classes)).astype(dtype)
    labels = np.zeros(5, int)
    before = fl.row_stats(x, labels, top_k=min(classes, 3))
    for column in {0, classes // 2, classes - 1}:
        y = x.copy()
        y[2, column] = -np.nan
        stats = fl.row_stats(y, labels, top_k=min(classes, 3))
        assert_stats(stats, oracle.row_stats(y, labels, min(classes, 3)))
        assert stats.argmax[2] == stats.topk_ids[2, 0] == column
        assert np.isnan([stats.lse[2], stats.nll[2], stats.entropy[2], stats.max_prob[2], stats.margin[2]]).all()
        for name, values in vars(stats).items():
            assert np.delete(values, 2, 0).tobytes() == np.delete(getattr(before, name), 2, 0).tobytes()


ROWS = [
    [-np.inf] * 4,
    [1, np.inf, 0, 2],
    [np.inf] * 4,
    [-np.inf, 3, -np.inf, -np.inf],
    [np.inf, np.nan, -np.inf, 0],
    [np.nan] * 4,
    [2, 2, 2, 2],
    [-0.0, 0.0, -1, 0.0],
    [1, 3, 3, 2],
]


@pytest.mark.parametrize("tail", [0, 4, 29, 1500])
@pytest.mark.parametrize("label", [0, 1, 3])
def test_special_rows(fl, label, tail, dtype):
    x = np.concatenate([ROWS, np.full((len(ROWS), tail), -np.inf)], 1).astype(dtype)
    labels = [label] * len(x)
    stats = fl.row_stats(x, labels, top_k=4)
    assert_stats(stats, oracle.row_stats(x, labels, 4))
    for values, same in [
        (stats.lse, fl.logsumexp(x)),
        (stats.nll, fl.cross_entropy(x, labels, reduction="none")),
        (stats.argmax, fl.argmax(x)),
    ]:
        np.testing.assert_array_equal(np.isnan(values), np.isnan(same))
        np.testing.assert_array_equal(np.isinf(values), np.isinf(same))


def test_ignored_rows(fl, rng):
    x = rng.standard_normal((4, 9))
    labels = x.argmax(1)
    before = fl.row_stats(x, labels, top_k=2)
    labels[1] = -100
    stats = fl.row_stats(x, labels, top_k=2)
    assert (stats.nll[1], stats.correct[1], stats.rank[1]) == (0, False, -1)
    for name, values in vars(stats).items():
        kept = [0, 2, 3] if name in ("nll", "correct", "rank") else slice(None)
        np.testing.assert_array_equal(values[kept], getattr(before, name)[kept])
    x[1] = np.nan
    assert fl.row_stats(x, labels, want=["nll"]).nll[1] == 0
    best = int(x[0].argmax())
    assert fl.row_stats(x, [best] * 4, want=["correct"]).correct[0]
    assert not fl.row_stats(x, [best] * 4, ignore_index=best, want=["correct"]).correct.any()


# topk


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize(
    ("classes", "k"),
    [(1, 0), (1, 1), (10, 3), (10, 10), (127, 16), (1000, 50), (2500, 1), (2500, 200), (2500, 600), (2500, 1200)],
)
def test_topk(fl, classes, k, in_order, dtype, rng):
    """Few distinct values, so that most are ties, some at the end of the k; NaN and infinities too."""
    x = rng.integers(-4, 4, (6, classes)).astype(dtype)
    x[1] = rng.standard_normal(classes).astype(dtype)
    x[2] = np.sort(x[2])
    x[3] = np.sort(x[3])[::-1]
    x[4, classes // 2] = np.nan
    x[5, ::2] = -np.inf
    x[0] = np.where(x[0] < 0, x[0], rng.choice([0.0, -0.0], classes))
    top = fl.topk(x, k, sorted=in_order)
    expected = oracle.order(x)[:, :k]
    found = top.indices if in_order else np.take_along_axis(top.indices, oracle.order(top.values), -1)
    if in_order:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_array_equal(np.sort(found), np.sort(expected))
    assert top.values.dtype == dtype
    assert top.indices.dtype == np.intp
    there = np.take_along_axis(x, top.indices, -1)
    np.testing.assert_array_equal(top.values.astype(float), there.astype(float))
    np.testing.assert_array_equal(np.signbit(top.values[:4]), np.signbit(there[:4]))


def test_topk_of_integers_is_exact(fl):
    x = np.array([[2**62, 2**62 + 1, -(2**63), 2**62 + 1]])
    top = fl.topk(x, 4)
    assert top.indices.tolist() == [[1, 3, 0, 2]]
    assert top.values.dtype == x.dtype
    assert fl.topk([[True, False, True]], 2).indices.tolist() == [[0, 2]]
    assert fl.topk(x.T.copy(), 1, 0).values.tolist() == [[2**62 + 1]]


@pytest.mark.parametrize("kind", ["i2", "u4", "i8", "u8"])
@pytest.mark.parametrize("sorted", [True, False])
def test_topk_of_byte_swapped_integers(fl, kind, sorted):
    x = np.array([[3, 256, 1], [5, 5, 4]], np.dtype(kind).newbyteorder())
    values, indices = fl.topk(x, 2, sorted=sorted)
    np.testing.assert_array_equal(values, np.array([[256, 3], [5, 5]], kind), strict=True)
    np.testing.assert_array_equal(indices, [[1, 0], [0, 1]])


def test_topk_of_nothing(fl):
    assert fl.topk(np.zeros((0, 3)), 2).values.shape == (0, 2)
    assert fl.topk(np.zeros((3, 0)), 0).indices.shape == (3, 0)
    with refused(ValueError, "k", "0", "1"):
        fl.topk(np.zeros((3, 0)), 1)


# entropy, perplexity, accuracy


def test_entropy(fl, dtype):
    x = make_logits(14, 200, dtype)
    assert_close(fl.entropy(x), oracle.row_stats(x, np.zeros(14, int), 1)["entropy"])
    assert np.isnan(fl.entropy(np.zeros((2, 0)))).all()
    assert fl.entropy(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0], [0, -100, 2, -100], [-100] * 4])
def test_perplexity(fl, labels, rng):
    x = rng.standard_normal((4, 3))
    labels = np.array(labels)
    losses = oracle.row_stats(x, np.maximum(labels, 0), 1)["nll"].value[labels != -100]
    expected = np.exp(losses.mean()) if len(losses) else np.nan
    np.testing.assert_allclose(fl.perplexity(x, labels), expected, rtol=1e-14)
    assert fl.perplexity(x.astype(np.float16), labels).dtype == np.float32
    assert fl.perplexity([[0.0, 2e3]], [0]) == np.inf


@pytest.mark.parametrize("top_k", [0, 1, 3, 10])
def test_accuracy(fl, top_k, rng):
    x = rng.integers(0, 3, (200, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 200)
    hits = (oracle.order(x)[:, :top_k] == labels[:, None]).any(1)
    assert fl.accuracy(x, labels, top_k=top_k) == hits.mean()
    assert fl.accuracy(x.T, labels, top_k=top_k, axis=0) == hits.mean()
    ignored = np.where(hits, labels, -100)
    assert fl.accuracy(x, ignored, top_k=top_k) == 1 if hits.any() else np.isnan
    assert np.isnan(fl.accuracy(x, np.full(200, -100), top_k=top_k))


# Bad input

X = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "tokens"),
    [
        (([0, 3, 5, -1],), {}, IndexError, ["labels", "3", r"\(1,\)", r"\[0, 3\)"]),
        ((np.array([0, 1, 2**64 - 1, 2], np.uint64),), {}, IndexError, ["labels", str(2**64 - 1), r"\(2,\)"]),
        ((np.array([0, 1, 2**64 - 100, 2], np.uint64),), {}, IndexError, ["labels", str(2**64 - 100)]),
        (([0, 1, 2],), {}, ValueError, ["labels", r"\(4,\)", r"\(3,\)"]),
        (([0.0, 1.0, 2.0, 0.0],), {}, TypeError, ["labels", "integer", "float64"]),
        ((), {"want": ["lse", "loss"]}, ValueError, ["want", "nll", "'loss'"]),
        ((), {"want": "nll"}, ValueError, ["labels", "'nll'"]),
        ((), {"want": ["topk_ids"]}, ValueError, ["top_k", "'topk_ids'"]),
        (([0, 0, 0, 0],), {"want": ["lse"]}, ValueError, ["labels", "lse"]),
        ((), {"want": ["lse"], "top_k": 2}, ValueError, ["top_k", "lse"]),
        ((), {"top_k": 4}, ValueError, ["top_k", "3", "4"]),
        ((), {"top_k": -1}, ValueError, ["top_k", "-1"]),
        ((), {"top_k": 1.0}, TypeError, ["top_k", "1.0"]),
        ((), {"ignore_index": 1}, ValueError, ["ignore_index", "without labels", "1"]),
        ((), {"axis": 2}, np.exceptions.AxisError, ["axis 2"]),
        ((), {"axis": None}, TypeError, ["axis", "None"]),
    ],
)
def test_row_stats_refuses(fl, arguments, options, error, tokens):
    with refused(error, *tokens):
        fl.row_stats(X, *arguments, **options)


def test_no_classes(fl):
    x = np.zeros((2, 0))
    assert fl.row_stats(x, want=["lse"]).lse.tolist() == [-np.inf] * 2
    assert np.isnan(fl.row_stats(x, want=["max_prob"]).max_prob).all()
    with refused(ValueError, "class"):
        fl.row_stats(x)
    with refused(IndexError, "labels", r"\[0, 0\)"):
        fl.row_stats(x, [0, 0], want=["nll"])
    assert fl.row_stats(np.zeros((0, 3)), [], top_k=2).topk_ids.shape == (0, 2)


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3"])
def test_dtype_not_supported(fl, dtype):
    x = np.ones((2, 3)).astype(dtype)
    for call in (fl.row_stats, fl.entropy, lambda x: fl.topk(x, 1)):
        with refused(TypeError, "logits", "float32", "bfloat16", str(x.dtype)):
            call(x)


@pytest.mark.parametrize(("k", "error"), [(4, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_topk_refuses(fl, k, error):
    with refused(error, "k", str(k)):
        fl.topk(X, k)
    with refused(error, "k", str(k)):
        fl.topk(X.astype(int), k)


def test_accuracy_and_perplexity_refuse(fl):
    for function in (fl.accuracy, fl.perplexity):
        with refused(IndexError, "labels", "5", r"\(1,\)"):
            function(X, [0, 5, 0, 0])
        with refused(TypeError, "labels", "float"):
            function(X, X[:, 0])
    with refused(ValueError, "top_k", "4"):
        fl.accuracy(X, [0] * 4, top_k=4)


def test_row_stats_is_a_bag_of_its_fields():
    stats = fastlogits.row_stats(X, want=["margin", "argmax"])
    assert list(vars(stats)) == ["margin", "argmax"]
    with pytest.raises(AttributeError):
        _ = stats.lse
