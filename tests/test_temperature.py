"""fit_temperature and the kernel under it: the optimum that the formulas give, and every corner."""

import functools
import tracemalloc

import numpy as np
import pytest
from calibration_cases import drawn
from operations import LAYOUTS, laid_out, make_logits
from refusals import refused
from scipy.optimize import brentq
from tolerance import Exact, Tolerance, assert_close, compute_type, wide_type

import fastlogits
from fastlogits.calibration import fit_temperature
from fastlogits.calibration._rows import labelled_rows

INF, NAN = np.inf, np.nan


@np.errstate(all="ignore")
def exact_moments(x, labels, beta):
    """The five fields of kernels/moments.py for every row, and the errors allowed to them.

    z is known to 2 eps z (its own rounding, and that of beta), hence exp(-z) to (8 + 2 z) eps; terms below the
    smallest normal number may be lost, and z^2 exp(-z) is below 1e4 times that there.
    """
    z, eps = x.astype(wide_type(x.dtype)), Tolerance(x.dtype).eps
    peak = z.max(axis=-1, keepdims=True)
    gap = (peak - np.take_along_axis(z, labels[:, None], -1))[:, 0]
    z = beta * (peak - z)
    e = np.exp(-z)
    z = np.where(e == 0, 0, z)
    others = e.copy()
    np.put_along_axis(others, e.argmax(axis=-1)[:, None], 0, -1)
    rest = others.sum(axis=-1, keepdims=True)
    p, others = e / (1 + rest), others / (1 + rest)
    lost = x.shape[-1] * 1e4 * np.finfo(compute_type(x.dtype)).tiny

    norm_error = (others * (8 + 2 * z)).sum(-1, keepdims=True) * eps + lost
    rest_error = norm_error * (1 + rest) + eps * rest
    mean = (p * z).sum(-1, keepdims=True)
    mean_error = (p * z * (10 + 2 * z)).sum(-1, keepdims=True) * eps + mean * norm_error + lost
    away = np.abs(z - mean)
    variance = (p * away**2).sum(-1, keepdims=True)
    variance_error = (p * away**2 * (12 + 2 * z)).sum(-1, keepdims=True) * eps + variance * norm_error + lost
    variance_error += (p * away * 2 * (2 * z * eps + mean_error)).sum(-1, keepdims=True)
    gap_error = eps * np.where(np.isfinite(gap), gap, 0)
    np.put_along_axis(p, labels[:, None], 0, -1)
    square = (p**2).sum(-1, keepdims=True)
    square_error = (p**2 * (18 + 4 * z)).sum(-1, keepdims=True) * eps + 2 * square * norm_error + lost
    values = np.stack([rest[:, 0], gap, mean[:, 0], variance[:, 0], square[:, 0]])
    errors = (rest_error[:, 0], gap_error, mean_error[:, 0], variance_error[:, 0], square_error[:, 0])
    return Exact(values, np.stack(errors))


def moments(x, labels, beta, axis=-1):
    rows = labelled_rows(x, labels, axis, -100)
    results = np.full((5, len(rows.labels)), NAN)
    rows.moments(beta, results)
    return results


@pytest.mark.parametrize("beta", [1.0, 0.25, 6.0])
@pytest.mark.parametrize("classes", [1, 2, 7, 32, 33, 1000, 1025, 5003])
def test_moments(backend, dtype, classes, beta):
    x = make_logits(14, classes, dtype)
    labels = np.arange(14) % classes
    exact = exact_moments(x, labels, beta)
    assert_close(moments(x, labels, beta), exact, "rows")
    assert_close(moments(x.T.copy(), labels, beta, axis=0), exact, "columns")


def test_moments_of_rows_that_threads_share(backend):
    """Rows too long for one thread, and with more blocks than fit the stack."""
    for shape in ((3, 40_007), (1, 300_007)):
        x = make_logits(*shape, np.dtype(np.float32))
        labels = np.full(shape[0], 5)
        with fastlogits.settings(num_threads=2):
            results = moments(x, labels, 0.5)
        assert_close(results, exact_moments(x, labels, 0.5))


