"""Log-likelihoods of documents: log_softmax and gather, summed over the rows of each, however these are named."""

import numpy as np
import oracle
import pytest
from conftest import need
from operations import LAYOUTS, labels_like, make_logits
from refusals import refused
from tolerance import Exact, assert_close, compute_type, machine_epsilon, wide_type

import fastlogits

LENGTHS = [4, 0, 1, 9, 7]
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
IDS = np.repeat(np.arange(5), LENGTHS)
WAYS = {
    "lengths": {"lengths": LENGTHS},
    "offsets": {"offsets": OFFSETS.astype(np.int32)},
    "groups": {"groups": IDS.astype(np.uint8)},
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def assert_likelihoods(found, x, labels, documents, ignore_index=-100):
    """Of rows `x` and `labels`, where `documents` has the numbers of each one's rows."""
    labels = np.asarray(labels)
    counted = labels != ignore_index
    picked = np.where(counted, labels, 0)[:, None]
    log_probs, errors = (np.take_along_axis(part, picked, 1)[:, 0] for part in oracle.log_softmax(x))
    eps, best = machine_epsilon(x.dtype), oracle.argmax(x)
    floats = compute_type(x.dtype)
    assert [np.asarray(part).dtype for part in found] == [floats, np.intp, floats, floats, bool]
    for i, rows in enumerate(documents):
        rows = np.array(rows, int)[counted[rows]]
        n, total, error = len(rows), log_probs[rows].sum(), errors[rows].sum()
        log_prob, tokens, mean, perplexity, greedy = (np.ravel(part)[i] for part in found)
        assert tokens == n
        assert greedy == (best[rows] == labels[rows]).all()
        error = np.where(np.isfinite(total), error + 2 * eps * np.abs(total), 0)
        assert_close(log_prob, Exact(total, error), f"log_prob of {i}")
        average = total / wide_type(x.dtype)(n) if n else np.array(np.nan)
        assert_close(mean, Exact(average, error / max(n, 1)), f"mean of {i}")
        with np.errstate(over="ignore"):
            exact = np.exp(-average)
        slack = (error / max(n, 1) + eps) * exact
        if exact > np.finfo(floats).max:
            exact, slack = exact + np.inf, 0
        assert_close(perplexity, Exact(exact, slack), f"perplexity of {i}")


@each_way
@pytest.mark.parametrize("classes", [1, 2, 10, 40, 1500])
def test_values(fl, way, classes, dtype):
    x = make_logits(21, classes, dtype)
    labels = labels_like(x)
    assert_likelihoods(fl.loglikelihood(x, labels, **way), x, labels, np.split(np.arange(21), OFFSETS[1:-1]))


def test_all_ways_give_the_same_bits(fl, rng, dtype):
    x = make_logits(21, 300, dtype)
    labels, order = labels_like(x), rng.permutation(21)
    expected = fl.loglikelihood(x, labels, lengths=LENGTHS)
    for way in WAYS.values():
        np.testing.assert_array_equal(fl.loglikelihood(x, labels, **way), expected)
    # In any order of the rows they are the same sums in another order.
    shuffled = fl.loglikelihood(x[order], labels[order], groups=IDS[order])
    np.testing.assert_allclose(shuffled.log_prob, expected.log_prob, rtol=4 * np.finfo(compute_type(dtype)).eps)
    in_order = np.argsort(IDS[order], kind="stable")
    sorted_again = fl.loglikelihood(x[order][in_order], labels[order][in_order], lengths=LENGTHS)
    np.testing.assert_array_equal(shuffled, sorted_again)


def test_by_axes(fl, dtype):
    """Without lengths and the like the tokens are the last axis of the rows; one document has scalars."""
    x = make_logits(24, 40, dtype)
    labels = labels_like(x)
    expected = fl.loglikelihood(x, labels, lengths=[4] * 6)
    for shape in [(6, 4), (2, 3, 4)]:
        z, marks = x.reshape(*shape, 40), labels.reshape(shape)
        found = fl.loglikelihood(z, marks)
        assert {part.shape for part in found} == {shape[:-1]}
        in_groups = fl.loglikelihood(z, marks, groups=np.arange(24).reshape(shape) // 4)
        for part, other, exact in zip(found, in_groups, expected, strict=True):
            np.testing.assert_array_equal(part.ravel(), exact)
            np.testing.assert_array_equal(other, exact)
    for found, rows in [(fl.loglikelihood(x, labels), range(24)), (fl.loglikelihood(x[5], labels[5]), [5])]:
        assert all(isinstance(part, np.generic) for part in found)
        assert_likelihoods(found, x, labels, [rows])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(fl, layout):
    x, axis = LAYOUTS[layout](make_logits(6, 40, np.dtype(np.float32)))
    plain = np.moveaxis(x, axis, -1).astype(np.float32)
    labels = labels_like(plain)
    expected = fastlogits.loglikelihood(np.ascontiguousarray(plain), labels)
    for lying in (labels, labels.copy("F")):
        for part, exact in zip(fl.loglikelihood(x, lying, axis=axis), expected, strict=True):
            np.testing.assert_allclose(part, exact, rtol=1e-6)


def test_by_hand(fl):
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.25, 0.25, 0.5]])
    found = fl.loglikelihood(logits, [0, 2, 1], lengths=[2, 1])
    np.testing.assert_allclose(found.log_prob, np.log([0.4, 0.25]), rtol=1e-15)
    np.testing.assert_allclose(found.mean, np.log([0.4, 0.25]) / [2, 1], rtol=1e-15)
    np.testing.assert_allclose(found.perplexity, [0.4**-0.5, 4], rtol=1e-15)
    assert found.greedy.tolist() == [True, False]


