"""dask arrays on a cluster: two worker processes of two threads each."""

import os
import signal
import time

import numpy as np
import pytest
from conftest import need
from operations import labels_like, make_logits
from refusals import refused
from test_states import assert_near
from tolerance import BFLOAT16

import fastlogits
from fastlogits import calibration

dask = need("dask")
da = need("dask.array")
distributed = need("distributed")
need("fastlogits.dask")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address=None,
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        yield client


@pytest.mark.parametrize("kind", [np.float32, np.float16, BFLOAT16])
def test_chunks_of_rows(client, kind):
    x = make_logits(350, 1500, kind)
    labels = labels_like(x)
    lazy, marks = da.from_array(x, chunks=(40, -1)), da.from_array(labels, chunks=90)
    ours = dask.compute(
        fastlogits.softmax(lazy),
        fastlogits.logsumexp(lazy),
        *fastlogits.cross_entropy_with_grad(lazy, marks, reduction="none"),
        *fastlogits.topk(lazy, 5),
    )
    exact = (
        fastlogits.softmax(x),
        fastlogits.logsumexp(x),
        *fastlogits.cross_entropy_with_grad(x, labels, reduction="none"),
        *fastlogits.topk(x, 5),
    )
    for mine, numpy in zip(ours, exact, strict=True):
        assert mine.tobytes() == numpy.tobytes()
    grad = fastlogits.cross_entropy_with_grad(lazy, marks).grad_logits.compute()
    assert grad.tobytes() == fastlogits.cross_entropy_with_grad(x, labels).grad_logits.tobytes()


@pytest.mark.parametrize("kind", [np.float32, np.float16, BFLOAT16])
def test_chunks_of_classes(client, kind):
    """States go from worker to worker."""
    x = make_logits(200, 3001, kind)
    labels = labels_like(x)
    stats = fastlogits.row_stats(da.from_array(x, chunks=(40, 177)), labels, top_k=7)
    assert_near(fastlogits.RowStats(**dask.compute(vars(stats))[0]), x, labels, 7)


@pytest.mark.parametrize("chunks", [(40, -1), (70, 200)], ids=str)
def test_draws_and_calibration(client, chunks):
    """Rows in pieces go to one worker; sums of derivatives come back in each pass."""
    x = make_logits(350, 1500, np.float32)
    labels = labels_like(x)
    lazy, marks = da.from_array(x, chunks=chunks), da.from_array(labels, chunks=90)
    ours = dask.compute(fastlogits.filter_logits(lazy, top_p=0.9), *fastlogits.sample(lazy, seed=1, top_k=50))
    exact = fastlogits.filter_logits(x, top_p=0.9), *fastlogits.sample(x, seed=1, top_k=50)
    for mine, numpy in zip(ours, exact, strict=True):
        assert mine.tobytes() == numpy.tobytes()
    curve = dask.compute(*calibration.reliability_curve(lazy, marks))
    np.testing.assert_allclose(curve, calibration.reliability_curve(x, labels), rtol=1e-14)
    fit = calibration.fit_temperature(lazy, marks)
    np.testing.assert_allclose(fit[:2], calibration.fit_temperature(x, labels)[:2], rtol=1e-7)


def test_a_worker_that_dies(client):
    """What it had is computed again, and the result is the same."""
    x = make_logits(400, 2000, np.float32)

    def slowly(block):
        time.sleep(0.05)
        return block

    lazy = da.from_array(x, chunks=(20, 500)).map_blocks(slowly, dtype=x.dtype)
    expected = fastlogits.softmax(lazy).compute(scheduler="synchronous")
    before = client.run(os.getpid)
    result = fastlogits.softmax(lazy).persist()
    futures = distributed.futures_of(result)
    while not any(future.done() for future in futures):
        time.sleep(0.01)
    os.kill(next(iter(before.values())), signal.SIGKILL)
    assert not all(future.done() for future in futures)
    assert result.compute().tobytes() == expected.tobytes()
    client.wait_for_workers(2, timeout=30)
    assert len({*client.run(os.getpid).values()} - {*before.values()}) == 1


def test_bad_labels(client):
    x = da.zeros((60, 7), chunks=(10, 3))
    labels = np.zeros(60, np.uint8)
    labels[33] = 7
    with refused(IndexError, r"got 7 at \(33,\)"):
        fastlogits.cross_entropy(x, labels).compute()