@pytest.mark.parametrize("classes", [5, 100, 20_011])
def test_rows_left_out_and_rows_without_likelihood(backend, classes):
    x = make_logits(6, classes, np.dtype(np.float32))
    x[1], x[2], x[3, 1], x[4, 0] = NAN, -INF, INF, -INF
    labels = np.array([0, -100, 0, 0, 0, -100])
    for results in (moments(x, labels, 1.0), moments(x.T.copy(), labels, 1.0, axis=0)):
        assert not results[:, [1, 5]].any()
        assert np.isnan(results[0, 2:4]).all()
        assert results[1, 4] == INF
        assert np.isfinite(results[:, 0]).all()


def optimum(x, labels, weight=1.0):
    """The fit by bisection on the derivative; and mean / variance, by which rounding errors grow."""
    x = x.astype(np.float64)
    below = x.max(axis=-1, keepdims=True) - x
    gap = np.take_along_axis(below, labels[:, None], -1)[:, 0]
    weight = np.broadcast_to(weight, gap.shape) / np.mean(weight)

    def at(log_beta):
        z = np.exp(log_beta) * below
        p = np.exp(-z)
        norm = p.sum(axis=-1)
        p /= norm[:, None]
        mean = (p * z).sum(axis=-1)
        variance = (p * z**2).sum(axis=-1) - mean**2
        picked = np.exp(log_beta) * gap
        return [np.mean(weight * values) for values in (np.log(norm) + picked, picked - mean, mean, variance)]

    log_beta = brentq(lambda u: at(u)[1], -20, 20, xtol=1e-13, rtol=1e-13)
    nll, _, mean, variance = at(log_beta)
    return np.exp(-log_beta), nll, mean / variance


def assert_optimal(fit, exact, dtype=np.float64):
    temperature, nll, condition = exact
    eps = float(Tolerance(np.dtype(dtype)).eps)
    assert fit.temperature == pytest.approx(temperature, rel=1e-8 + 16 * eps * (1 + condition), abs=0)
    assert fit.nll == pytest.approx(nll, rel=1e-10 + 16 * eps, abs=0)


@functools.cache
def case(shape, temperature, scale, dtype):
    x, labels = drawn(*shape, temperature)
    x = (scale * x).astype(dtype)
    return x, labels, optimum(x, labels)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(31, 2), (100, 40), (20, 1100), (1031, 3), (1500, 33)])
def test_the_optimum(backend, dtype, shape, temperature):
    x, labels, exact = case(shape, temperature, 1, dtype)
    assert_optimal(fit_temperature(x, labels), exact, dtype)
    assert_optimal(fit_temperature(x.T.copy(), labels, axis=0), exact, dtype)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e3, 1e6])
def test_the_temperature_grows_with_the_logits(backend, scale):
    x, labels, exact = case((2000, 10), 1.5, scale, np.dtype(np.float32))
    assert_optimal(fit_temperature(x, labels), exact, x.dtype)


def test_two_classes_in_closed_form(backend):
    """Odds of exp(a) for a class that is right k times of n: the temperature makes them k to n - k."""
    x = np.tile([2.0, 0.0], (10, 1))
    for right in (6, 7, 9):
        fit = fit_temperature(x, (np.arange(10) >= right).astype(int))
        p = right / 10
        assert fit.temperature == pytest.approx(2 / np.log(right / (10 - right)), rel=1e-9)
        assert fit.nll == pytest.approx(-p * np.log(p) - (1 - p) * np.log(1 - p), rel=1e-12)


def test_agrees_with_the_loss():
    """The nll is that of cross_entropy at the temperature, and no other temperature has a smaller one."""
    x, labels = drawn(5000, 30, 2.0)
    fit = fit_temperature(x, labels)

    def loss(temperature):
        return fastlogits.cross_entropy(x, labels, logit_scale=1 / temperature)

    assert fit.nll == pytest.approx(loss(fit.temperature), rel=1e-12)
    assert fit.nll < min(loss(fit.temperature * (1 + 1e-4)), loss(fit.temperature * (1 - 1e-4)))


@pytest.mark.parametrize("scale", [1.0, 0.03, 30.0])
def test_float32_is_as_good_as_its_exponentials(compiled_backend, scale):
    """Half an epsilon in beta, from exp's own constant, and what averages out; not that times the condition."""
    x, labels = drawn(20_000, 20, 4.0)
    x = (scale * x).astype(np.float32)
    exact = fit_temperature(x.astype(np.float64), labels)
    assert fit_temperature(x, labels).temperature == pytest.approx(exact.temperature, rel=1e-7)


