"""Empty arrays, NaN, infinities, masks and ties: at every public function."""

import itertools

import numpy as np
import pytest
from operations import LABELLED, PER_ROW, WITH_OUT, call
from refusals import refused
from test_inputs import F32, arguments_for, every_operation
from tolerance import compute_type


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0,), (2, 0, 4), (0, 2, 4), (2, 4, 0)])
@every_operation
def test_empty(fl, name, shape, dtype):
    x = np.zeros(shape, dtype)
    axis = 1 if len(shape) == 3 else -1
    batch = np.delete(shape, axis)
    rest = (np.zeros(batch, int),) if name in LABELLED else (x,) if "backward" in name else ()
    if shape[axis] == 0 and name == "argmax":
        with refused(ValueError, "class"):
            call(fl, name, x, axis=axis)
        return
    if shape[axis] == 0 and name in LABELLED and batch.prod():
        with refused(IndexError, "labels", r"\[0, 0\)"):
            call(fl, name, x, *rest, axis=axis)
        return
    result = call(fl, name, x, *rest, axis=axis)
    assert result.shape == (x.shape if name in WITH_OUT else tuple(batch))
    kind = compute_type(dtype) if name in PER_ROW else dtype
    assert result.dtype == (np.intp if name == "argmax" else kind)
    if name == "logsumexp":
        assert (result == -np.inf).all()


@pytest.mark.parametrize("labels", [np.zeros(0, int), np.zeros((0, 3)), []])
def test_no_rows_reduced(fl, labels):
    x = np.zeros((0, 3))
    assert np.isnan(fl.cross_entropy(x, labels))
    assert fl.cross_entropy(x, labels, reduction="sum") == 0
    assert fl.cross_entropy(x, labels, normalizer=3.0) == 0
    assert fl.cross_entropy_with_grad(x, labels).grad_logits.shape == (0, 3)


NANS = [np.nan, -np.nan]
PLACES = [0, 0.5, 1]


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 33, 127, 1030, 2500])
@every_operation
def test_nan_spoils_its_row_alone(fl, name, classes, dtype):
    """NaN of either sign, anywhere in the row; the neighbours keep their very bits."""
    x = np.random.default_rng(classes).standard_normal((67, classes)).astype(dtype)
    arguments = arguments_for(name, x)
    before = call(fl, name, *arguments)
    others = np.arange(67) != 40
    for nan, place in itertools.product(NANS, PLACES):
        column = int(place * (classes - 1))
        for number, argument in enumerate(arguments):
            if argument.ndim < 2:
                continue
            spoiled = [a.copy() for a in arguments]
            spoiled[number][40, column] = nan
            result = call(fl, name, *spoiled)
            assert result[others].tobytes() == before[others].tobytes()
            if name == "argmax":
                assert result[40] == column
            elif not (name == "log_softmax_backward" and number == 1):
                assert np.isnan(result[40]).all()
            else:
                assert np.isnan(result[40, column])


@pytest.mark.parametrize("axis", [0, 1])
@every_operation
def test_nan_along_inner_axes(fl, name, axis):
    x = np.random.default_rng(5).standard_normal((3, 7, 70)).astype(F32)
    x = np.moveaxis(x, 1, axis).copy()
    rest = (np.zeros((3, 70), int),) if name in LABELLED else (x,) if "backward" in name else ()
    before = call(fl, name, x, *rest, axis=axis)
    bad = x.copy()
    place = (4, 1, 33) if axis == 0 else (1, 4, 33)
    bad[place] = -np.nan
    result = call(fl, name, bad, *rest, axis=axis)
    if result.ndim == 3:
        result, before = (np.moveaxis(a, axis, -1) for a in (result, before))
    others = np.ones((3, 70), bool)
    others[1, 33] = False
    assert result[others].tobytes() == before[others].tobytes()
    assert result[1, 33] == 4 if name == "argmax" else np.isnan(result[1, 33]).all()


INFINITE_ROWS = [
    # row, softmax, log_softmax, logsumexp
    ([-np.inf] * 4, np.nan, np.nan, -np.inf),
    ([1, np.inf, 0, 2], np.nan, None, np.inf),
    ([np.inf] * 4, np.nan, np.nan, np.inf),
    ([-np.inf, 3, -np.inf, -np.inf], [0, 1, 0, 0], [-np.inf, 0, -np.inf, -np.inf], 3),
    ([-np.inf, np.inf, -np.inf, 0], np.nan, None, np.inf),
    ([np.inf, np.nan, -np.inf, 0], np.nan, np.nan, np.nan),
]


@pytest.mark.parametrize("tail", [0, 4, 29, 1500])
@pytest.mark.parametrize(("row", "softmax", "log_softmax", "logsumexp"), INFINITE_ROWS)
def test_infinite_logits(fl, row, softmax, log_softmax, logsumexp, tail, dtype):
    """Also before a tail of -inf, so that vectors and blocks of nothing else occur; ordinary rows around."""
    longer = np.concatenate([row, np.full(tail, -np.inf)])
    x = np.stack([np.zeros_like(longer), longer, np.ones_like(longer)]).astype(dtype)
    probs, log_probs = fl.softmax(x), fl.log_softmax(x)
    np.testing.assert_array_equal(probs[1, :4].astype(float), np.broadcast_to(softmax, 4))
    if log_softmax is not None:
        np.testing.assert_array_equal(log_probs[1, :4].astype(float), np.broadcast_to(log_softmax, 4))
    np.testing.assert_array_equal(fl.logsumexp(x)[1].astype(float), logsumexp)
    assert np.isfinite(probs[[0, 2]]).all()
    assert np.isfinite(log_probs[[0, 2]]).all()


