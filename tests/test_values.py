"""Values: every operation, backend and dtype, on odd sizes and in every memory layout."""

import numpy as np
import oracle
import pytest
from operations import LAYOUTS, OPERATIONS, PER_ROW, WITH_OUT, call, case, laid_out
from tolerance import assert_close, compute_type

# rows, classes; the many rows of few classes reach every remainder of a vector
SIZES = [
    (131, 1),
    (130, 2),
    (129, 3),
    (67, 7),
    (150, 10),
    (37, 31),
    (15, 127),
    (14, 1000),
    (7, 32003),
    (2, 128256),
]
SAMPLE = [2.0, 1.0, 0.1]


def largest_error(actual, exact):
    """In epsilons of the computing type, relative to values above 1 and absolute below."""
    with np.errstate(invalid="ignore"):
        error = np.abs(np.asarray(actual).astype(np.float64) - exact.value.astype(np.float64))
    keep = np.isfinite(exact.value)
    if not keep.any():
        return 0.0
    scale = np.maximum(np.abs(exact.value[keep]).astype(np.float64), 1)
    return (error[keep] / scale).max() / np.finfo(compute_type(actual.dtype)).eps


@pytest.mark.parametrize(("rows", "classes"), SIZES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_values(fl, name, rows, classes, dtype):
    arguments, exact = case(name, rows, classes, dtype)
    result = call(fl, name, *arguments)
    assert result.shape == exact.value.shape
    kind = compute_type(dtype) if name in PER_ROW else dtype
    assert result.dtype == (np.intp if name == "argmax" else kind)
    assert_close(result, exact, name)


@pytest.mark.parametrize("classes", [10, 127, 1000])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "argmax"])
def test_no_worse_than_the_plain_formula(fl, name, classes, dtype):
    arguments, exact = case(name, 150, classes, dtype)
    with np.errstate(all="ignore"):
        plain = np.asarray(OPERATIONS[name].plain(*arguments)).astype(dtype)
    # one epsilon: two results that are both as good as the type allows may round differently
    assert largest_error(call(fl, name, *arguments), exact) <= largest_error(plain, exact) + 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("classes", [3, 131])
def test_layouts(fl, name, layout, classes, dtype):
    arguments, _ = case(name, 6, classes, dtype)
    views, axis, plain = laid_out(arguments, layout)
    result = call(fl, name, *views, axis=axis)
    exact = OPERATIONS[name].exact(*plain)
    assert result.dtype.isnative
    if result.ndim == views[0].ndim:
        assert result.shape == views[0].shape
        result = np.moveaxis(result, axis, -1)
    assert_close(result, exact, f"{name}, {layout}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", WITH_OUT)
def test_out_in_every_layout(fl, name, layout, rng):
    """`out` in its own memory order, and where it can be written, in place of the first argument."""
    arguments = [a.copy() for a in case(name, 6, 37, np.dtype(np.float32))[0]]
    views, axis, plain = laid_out(arguments, layout)
    exact = OPERATIONS[name].exact(*plain)
    out = rng.standard_normal(views[0].shape).astype(np.float32)
    assert call(fl, name, *views, axis=axis, out=out) is out
    assert_close(np.moveaxis(out, axis, -1), exact, f"{name}, {layout}, out")
    target, _ = LAYOUTS[layout](rng.standard_normal((6, 37)).astype(np.float32))
    if target.flags.writeable and target.dtype.isnative and 0 not in target.strides:
        assert call(fl, name, *(v.copy() for v in views), axis=axis, out=target) is target
        assert_close(np.moveaxis(target, axis, -1), exact, f"{name}, out in layout {layout}")
        assert call(fl, name, *views, axis=axis, out=views[0]) is views[0]
        assert_close(np.moveaxis(views[0], axis, -1), exact, f"{name}, {layout}, in place")


def test_hand_computed(fl, dtype):
    """exp(2), exp(1) and exp(0.1) are 7.389, 2.718 and 1.105; their sum is 11.212, its logarithm 2.417."""
    x = np.array(SAMPLE, dtype)
    place = 0.5e-3 if dtype.itemsize > 2 else 4e-3
    shares = [0.659, 0.242, 0.099]
    np.testing.assert_allclose(fl.softmax(x).astype(float), shares, rtol=0, atol=place)
    np.testing.assert_allclose(fl.log_softmax(x).astype(float), [-0.417, -1.417, -2.317], rtol=0, atol=4 * place)
    np.testing.assert_allclose(float(fl.logsumexp(x)), 2.417, rtol=0, atol=4 * place)
    assert fl.argmax(x) == 0
    result = fl.cross_entropy_with_grad(x[None], [1])
    np.testing.assert_allclose(float(result.loss), 1.417, rtol=0, atol=4 * place)
    np.testing.assert_allclose(result.grad_logits[0].astype(float), [0.659, -0.758, 0.099], rtol=0, atol=place)
    # g = (1, 0, 0): p_0 (1 - p_0) = 0.225, -p_0 p_1 = -0.160, -p_0 p_2 = -0.065
    g = np.array([1, 0, 0], dtype)
    backward = fl.softmax_backward(g, fl.softmax(x)).astype(float)
    np.testing.assert_allclose(backward, [0.225, -0.160, -0.065], rtol=0, atol=2 * place)
    backward = fl.log_softmax_backward(g, fl.log_softmax(x)).astype(float)
    np.testing.assert_allclose(backward, [0.341, -0.242, -0.099], rtol=0, atol=2 * place)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", ["list", "int8", "int64", "uint16"])
def test_integers_become_float64(fl, name, kind):
    numbers = np.array([[1, 0, 1], [0, 0, 1]])
    rest = ([0, 2],) if name.startswith("cross_entropy") else (numbers,) if "backward" in name else ()
    given = [numbers.tolist() if kind == "list" else numbers.astype(kind), *rest]
    expected = call(fl, name, *(np.asarray(a, float if np.ndim(a) == 2 else int) for a in (numbers, *rest)))
    result = call(fl, name, *given)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("temperature", [0.25, 0.7, 1, 3.0, 100.0])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_temperature(fl, name, temperature, dtype):
    x = case(name, 15, 127, dtype)[0][0]
    result = getattr(fl, name)(x, temperature=temperature)

    assert_close(result, getattr(oracle, name)(x, temperature), name)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 130, 67), (1, 10, 1), (5, 1, 3), (2, 1030, 4)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_axis_of_three(fl, name, shape, axis, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    arguments = OPERATIONS[name].arguments(np.moveaxis(x, axis, -1).copy())
    turned = [np.moveaxis(a, -1, axis).copy() if a.ndim == 3 else a for a in arguments]
    result = call(fl, name, *turned, axis=axis)
    result = result if result.ndim == 2 else np.moveaxis(result, axis, -1)
    assert_close(result, OPERATIONS[name].exact(*arguments), name)