def test_a_start_that_misleads(backend):
    """Every eighth row, from which the first guess comes, says the opposite of the rest, or nothing at all."""
    x, labels = drawn(4096, 10, 1.0)
    for misled in (x[::8].argmax(axis=-1), x[::8].argmin(axis=-1)):
        other = labels.copy()
        other[::8] = misled
        assert_optimal(fit_temperature(x, other), optimum(x, other))
    x[::8] = 0.0
    assert_optimal(fit_temperature(x, labels), optimum(x, labels))


def test_weights_repeat_rows(backend):
    x, labels = drawn(1500, 10, 2.0)
    times = np.arange(1500) % 4
    weighted = fit_temperature(x, labels, sample_weight=times / 7)
    repeated = fit_temperature(x.repeat(times, axis=0), labels.repeat(times))
    assert weighted[:2] == pytest.approx(repeated[:2], rel=1e-9)
    assert_optimal(weighted, optimum(x, labels, times))


@pytest.mark.parametrize("left_out", ["ignored", "weight 0"])
def test_rows_left_out_may_hold_anything(backend, left_out):
    x, labels = drawn(2000, 40, 2.0)
    expected = fit_temperature(x[::2].copy(), labels[::2])
    x[1::2] = [NAN] * 20 + [INF] * 20
    weight = None
    if left_out == "ignored":
        labels[1::2] = 999
    else:
        weight = np.ones(2000)
        weight[1::2] = 0
    fit = fit_temperature(x, labels, sample_weight=weight, ignore_index=999)
    assert fit[:2] == pytest.approx(expected[:2], rel=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(backend, layout):
    x, labels = drawn(6, 33, 1.0)
    if layout == "one row for all":
        x[3, labels] += 1
    (views, axis, plain) = laid_out((x.astype(np.float32), labels), layout)
    before = [view.tobytes() for view in views]
    fit = fit_temperature(*views, axis=axis)
    assert fit[:2] == pytest.approx(fit_temperature(*plain)[:2], rel=1e-6)
    assert [view.tobytes() for view in views] == before


def test_same_bits_for_any_number_of_threads(backend):
    for rows, classes in ((5000, 33), (20_011, 10), (3, 40_007)):
        x, labels = drawn(rows, classes, 2.0)
        fits = set()
        for threads in (1, 2, 3):
            with fastlogits.settings(num_threads=threads):
                fits.add(fit_temperature(x.astype(np.float32), labels))
        assert len(fits) == 1


# Where there is no optimum at a positive, finite temperature


def spread(dtype):
    return np.array([[3, 1, 0], [0, 2, 1], [1, 1, -4]], dtype)


def test_every_label_at_a_largest_logit(backend, dtype):
    fit = fit_temperature(spread(dtype), [0, 1, 1])
    assert fit.temperature == 0
    assert fit.nll == pytest.approx(np.log(2) / 3, rel=1e-6)


def test_labels_no_better_than_chance(backend, dtype):
    for labels in ([2, 0, 2], [1, 2, 2]):
        fit = fit_temperature(spread(dtype), labels)
        assert fit.temperature == INF
        assert fit.nll == pytest.approx(np.log(3), rel=1e-6)


def test_one_row(backend):
    x = np.array([[2.0, 1.0, -5.0]])
    assert fit_temperature(x, [0])[:2] == (0, 0)
    assert fit_temperature(x, [2])[:2] == (INF, pytest.approx(np.log(3)))
    assert_optimal(fit_temperature(x, [1]), optimum(x, np.array([1])))
    assert fit_temperature(x[0], 1) == fit_temperature(x, [1])


@pytest.mark.parametrize("classes", [1, 2, 40])
def test_rows_of_equal_logits(backend, classes):
    fit = fit_temperature(np.full((4, classes), 7.5), np.zeros(4, int))
    assert fit[:2] == (1.0, pytest.approx(np.log(classes)))


def test_masked_classes(backend):
    """A logit of -inf has probability 0 at every temperature."""
    x, labels = drawn(100, 7, 2.0)
    wider = np.insert(x, [0, 3, 7], -INF, axis=1)
    moved = np.array([1, 2, 3, 5, 6, 7, 8])[labels]
    assert fit_temperature(wider, moved)[:2] == pytest.approx(fit_temperature(x, labels)[:2], rel=1e-9)
    assert fit_temperature([[-INF, 0.0, 1.0]], [1])[:2] == (INF, pytest.approx(np.log(2)))


@pytest.mark.parametrize("mask", [-1e9, -1e30])
def test_classes_masked_by_a_large_number(backend, mask, dtype):
    """They must stay improbable, so that no temperature is infinite."""
    if dtype == np.float16:
        mask = -65504.0
    x = np.array([[0.0, 1.0, mask], [2.0, mask, 1.0]]).astype(dtype)
    fit = fit_temperature(x, [0, 2])
    assert fit.temperature < INF
    assert fit.nll == pytest.approx(np.log(2), rel=1e-3)


# Bad input


X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("error", "tokens", "arguments", "options"),
    [
        (IndexError, ("labels", r"\[0, 3\)", r"got 3 at \(2,\)"), (X, [0, 1, 3, -1]), {}),
        (IndexError, ("labels", r"got -1 at \(3,\)"), (X, [0, 1, 2, -1]), {}),
        (IndexError, ("labels",), (X, np.array([0, 1, 2, 2**64 - 1], np.uint64)), {"ignore_index": -1}),
        (IndexError, ("labels", r"\[0, 0\)"), (X[:, :0], [0, 0, 0, 0]), {}),
        (TypeError, ("labels", "integer", "float64"), (X, [0.0, 1.0, 2.0, 0.0]), {}),
        (ValueError, ("labels", r"\(4,\)", r"\(3,\)"), (X, [0, 1, 2]), {}),
        (ValueError, ("labels", r"\(4,\)", r"\(4, 3\)"), (X, X), {}),
        (ValueError, ("labels", "at least one", r"\(0,\)"), (X[:0], np.empty(0, int)), {}),
        (ValueError, ("labels", "at least one", r"\(4,\)"), (X, [-100] * 4), {}),
        (ValueError, ("labels", "at least one"), (X, [0] * 4), {"sample_weight": np.zeros(4)}),
        (ValueError, ("sample_weight", r"\(4,\)", r"\(3,\)"), (X, [0] * 4), {"sample_weight": np.ones(3)}),
        (ValueError, ("sample_weight", "not negative"), (X, [0] * 4), {"sample_weight": [1.0, -1.0, 1.0, 1.0]}),
        (ValueError, ("sample_weight", "finite"), (X, [0] * 4), {"sample_weight": [1.0, NAN, 1.0, 1.0]}),
        (TypeError, ("sample_weight", "complex"), (X, [0] * 4), {"sample_weight": np.ones(4, complex)}),
        (TypeError, ("logits", "float32", "complex"), (X.astype(complex), [0] * 4), {}),
        (TypeError, ("axis",), (X, [0] * 4), {"axis": None}),
        (np.exceptions.AxisError, ("axis 2",), (X, [0] * 4), {"axis": 2}),
        (TypeError, (), (X, [0] * 4), {"ignore_index": 0.5}),
        (ValueError, ("ignore_index",), (X, [0] * 4), {"ignore_index": 2**70}),
    ],
)
def test_bad_input(backend, error, tokens, arguments, options):
    with refused(error, *tokens):
        fit_temperature(*arguments, **options)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize(("value", "what"), [(NAN, "NaN"), (INF, r"\+inf"), (-INF, "a label at a logit of -inf")])
def test_rows_without_likelihood_are_named(backend, value, what, axis):
    x, labels = drawn(2500, 33, 1.0)
    x = x.astype(np.float32)
    x[[77, 1999], labels[[77, 1999]]] = value
    x, labels = x.reshape(50, 50, 33), labels.reshape(50, 50)
    with refused(ValueError, what, r"\(1, 27\)", "2 of 2500"):
        fit_temperature(np.moveaxis(x, -1, axis), labels, axis=axis)


@pytest.mark.parametrize("turn", [slice(None), np.s_[::-1], np.s_[:, ::-1]], ids=["rows", "rows back", "classes back"])
def test_nothing_of_the_size_of_the_logits(compiled_backend, turn):
    x, labels = drawn(3000, 1000, 2.0)
    expected = fit_temperature(x, labels)
    if turn != slice(None):
        x = x[turn].copy()[turn]
    fit = fit_temperature(x, labels)
    assert (fit.temperature, fit.nll) == pytest.approx(expected[:2], rel=1e-7)
    tracemalloc.start()
    fit_temperature(x, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / (50 if turn == slice(None) else 10)
