"""Memory: no hidden copy of the logits, large results in memory used before, arrays beyond 2**31 elements."""

import collections
import functools
import tracemalloc
import weakref

import kept
import numpy as np
import pytest
from operations import OPERATIONS, WITH_OUT, call, laid_out
from tolerance import DTYPES

import fastlogits
from fastlogits import _memory

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
    "negative strides",
    "negative row stride",
    "every other class",
]
ROWS, CLASSES = 72, 30_011  # Numba has scratch memory for a row of float32 on each thread

# The entropy takes blocks of columns side by side: see test_side_by_side.py.
COLUMNS = {"axis 0", "Fortran", "middle axis", "axis 0 of three"}
CASES = [(name, layout) for name in OPERATIONS for layout in NO_COPY if name != "entropy" or layout not in COLUMNS]


@functools.cache
def arguments_for(name, dtype):
    x = np.random.default_rng(0).standard_normal((ROWS, CLASSES)).astype(DTYPES[dtype])
    return OPERATIONS[name].arguments(x)


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("name", "layout"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_no_copy_of_the_logits(compiled_backend, name, dtype, layout):
    """Nor a float32 copy of half logits: with `out`, or where only a number per row comes back."""
    views, axis, _ = laid_out(arguments_for(name, dtype), layout)
    options = {}
    if name in WITH_OUT:
        first = views[0]
        options["out"] = np.empty(first.shape, first.dtype) if 0 in first.strides else np.empty_like(first)
    call(fastlogits, name, *views, axis=axis, **options)
    peak = peak_of(lambda: call(fastlogits, name, *views, axis=axis, **options))
    assert peak < views[0].nbytes / 4


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward", "softmax"])
@pytest.mark.parametrize("out_layout", ["rows", "negative strides", "Fortran"])
def test_no_copy_of_the_results(compiled_backend, name, out_layout):
    """Where `out` lies otherwise than the logits, blocks are written to it, and no whole result beside it."""
    arrays = arguments_for(name, "float32")
    out = laid_out(arrays[:1], out_layout)[0][0].copy("K")
    if out_layout == "negative strides":
        out = out[::-1, ::-1]
    expected = call(fastlogits, name, *arrays)
    call(fastlogits, name, *arrays, out=out)
    assert peak_of(lambda: call(fastlogits, name, *arrays, out=out)) < out.nbytes / 4
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-12)


def test_loss_and_gradient_in_place_needs_no_second_array(compiled_backend, rng):
    x = rng.standard_normal((1000, 1000)).astype(np.float32)
    labels = rng.integers(0, 1000, 1000)
    fastlogits.cross_entropy_with_grad(x.copy(), labels)  # Numba compiles
    assert peak_of(lambda: fastlogits.cross_entropy_with_grad(x, labels, out=x)) < x.nbytes / 20


# Large results


@pytest.fixture(autouse=True)
def nothing_kept():
    fastlogits.empty_cache()
    yield
    fastlogits.empty_cache()


@pytest.mark.parametrize("hold", [False, True])
def test_large_results_use_their_memory_again(compiled_backend, hold):
    """Also in `p = softmax(x)`, said again, where the last p is still held while the next one is written."""
    x, last = np.zeros(kept.LARGE, np.float32), None

    def step():
        nonlocal last
        result = fastlogits.softmax(x)
        assert kept.lies_there(result)
        last = result if hold else None

    assert kept.is_used_again(step)
    assert len(kept.blocks()) == (2 if hold else 1)


def test_results_that_live_are_never_written_to_again(compiled_backend):
    """Nor those of which a view, or a view of a view, is all that is left."""
    x = np.linspace(-1, 1, np.prod(kept.LARGE), dtype=np.float32).reshape(kept.LARGE)
    held = [
        fastlogits.softmax(x),
        fastlogits.log_softmax(x)[1:],
        fastlogits.softmax(-x)[0].T[3:],
        memoryview(fastlogits.softmax(2 * x)),
        fastlogits.log_softmax(-x).view(np.int32),
    ]
    copies = [np.array(each) for each in held]
    for _ in range(4):
        result = fastlogits.softmax(x + 1)
        assert not any(np.shares_memory(each, result) for each in held)
    for each, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(each, copy)


F32 = np.dtype(np.float32)
WORDS = _memory.KEPT_FROM // 4


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [(WORDS, WORDS, True), (2 * WORDS - 64, WORDS, True), (3 * WORDS, WORDS, False), (WORDS, WORDS + 64, False)],
)
def test_which_memory_suits(first, second, again):
    """What suffices, with no more than half left over."""
    _memory.empty((first,), F32)
    (block,) = kept.blocks()
    block = weakref.ref(block)
    result = _memory.empty((second,), F32)
    assert np.may_share_memory(result, block()) == again
    assert len(kept.blocks()) == (1 if again else 2)


def test_no_more_than_two_are_kept():
    held = [_memory.empty((WORDS,), F32) for _ in range(3)]
    gone = [weakref.ref(block) for block in kept.blocks()]
    assert len(gone) == 3
    held.clear()
    assert sum(block() is not None for block in gone) == 2
    fastlogits.empty_cache()
    assert not any(block() is not None for block in gone)


def test_what_does_not_suit_goes_before_there_is_more():
    """Three blocks, two of them free, are not four while a larger one is written."""
    held = [_memory.empty((WORDS,), F32) for _ in range(3)]
    gone = [weakref.ref(block) for block in kept.blocks()]
    del held[1:]
    larger = _memory.empty((3 * WORDS,), F32)
    assert sum(block() is not None for block in gone) == 2
    assert larger.size == 3 * WORDS


def test_what_is_held_while_the_cache_is_emptied_is_not_kept():
    result = _memory.empty((WORDS,), F32)
    (block,) = map(weakref.ref, kept.blocks())
    fastlogits.empty_cache()
    assert block() is not None
    del result
    assert block() is None
    assert not kept.blocks()


def test_small_results_are_not_kept():
    _memory.empty((WORDS // 2,), F32)
    fastlogits.softmax(np.zeros((10, 1000)))
    assert not kept.blocks()


def test_it_is_aligned():
    for words in (1, 1000, WORDS):
        for dtype in (np.uint16, F32, np.float64):
            result = _memory.empty((words, 1), np.dtype(dtype))
            assert result.ctypes.data % _memory.ALIGNMENT == 0
            assert result.shape == (words, 1)
            assert result.dtype == dtype


def test_another_thread_may_take_what_is_looked_at(monkeypatch):
    """Between the count of the blocks and the look at one, the others may have gone."""

    class Emptied(collections.deque):
        def __len__(self):
            return 2

    monkeypatch.setattr(_memory, "_free", Emptied(maxlen=2))
    assert _memory.empty((WORDS,), F32).shape == (WORDS,)


# More than 31 bits

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
