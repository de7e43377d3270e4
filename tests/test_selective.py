"""selective_log_softmax and its backward function."""

import itertools

import numpy as np
import oracle
import pytest
from operations import LAYOUTS, make_logits
from refusals import refused
from tolerance import Exact, Tolerance, assert_close, compute_type

import fastlogits

F32 = np.dtype(np.float32)


def make_ids(rows, classes, count, seed=0):
    """Random classes; the first ones and the last ones of a row repeat where there are several."""
    ids = np.random.default_rng([seed, rows, classes]).integers(0, classes, (rows, count))
    if count > 2:
        ids[:, -1] = ids[:, 0]
    return ids


def with_the_best(x, ids):
    """In every other row the first id is the class that may dominate it."""
    ids[::2, 0] = np.argmax(x[::2].astype(np.float64), axis=1)
    return ids


def exact_backward(grad, x, ids):
    """scatter(grad) - p sum(grad), with own (1 - p) - p (sum - own) where an id stands."""
    z = oracle.widen(x)
    row, tolerance = oracle.analyse(z), Tolerance(x.dtype)
    g = oracle.widen(grad)
    own, own_size = np.zeros_like(z), np.zeros_like(z)
    at_ids = np.arange(len(z))[:, None], ids
    np.add.at(own, at_ids, g)
    np.add.at(own_size, at_ids, np.abs(g))
    rest, rest_size = (a.sum(axis=1, keepdims=True) - a for a in (own, own_size))
    error = tolerance.probability(row.probs, oracle.finite(row.below + row.log_s)) * rest_size
    error += tolerance.target_gradient(row.others, row.distance) * own_size
    return Exact(own * row.others - row.probs * rest, error)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("rows", "classes"), [(7, 1), (7, 2), (64, 7), (14, 127), (9, 1000), (8, 4099), (3, 32003)])
def test_values(fl, rows, classes, count, dtype):
    x = make_logits(rows, classes, dtype)
    ids = with_the_best(x, make_ids(rows, classes, count))
    value, error = oracle.log_softmax(x)
    exact = Exact(np.take_along_axis(value, ids, 1), np.take_along_axis(error, ids, 1))
    assert_close(fl.selective_log_softmax(x, ids), exact)
    grad = np.random.default_rng(3).standard_normal(ids.shape).astype(dtype)
    grad[1::3] = 1
    result = fl.selective_log_softmax_backward(grad, x, ids)
    assert result.dtype == dtype
    assert_close(result, exact_backward(grad, x, ids))


def test_a_dominated_row_keeps_its_digits(fl):
    """Neither the log-probability nor its gradient is what is left of 1 - p."""
    x = np.array([[0, 40, 0, 0]])
    rtol = (8 + 40) * np.finfo(float).eps
    for ids in ([[1]], [[1, 2]], [[3, 1]]):
        here = np.equal(ids, 1)
        np.testing.assert_allclose(fl.selective_log_softmax(x, ids)[here], -3 * np.exp(-40.0), rtol)
        grad = fl.selective_log_softmax_backward(here.astype(float), x, ids)
        np.testing.assert_allclose(grad[0, 1], 3 * np.exp(-40.0), rtol)


def test_one_id_a_row_without_its_axis(fl, rng):
    x = rng.standard_normal((3, 4, 5))
    ids = rng.integers(0, 5, (3, 4))
    np.testing.assert_array_equal(fl.selective_log_softmax(x, ids), fl.selective_log_softmax(x, ids[..., None])[..., 0])
    grad = rng.standard_normal((3, 4))
    np.testing.assert_array_equal(
        fl.selective_log_softmax_backward(grad, x, ids),
        fl.selective_log_softmax_backward(grad[..., None], x, ids[..., None]),
    )
    assert fl.selective_log_softmax(x[0, 0], 2).shape == ()
    np.testing.assert_allclose(fl.selective_log_softmax(x[0, 0], 2), fl.log_softmax(x[0, 0])[2], rtol=1e-15)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(fl, layout, dtype):
    view, axis = LAYOUTS[layout](make_logits(6, 11, dtype))
    plain = np.moveaxis(view, axis, -1).astype(dtype)
    ids = np.random.default_rng(0).integers(0, 11, (*plain.shape[:-1], 3))
    grad = ids.astype(dtype)
    turned, turned_grad = np.moveaxis(ids, -1, axis), np.moveaxis(grad, -1, axis)
    expected = fastlogits.selective_log_softmax(plain.reshape(-1, 11), ids.reshape(-1, 3)).reshape(ids.shape)
    actual = fl.selective_log_softmax(view, turned, axis)
    rtol = 16 * np.finfo(compute_type(dtype)).eps  # columns are added in another order than rows
    rtol = rtol if dtype in (F32, np.float64) else 0.01
    np.testing.assert_allclose(np.moveaxis(actual, axis, -1).astype(float), expected.astype(float), rtol=rtol)
    expected = fastlogits.selective_log_softmax_backward(
        grad.reshape(-1, 3), plain.reshape(-1, 11), ids.reshape(-1, 3)
    ).reshape(plain.shape)
    actual = fl.selective_log_softmax_backward(turned_grad, view, turned, axis)
    np.testing.assert_allclose(
        np.moveaxis(actual, axis, -1).astype(float), expected.astype(float), rtol=rtol, atol=rtol
    )


@pytest.mark.parametrize("width", ["int8", "uint8", "int16", "uint32", "int32", "uint64", "int64"])
def test_ids_of_any_width(fl, width):
    x = make_logits(5, 9, F32)
    ids = make_ids(5, 9, 3)
    np.testing.assert_array_equal(fl.selective_log_softmax(x, ids.astype(width)), fl.selective_log_softmax(x, ids))


