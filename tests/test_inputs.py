"""Bad and odd input, at every public function: what is refused, with which message, and what is not."""

import itertools
import re

import numpy as np
import pytest
from operations import LABELLED, OPERATIONS, WITH_OUT, call, make_logits
from refusals import refused
from tolerance import HALF

F32 = np.dtype(np.float32)
NAMES = list(OPERATIONS)
every_operation = pytest.mark.parametrize("name", NAMES)


def arguments_for(name, x):
    return OPERATIONS[name].arguments(np.asarray(x))


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "object", "U3", "longdouble", "datetime64[s]"])
@every_operation
def test_dtype_not_supported(fl, name, dtype):
    if np.dtype(dtype) == np.float64:
        pytest.skip("longdouble is double on this machine")
    x = np.ones((2, 3)).astype(dtype) if dtype != "datetime64[s]" else np.zeros((2, 3), dtype)
    rest = ([0, 1],) if name in LABELLED else (x,) if "backward" in name else ()
    with refused(TypeError, "float32", "float64", "float16", "bfloat16", re.escape(str(np.dtype(dtype)))):
        call(fl, name, x, *rest)


@pytest.mark.parametrize("axis", [2, -3, 100])
@every_operation
def test_axis_out_of_range(fl, name, axis):
    with refused(np.exceptions.AxisError, f"axis {axis}"):
        call(fl, name, *arguments_for(name, np.ones((2, 3), F32)), axis=axis)


@pytest.mark.parametrize("axis", [0.5, "0", [0]])
@every_operation
def test_axis_of_another_type(fl, name, axis):
    with refused(TypeError, "axis"):
        call(fl, name, *arguments_for(name, np.ones((2, 3), F32)), axis=axis)


@every_operation
def test_no_dimension(fl, name):
    rest = (0,) if name in LABELLED else (np.float32(1),) if "backward" in name else ()
    with pytest.raises((ValueError, np.exceptions.AxisError)):
        call(fl, name, np.float32(1), *rest)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 1)])
@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_backward_shapes_disagree(fl, name, shape):
    with refused(ValueError, "grad_", r"\(2, 3\)", str(shape).replace("(", r"\(").replace(")", r"\)")):
        getattr(fl, name)(np.ones(shape, F32), np.ones((2, 3), F32))


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_backward_dtypes_disagree(fl, name):
    with refused(TypeError, "grad_", "float32", "float64"):
        getattr(fl, name)(np.ones((2, 3)), np.ones((2, 3), F32))


LABEL_ERRORS = [
    ([0, 3, 5, -1], {}, IndexError, ["labels", "3", r"\(1,\)"]),
    ([0, 1, -1, 9], {}, IndexError, ["labels", "-1", r"\(2,\)", r"\[0, 3\)"]),
    ([2, -100, 0, 7], {}, IndexError, ["labels", "7", r"\(3,\)", r"\[0, 3\)"]),
    ([2, -100, 0, 1], {"ignore_index": 2}, IndexError, ["labels", "-100", r"\(1,\)"]),
    (np.array([0, 1, 255, 2], np.uint8), {}, IndexError, ["labels", "255", r"\(2,\)"]),
    (np.array([0, 1, 2**64 - 1, 2], np.uint64), {}, IndexError, ["labels", str(2**64 - 1), r"\(2,\)"]),
    (np.array([0, 2**64 - 100, 1, 2], np.uint64), {}, IndexError, ["labels", str(2**64 - 100), r"\(1,\)"]),
    ([0, 1, 2], {}, ValueError, ["labels", r"\(4,\)", r"\(3,\)"]),
    ([[0], [1], [2], [0]], {}, ValueError, ["labels", r"\(4,\)", r"\(4, 1\)"]),
    ([0.0, 1.0, 2.0, 0.0], {}, TypeError, ["labels", "integer", "float64"]),
    (np.ones((4, 3), int), {}, TypeError, ["labels", "int64"]),
    (np.ones((4, 3), F32), {"ignore_index": 1}, ValueError, ["ignore_index", "distribution"]),
    (np.ones((4, 3), F32), {"ignore_index": -100}, ValueError, ["ignore_index", "distribution"]),
]


@pytest.mark.parametrize(("labels", "options", "error", "tokens"), LABEL_ERRORS)
@pytest.mark.parametrize("name", LABELLED)
def test_bad_labels(fl, name, labels, options, error, tokens):
    x = np.ones((4, 3), F32)
    with refused(error, *tokens):
        getattr(fl, name)(x, labels, **options)
    out = {"out": x} if name == "cross_entropy_with_grad" else {}
    with refused(error, *tokens):  # nothing is written before the check
        getattr(fl, name)(x, labels, **options, **out)


