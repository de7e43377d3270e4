"""Memory: no hidden copy of the logits in the layouts that need none, and arrays beyond 2**31 elements."""

import tracemalloc

import numpy as np
import pytest
from operations import OPERATIONS, WITH_OUT, call, laid_out
from tolerance import DTYPES

import fastlogits

NO_COPY = [
    "rows",
    "axis 0",
    "axis 0 of Fortran",
    "Fortran",
    "middle axis",
    "leading axes swapped",
    "axis 0 of three",
    "gaps between rows",
    "every other row",
    "one row for all",
    "read-only",
]
ROWS, CLASSES = 6, 100_003


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("layout", NO_COPY)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_copy_of_the_logits(compiled_backend, name, dtype, layout, rng):
    """Nor a float32 copy of half logits: with `out`, or where only a number per row comes back."""
    x = rng.standard_normal((ROWS, CLASSES)).astype(DTYPES[dtype])
    arguments = OPERATIONS[name].arguments(x)
    views, axis, _ = laid_out(arguments, layout)
    options = {}
    if name in WITH_OUT:
        first = views[0]
        options["out"] = np.empty(first.shape, first.dtype) if 0 in first.strides else np.empty_like(first)
    call(fastlogits, name, *views, axis=axis, **options)
    peak = peak_of(lambda: call(fastlogits, name, *views, axis=axis, **options))
    assert peak < x.nbytes / 4


def test_loss_and_gradient_in_place_needs_no_second_array(compiled_backend, rng):
    x = rng.standard_normal((1000, 1000)).astype(np.float32)
    labels = rng.integers(0, 1000, 1000)
    fastlogits.cross_entropy_with_grad(x[:10].copy(), labels[:10])
    assert peak_of(lambda: fastlogits.cross_entropy_with_grad(x, labels, out=x)) < x.nbytes / 20


BEYOND = 2**31 + 72  # elements: what a 32-bit index cannot reach; a multiple of 8


@pytest.mark.slow
def test_reading_more_than_two_to_the_31(compiled_backend):
    """Broadcast rows: as many logits as wanted in a kilobyte."""
    row = np.linspace(-1, 1, 8, dtype=np.float32)
    x = np.broadcast_to(row, (BEYOND // 8, 8))
    assert x.size > 2**31
    lse = fastlogits.logsumexp(x)
    assert (lse == lse[0]).all()
    assert lse[0] == fastlogits.logsumexp(row)


@pytest.mark.slow
def test_one_row_of_more_than_two_to_the_31(compiled_backend):
    """4 GB of float16: the largest logit stands at the very end, beyond any 32-bit index."""
    x = np.zeros(BEYOND, np.float16)
    x[[5, -1]] = 1, 2
    assert fastlogits.argmax(x) == BEYOND - 1
    assert fastlogits.logsumexp(x) == np.float16(np.log(BEYOND))
    loss = fastlogits.cross_entropy(x, BEYOND - 1, reduction="sum")
    np.testing.assert_allclose(loss, np.log(BEYOND) - 2, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1])
def test_in_place_over_more_than_two_to_the_31(compiled_backend, axis):
    x = np.zeros((8, BEYOND // 8) if axis == 0 else (BEYOND // 8, 8), np.float16)
    rows = np.moveaxis(x, axis, 1)
    rows[[0, -1]] = np.arange(8)
    expected = fastlogits.softmax(np.arange(8, dtype=np.float16))
    assert fastlogits.softmax(x, axis, out=x) is x
    np.testing.assert_array_equal(rows[[0, -1]], [expected, expected])
    assert (rows[1:-1] == np.float16(0.125)).all()


@pytest.mark.slow
def test_gradient_in_place_over_more_than_two_to_the_31(compiled_backend):
    x = np.zeros((BEYOND // 2048 + 1, 2048), np.float16)
    labels = np.full(len(x), 2047, np.int16)
    x[-1, 2047] = 4
    expected = fastlogits.cross_entropy_with_grad(x[-1], 2047)
    result = fastlogits.cross_entropy_with_grad(x, labels, out=x, reduction="sum")
    np.testing.assert_array_equal(x[-1], expected.grad_logits)
    np.testing.assert_allclose(result.loss, np.log(2048) * (len(x) - 1) + expected.loss, rtol=1e-6)
