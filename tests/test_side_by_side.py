"""Functions of whole rows, where the classes do not lie side by side: a block of rows at a time is copied."""

import tracemalloc

import numpy as np
import pytest

import fastlogits
from fastlogits import _layout
from fastlogits.states import RowState

SHAPES = {"inner": (2, 40, 70), "outer": (9, 40, 7), "both": (3, 2, 40, 5, 5)}


def results(fl, x, axis, labels, temperature):
    """All of them, with the class axis last."""
    state = RowState.of(x, want=["lse"], axis=axis)
    arrays = {
        "filter_logits": fl.filter_logits(x, temperature=temperature, top_p=0.9, axis=axis),
        "softmax": state.softmax(x),
        "log_softmax": state.log_softmax(x),
        **fl.topk(x, 3, axis)._asdict(),
    }
    stats = vars(fl.row_stats(x, labels, top_k=3, axis=axis))
    arrays |= {name: stats.pop(name) for name in ("topk_ids", "topk_log_probs")}
    arrays = {name: np.moveaxis(array, axis, -1) for name, array in arrays.items()}
    return arrays | stats | fl.sample(x, seed=3, rows=5, temperature=temperature, top_k=9, axis=axis)._asdict()


@pytest.mark.parametrize("page", [0, 4096])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_same_bits_as_of_a_copy(fl, page, shape, dtype, rng, monkeypatch):
    monkeypatch.setattr(_layout, "BLOCK", 1000)
    monkeypatch.setattr(_layout, "PAGE", page)
    axis = shape.index(40)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    kept = x.copy()
    copy = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    labels = rng.integers(0, 40, copy.shape[:-1])
    temperature = rng.uniform(0.5, 2, copy.shape[:-1])
    ours = results(fl, x, axis, labels, temperature)
    for name, expected in results(fl, copy, -1, labels, temperature).items():
        np.testing.assert_array_equal(ours[name], expected, name)
    np.testing.assert_array_equal(x, kept)


def test_in_place_and_gaps(fl, rng, monkeypatch):
    monkeypatch.setattr(_layout, "BLOCK", 1000)
    expected = fl.filter_logits(x := rng.standard_normal((3, 40, 70)), top_k=4, axis=1)
    wide = np.zeros((3, 41, 70))
    wide[:, :40] = x
    assert fl.filter_logits(x, top_k=4, axis=1, out=x) is x
    np.testing.assert_array_equal(x, expected)
    fl.filter_logits(wide[:, :40], top_k=4, axis=1, out=wide[:, :40])
    np.testing.assert_array_equal(wide[:, :40], expected)
    assert not wide[:, 40].any()


@pytest.mark.parametrize("name", ["row_stats", "sample", "entropy"])
def test_no_copy_of_the_whole(name, backend, rng):
    x = rng.standard_normal((100, 20000), np.float32)  # 8 MB
    function = getattr(fastlogits, name)
    function(x, axis=0)
    tracemalloc.start()
    function(x, axis=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6
