"""No kernel touches a byte beside its arrays: they lie against pages that may not be read."""

import itertools

import numpy as np
import pytest
import subprocesses
from guards import guarded
from operations import OPERATIONS, call, make_logits
from tolerance import DTYPES

import fastlogits
from fastlogits import calibration
from fastlogits.states import SoftmaxState

SIZES = (1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 65, 127, 129, 255, 1000, 1023, 1024, 1025, 2049, 5000)
SIDES = ("before", "after")


@pytest.mark.parametrize("side", SIDES)
def test_the_guards_guard(side):
    code = f"""
        import numpy as np
        from guards import guarded
        x = guarded(np.zeros(3, np.float32), {side!r})
        print(x.sum(), flush=True)
        place = 3 if {side!r} == "after" else -1
        np.lib.stride_tricks.as_strided(x[place:] if place < 0 else x[2:], (2,), (4 if place > 0 else -12,)).sum()
    """
    process = subprocesses.start(code)
    output, _ = process.communicate(timeout=60)
    assert output.strip() == "0.0"
    assert process.returncode != 0


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(backend, name, dtype, side):
    operation = OPERATIONS[name]
    for classes, axis in itertools.product(SIZES, (-1, 0)):
        for rows in (1, 5, 130) if classes < 100 else (3,):
            arguments = operation.arguments(make_logits(rows, classes, dtype))
            turned = [np.ascontiguousarray(a.T) if axis == 0 and a.ndim == 2 else a for a in arguments]
            expected = call(fastlogits, name, *turned, axis=axis)
            given = [guarded(a, side) for a in turned]
            options = {"out": guarded(np.zeros_like(turned[0]), side)} if operation.has_out else {}
            np.testing.assert_array_equal(call(fastlogits, name, *given, axis=axis, **options), expected)


@pytest.mark.parametrize("side", SIDES)
def test_losses_with_every_array(backend, dtype, side, rng):
    for classes, axis in itertools.product(SIZES, (-1, 0)):
        rows = 9
        shape = (rows, classes) if axis else (classes, rows)
        x = rng.standard_normal(shape).astype(dtype)
        weights = {
            "weight": rng.uniform(0.5, 2, classes), "sample_weight": rng.uniform(0.5, 2, rows),
            "grad_loss": rng.uniform(0.5, 2, rows),
        }  # fmt: skip
        hard = rng.integers(0, classes, rows)
        hard[2] = -100
        for labels in (hard, rng.uniform(0, 1, shape).astype(dtype)):
            for more in ({}, {"softcap": 5.0, "label_smoothing": 0.1, "z_loss": 0.01}):
                options = {"axis": axis, "reduction": "none", **more}
                expected = fastlogits.cross_entropy_with_grad(x, labels, **weights, **options)
                given = {name: guarded(values, side) for name, values in weights.items()}
                logits = guarded(x, side)
                result = fastlogits.cross_entropy_with_grad(
                    logits, guarded(labels, side), out=logits, **given, **options
                )
                for one, other in zip(result, expected, strict=True):
                    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("side", SIDES)
def test_statistics_filters_and_draws(backend, dtype, side, rng):
    for classes in SIZES:
        x = rng.standard_normal((5, classes)).astype(dtype)
        labels, ids = rng.integers(0, classes, 5), rng.integers(0, classes, (5, 3))
        k = min(classes, 300)
        calls = (
            (lambda x, k=k: fastlogits.topk(x, k), (x,)),
            (lambda x, y, k=k: list(vars(fastlogits.row_stats(x, y, top_k=k)).values()), (x, labels)),
            (fastlogits.entropy, (x,)),
            (lambda x: fastlogits.sample(x, seed=1), (x,)),
            (lambda x, t: fastlogits.sample(x, seed=1, temperature=t, top_p=0.9, min_p=0.01), (x, np.full(5, 1.3))),
            (lambda x, n: fastlogits.filter_logits(x, top_k=n, typical_p=0.9, eta_cutoff=0.01), (x, np.full(5, k))),
            (fastlogits.selective_log_softmax, (x, ids)),
            (fastlogits.selective_log_softmax_backward, (ids.astype(dtype), x, ids)),
            (lambda x, y: list(calibration.fit_temperature(x, y)), (x, labels)),
            (lambda x: list(SoftmaxState.of(x, -1, 1.0)), (x,)),
        )
        for function, arrays in calls:
            expected, result = (function(*a) for a in (arrays, [guarded(a, side) for a in arrays]))
            if isinstance(expected, np.ndarray):
                expected, result = [expected], [result]
            for one, other in zip(result, expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", DTYPES)
def test_long_rows_shared_by_threads(compiled_backend, name, side, rng):
    x = rng.standard_normal((2, 70_001)).astype(DTYPES[name])
    with fastlogits.settings(num_threads=2):
        for function in (fastlogits.softmax, fastlogits.log_softmax):
            expected = function(x)
            result = function(guarded(x, side), out=guarded(x, side))
            np.testing.assert_array_equal(result, expected)
        labels = np.array([3, 70_000])
        expected = fastlogits.cross_entropy_with_grad(x, labels).grad_logits
        result = fastlogits.cross_entropy_with_grad(guarded(x, side), guarded(labels, side), out=guarded(x, side))
        np.testing.assert_array_equal(result.grad_logits, expected)
