"""Small and simple calls, which the compiled backend serves by itself: the bits and errors of the general way, which is
that of the functions without what stands before them.
"""

import inspect

import numpy as np
import pytest
from conftest import require_backend
from operations import OPERATIONS, make_logits
from subprocesses import run
from tolerance import BFLOAT16, DTYPES

import fastlogits
from fastlogits import config

GENERAL = {"entropy"}  # always served by the general way
NAMES = [name for name in OPERATIONS if name not in GENERAL]
LOSSES = ["cross_entropy", "cross_entropy_with_grad"]
BACKWARD = ["softmax_backward", "log_softmax_backward"]
IN_PLACE = ["softmax", "log_softmax", *BACKWARD, "cross_entropy_with_grad"]
SHAPES = [(10,), (1, 1), (7, 10), (3, 1, 7), (2, 3, 4, 5), (130, 129), (2500, 3), (1, 20_000), (32767, 1)]
F32 = np.dtype(np.float32)

every_function = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def _compiled():
    require_backend("cython")
    with fastlogits.settings(backend="cython"):
        yield


class Other(np.ndarray):
    pass


def arguments_for(name, shape=(7, 10), dtype=F32):
    x = make_logits(int(np.prod(shape[:-1])), shape[-1], dtype).reshape(shape)
    return OPERATIONS[name].arguments(x)


def choices(name):
    if name in LOSSES:
        return [{}, {"axis": -1}, {"reduction": "sum"}, {"reduction": "none"}, {"reduction": "mean", "axis": -1}]
    return [{}, {"axis": -1}]


def is_plain(name, *args, **options):
    return config.plain_call(name)(args, options) is not NotImplemented


def answer(name, *args, general=False, **options):
    """All that can be compared of a result, or of an error."""
    function = getattr(fastlogits, name)
    try:
        result = (inspect.unwrap(function) if general else function)(*args, **options)
    except Exception as error:
        return type(error), str(error)
    parts = result if isinstance(result, tuple) else (result,)
    return type(result), [
        (type(part), part.dtype, part.shape, part.flags.c_contiguous, part.flags.writeable, part.tobytes())
        for part in parts
    ]


def general_answer(name, first, *others, **options):
    return answer(name, first, *others, general=True, **options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES.values() if dtype != BFLOAT16], ids=str)
@every_function
def test_same_bits(name, dtype, shape):
    args = arguments_for(name, shape, dtype)
    for options in choices(name):
        assert is_plain(name, *args, **options)
        assert answer(name, *args, **options) == general_answer(name, *args, **options)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@every_function
def test_same_bits_of_special_values(name, special):
    args = arguments_for(name)
    args[0][2, 3] = args[0][4] = special
    assert answer(name, *args) == general_answer(name, *args)


@every_function
def test_the_axis_by_position(name):
    args = arguments_for(name)
    for axis in (-1, 1, 0, 2, True):
        assert (name not in LOSSES and type(axis) is int and axis in (-1, 1)) == is_plain(name, *args, axis)
        assert answer(name, *args, axis) == general_answer(name, *args, axis)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint64])
@pytest.mark.parametrize("name", LOSSES)
def test_labels(name, dtype):
    x, labels = arguments_for(name)
    for ignored in ([], [1, 5], slice(None)):
        labels[ignored] = -100
        for options in choices(name):
            args = x, labels.astype(dtype)
            assert is_plain(name, *args, **options) == (dtype in (np.int64, np.int32))
            assert answer(name, *args, **options) == general_answer(name, *args, **options)


