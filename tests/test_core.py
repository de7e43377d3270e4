"""The C core: include/fastlogits.h, from C and from ctypes."""

import ctypes
import re
import subprocess
import sysconfig
from ctypes import c_double, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import documents
import numpy as np
import pytest
from c_programs import COMPILER, built
from conftest import need
from numpy.testing import assert_array_equal
from subprocesses import run

import fastlogits

need("fastlogits.backends.cython")
HEADER = Path(fastlogits.get_include()) / "fastlogits.h"
OK, BAD_ARGUMENT, BAD_LABEL, NO_MEMORY, INTERRUPTED = range(5)
DTYPES = {"float32": 1, "float64": 2, "float16": 3, "bfloat16": 4, "int32": 5, "int64": 6}
NONE, SUM, MEAN, NORMALIZED = range(4)


class Rows(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("dtype", c_int), ("threads", c_int), ("listen", c_int),
        *((name, c_int64) for name in ("outer", "classes", "inner", "x_stride", "y_stride", "z_stride")),
        ("x", c_void_p), ("y", c_void_p), ("z", c_void_p), ("scale", c_double),
    ]  # fmt: skip


class Loss(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("dtype", c_int), ("threads", c_int), ("listen", c_int),
        *((name, c_int64) for name in ("outer", "classes", "inner", "x_stride", "grad_stride", "targets_stride")),
        ("x", c_void_p), ("grad", c_void_p), ("labels", c_void_p), ("targets", c_void_p),
        ("label_dtype", c_int), ("loss_dtype", c_int), ("reduction", c_int),
        ("weight", c_void_p), ("sample_weight", c_void_p), ("grad_loss", c_void_p),
        ("upstream", c_double), ("normalizer", c_double), ("ignore_index", c_int64),
        *((name, c_double) for name in ("label_smoothing", "z_loss", "softcap", "logit_scale")),
        ("losses", c_void_p), ("loss", c_double), ("divisor", c_double), ("bad_row", c_int64),
    ]  # fmt: skip


ROWS = ("softmax", "log_softmax", "logsumexp", "argmax", "softmax_backward", "log_softmax_backward")


class Api(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("abi", c_int),
        *((name, ctypes.CFUNCTYPE(c_int, ctypes.POINTER(Rows))) for name in ROWS),
        ("cross_entropy", ctypes.CFUNCTYPE(c_int, ctypes.POINTER(Loss))),
        ("join", ctypes.CFUNCTYPE(None, c_void_p)), ("help", ctypes.CFUNCTYPE(None)),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def address():
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = re.search(r'#define FL_CAPSULE "(.*)"', HEADER.read_text())[1]
    return get(fastlogits._C_API, name.encode())


@pytest.fixture(scope="module")
def api(address):
    return Api.from_address(address)


@pytest.fixture(scope="module")
def program():
    path = built("threads", f"-I{HEADER.parent}", "-shared", "-fPIC", "-lm", team=False, folder="core")
    return ctypes.PyDLL(str(path))  # keeps the interpreter's lock: whoever asks for it waits for ever


def rows_of(x, /, **fields):
    """A call on the last axis; arrays among the fields by their addresses."""
    rows = Rows(ctypes.sizeof(Rows), DTYPES[x.dtype.name], 1, 0, x.size // x.shape[-1], x.shape[-1], 1,
                *[x.shape[-1]] * 3, x.ctypes.data, scale=1.0)  # fmt: skip
    return with_fields(rows, fields)


def loss_of(x, /, **fields):
    classes = x.shape[-1]
    loss = Loss(ctypes.sizeof(Loss), DTYPES[x.dtype.name], 1, 0, x.size // classes, classes, 1, *[classes] * 3,
                x.ctypes.data, label_dtype=DTYPES["int64"], loss_dtype=DTYPES["float64"], reduction=MEAN, upstream=1.0,
                ignore_index=-100, logit_scale=1.0)  # fmt: skip
    return with_fields(loss, fields)


def with_fields(call, fields):
    for name, value in fields.items():
        setattr(call, name, value.ctypes.data if isinstance(value, np.ndarray) else value)
    return call


def test_on_threads_of_c(program, address):
    assert program.size_of_rows() == ctypes.sizeof(Rows)
    assert program.size_of_loss() == ctypes.sizeof(Loss)
    assert program.wrong_results(c_void_p(address)) == 0


def test_the_header_is_cpp_too():
    words = [*COMPILER, "-x", "c++", "-Wall", "-Werror", "-fsyntax-only", HEADER]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode and "cc1plus" in done.stderr:
        pytest.skip("no C++ compiler")
    assert done.returncode == 0, done.stderr


def test_what_the_documentation_shows_compiles(tmp_path):
    blocks = [block.text for block in documents.blocks("c")]
    program = tmp_path / "blocks.c"
    program.write_text("\n".join([*blocks, "int main(void) { return begin(); }"]))
    folders = [f"-I{folder}" for folder in (HEADER.parent, sysconfig.get_path("include"))]
    subprocess.run([*COMPILER, "-Wall", "-Werror", "-fsyntax-only", *folders, program], check=True)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", ROWS)
def test_rows(api, name, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 70)).astype(dtype)
    with fastlogits.settings(backend="cython"):
        if name.endswith("_backward"):
            y = getattr(fastlogits, name.removesuffix("_backward"))(x)
            expected, fields = getattr(fastlogits, name)(x, y), {"y": y}
        else:
            expected, fields = getattr(fastlogits, name)(x), {}
    if name == "logsumexp" and dtype == "float16":
        z = np.empty(50, np.float32)
    else:
        z = np.empty_like(expected)
    assert getattr(api, name)(rows_of(x, z=z, **fields)) == OK
    assert_array_equal(z.astype(expected.dtype), expected)


