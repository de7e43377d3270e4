"""dask arrays that do not know their sizes: asked for where they are needed, and nowhere else."""

import numpy as np
import pytest
from conftest import need
from refusals import refused
from test_adapters import CALLS

import fastlogits
from fastlogits import calibration

dask = need("dask")
da = need("dask.array")
need("fastlogits.dask")


def unknown(x, **chunks):
    """The rows of x, the dask array not knowing how many."""
    lazy = da.from_array(x, **chunks)
    return lazy[da.from_array(np.ones(len(x), bool), chunks=(lazy.chunks[0],))]


@pytest.mark.parametrize("chunks", [(3, -1), (3, 2)])
def test_unknown_numbers_of_rows(chunks):
    x, labels = CALLS["softmax"][1][0][..., 0].repeat(3, 0), np.arange(12) % 5
    lazy, marks = unknown(x, chunks=chunks), unknown(labels, chunks=3)
    assert np.isnan(lazy.shape[0])
    for function, args in [
        (fastlogits.softmax, ()),
        (fastlogits.logsumexp, ()),
        (fastlogits.argmax, ()),
        (fastlogits.cross_entropy, (marks,)),
        (fastlogits.accuracy, (marks,)),
    ]:
        exact = function(x, *(labels for _ in args))
        np.testing.assert_allclose(function(lazy, *args).compute(), exact, rtol=1e-15)
    grad = fastlogits.cross_entropy_with_grad(lazy, marks).grad_logits.compute()
    np.testing.assert_allclose(grad, fastlogits.cross_entropy_with_grad(x, labels).grad_logits, rtol=1e-14)
    with refused(ValueError, "unknown", "compute_chunk_sizes"):
        fastlogits.cross_entropy(lazy, labels)
    with refused(ValueError, "class axis 0", "nan", "compute_chunk_sizes"):
        fastlogits.softmax(lazy, 0)
    with refused(ValueError, "rows", "nan", "compute_chunk_sizes"):
        fastlogits.sample(lazy)
    with refused(ValueError, "rows", "nan", "compute_chunk_sizes"):
        fastlogits.loglikelihood(lazy, marks)
    numbers = unknown(np.arange(12) + 4, chunks=3)
    np.testing.assert_array_equal(
        fastlogits.sample(lazy, seed=0, rows=numbers).ids, fastlogits.sample(x, seed=0, rows=4).ids
    )
    np.testing.assert_array_equal(fastlogits.filter_logits(lazy, top_k=2), fastlogits.filter_logits(x, top_k=2))
    curve = dask.compute(*calibration.reliability_curve(lazy, marks))
    np.testing.assert_allclose(curve, calibration.reliability_curve(x, labels), rtol=1e-14)
    fit = calibration.fit_temperature(lazy, marks)
    np.testing.assert_allclose(fit[:2], calibration.fit_temperature(x, labels)[:2], rtol=1e-7)


@pytest.mark.parametrize("axis", [0, -1, None, (0, 1), (1, 0)])
@pytest.mark.parametrize("chunks", [(3, 2), (5, -1), (-1, -1)])
def test_unknown_numbers_of_classes(axis, chunks):
    """Asked for where they are needed, and nowhere else."""
    x = CALLS["softmax"][1][0][..., 0].repeat(3, 0)
    lazy, b = unknown(x, chunks=chunks), np.arange(len(x))[:, None] - 3.0
    where = x < 1
    for options in ({}, {"b": b}, {"where": where}, {"keepdims": True}, {"return_sign": True}):
        lazily = {name: unknown(part, chunks=chunks[:1] + (-1,)) for name, part in options.items() if part is not True}
        ours = fastlogits.logsumexp(lazy, axis, **(options | lazily))
        exact = fastlogits.logsumexp(x, axis, **options)
        np.testing.assert_allclose(dask.compute(ours)[0], exact, rtol=1e-14, err_msg=str(options))
    for function in (fastlogits.softmax_backward, fastlogits.log_softmax_backward):
        np.testing.assert_allclose(function(lazy, lazy, axis), function(x, x, axis), rtol=1e-13, atol=1e-14)
    if isinstance(axis, int):
        want = ("lse", "entropy", "max_prob", "margin")
        stats, exact = (vars(fastlogits.row_stats(each, want=want, axis=axis)) for each in (lazy, x))
        for name in want:
            np.testing.assert_allclose(stats[name], exact[name], rtol=1e-14, err_msg=name)
    if lazy.numblocks[0] == 1:
        np.testing.assert_array_equal(fastlogits.softmax(lazy, axis), fastlogits.softmax(x, axis))
    elif axis != -1:
        with refused(ValueError, "class axis 0", "nan", "compute_chunk_sizes"):
            fastlogits.softmax(lazy, axis)
    if axis == 0:
        with refused(ValueError, "class axis 0", "nan", "compute_chunk_sizes"):
            fastlogits.row_stats(lazy, want=["argmax"], axis=axis)