@pytest.mark.parametrize("bad", [10, -1, -99, -101, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("name", LOSSES)
def test_bad_labels(name, bad):
    x, labels = arguments_for(name)
    labels[5] = bad
    message = rf"labels: expected values in \[0, 10\) or ignore_index=-100, got {bad} at \(5,\)"
    for dtype in (np.int64, np.int32) if abs(bad) < 2**31 else (np.int64,):
        out = x.copy()
        with pytest.raises(IndexError, match=message):
            getattr(fastlogits, name)(x, labels.astype(dtype), **({"out": out} if name in IN_PLACE else {}))
        assert out.tobytes() == x.tobytes()


def test_sum_of_losses():
    """As NumPy adds them, whatever their number."""
    rng = np.random.default_rng(1)
    for rows in [*range(1, 40), 127, 128, 129, 1000, 1023, 4097, 16383]:
        x, labels = rng.standard_normal((rows, 2)), rng.integers(0, 2, rows)
        each = fastlogits.cross_entropy(x, labels, reduction="none")
        assert fastlogits.cross_entropy(x, labels, reduction="sum") == np.add.reduce(each)


def test_losses_beyond_float32():
    x, labels = np.array([[3e38, -3e38], [3e38, -3e38]], F32), np.array([1, 1])
    for reduction in ("none", "sum", "mean"):
        assert is_plain("cross_entropy", x, labels, reduction=reduction)
        assert np.all(fastlogits.cross_entropy(x, labels, reduction=reduction) == np.inf)


@pytest.mark.parametrize("name", IN_PLACE)
def test_out(name):
    args = arguments_for(name)
    expected = getattr(fastlogits, name)(*args)
    expected = expected.grad_logits if name in LOSSES else expected
    for place in (None, 0, 1) if name in BACKWARD else (None, 0):
        given = list(args)
        out = np.full_like(args[0], np.nan)
        if place is not None:
            out = given[place] = args[place].copy()
        assert is_plain(name, *map(np.copy, args), out=np.empty_like(out))
        result = getattr(fastlogits, name)(*given, out=out)
        assert (result.grad_logits if name in LOSSES else result) is out
        assert out.tobytes() == expected.tobytes()


def overlapping(array):
    """`array` in new memory, and another array of its kind that begins one element later."""
    room = np.zeros(array.size + 1, array.dtype)
    room[:-1] = array.ravel()
    return room[:-1].reshape(array.shape), room[1:].reshape(array.shape)


REFUSED_OUT = {
    "another shape": lambda x: np.empty((7, 11), x.dtype),
    "another dtype": lambda x: np.empty(x.shape),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "another type": lambda x: x.tolist(),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_out_refused(name):
    args = arguments_for(name)
    cases = [(args, make(args[0])) for make in REFUSED_OUT.values()]
    for i in range(len(args)):
        if args[i].dtype == F32:
            moved, out = overlapping(args[i])
            cases.append(((*args[:i], moved, *args[i + 1 :]), out))
    if name in LOSSES:
        out = np.empty((7, 10), F32)
        labels = out.reshape(-1)[:14].view(np.int64)
        labels[:] = 0
        cases.append(((args[0], labels), out))
    for given, out in cases:
        assert not is_plain(name, *given, out=out)
        refusal = answer(name, *given, out=out)
        assert refusal[0] in (TypeError, ValueError)
        assert refusal[1].startswith("out: ")
        assert refusal == general_answer(name, *given, out=out)


NOT_PLAIN = {
    "subclass": lambda x: x.view(Other),
    "integers": lambda x: x.astype(np.int64),
    "bfloat16": lambda x: x.astype(BFLOAT16),
    "Fortran": np.asfortranarray,
    "strided": lambda x: x.repeat(2, 0)[::2],
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"1" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "no rows": lambda x: x[:0],
    "no classes": lambda x: x[:, :0],
    "no axis": lambda x: x[0, 0, ...],
    "large": lambda x: np.tile(x, (500, 1)),
    "list": lambda x: x.tolist(),
}
ODD_OPTIONS = [
    {"axis": 0}, {"axis": 2}, {"axis": 2**70}, {"axis": True}, {"axis": "1"}, {"axis": None}, {"unknown": 1},
    {"logits": [1.0]}, {"labels": [1]}, {"out": 1}, {"reduction": "median"}, {"reduction": []}, {"reduction": None},
    {"temperature": 2.0}, {"where": True}, {"keepdims": True}, {"ignore_index": 1}, {"softcap": -1.0},
]  # fmt: skip


@pytest.mark.parametrize("case", NOT_PLAIN)
@every_function
def test_arrays_that_are_not_plain(name, case):
    args = arguments_for(name)
    odd = NOT_PLAIN[case](np.linspace(-3, 3, 70, dtype=F32).reshape(7, 10))
    for i in range(len(args)):
        if args[i].dtype == F32:
            assert not is_plain(name, *args[:i], odd, *args[i + 1 :])


@pytest.mark.parametrize("options", ODD_OPTIONS, ids=str)
@every_function
def test_options_that_are_not_plain(name, options):
    args = arguments_for(name)
    assert not is_plain(name, *args, **options)
    assert answer(name, *args, **options) == general_answer(name, *args, **options)


@every_function
def test_too_few_and_too_many_arguments(name):
    args = arguments_for(name)
    for given in (args[:-1], (*args, -1, None)):
        assert not is_plain(name, *given)
        with pytest.raises(TypeError, match="argument"):
            getattr(fastlogits, name)(*given)


def test_labels_that_are_not_plain():
    x, labels = arguments_for("cross_entropy")
    for odd in (
        labels.tolist(), labels.astype(np.int16), labels.astype(np.uint64), labels.astype(">i8"), labels[:-1],
        labels[:, None], labels.repeat(2)[::2], labels.astype(F32), np.full_like(x, 0.1), labels.view(Other), 0, None,
    ):  # fmt: skip
        assert not is_plain("cross_entropy", x, odd)
        assert answer("cross_entropy", x, odd) == general_answer("cross_entropy", x, odd)


# Settings


@every_function
def test_the_backend_in_force(name):
    args = arguments_for(name)
    with fastlogits.settings(backend="numpy"):
        assert config.plain_call(name) is None
        assert answer(name, *args) == general_answer(name, *args)
        with fastlogits.settings(backend="cython", num_threads=2):
            assert is_plain(name, *args)
        assert config.plain_call(name) is None
    assert is_plain(name, *args)


@pytest.mark.parametrize(("variables", "expected"), [
    ({}, "None True"), ({"FASTLOGITS_BACKEND": "cython"}, "None True"), ({"FASTLOGITS_BACKEND": "numpy"}, "None False"),
])  # fmt: skip
def test_the_default_backend(variables, expected):
    """Which is loaded by the first call that needs one."""
    code = """
        import numpy as np
        import fastlogits
        from fastlogits import config
        x = np.ones((2, 3), np.float32)
        print(config.plain_call("softmax"), end=" ")
        first = fastlogits.softmax(x)
        print(config.plain_call("softmax") is not None)
        assert fastlogits.softmax(x).tobytes() == first.tobytes()
        """
    assert run(code, **variables) == expected


@pytest.mark.parametrize("variable", ["FASTLOGITS_BACKEND", "FASTLOGITS_NUM_THREADS", "FASTLOGITS_ISA"])
def test_wrong_values_in_the_environment(variable):
    code = """
        import numpy as np
        import fastlogits
        for _ in range(2):
            try:
                fastlogits.softmax(np.ones((2, 3), np.float32))
            except ValueError as error:
                print(str(error).partition(":")[0])
        """
    assert run(code, **{variable: "wrong"}).split() == [variable] * 2