def test_bad_label_position_has_as_many_numbers_as_labels(fl):
    labels = np.zeros((2, 3), int)
    labels[1, 2] = 4
    with refused(IndexError, r"\(1, 2\)", "4"):
        fl.cross_entropy(np.ones((2, 4, 3), F32), labels, axis=1)
    with refused(IndexError, r"\(1, 2\)", "4"):
        fl.cross_entropy(np.asfortranarray(np.ones((2, 4, 3), F32)), labels, axis=1)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0], [0, 1, -100, 0]])
def test_a_bad_label_beside_good_and_ignored_ones_in_a_long_array(fl, labels):
    """The first bad one counts, wherever threads and blocks cut the rows."""
    many = np.resize(labels, 100_003)
    x = np.broadcast_to(np.ones(3, F32), (100_003, 3))
    many[[70_001, 99_999]] = 3, -7
    with refused(IndexError, r"\(70001,\)"):
        fl.cross_entropy(x, many)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("reduction", "average", ValueError),
        ("reduction", None, ValueError),
        ("reduction", "Mean", ValueError),
        ("label_smoothing", -0.1, ValueError),
        ("label_smoothing", 1.01, ValueError),
        ("label_smoothing", np.nan, ValueError),
        ("label_smoothing", "much", TypeError),
        ("softcap", 0.0, ValueError),
        ("softcap", -3, ValueError),
        ("softcap", np.nan, ValueError),
        ("z_loss", np.nan, ValueError),
        ("z_loss", np.inf, ValueError),
        ("logit_scale", np.nan, ValueError),
        ("logit_scale", np.inf, ValueError),
        ("normalizer", np.nan, ValueError),
        ("normalizer", -1, ValueError),
        ("weight", [1.0, 1.0], ValueError),
        ("weight", np.ones((2, 3)), ValueError),
        ("weight", [1j] * 3, TypeError),
        ("sample_weight", [1.0], ValueError),
        ("sample_weight", np.ones((2, 3)), ValueError),
        ("ignore_index", 1.5, TypeError),
    ],
)
@pytest.mark.parametrize("name", LABELLED)
def test_bad_options(fl, name, option, value, error):
    with refused(error, "" if error is TypeError and option == "ignore_index" else option):
        getattr(fl, name)(np.ones((2, 3), F32), [0, 1], **{option: value})


@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("name", LABELLED)
def test_normalizer_needs_mean(fl, name, reduction):
    with refused(ValueError, "normalizer", "mean", reduction):
        getattr(fl, name)(np.ones((2, 3), F32), [0, 1], reduction=reduction, normalizer=2.0)


@pytest.mark.parametrize(("reduction", "grad_loss"), [("mean", [1.0, 1.0]), ("sum", [1.0, 1.0]), ("none", [1.0] * 3)])
def test_grad_loss_of_another_shape(fl, reduction, grad_loss):
    with refused((ValueError, TypeError), "grad_loss"):
        fl.cross_entropy_with_grad(np.ones((2, 3), F32), [0, 1], reduction=reduction, grad_loss=grad_loss)


@pytest.mark.parametrize("temperature", [0, 0.0, -1, np.nan, -np.inf])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_bad_temperature(fl, name, temperature):
    with refused(ValueError, "temperature"):
        getattr(fl, name)(np.ones((2, 3), F32), temperature=temperature)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_bad_where(fl, name):
    with refused(TypeError, "where", "bool", "int64"):
        getattr(fl, name)(np.ones((2, 3), F32), where=np.ones((2, 3), np.int64))
    with refused(ValueError, "where", r"\(2, 3\)", r"\(2,\)"):
        getattr(fl, name)(np.ones((2, 3), F32), where=np.ones(2, bool))


def shifted_views(x):
    """`x` as a part of a buffer, and other parts of the same buffer that share some of its elements."""
    rows, classes = x.shape
    buffer = np.zeros(x.size + classes + 1, x.dtype)
    view = buffer[: x.size].reshape(x.shape)
    view[...] = x
    return view, [buffer[n : n + x.size].reshape(x.shape) for n in (1, classes)]


