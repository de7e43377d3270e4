"""Mergeable states: pieces of the classes and of the rows give what the whole gives."""

import itertools
import pickle

import ml_dtypes
import numpy as np
import oracle
import pytest
from operations import LAYOUTS, labels_like, make_logits
from refusals import refused
from test_row_stats import ROWS, assert_stats
from tolerance import HALF, assert_close, spacing

import fastlogits
from fastlogits import calibration
from fastlogits.states import RowState, label_logits


def pieces_of(x, labels, cuts, **options):
    """States of x cut along its classes."""
    edges = [0, *cuts, x.shape[-1]]
    spans = [slice(*edge) for edge in itertools.pairwise(edges)]
    known = [label_logits(x[:, span], labels, first_class=span.start) for span in spans]
    picked = np.fmax.reduce(known)
    return [RowState.of(x[:, span], labels, first_class=span.start, label_logits=picked, **options) for span in spans]


def assert_near(stats, x, labels, top_k):
    """As near to the oracle as the whole must be, the indices equal, and lse within one ulp of the whole's."""
    assert_stats(stats, oracle.row_stats(x, labels, top_k))
    whole, dtype = fastlogits.row_stats(x, labels, top_k=top_k), x.dtype
    finite = np.where(np.isfinite(whole.lse.astype(float)), whole.lse, 0).astype(np.float64)
    ulp = spacing(finite, dtype) if dtype in HALF else np.spacing(np.abs(finite).astype(dtype))
    with np.errstate(invalid="ignore"):
        assert not (np.abs(stats.lse.astype(np.float64) - whole.lse.astype(np.float64)) > ulp).any()


def assert_equal(stats, expected):
    assert vars(stats).keys() == vars(expected).keys()
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(stats, name), values, name, strict=True)


CUTS = [[1], [500], [999], [3, 4, 600], list(range(50, 1000, 50))]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_merge_is_the_whole(backend, cuts, dtype):
    x = make_logits(21, 1000, dtype)
    labels = labels_like(x)
    first, *rest = pieces_of(x, labels, cuts, top_k=7)
    stats = first.merge(*rest).results()
    assert_near(stats, x, labels, 7)
    assert_equal(rest[-1].merge(*rest[-2::-1], first).results(), stats)


def test_merge_in_a_tree(rng):
    x = (3 * rng.standard_normal((5, 64))).astype(np.float32)
    labels = rng.integers(0, 64, 5)
    states = pieces_of(x, labels, range(8, 64, 8), top_k=10)
    while len(states) > 1:
        states = [pickle.loads(pickle.dumps(a)).merge(b) for a, b in zip(states[::2], states[1::2], strict=True)]
    assert_near(states[0].results(), x, labels, 10)


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("label", [0, 3])
def test_merge_of_special_rows(backend, cut, label, dtype):
    x = np.array(ROWS).astype(dtype)
    labels = np.full(len(x), label)
    a, b = pieces_of(x, labels, [cut], top_k=4)
    assert_near(a.merge(b).results(), x, labels, 4)


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_probabilities_of_pieces(backend, cuts, dtype):
    x = make_logits(21, 1000, dtype)
    pieces = np.split(x, cuts, 1)
    first, *rest = pieces_of(x, labels_like(x), cuts, want=["nll"])
    whole = first.merge(*rest)
    for function in ("softmax", "log_softmax"):
        found = np.concatenate([getattr(whole, function)(piece) for piece in pieces], 1)
        assert found.dtype == dtype
        assert_close(found, getattr(oracle, function)(x), function)


def test_probabilities_of_special_rows(backend, dtype):
    x = np.array(ROWS).astype(dtype)
    whole = RowState.of(x, want="lse")
    for function in ("softmax", "log_softmax"):
        found = np.concatenate([getattr(whole, function)(x[:, :1]), getattr(whole, function)(x[:, 1:])], 1)
        rounded = 2 * float(ml_dtypes.finfo(dtype).eps)
        exact = getattr(fastlogits, function)(x).astype(float)
        np.testing.assert_allclose(found.astype(float), exact, rtol=rounded, atol=rounded)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_probabilities_in_any_layout(backend, layout):
    x, axis = LAYOUTS[layout](make_logits(6, 40, np.float32))
    before = x.tobytes()
    probs = RowState.of(x, want="lse", axis=axis).softmax(x)
    np.testing.assert_allclose(probs, fastlogits.softmax(x, axis), rtol=1e-5)
    assert x.tobytes() == before


def test_concatenate_is_the_whole(backend, rng):
    x = rng.standard_normal((3, 40, 5)).astype(np.float32)
    labels = rng.integers(0, 40, (3, 5))
    whole = fastlogits.row_stats(x, labels, top_k=3, axis=1)
    for axis, cut in [(0, 1), (1, 2), (-1, 4)]:
        spans = slice(cut), slice(cut, None)
        index = (lambda span: (span, slice(None))) if axis == 0 else (lambda span: (slice(None), span))
        parts = [
            RowState.of(np.moveaxis(x, 1, 2)[index(span)], labels[index(span)], top_k=3, axis=-1) for span in spans
        ]
        stats = RowState.concatenate(parts, axis).results()
        for name in ("topk_ids", "topk_log_probs"):
            setattr(stats, name, np.moveaxis(getattr(stats, name), -1, 1))
        assert_equal(stats, whole)


