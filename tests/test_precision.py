"""Which type comes out: the table of docs/outputs.md, cell by cell."""

import numpy as np
import pytest
from conftest import need
from tensors import ADAPTERS
from tolerance import DTYPES, compute_type

import fastlogits
from fastlogits.calibration import VectorScalingFit

LABELS = np.array([0, 2, 1])
SAME = {
    "softmax": lambda x: fastlogits.softmax(x),
    "log_softmax": lambda x: fastlogits.log_softmax(x),
    "filter_logits": lambda x: fastlogits.filter_logits(x, top_k=2),
    "gradient": lambda x: fastlogits.cross_entropy_with_grad(x, LABELS).grad_logits,
    "topk": lambda x: fastlogits.topk(x, 2).values,
}
PER_ROW = {
    "row_stats": lambda x: [v for n, v in vars(fastlogits.row_stats(x, LABELS, top_k=2)).items() if n in FLOATS],
    "entropy": lambda x: [fastlogits.entropy(x)],
    "logsumexp": lambda x: [fastlogits.logsumexp(x), *fastlogits.logsumexp(x, return_sign=True)],
    "logsumexp with factors": lambda x: [fastlogits.logsumexp(x, b=fastlogits.softmax(x))],
    "selective_log_softmax": lambda x: [fastlogits.selective_log_softmax(x, LABELS)],
    "sample": lambda x: [fastlogits.sample(x, seed=0).log_probs],
    "losses": lambda x: [fastlogits.cross_entropy(x, LABELS, reduction="none")],
    "losses with gradient": lambda x: [fastlogits.cross_entropy_with_grad(x, LABELS, reduction="none").loss],
    "loglikelihood": lambda x: [*fastlogits.loglikelihood(x, LABELS, lengths=[1, 2])[:4:2]],
}
FLOATS = {"lse", "nll", "entropy", "max_prob", "margin", "topk_log_probs"}
REDUCED = {
    "mean": lambda x: fastlogits.cross_entropy(x, LABELS),
    "sum": lambda x: fastlogits.cross_entropy(x, LABELS, reduction="sum"),
    "with gradient": lambda x: fastlogits.cross_entropy_with_grad(x, LABELS, reduction="sum").loss,
    "perplexity": lambda x: fastlogits.perplexity(x, LABELS),
}
KINDS = DTYPES | {"int32": np.dtype(np.int32)}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture(params=["numpy", *ADAPTERS, "dask"])
def library(request):
    """(from an array to the library's, from that to an array)"""
    if request.param == "numpy":
        return (lambda x: x), np.asarray
    if request.param == "dask":
        da = need("dask.array")
        return (lambda x: da.from_array(x, chunks=(2, 2))), lambda x: x.compute()
    framework = ADAPTERS[request.param]()
    return framework.tensor, framework.array


def logits(kind):
    return np.random.default_rng(0).normal(size=(3, 4)).astype(kind)


def wide(kind):
    """What integers become, and what numbers of rows have."""
    return np.dtype(np.float64) if kind.kind == "i" else compute_type(kind)


@pytest.mark.parametrize("name", SAME)
@each_kind
def test_arrays_of_the_shape_of_the_logits(library, kind, name):
    made, array = library
    expected = kind if name == "topk" or kind.kind != "i" else np.float64
    found = array(SAME[name](made(logits(kind))))
    assert found.dtype == expected


@pytest.mark.parametrize("name", PER_ROW)
@each_kind
def test_numbers_of_rows(library, kind, name):
    made, array = library
    assert {array(values).dtype for values in PER_ROW[name](made(logits(kind)))} == {wide(kind)}


@pytest.mark.parametrize("name", REDUCED)
@each_kind
def test_reduced_losses(library, kind, name):
    made, array = library
    assert array(REDUCED[name](made(logits(kind)))).dtype == wide(kind)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("kind", DTYPES.values(), ids=DTYPES)
def test_the_functions_of_a_framework(name, kind):
    framework = ADAPTERS[name]()
    x, labels = framework.tensor(logits(kind)), framework.tensor(LABELS)
    found = [framework.adapter.softmax(x, -1), framework.adapter.log_softmax(x, -1), framework.logsumexp(x, -1)]
    found.append(framework.row_losses(x, labels))
    assert {framework.array(values).dtype for values in found} == {kind}


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "filter_logits"])
@pytest.mark.parametrize("kind", DTYPES.values(), ids=DTYPES)
def test_a_fit_changes_no_type(fl, kind, name):
    fit = VectorScalingFit(np.ones(4), np.ones(4), 0.0, 1, True)
    assert getattr(fl, name)(logits(kind), temperature=fit).dtype == kind


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_sums_over_many_rows(fl, kind):
    """40,000 losses of 9 in float16 added up to inf, and in bfloat16 to something else."""
    x = np.zeros((40_000, 8), DTYPES[kind])
    labels = np.zeros(40_000, int)
    total = fl.row_stats(x, labels, want=["nll"]).nll.sum()
    np.testing.assert_allclose(total, 40_000 * np.log(8), 1e-6)
    np.testing.assert_allclose(fl.cross_entropy(x, labels, reduction="none").sum(), total, 1e-6)


@pytest.mark.parametrize("tracked", [False, True])
def test_a_sum_of_losses_of_tensors(tracked):
    torch = need("torch")
    x = torch.zeros(40_000, 8, dtype=torch.bfloat16, requires_grad=tracked)
    total = fastlogits.cross_entropy(x, torch.zeros(40_000, dtype=int), reduction="sum")
    assert total.dtype is torch.float32
    np.testing.assert_allclose(total.item(), 40_000 * np.log(8), 1e-6)