@pytest.mark.parametrize("name", WITH_OUT)
def test_bad_out(fl, name):
    x = make_logits(4, 4, F32)
    arguments = arguments_for(name, x)
    fixed = x.copy()
    fixed.flags.writeable = False
    folded = np.lib.stride_tricks.as_strided(np.zeros(7, F32), (4, 4), (4, 4))
    cases = [
        (np.empty((4, 3), F32), ValueError, ["out", r"\(4, 4\)", r"\(4, 3\)"]),
        (np.empty(4, F32), ValueError, ["out", "shape"]),
        (np.empty((4, 4)), TypeError, ["out", "float32", "float64"]),
        ([[0.0] * 4] * 4, TypeError, ["out", "list"]),
        (fixed, ValueError, ["out", "read-only"]),
        (np.broadcast_to(x[0], (4, 4)), ValueError, ["out"]),
        (folded, ValueError, ["out", "overlap"]),
    ]
    for out, error, tokens in cases:
        with refused(error, *tokens):
            call(fl, name, *arguments, out=out)
    view, others = shifted_views(x)
    for out in (*others, view.T, view[::-1], view[:, ::-1]):
        with refused(ValueError, "out"):
            call(fl, name, view, *arguments[1:], out=out)
        if len(arguments) == 2 and arguments[1].ndim == 2:
            with refused(ValueError, "out"):
                call(fl, name, arguments[0], view, out=out)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", WITH_OUT)
def test_in_place_gives_the_very_bits(fl, name, dtype):
    for rows, classes in [(5, 3), (131, 10), (9, 1000), (2, 5000)]:
        arguments = arguments_for(name, make_logits(rows, classes, np.dtype(dtype)))
        expected = call(fl, name, *arguments)
        for place in range(sum(a.ndim == 2 for a in arguments)):
            given = [a.copy() for a in arguments]
            assert call(fl, name, *given, out=given[place]) is given[place]
            assert given[place].tobytes() == expected.tobytes()


@pytest.mark.parametrize("option", ["labels", "weight", "sample_weight", "grad_loss"])
def test_out_may_not_share_memory_with_another_argument(fl, option):
    buffer = np.zeros(12, F32)
    out = buffer.reshape(4, 3)
    options = {
        "labels": {"labels": buffer[:4].view(np.int32)},
        "weight": {"weight": buffer[:3]},
        "sample_weight": {"sample_weight": buffer[8:]},
        "grad_loss": {"grad_loss": buffer[4:8], "reduction": "none"},
    }[option]
    with refused(ValueError, "out", option):
        fl.cross_entropy_with_grad(np.ones((4, 3), F32), **{"labels": [0, 1, 2, 0]} | options, out=out)


def test_weights_of_either_float(fl, rng):
    """float32 or float64 weights beside any logits, halves included."""
    for dtype in (*HALF, F32, np.dtype(np.float64)):
        x = rng.standard_normal((5, 3)).astype(dtype)
        w, v = np.array([0.5, 1, 2]), np.array([1, 0.25, 2, 0, 4])
        losses = [
            fl.cross_entropy(x, [0, 1, 2, 0, 1], weight=w.astype(a), sample_weight=v.astype(b))
            for a, b in itertools.product(("float32", "float64"), repeat=2)
        ]
        assert len(set(losses)) == 1


def test_masked_arrays_are_refused(fl):
    with refused(TypeError, "masked"):
        fl.softmax(np.ma.masked_greater([1.0, 2.0], 1.5))


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i2", "i4", "u8"])
def test_results_are_in_native_order(fl, kind):
    """Whatever comes in byte-swapped, here every argument."""
    x = np.array([[3, 1, 2], [0, 5, 4]], np.dtype(kind).newbyteorder())
    labels, weights = np.array([2, 1], ">i4"), np.array([0.5, 2.0], ">f8")
    ids, class_weight = np.array([[0, 2], [1, 1]], ">i2"), np.array([1.0, 2.0, 3.0], ">f4")
    results = (
        fl.softmax(x), fl.log_softmax(x), fl.logsumexp(x), fl.argmax(x), fl.softmax_backward(x, x), *fl.topk(x, 2),
        fl.log_softmax_backward(x, x), fl.cross_entropy(x, labels, reduction="none", sample_weight=weights),
        *fl.cross_entropy_with_grad(x, labels, weight=class_weight), fl.entropy(x), *fl.sample(x, rows=labels),
        *vars(fl.row_stats(x, labels, top_k=2)).values(), fl.selective_log_softmax(x, ids), fl.logsumexp(x, b=x),
        fl.selective_log_softmax_backward(x[:, :2], x, ids), fl.filter_logits(x, top_p=weights / 4),
        fl.accuracy(x, labels),
    )  # fmt: skip
    assert [result.dtype.isnative for result in results] == [True] * len(results)
    plain = x.astype(kind)
    np.testing.assert_array_equal(fl.softmax(x), fl.softmax(plain), strict=True)
    np.testing.assert_array_equal(fl.topk(x, 3).values, fl.topk(plain, 3).values, strict=True)
