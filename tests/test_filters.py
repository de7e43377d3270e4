"""filter_logits against the logits processors of Hugging Face transformers, and against the rules by hand."""

import functools

import numpy as np
import processors
import pytest
from operations import LAYOUTS, make_logits
from refusals import refused
from tolerance import compute_type

import fastlogits

F32 = np.dtype(np.float32)
INF = np.inf
OPTIONS = {
    "temperature": (0.25, 0.7, 3.0),
    "top_p": (0.05, 0.3, 0.5, 0.9, 0.999),
    "min_p": (1e-4, 0.02, 0.3, 1.0),
    "typical_p": (0.05, 0.3, 0.9, 0.99),
    "epsilon_cutoff": (3e-4, 0.02, 0.6),
    "eta_cutoff": (3e-4, 0.02, 0.6),
    "min_keep": (1, 2, 5, 40),
}


def random_rows(rng, classes):
    """Rows of several kinds: smooth, with many equal logits, masked, dominated."""
    x = rng.standard_normal((6, classes)) * rng.choice([0.1, 1, 4, 20])
    x[1] = np.round(x[1])
    x[2] = np.round(2 * x[2]) / 2
    x[3, rng.random(classes) < 0.5] = -INF
    x[3, 0] = 1
    x[4, classes // 2] += 20
    x[5] = rng.choice([-1.5, 0.25, 2.0], classes)
    return x.astype(F32)


def random_parameters(rng, classes):
    parameters = {name: values[rng.integers(len(values))] for name, values in OPTIONS.items() if rng.random() < 0.35}
    if rng.random() < 0.35:
        parameters["top_k"] = int(rng.integers(1, classes + 2))
    return parameters


def nudged(parameters, by):
    """The same with every limit moved; what that changes is on a limit here, and rounding may decide it elsewhere."""
    moved = dict(parameters)
    for name in {"top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"} & parameters.keys():
        far = name in ("top_p", "typical_p")
        moved[name] = parameters[name] - by if far else parameters[name] * (1 + by)
        moved[name] = min(moved[name], 1.0)
    return moved


def far_from_limits(fl, x, parameters, by):
    """The rows of which no limit, moved either way, drops another class."""
    more, less = (fl.filter_logits(x, **nudged(parameters, sign * by)) for sign in (1, -1))
    return (more == less).all(axis=-1)


@functools.cache
def processed(classes):
    """Random rows and parameters, and what the processors make of them in double and in float32."""
    rng = np.random.default_rng(classes)
    cases = [(random_rows(rng, classes), random_parameters(rng, classes)) for _ in range(60 if classes < 1000 else 20)]
    return [
        (x, options, processors.filter_logits(x, **options), processors.filter_logits(x, dtype="float32", **options))
        for x, options in cases
    ]


@pytest.mark.parametrize("classes", [1, 2, 5, 33, 100, 1000, 5003])
def test_transformers(fl, backend, classes):
    """Computed in double, exactly, ties and all; in float32, in all but the rows where its rounding decides."""
    total = far_from_any = same_in_float32 = 0
    for x, parameters, expected, in_float32 in processed(classes)[: 20 if backend == "numpy" else None]:
        result = fl.filter_logits(x, **parameters)
        far = far_from_limits(fl, x, parameters, 1e-12)
        np.testing.assert_array_equal(result[far], expected[far], str(parameters))
        total += len(x)
        far_from_any += np.count_nonzero(far)
        same_in_float32 += np.count_nonzero((result == in_float32).all(axis=1))
    assert far_from_any > 0.97 * total
    assert same_in_float32 > 0.97 * total


@pytest.mark.parametrize("name", [*OPTIONS, "top_k"])
def test_transformers_with_a_large_vocabulary(fl, rng, name):
    """And sorted rows, which are hard on histograms; each filter alone."""
    x = 4 * rng.standard_normal((4, 32003)).astype(F32)
    x[1].sort()
    x[2] = np.sort(x[2])[::-1]
    x[3] = -np.arange(32003) / 4000
    for value in OPTIONS.get(name, (1, 50, 3000, 32003)):
        if name == "min_keep":
            parameters = {"top_p": 1e-3, "min_keep": 40 * value}
        else:
            parameters = {name: value}
        far = far_from_limits(fl, x, parameters, 1e-12)
        assert far.sum() >= 3
        expected = processors.filter_logits(x, **parameters).astype(F32)
        np.testing.assert_array_equal(fl.filter_logits(x, **parameters)[far], expected[far])


def kept(result):
    return [np.flatnonzero(row > -INF).tolist() for row in result]


BY_HAND = {
    "top_k keeps the equals of the last": ([3, 1, 3, 2, 3], {"top_k": 2}, [0, 2, 4]),
    "top_k and min_keep": ([3, 1, 4, 2], {"top_k": 1, "min_keep": 3}, [0, 2, 3]),
    "top_k above the number of classes": ([3, 1], {"top_k": 7}, [0, 1]),
    "top_p: half of four equals": ([0, 0, 0, 0], {"top_p": 0.5}, [2, 3]),
    "top_p: just over half of them": ([0, 0, 0, 0], {"top_p": 0.5 + 1e-12}, [1, 2, 3]),
    "top_p keeps one": ([0, 0, 0, 0], {"top_p": 1e-300}, [3]),
    "top_p of two of eight": ([0, -INF, 0, 0, 0], {"top_p": 0.25, "min_keep": 2}, [3, 4]),
    "top_p = 1 drops nothing": ([0, -700, 3, -80], {"top_p": 1.0}, [0, 1, 2, 3]),
    "min_p = 1 keeps the largest": ([2, 1, 2], {"min_p": 1.0}, [0, 2]),
    "min_p and min_keep": ([2, 1, 1, 1], {"min_p": 1.0, "min_keep": 3}, [0, 1, 2]),
    "typical_p drops the likeliest": ([3, *[0] * 40], {"typical_p": 0.5}, [*range(1, 41)]),
    "typical_p and min_keep": ([0.5, 5, 5, 5, 0.5, 0], {"typical_p": 0.1, "min_keep": 4}, [0, 1, 2, 3]),
    "epsilon_cutoff keeps what equals it": ([0, 0, 0, 0], {"epsilon_cutoff": 0.25}, [0, 1, 2, 3]),
    "epsilon_cutoff above all keeps the largest": ([0, 1, 1, 0], {"epsilon_cutoff": 0.9}, [1, 2]),
    "eta_cutoff of a sure class": ([0, 40], {"eta_cutoff": 1e-4}, [1]),
    "eta_cutoff and min_keep": ([0, 40, 0, -1], {"eta_cutoff": 1e-4, "min_keep": 2}, [0, 1, 2]),
    "temperature comes first": ([0, 1, 2], {"temperature": 0.1, "min_p": 0.1}, [2]),
    "each sees what is left": ([0, 0, -1, -1], {"top_k": 2, "epsilon_cutoff": 0.5}, [0, 1]),
    "more to keep than there are": ([0, -INF, 1], {"top_p": 0.1, "min_keep": 9}, [0, 2]),
}


@pytest.mark.parametrize(("row", "parameters", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_by_hand(fl, row, parameters, expected, dtype):
    """Alone, and in front of a long tail that no filter but the last keeps."""
    result = fl.filter_logits(np.array([row], dtype), **parameters)
    assert kept(result) == [expected]
    assert result.dtype == dtype
    tail = np.full((1, 3000), -INF)
    assert kept(fl.filter_logits(np.append([row], tail, axis=1).astype(dtype), **parameters)) == [expected]


def test_what_is_kept_is_divided_in_the_computing_dtype(fl, dtype):
    x = make_logits(14, 40, dtype)
    wide = x.astype(compute_type(dtype))
    for temperature in (0.3, 1.0, 7.0):
        result = fl.filter_logits(x, temperature=temperature, top_k=7)
        quotient = (wide / wide.dtype.type(temperature)).astype(dtype)
        alive = result > -INF
        np.testing.assert_array_equal(result[alive], quotient[alive])
        everything = fl.filter_logits(x, temperature=temperature)
        np.testing.assert_array_equal(everything, quotient)


def test_half_types_are_filtered_in_float32(fl, rng):
    for dtype in ("float16", "bfloat16"):
        x = make_logits(21, 500, np.dtype(dtype))
        for parameters in ({"temperature": 0.7, "top_p": 0.8}, {"top_k": 9, "typical_p": 0.6}):
            expected = fl.filter_logits(x.astype(F32), **parameters).astype(dtype)
            np.testing.assert_array_equal(fl.filter_logits(x, **parameters), expected)


PER_ROW = {
    "temperature": [0.5, 1.0, 2.0],
    "top_k": [3, 40, 1],
    "top_p": [1.0, 0.5, 0.9],
    "min_p": [0.0, 0.1, 0.01],
    "typical_p": [0.9, 1.0, 0.3],
    "epsilon_cutoff": [0.0, 0.01, 0.3],
    "eta_cutoff": [0.1, 0.0, 0.01],
    "min_keep": [1, 2, 3],
}


def test_parameters_per_row(fl, rng):
    x = rng.standard_normal((3, 40)).astype(F32)
    cases = [{name: values} for name, values in PER_ROW.items()]
    cases += [PER_ROW, {"top_p": [0.2, 0.4, 0.9], "min_keep": 4}]
    for parameters in cases:
        result = fl.filter_logits(x, **parameters)
        for row in range(3):
            own = {name: values[row] if np.ndim(values) else values for name, values in parameters.items()}
            np.testing.assert_array_equal(result[row], fl.filter_logits(x[row], **own))


def test_parameters_broadcast_to_the_batch(fl, rng):
    x = rng.standard_normal((2, 3, 50))
    temperature, top_k = np.array([[0.5], [2.0]]), np.array([4, 5, 6], np.uint8)
    result = fl.filter_logits(x, temperature=temperature, top_k=top_k)
    for i, j in np.ndindex(2, 3):
        own = fl.filter_logits(x[i, j], temperature=temperature[i, 0], top_k=top_k[j])
        np.testing.assert_array_equal(result[i, j], own)
    turned = fl.filter_logits(np.moveaxis(x, 2, 0), temperature=temperature, top_k=top_k, axis=0)
    np.testing.assert_array_equal(np.moveaxis(turned, 0, 2), result)
    transposed = fl.filter_logits(x.swapaxes(0, 1), temperature=temperature.T, top_k=top_k[:, None])
    np.testing.assert_array_equal(transposed.swapaxes(0, 1), result)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(fl, layout, dtype):
    view, axis = LAYOUTS[layout](make_logits(6, 11, dtype))
    plain = np.moveaxis(view, axis, -1).astype(dtype)
    parameters = {"temperature": 0.5, "top_k": 7, "top_p": 0.9}
    expected = np.moveaxis(fastlogits.filter_logits(plain.copy(), **parameters), -1, axis)
    result = fl.filter_logits(view, **parameters, axis=axis)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)
    out = np.empty_like(result)
    assert fl.filter_logits(view, **parameters, axis=axis, out=out) is out
    np.testing.assert_array_equal(out, expected)
    wide = np.full((2, *view.shape), 7, dtype)[1]
    fl.filter_logits(view, **parameters, axis=axis, out=wide)
    np.testing.assert_array_equal(wide, expected)


SOME = [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.9}, {"typical_p": 0.5, "eta_cutoff": 0.1}]


@pytest.mark.parametrize("parameters", SOME, ids=str)
def test_in_place(fl, parameters, dtype):
    for shape, axis in (((7, 40), 1), ((40, 7), 0), ((2, 3000), 1)):
        x = make_logits(*shape, dtype)
        expected = fl.filter_logits(x, **parameters, axis=axis)
        assert fl.filter_logits(x, **parameters, axis=axis, out=x) is x
        assert x.tobytes() == expected.tobytes()


@pytest.mark.parametrize("parameters", SOME, ids=str)
@pytest.mark.parametrize("classes", [4, 30, 3000])
def test_special_rows(fl, parameters, classes, dtype):
    """NaN and +inf spoil their row and no other; a row of -inf stays."""
    x = make_logits(5, classes, dtype)
    alone = [fl.filter_logits(x[i], **parameters) for i in (0, 4)]
    x[1, classes // 2], x[2, -1], x[3] = np.nan, INF, -INF
    result = fl.filter_logits(x, **parameters)
    assert np.isnan(result[1:3].astype(float)).all()
    assert (result[3] == -INF).all()
    for i, own in zip((0, 4), alone, strict=True):
        np.testing.assert_array_equal(result[i], own)


def test_extreme_numbers(fl):
    """Differences that overflow, numbers below the normal ones, and distances of every size."""
    limits, tiny = np.finfo(float), 5e-324
    rows = [
        [limits.max, -limits.max, 0, limits.max / 2],
        [-limits.max, -limits.max / 2, limits.max, -limits.max / 4],
        [tiny, 0, 3 * tiny, 2 * tiny],
        [1e-300, 1e-308, 0, 2e-300],
        [1, 1 + limits.eps, 1 + 2 * limits.eps, 1 - limits.eps],
    ]
    for row in rows:
        x, order = np.array(row), np.argsort(row)[::-1]
        for k in range(1, 5):
            assert kept([fl.filter_logits(x, top_k=k)]) == [sorted(order[:k].tolist())]
        assert len(kept([fl.filter_logits(x, top_p=0.5, typical_p=0.9)])[0]) >= 1
    far = -(2.0 ** np.arange(-500, 500))
    x = np.append(far, -far)
    for k in (1, 3, 500, 1000, 1500, 2000):
        assert np.count_nonzero(fl.filter_logits(x, top_k=k) > -INF) == k


def test_nothing(fl):
    for shape in ((0, 3), (2, 0), (0, 0)):
        for axis in (0, 1):
            assert fl.filter_logits(np.ones(shape, F32), top_k=2, top_p=0.5, axis=axis).shape == shape


BAD = [
    ("temperature", 0, ValueError, ["above 0", "got 0"]),
    ("temperature", -1.0, ValueError, ["above 0", "-1.0"]),
    ("temperature", np.nan, ValueError, ["above 0", "nan"]),
    ("temperature", [1.0, 0.0], ValueError, ["above 0", r"0\.0 at \(1,\)"]),
    ("temperature", "hot", TypeError, ["above 0", "hot"]),
    ("temperature", 1j, TypeError, ["1j"]),
    ("temperature", None, None, []),
    ("top_k", -2, ValueError, ["at least 1", "None", "-2"]),
    ("top_k", -3, ValueError, ["-3"]),
    ("top_k", 2.0, TypeError, ["integer", "2.0"]),
    ("top_k", [2.0, 1.0], TypeError, ["integer", "float64"]),
    ("top_k", True, TypeError, ["integer", "True"]),
    ("top_p", 0, ValueError, ["above 0 and at most 1", "got 0"]),
    ("top_p", 1.01, ValueError, ["1.01"]),
    ("top_p", np.nan, ValueError, ["nan"]),
    ("min_p", -0.1, ValueError, ["from 0 to 1", "-0.1"]),
    ("min_p", 1.1, ValueError, ["1.1"]),
    ("typical_p", 0.0, ValueError, ["above 0 and at most 1"]),
    ("epsilon_cutoff", 1.0, ValueError, ["below 1", "1.0"]),
    ("eta_cutoff", -1e-9, ValueError, ["at least 0"]),
    ("min_keep", 0, ValueError, ["at least 1"]),
    ("min_keep", 1.5, TypeError, ["integer"]),
    ("top_p", [0.5, 0.5, 0.5], ValueError, [r"broadcasts to \(2,\)", r"\(3,\)"]),
    ("top_k", [[1, 2]], ValueError, [r"\(2,\)", r"\(1, 2\)"]),
]


@pytest.mark.parametrize(("name", "value", "error", "tokens"), BAD)
def test_bad_parameters(fl, name, value, error, tokens):
    x = np.ones((2, 3), F32)
    if error is None:
        fl.filter_logits(x, **{name: value})
        return
    with refused(error, name, *tokens):
        fl.filter_logits(x, **{name: value}, out=x)


def test_other_bad_input(fl):
    x = np.ones((2, 3), F32)
    with refused(TypeError, "complex64"):
        fl.filter_logits(x.astype(np.complex64))
    with refused(np.exceptions.AxisError, "axis 2"):
        fl.filter_logits(x, axis=2)
    with refused(np.exceptions.AxisError, "axis"):
        fl.filter_logits(np.float32(1))
    with refused(TypeError, "axis"):
        fl.filter_logits(x, axis=None)
    with refused(TypeError, "out", "float64"):
        fl.filter_logits(x, out=np.empty((2, 3)))
    with refused(ValueError, "out", "different view"):
        fl.filter_logits(x[:1], out=x.reshape(-1)[1:4].reshape(1, 3))


def test_integers_are_float64(fl):
    np.testing.assert_array_equal(fl.filter_logits([[1, 5, 3]], top_k=2), [[-INF, 5.0, 3.0]])


@pytest.mark.parametrize("shape", [(67, 4099), (1, 300_007), (5_011, 10)])
def test_same_bits_for_any_number_of_threads_and_any_batch(backend, shape):
    if backend == "numpy":
        shape = shape[0] // 10 + 1, shape[1]
    x = make_logits(*shape, F32)
    parameters = {"temperature": 0.8, "top_p": 0.9, "typical_p": 0.95, "eta_cutoff": 1e-3}
    results = set()
    for threads in (1, 2, 3):
        with fastlogits.settings(num_threads=threads):
            results.add(fastlogits.filter_logits(x, **parameters).tobytes())
    results.add(b"".join(fastlogits.filter_logits(part, **parameters).tobytes() for part in np.array_split(x, 3)))
    assert len(results) == 1


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"typical_p": 0.9, "min_p": 1e-3}, {"eta_cutoff": 1e-7}], ids=str)
def test_rows_with_more_survivors_than_there_is_room_for(compiled_backend, options):
    """Of millions of classes, after the bound that the first filter sets."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, 2_200_000)).astype(F32)
    x[1, 7] = 60
    with fastlogits.settings(backend="numpy"):
        expected = fastlogits.filter_logits(x, **options)
    np.testing.assert_array_equal(fastlogits.filter_logits(x, **options), expected)
    in_place = x.copy()
    np.testing.assert_array_equal(fastlogits.filter_logits(in_place, out=in_place, **options), expected)
    drawn = fastlogits.sample(x, seed=3, **options)
    assert (expected[np.arange(3), drawn.ids] > -INF).all()


@pytest.mark.slow
def test_a_row_of_two_to_the_31_classes(compiled_backend):
    """Scratch memory is for survivors, not for classes."""
    x = np.zeros((1, 2**31 + 5), np.float16)
    x[0, 5], x[0, 2**30], x[0, -1] = 9, 30, 29
    assert fastlogits.sample(x, seed=1).ids.shape == (1,)
    assert fastlogits.sample(x, seed=1, top_k=2, temperature=0.5).ids[0] in (2**30, 2**31 + 4)
    assert fastlogits.sample(x, seed=1, min_p=0.9).ids == [2**30]
    filtered = fastlogits.filter_logits(x, top_k=3, out=x)
    assert np.flatnonzero(filtered[0, -1000:] > -INF).tolist() == [999]
    assert np.flatnonzero(filtered[0, :1000] > -INF).tolist() == [5]