# What counts


@each_way
def test_ignored_rows(fl, way, dtype):
    x = make_logits(21, 40, dtype)
    labels = labels_like(x)
    labels[::3] = -100
    documents = np.split(np.arange(21), OFFSETS[1:-1])
    before = fl.loglikelihood(x, labels, **way)
    assert_likelihoods(before, x, labels, documents)
    x[::3] = np.nan
    np.testing.assert_array_equal(fl.loglikelihood(x, labels, **way), before)
    other = np.where(labels == -100, 7, labels)
    assert_likelihoods(fl.loglikelihood(x, other, ignore_index=7, **way), np.nan_to_num(x), other, documents, 7)


NOTHING = ([0.0, 0.0], [0, 0], [np.nan, np.nan], [np.nan, np.nan], [True, True])


def test_empty_documents(fl):
    x = np.ones((3, 4, 5))
    for found in (
        fl.loglikelihood(x[:2], np.full((2, 4), -100)),
        fl.loglikelihood(x[:2, :0], np.zeros((2, 0), int)),
        fl.loglikelihood(x[0, :0], [], lengths=[0, 0]),
        fl.loglikelihood(x[0, :0], [], offsets=[0, 0, 0]),
        fl.loglikelihood(x[:2, :, :0], np.full((2, 4), -100)),
    ):
        for part, expected in zip(found, NOTHING, strict=True):
            np.testing.assert_array_equal(part, expected)
    for given in ({"lengths": []}, {"offsets": [0]}, {"groups": []}):
        assert {part.shape for part in fl.loglikelihood(x[0, :0], [], **given)} == {(0,)}
    assert fl.loglikelihood(x[:0], np.zeros((0, 4), int)).log_prob.shape == (0,)
    assert fl.loglikelihood(x[0, :0], []).greedy
    gaps = fl.loglikelihood(x[0], [0, 1, 2, 3], groups=[4, 1, 1, 4])
    assert gaps.tokens.tolist() == [0, 2, 0, 0, 2]


def test_certainty_is_no_negative_zero(fl):
    found = fl.loglikelihood([[0.0, -np.inf]], [0])
    assert (found.log_prob, found.mean, found.perplexity) == (0, 0, 1)
    assert not np.signbit([found.log_prob, found.mean, found.bits_per_byte(1)]).any()


def test_ties_go_to_the_first(fl, dtype):
    x = np.array([[1, 3, 3], [2, 2, 2], [0, 1, 1]], dtype)
    assert fl.loglikelihood(x, [1, 0, 1]).greedy
    assert fl.loglikelihood(x, [2, 0, 1], lengths=[1, 1, 1]).greedy.tolist() == [False, True, True]