def test_blocks_of_minus_infinity(fl, dtype):
    """The running maximum is -inf for whole blocks: no (-inf) - (-inf) may come of it."""
    for classes in (9, 1500, 4099):
        for place in (0, classes // 2, classes - 1):
            x = np.full((3, classes), -np.inf, dtype)
            x[:, place] = 5
            expected = np.zeros(classes)
            expected[place] = 1
            np.testing.assert_array_equal(fl.softmax(x)[1].astype(float), expected)
            result = fl.cross_entropy_with_grad(x, [place] * 3)
            assert result.loss == 0
            assert not result.grad_logits.any()
            assert (fl.logsumexp(x) == 5).all()


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("shape", [(4, 6), (6,), (4, 1), ()])
def test_where(fl, shape, poison, rng):
    x = rng.standard_normal((4, 6)).astype(F32)
    where = rng.random(shape) < 0.6 if shape else np.array(False)
    full = np.broadcast_to(where, x.shape)
    masked = np.where(full, x, -np.inf).astype(F32)
    given = np.where(full, x, poison).astype(F32)
    some = full.any(axis=1)
    np.testing.assert_array_equal(fl.softmax(given, where=where)[some], fl.softmax(masked)[some])
    np.testing.assert_array_equal(fl.log_softmax(given, where=where)[some], fl.log_softmax(masked)[some])
    np.testing.assert_array_equal(fl.logsumexp(given, where=where)[some], fl.logsumexp(masked)[some])
    assert (fl.softmax(given, where=where)[~some] == 0).all()
    assert (fl.log_softmax(given, where=where)[~some] == -np.inf).all()
    assert (fl.logsumexp(given, where=where)[~some] == -np.inf).all()
    out = np.empty_like(x)
    assert fl.softmax(given, where=where, out=out) is out
    np.testing.assert_array_equal(out, fl.softmax(given, where=where))
    assert fl.softmax(given, where=where, out=given) is given
    np.testing.assert_array_equal(given, out)


def test_argmax_ties_and_signs(fl, dtype):
    """The first maximum wins, minus zero equals zero, infinities and NaN are as NumPy has them."""
    rows = [
        [1, 3, 3, 2],
        [-0.0, 0.0, -1, 0.0],
        [0.0, -0.0, 0, 0],
        [-np.inf] * 4,
        [-np.inf, -1e4, -np.inf, -9e3],
        [np.inf, 0, np.inf, 1],
        [2, np.nan, 5, np.nan],
        [np.inf, -np.nan, 0, 0],
        [-3, -2, -2, -2.5],
    ]
    for repeats in (1, 2, 20, 700):
        x = np.tile(rows, repeats).astype(dtype)
        np.testing.assert_array_equal(fl.argmax(x), np.argmax(x.astype(float), axis=1))
        later = np.concatenate([np.full((len(x), 1), -60000, dtype), x], axis=1)
        np.testing.assert_array_equal(fl.argmax(later), np.argmax(later.astype(float), axis=1))


def test_argmax_of_large_integers_is_exact(fl):
    x = np.array([[2**62, 2**62 + 1, 0]])
    assert fl.argmax(x)[0] == 1


@pytest.mark.parametrize("classes", [3, 33, 1030])
def test_extreme_temperatures(fl, dtype, classes):
    """From the most certain to uniform over all but the masked classes."""
    x = np.zeros((2, classes), dtype)
    x[:, 0], x[1, 1] = -np.inf, 2
    assert (fl.softmax(x, temperature=1e36)[:, 1:] == dtype.type(1 / (classes - 1))).all()
    assert (fl.softmax(x, temperature=1e-36)[1] == np.eye(classes)[1]).all()
    assert (fl.softmax(x, temperature=1e36)[:, 0] == 0).all()


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_infinite_gradients_of_columns_are_those_of_rows(fl, name):
    g = np.random.default_rng(0).standard_normal((40, 20)).astype(np.float32)
    g[np.arange(12), np.arange(12)] = np.inf
    g[3, 5], g[5, 7] = -np.inf, np.nan
    p = fl.log_softmax(np.zeros((40, 20), np.float32) + np.arange(20, dtype=np.float32))
    p = p if name.startswith("log") else np.exp(p)
    by_rows = getattr(fl, name)(g, p)
    by_columns = getattr(fl, name)(np.ascontiguousarray(g.T), np.ascontiguousarray(p.T), axis=0)
    np.testing.assert_array_equal(np.isnan(by_columns.T), np.isnan(by_rows))
    np.testing.assert_array_equal(np.isinf(by_columns.T), np.isinf(by_rows))