def test_in_place_gives_the_very_bits(fl, dtype):
    for (rows, classes), count in itertools.product([(5, 3), (4, 1000), (2, 5000)], [1, 4]):
        x = make_logits(rows, classes, dtype)
        ids = make_ids(rows, classes, count)
        grad = np.ones(ids.shape, dtype)
        expected = fl.selective_log_softmax_backward(grad, x, ids)
        assert fl.selective_log_softmax_backward(grad, x, ids, out=x) is x
        assert x.tobytes() == expected.tobytes()


def test_special_rows(fl, dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[0, nan, 1], [-inf, -inf, -inf], [0, inf, 1], [0, -inf, 0], [-inf, -inf, 2]], dtype)
    ids = np.array([[0, 2], [0, 1], [0, 2], [1, 1], [0, 1]])
    actual = fl.selective_log_softmax(x, ids)
    assert np.isnan(actual[:3].astype(float)).all()
    assert (actual[3:] == -inf).all()
    grad = fl.selective_log_softmax_backward(np.ones((5, 2), dtype), x, ids).astype(float)
    assert np.isnan(grad[:3]).all()
    np.testing.assert_array_equal(grad[3:], [[-1, 2, -1], [1, 1, -2]])


def test_nothing(fl):
    for shape, ids in [((0, 3), (0,)), ((0, 3), (0, 2)), ((2, 3), (2, 0)), ((2, 0), (2, 0)), ((0, 0), (0,))]:
        x, none = np.ones(shape, F32), np.zeros(ids, int)
        assert fl.selective_log_softmax(x, none).shape == ids
        grad = fl.selective_log_softmax_backward(np.ones(ids, F32), x, none)
        np.testing.assert_array_equal(grad, np.zeros(shape, F32))
        assert fl.selective_log_softmax_backward(np.ones(ids, F32), x, none, out=x) is x
        assert not x.any()


BAD_IDS = [
    ([0, 3, 5, -1], IndexError, ["ids", "3", r"\(1,\)", r"\[0, 3\)"]),
    ([0, 1, -1, 9], IndexError, ["ids", "-1", r"\(2,\)"]),
    ([[0, 1], [2, 2], [0, -100], [1, 3]], IndexError, ["ids", "-100", r"\(2, 1\)"]),
    (np.array([0, 1, 2**64 - 1, 2], np.uint64), IndexError, ["ids", str(2**64 - 1), r"\(2,\)"]),
    ([0, 1, 2], ValueError, ["ids", r"\(4,\)", r"\(4, K\)", r"\(3,\)"]),
    ([[0, 1, 2, 0]], ValueError, ["ids", r"\(1, 4\)"]),
    ([[[0]], [[1]], [[1]], [[1]]], ValueError, ["ids", r"\(4, 1, 1\)"]),
    ([0.0, 1.0, 2.0, 0.0], TypeError, ["ids", "float64"]),
    ([True, False, True, True], TypeError, ["ids", "bool"]),
]


@pytest.mark.parametrize(("ids", "error", "tokens"), BAD_IDS)
def test_bad_ids(fl, ids, error, tokens):
    x = np.ones((4, 3), F32)
    with refused(error, *tokens):
        fl.selective_log_softmax(x, ids)
    with refused(error, *tokens):  # nothing is written before the check
        fl.selective_log_softmax_backward(np.ones(np.shape(ids), F32), x, ids, out=x)


def test_other_bad_input(fl):
    x, ids, grad = np.ones((4, 3), F32), np.zeros(4, int), np.ones(4, F32)
    with refused(ValueError, "grad", "ids", r"\(4,\)", r"\(4, 1\)"):
        fl.selective_log_softmax_backward(grad[:, None], x, ids)
    with refused(TypeError, "grad", "float32", "float64"):
        fl.selective_log_softmax_backward(grad.astype(float), x, ids)
    with refused(np.exceptions.AxisError, "axis 2"):
        fl.selective_log_softmax(x, ids, 2)
    with refused(np.exceptions.AxisError, "axis"):
        fl.selective_log_softmax(np.float32(1), 0)
    with refused(TypeError, "complex64"):
        fl.selective_log_softmax(x.astype(np.complex64), ids)
    with refused(ValueError, "out", r"\(4, 3\)", r"\(3, 3\)"):
        fl.selective_log_softmax_backward(grad, x, ids, out=x[:3])
    buffer = np.zeros((5, 3), F32)
    with refused(ValueError, "out", "grad"):
        fl.selective_log_softmax_backward(buffer[0, :1], x[:1], ids[:1], out=buffer[:1])
    with refused(ValueError, "out", "different view"):
        fl.selective_log_softmax_backward(grad, buffer[:4], ids, out=buffer[1:])


def test_integers_are_float64(fl):
    result = fl.selective_log_softmax([[0, 0]], [0])
    assert result.dtype == np.float64
    assert result[0] == -np.log(2)


@pytest.mark.parametrize("shape", [(67, 4099), (1, 300_007), (20_011, 10)])
def test_same_bits_for_any_number_of_threads(backend, shape):
    x = make_logits(*shape, F32)
    ids = make_ids(*shape, 4)
    grad = np.ones(ids.shape, F32)
    results = set()
    for threads in (1, 2, 3):
        with fastlogits.settings(num_threads=threads):
            values = fastlogits.selective_log_softmax(x, ids)
            results.add((values.tobytes(), fastlogits.selective_log_softmax_backward(grad, x, ids).tobytes()))
    assert len(results) == 1