def test_rank_of_a_label_in_another_piece():
    x = np.array([[5.0, 1.0, 3.0, 4.0], [5.0, 1.0, 3.0, 4.0]])
    a, b = pieces_of(x, np.array([2, 0]), [2], want=["rank"])
    assert a.parts["ahead"].tolist() == [1, 0]
    assert b.parts["ahead"].tolist() == [1, 0]
    assert a.merge(b).results().rank.tolist() == [2, 0]


def test_ignored_rows():
    x, labels = np.arange(6.0).reshape(2, 3), [2, -100]
    a, b = pieces_of(x, np.array(labels), [1])
    stats = a.merge(b).results()
    assert (stats.nll[1], stats.correct[1], stats.rank[1]) == (0, False, -1)
    assert stats.correct[0]


def test_integers_and_empty_pieces():
    x = np.array([[3, 1, 2]])
    a, b, c = (RowState.of(x[:, s], first_class=s.start) for s in (slice(0, 0), slice(0, 2), slice(2, 3)))
    assert a.merge(b, c).results().margin.tolist() == [1]


def state(stop=2, first=0, x=None, **options):
    return RowState.of(np.zeros((3, stop - first)) if x is None else x, first_class=first, **options)


@pytest.mark.parametrize(
    ("combine", "tokens"),
    [
        (lambda: state().merge(state(5, 3)), ["up to 2", "from 3"]),
        (lambda: state().merge(state()), ["up to 2", "from 0"]),
        (lambda: state().merge(state(4, 2, want=["lse"])), ["want", "lse"]),
        (lambda: state().merge(state(4, 2, np.zeros((4, 2)))), ["rows"]),
        (lambda: state().merge(state(4, 2, np.zeros((3, 2), np.float32))), ["dtype", "float32"]),
        (lambda: state(labels=[0, 1, 0]).merge(state(4, 2, labels=[0, 1, 1])), ["labels"]),
        (lambda: state(labels=[0, 1, 0]).merge(state(4, 2, labels=[0, 1, 0])), ["rank", "label_logits"]),
        (lambda: RowState.concatenate([state(), state(3)]), ["stop_class", "3"]),
        (lambda: state().softmax(np.zeros((2, 3))), ["logits", r"\(3, \.\.\.\)", r"\(2, 3\)"]),
        (lambda: state(top_k=2).merge(state(3, 2, top_k=2)).results() and state(top_k=3).results(), ["top_k", "3"]),
    ],
)
def test_refused(combine, tokens):
    with refused(ValueError, *tokens):
        combine()


def test_labels_in_no_piece():
    labels = [0, 4, 9]
    states = [state(first + 3, first, labels=labels, want=["nll"]) for first in (0, 3)]
    with refused(IndexError, "labels", "9", r"\(2,\)", r"\[0, 6\)"):
        states[0].merge(states[1]).results()


@pytest.mark.parametrize("lowest", ["finfo.min", "half of it", "-inf"])
@pytest.mark.parametrize("name", ["float32", "float64", "float16", "bfloat16"])
def test_pieces_of_nothing_but_a_mask(backend, name, lowest):
    """The smallest number in the place of -inf: 0 of the probability, though the distance to the others overflows."""
    kind = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    low = {"finfo.min": 1.0, "half of it": 0.5, "-inf": np.inf}[lowest] * float(ml_dtypes.finfo(kind).min)
    x = np.array([[low, low, 0, 1], [0, 1, low, low], [low, low, low, low], [1, low, low, 0]]).astype(kind)
    labels = np.array([3, 0, 1, 3])
    whole = fastlogits.row_stats(x, labels, top_k=3)
    for cuts in ([2], [1], [3], [1, 2, 3]):
        first, *rest = pieces_of(x, labels, cuts, top_k=3)
        stats = first.merge(*rest).results()
        for field, values in vars(whole).items():
            merged, eps = getattr(stats, field).astype(float), float(ml_dtypes.finfo(kind).eps)
            np.testing.assert_allclose(merged, values.astype(float), eps, 0, True, field)
    if lowest != "-inf":
        np.testing.assert_allclose(whole.entropy.astype(float), [0.5822, 0.5822, np.log(4), 0.5822], 1e-2)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("before", [0, 1024, 3000])
def test_blocks_of_nothing_but_a_mask(backend, kind, before):
    """In rows of several blocks, of which some are masked whole."""
    x = np.full((3, before + 4000), np.finfo(kind).min, kind)
    x[:, before + 5], x[:, before + 9] = 0, 1
    stats = fastlogits.row_stats(x, np.full(3, before + 9))
    np.testing.assert_allclose(stats.entropy, 0.582203, 1e-5)
    np.testing.assert_allclose(stats.nll, 0.313262, 1e-5)
    x[:, before + 9] = 2
    fit = calibration.fit_temperature(x, [before + 9, before + 9, before + 5])
    np.testing.assert_allclose([fit.temperature, fit.nll], [2 / np.log(2), np.log(3) - 2 / 3 * np.log(2)], 1e-5)