def test_columns_and_threads(api):
    x = np.random.default_rng(0).standard_normal((3, 500, 70)).astype(np.float32)
    expected = fastlogits.softmax(x, 1)
    for threads in (0, 1, 3):
        z = np.empty_like(x)
        call = rows_of(x, z=z, outer=3, classes=500, inner=70, threads=threads, x_stride=35000, z_stride=35000)
        assert api.softmax(call) == OK
        assert_array_equal(z, expected)


OPTIONS = [
    {},
    {"weight": np.linspace(0.5, 2, 70), "label_smoothing": 0.1},
    {"sample_weight": np.linspace(0, 1, 600), "z_loss": 1e-3, "softcap": 3.0, "logit_scale": -0.7},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label_dtype", ["int32", "int64"])
def test_losses(api, options, dtype, label_dtype):
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((600, 70)).astype(dtype), np.empty((600, 70), dtype)
    labels = rng.integers(70, size=600).astype(label_dtype)
    labels[3] = -100
    options = {name: value.astype(dtype) if name == "weight" else value for name, value in options.items()}
    for reduction, name in enumerate(("none", "sum", "mean", "mean")):
        extra = {"normalizer": 17.0} if reduction == NORMALIZED else {}
        expected = fastlogits.cross_entropy_with_grad(x, labels, reduction=name, **extra, **options)
        losses = np.empty(600, dtype)
        call = loss_of(x, grad=grad, labels=labels, label_dtype=DTYPES[label_dtype], reduction=reduction,
                       losses=losses, loss_dtype=DTYPES[dtype], **extra, **options)  # fmt: skip
        assert api.cross_entropy(call) == OK
        assert_array_equal(losses if name == "none" else np.asarray(call.loss, dtype), expected.loss)
        assert_array_equal(grad, expected.grad_logits)


def test_distributions(api):
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((600, 70)), np.empty((600, 70))
    targets = fastlogits.softmax(rng.standard_normal((600, 70)))
    expected = fastlogits.cross_entropy_with_grad(x, targets)
    call = loss_of(x, grad=grad, targets=targets)
    assert api.cross_entropy(call) == OK
    assert call.loss == expected.loss
    assert_array_equal(grad, expected.grad_logits)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 127, 128, 129, 255, 256, 257, 1000, 4099])
def test_means_are_those_of_numpy(api, rows):
    """However many losses are added."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((rows, 3)), rng.integers(3, size=rows)
    call = loss_of(x, labels=labels)
    assert api.cross_entropy(call) == OK
    assert_array_equal(call.loss, fastlogits.cross_entropy(x, labels))
    with fastlogits.settings(backend="cython"):
        assert_array_equal(call.loss, fastlogits.cross_entropy(x, labels, weight=np.ones(3)))


def test_refusals(api):
    x, labels = np.zeros((2, 3)), np.array([0, 1])
    z = np.full_like(x, 7)
    bad = ({"size": 8}, {"dtype": 0}, {"dtype": 5}, {"classes": 0}, {"outer": -1}, {"threads": -1}, {"x": None})
    for fields in bad:
        assert api.softmax(rows_of(x, **{"z": z, **fields})) == BAD_ARGUMENT
        assert api.cross_entropy(loss_of(x, **{"grad": z, "labels": labels, **fields})) == BAD_ARGUMENT
    assert api.softmax(rows_of(x)) == BAD_ARGUMENT
    assert api.softmax_backward(rows_of(x, z=z)) == BAD_ARGUMENT
    for fields in ({"reduction": 4}, {"label_dtype": 1}, {"loss_dtype": 3}, {"labels": None}):
        assert api.cross_entropy(loss_of(x, **{"grad": z, "labels": labels, **fields})) == BAD_ARGUMENT
    call = loss_of(x, grad=z, labels=np.array([2, 3]))
    assert api.cross_entropy(call) == BAD_LABEL
    assert call.bad_row == 1
    assert (z == 7).all()


def test_nothing_counted(api):
    x, grad = np.ones((2, 3)), np.full((2, 3), 7.0)
    call = loss_of(x, grad=grad, labels=np.array([-100, -100]))
    assert api.cross_entropy(call) == OK
    assert np.isnan(call.loss)
    assert (grad == 0).all()
    call = loss_of(x, grad=grad, labels=np.array([0, 1]), reduction=NORMALIZED, normalizer=0.0)
    assert api.cross_entropy(call) == OK
    assert call.loss == 0
    assert (grad == 0).all()


def test_a_signal_ends_a_call():
    code = """
        import signal
        import numpy as np
        import fastlogits
        def stop(*_):
            raise RuntimeError("stopped")
        signal.signal(signal.SIGALRM, stop)
        x = np.zeros((20_000, 10_000), np.float32)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            for _ in range(100):
                fastlogits.softmax(x, out=x)
        except RuntimeError as error:
            print(error)
    """
    assert run(code, FASTLOGITS_BACKEND="cython") == "stopped"