def test_special_rows_spoil_their_document_alone(fl, dtype):
    x = make_logits(8, 40, dtype)[[0, 1, 0, 1, 0, 1, 0, 1]]
    labels = np.full(8, 3)
    before = fl.loglikelihood(x, labels, lengths=[2, 2, 2, 2])
    x[1, 3], x[3, 5], x[4] = -np.inf, np.nan, -np.inf
    found = fl.loglikelihood(x, labels, lengths=[2, 2, 2, 2])
    assert found.log_prob[0] == found.mean[0] == -np.inf
    assert found.perplexity[0] == np.inf
    assert np.isnan([found.log_prob[1:3], found.mean[1:3], found.perplexity[1:3]]).all()
    for part, same in zip(found, before, strict=True):
        assert part[3] == same[3]


def test_half_types_lose_no_digits(fl):
    """A loss of about 8 has an ulp of 0.0078 in float16: sums of rounded losses are far off."""
    x = make_logits(1, 1500, np.dtype(np.float16)).repeat(2000, 0)
    labels = np.arange(2000) % 1500
    exact = oracle.log_softmax(x[:1]).value[0][labels].sum()
    assert abs(float(fl.loglikelihood(x, labels).log_prob) / exact - 1) < 1e-6


def test_of_one_document_it_is_perplexity(fl, dtype):
    x = make_logits(14, 300, dtype)[::7]
    labels = labels_like(x)
    eps = 4 * np.finfo(compute_type(dtype)).eps
    np.testing.assert_allclose(fl.loglikelihood(x, labels).perplexity, fl.perplexity(x, labels), rtol=eps)


def test_the_logits_are_read_once(backend, monkeypatch):
    module, reads = fastlogits.config.backend(), []
    sweep = module.row_stats
    monkeypatch.setattr(module, "row_stats", lambda *args, **more: reads.append(args[0].size) or sweep(*args, **more))
    x = make_logits(21, 300, np.dtype(np.float32))
    fastlogits.loglikelihood(x, labels_like(x), groups=IDS[::-1])
    assert reads == [x.size]


# bits_per_byte


def test_bits_per_byte(fl, dtype):
    x = make_logits(21, 300, dtype)[IDS != 3]
    found = fl.loglikelihood(x, labels_like(x), lengths=[4, 0, 1, 7])
    eps = 4 * np.finfo(compute_type(dtype)).eps
    for n_bytes in (17, 2.5, [10, 1, 2, 31], np.array([3, 1, 2, 3], np.uint16)):
        bits = found.bits_per_byte(n_bytes)
        assert bits.dtype == found.log_prob.dtype
        np.testing.assert_allclose(bits, -found.log_prob / (np.array(n_bytes) * np.log(2)), rtol=eps)
    one = fl.loglikelihood(x, labels_like(x))
    assert isinstance(one.bits_per_byte(7), np.generic)
    assert np.isnan(found.bits_per_byte(0)[1])
    assert found.bits_per_byte([0, 0, 1, 1])[0] == np.inf


@pytest.mark.parametrize(
    ("n_bytes", "error", "tokens"),
    [
        (-1, ValueError, ["-1"]),
        ([1, np.nan], ValueError, ["at least 0", "nan"]),
        ([1, 2, 3], ValueError, [r"\(2,\)", r"\(3,\)"]),
        ("12", TypeError, ["'12'"]),
        (["a", "b"], TypeError, ["<U1"]),
    ],
)
def test_bits_per_byte_refuses(n_bytes, error, tokens):
    found = fastlogits.loglikelihood(np.zeros((2, 3, 4)), np.zeros((2, 3), int))
    with refused(error, "n_bytes", *tokens):
        found.bits_per_byte(n_bytes)


# Bad input

X = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("labels", "options", "error", "tokens"),
    [
        ([0, 3, 5, -1], {}, IndexError, ["labels", "3", r"\(1,\)", r"\[0, 3\)"]),
        (np.array([0, 1, 2**64 - 100, 2], np.uint64), {}, IndexError, ["labels", str(2**64 - 100)]),
        ([0, 1, 2], {}, ValueError, ["labels", r"\(4,\)", r"\(3,\)"]),
        ([0.0, 1.0, 2.0, 0.0], {}, TypeError, ["labels", "integer", "float64"]),
        ([0] * 4, {"axis": 2}, np.exceptions.AxisError, ["axis 2"]),
        ([0] * 4, {"lengths": [4], "groups": [0] * 4}, ValueError, ["lengths, groups", "one of", "2"]),
        ([0] * 4, {"lengths": [2, 1]}, ValueError, ["lengths", "4", "3"]),
        ([0] * 4, {"lengths": [5, -1]}, ValueError, ["lengths", r"\[0, 4\]", r"5 at \(0,\)"]),
        ([0] * 4, {"lengths": [4, -1, 1]}, ValueError, ["lengths", r"-1 at \(1,\)"]),
        ([0] * 4, {"lengths": 4}, ValueError, ["lengths", r"\(\)"]),
        ([0] * 4, {"lengths": [2.0, 2.0]}, TypeError, ["lengths", "float64"]),
        ([0] * 4, {"lengths": np.ma.array([4])}, TypeError, ["lengths", "masked"]),
        ([0] * 4, {"offsets": []}, ValueError, ["offsets", "4", "none"]),
        ([0] * 4, {"offsets": [1, 4]}, ValueError, ["offsets", "0 first", "1 and 4"]),
        ([0] * 4, {"offsets": [0, 3]}, ValueError, ["offsets", "4, the number of rows, last", "0 and 3"]),
        ([0] * 4, {"offsets": [0, 3, 2, 4]}, ValueError, ["offsets", r"2 after 3 at \(2,\)"]),
        ([0] * 4, {"offsets": [0, 9, 4]}, ValueError, ["offsets", r"\[0, 4\]", r"9 at \(1,\)"]),
        ([0] * 4, {"groups": [0, 1, 2]}, ValueError, ["groups", r"\(4,\)", r"\(3,\)"]),
        ([0] * 4, {"groups": [0, 1, -2, 0]}, ValueError, ["groups", r"-2 at \(2,\)"]),
        ([0] * 4, {"groups": [0, 2**40, 0, 0]}, ValueError, ["groups", rf"{2**40} at \(1,\)"]),
        ([0] * 4, {"groups": np.array([2**63] * 4, np.uint64)}, ValueError, ["groups", str(2**63)]),
        ([0] * 4, {"groups": list("abcd")}, TypeError, ["groups", "<U1"]),
    ],
)
def test_refused(fl, labels, options, error, tokens):
    with refused(error, *tokens):
        fl.loglikelihood(X, labels, **options)


def test_no_classes(fl):
    with refused(IndexError, "labels", r"\[0, 0\)"):
        fl.loglikelihood(np.zeros((2, 0)), [0, 0])


# Tensors


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_torch(kind):
    torch = need("torch")
    need("fastlogits.torch")
    x = torch.from_numpy(make_logits(14, 40, np.dtype(np.float32))[::7]).to(getattr(torch, kind))
    labels = torch.tensor([3, 5])
    exact = torch.log_softmax(x.double(), -1)[[0, 1], labels]
    for way in ({"lengths": torch.tensor([1, 1])}, {"groups": np.arange(2)}, {"offsets": torch.arange(3).int()}):
        found = fastlogits.loglikelihood(x, labels, **way)
        assert found.log_prob.dtype is torch.float32
        torch.testing.assert_close(found.log_prob.double(), exact, rtol=1e-6, atol=0)
    assert found.tokens.dtype is torch.int64
    assert found.greedy.dtype is torch.bool
    for n_bytes in (3, [3, 4], torch.tensor([3, 4])):
        bits = found.bits_per_byte(n_bytes)
        torch.testing.assert_close(bits, -found.log_prob / (torch.as_tensor(n_bytes) * np.log(2)), check_dtype=False)
        assert bits.dtype is torch.float32
    assert isinstance(fastlogits.loglikelihood(x, labels).log_prob, torch.Tensor)
    with refused(RuntimeError, "logits", "loglikelihood has no gradient"):
        fastlogits.loglikelihood(x.float().requires_grad_(), labels)
