"""Cross-entropy: every combination of options against the oracle, and the rules that none may break."""

import functools
import itertools

import numpy as np
import oracle
import pytest
from tolerance import assert_close, compute_type

ROWS, CLASSES = (2, 3), 5
CHOICES = {
    "weight": (False, True),
    "sample_weight": (False, True),
    "z_loss": (0.0, 0.25),
    "softcap": (None, 3.0),
    "logit_scale": (1.0, -0.75),
}
REDUCTIONS = [("mean", None), ("mean", 7.5), ("sum", None), ("none", None)]


def combinations():
    for values in itertools.product(*CHOICES.values()):
        options = dict(zip(CHOICES, values, strict=True))
        for (reduction, normalizer), grad_loss in itertools.product(REDUCTIONS, (False, True)):
            yield options | {"reduction": reduction, "normalizer": normalizer, "grad_loss": grad_loss}


def filled(options, dtype, rng):
    """The options, with arrays in place of True."""
    arrays = {
        "weight": lambda: rng.uniform(0.2, 2, CLASSES).astype(compute_type(dtype)),
        "sample_weight": lambda: rng.uniform(0.2, 2, ROWS),
        "grad_loss": lambda: rng.standard_normal(ROWS) if options["reduction"] == "none" else -1.5,
    }
    return {k: (arrays[k]() if v else None) if k in arrays else v for k, v in options.items()}


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["labels", "labels, some ignored", "distribution"])
def test_every_combination(fl, kind, label_smoothing, dtype):
    for arguments in with_every_combination(kind, label_smoothing, dtype):
        check(fl, *arguments)


@functools.cache
def with_every_combination(kind, label_smoothing, dtype):
    """Logits, labels, options and the exact results; shared by the backends."""
    rng = np.random.default_rng(20240229)
    x = (2 * rng.standard_normal((*ROWS, CLASSES))).astype(dtype)
    fixed = {"label_smoothing": label_smoothing}
    if kind == "distribution":
        labels = rng.uniform(0, 1, x.shape).astype(dtype)  # not normalised: its sum must count
    else:
        labels = rng.integers(0, CLASSES, ROWS)
    if kind == "labels, some ignored":
        fixed["ignore_index"] = 2
        labels[0, 1], labels[1, 2] = 2, 2
        x[0, 1] = np.nan
    cases = [fixed | filled(options, dtype, rng) for options in combinations()]
    return [(x, labels, options, oracle.cross_entropy(x, labels, **options)) for options in cases]


def check(fl, x, labels, options, exact):
    """The loss alone; with its gradient in a new array, in `out` and in place; with another class axis."""
    loss, grad = exact
    forward = {name: value for name, value in options.items() if name != "grad_loss"}
    result_type = compute_type(x.dtype)
    soft = labels.ndim == x.ndim

    alone = fl.cross_entropy(x, labels, **forward)
    assert alone.dtype == result_type
    assert_close(alone, loss, f"loss alone {options}")
    swapped = np.swapaxes(x, 0, -1).copy()
    turned = np.swapaxes(labels, 0, -1).copy() if soft else labels.T.copy()
    turned_options = {k: np.asarray(v).T.copy() if np.ndim(v) == 2 else v for k, v in options.items()}
    for place, axis in itertools.product(("new", "out", "in place"), (-1, 0)):
        logits, targets = (x.copy(), labels) if axis else (swapped.copy(), turned)
        out = {"new": None, "out": np.full_like(logits, 7), "in place": logits}[place]
        given = (options if axis else turned_options) | ({} if out is None else {"out": out})
        result = fl.cross_entropy_with_grad(logits, targets, axis=axis, **given)
        assert out is None or result.grad_logits is out
        assert result.loss.dtype == result_type
        assert result.grad_logits.dtype == x.dtype
        context = f"{place}, axis {axis}, {options}"
        turn = (lambda a: a) if axis else (lambda a: np.asarray(a).T if np.ndim(a) == 2 else a)
        assert_close(turn(result.loss), loss, f"loss, {context}")
        assert_close(
            np.swapaxes(result.grad_logits, axis, -1) if not axis else result.grad_logits,
            grad,
            f"gradient, {context}",
        )


@pytest.mark.parametrize("classes", [3, 10, 40, 1000, 2500])
@pytest.mark.parametrize("kind", ["labels", "distribution"])
def test_all_options_at_once_on_longer_rows(fl, kind, classes, dtype, rng):
    """Classes on both sides of a block, rows enough for the path of short rows."""
    x = (3 * rng.standard_normal((70, classes))).astype(dtype)
    labels = rng.integers(0, classes, 70) if kind == "labels" else rng.dirichlet(np.ones(classes), 70).astype(dtype)
    options = {
        "weight": rng.uniform(0.2, 2, classes).astype(np.float32),
        "sample_weight": rng.uniform(0.2, 2, 70),
        "label_smoothing": 0.2,
        "z_loss": 1e-2,
        "softcap": 5.0,
        "logit_scale": 1.5,
        "grad_loss": 3.0,
    }
    if kind == "labels":
        options["ignore_index"] = int(labels[0])
    result = fl.cross_entropy_with_grad(x, labels, **options)
    exact = oracle.cross_entropy(x, labels, **options)
    assert_close(result.loss, exact.loss, "loss")
    assert_close(result.grad_logits, exact.grad, "gradient")


@pytest.mark.parametrize(
    "option",
    [
        {},
        {"label_smoothing": 0.3},
        {"z_loss": 0.1},
        {"softcap": 2.0},
        {"logit_scale": 0.5},
        {"reduction": "sum"},
        {"normalizer": 3.0},
        {"weight": True},
        {"sample_weight": True},
        {"label_smoothing": 0.3, "z_loss": 0.1, "softcap": 2.0, "logit_scale": 0.5, "weight": True},
    ],
)
@pytest.mark.parametrize("kind", ["labels", "distribution"])
def test_finite_differences(fl, kind, option, rng):
    """The gradient is that of the loss, whatever the oracle says of either."""
    x = rng.standard_normal((3, 4))
    labels = np.array([0, 3, 1]) if kind == "labels" else rng.uniform(0, 1, x.shape)
    option = option | {k: rng.uniform(0.5, 2, n) for k, n in {"weight": 4, "sample_weight": 3}.items() if k in option}
    grad = fl.cross_entropy_with_grad(x, labels, **option).grad_logits
    step = 1e-5
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        slope = (fl.cross_entropy(up, labels, **option) - fl.cross_entropy(down, labels, **option)) / (2 * step)
        # the third derivative leaves step**2, the rounding of two losses eps / step
        assert abs(slope - grad[place]) < 10 * (step**2 + np.finfo(float).eps / step)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "list"])
def test_label_widths(fl, kind, rng):
    x = rng.standard_normal((5, 7)).astype(np.float32)
    labels = np.array([0, 6, 3, 3, 1])
    given = labels.tolist() if kind == "list" else labels.astype(kind)
    np.testing.assert_array_equal(fl.cross_entropy(x, given), fl.cross_entropy(x, labels))


@pytest.mark.parametrize("ignore_index", [-100, -1, 0, 2, 10**6])
def test_ignored_rows_are_not_read(fl, ignore_index, dtype, rng):
    x = rng.standard_normal((6, 4)).astype(dtype)
    labels = np.array([1, ignore_index, 3, ignore_index, 1, 3])
    kept = labels != ignore_index
    expected = fl.cross_entropy_with_grad(x[kept], labels[kept])
    for poison in (np.nan, np.inf, -np.inf):
        x[~kept] = poison
        result = fl.cross_entropy_with_grad(x, labels, ignore_index=ignore_index)
        assert result.loss == expected.loss
        np.testing.assert_array_equal(result.grad_logits[kept], expected.grad_logits)
        assert not result.grad_logits[~kept].any()
        losses = fl.cross_entropy(x, labels, ignore_index=ignore_index, reduction="none")
        assert not losses[~kept].any()


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({}, np.nan),
        ({"normalizer": 4.0}, 0),
        ({"reduction": "sum"}, 0),
        ({"z_loss": 0.1, "normalizer": 2.0}, 0),
    ],
)
def test_all_rows_ignored(fl, options, loss, dtype):
    result = fl.cross_entropy_with_grad(np.ones((3, 4), dtype), [-100] * 3, **options)
    np.testing.assert_equal(float(result.loss), loss)
    assert not result.grad_logits.any()


NOTHING = np.zeros(3)
DISTRIBUTION = np.full((3, 4), 0.25)


@pytest.mark.parametrize("grad_loss", [None, 2.0])
@pytest.mark.parametrize(
    ("labels", "options", "loss"),
    [
        ([0, 1, 2], {"sample_weight": NOTHING}, np.nan),
        ([0, 1, 2], {"weight": [0.0, 0.0, 0.0, 1.0]}, np.nan),
        ([0, -100, 3], {"sample_weight": [0.0, 5.0, 1.0], "weight": [1.0, 1.0, 1.0, 0.0]}, np.nan),
        (DISTRIBUTION, {"sample_weight": NOTHING}, np.nan),
        ([0, 1, 2], {"sample_weight": NOTHING, "label_smoothing": 0.1, "z_loss": 0.1, "softcap": 2.0}, np.nan),
        ([0, 1, 2], {"normalizer": 0.0}, 0),
        (DISTRIBUTION, {"normalizer": 0.0}, 0),
        ([0, 1, 2], {"sample_weight": NOTHING, "normalizer": 0.0}, 0),
    ],
)
def test_a_mean_over_nothing_has_no_gradient(fl, labels, options, loss, grad_loss, dtype, rng):
    """Also where rows are there and what they are divided by is 0: neither NaN nor an error."""
    x = rng.standard_normal((3, 4)).astype(dtype)
    labels = labels if isinstance(labels, list) else labels.astype(dtype)
    result = fl.cross_entropy_with_grad(x, labels, grad_loss=grad_loss, **options)
    np.testing.assert_equal(float(result.loss), loss)
    np.testing.assert_array_equal(result.grad_logits, np.zeros_like(x))
    np.testing.assert_equal(float(fl.cross_entropy(x, labels, **options)), loss)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("kind", ["labels", "distribution"])
def test_rows_of_weight_0_take_no_part(fl, kind, reduction, dtype, rng):
    x = rng.standard_normal((5, 4)).astype(dtype)
    labels = np.array([0, 1, 2, 3, 0]) if kind == "labels" else rng.random((5, 4)).astype(dtype)
    weights = np.array([0.5, 0.0, 2.0, 0.0, 1.0])
    counted = weights > 0
    result = fl.cross_entropy_with_grad(x, labels, sample_weight=weights, reduction=reduction)
    expected = fl.cross_entropy_with_grad(
        x[counted], labels[counted], sample_weight=weights[counted], reduction=reduction
    )
    np.testing.assert_array_equal(result.grad_logits[counted], expected.grad_logits)
    assert not result.grad_logits[~counted].any()
    if reduction == "none":
        np.testing.assert_array_equal(result.loss[counted], expected.loss)
        assert not result.loss[~counted].any()
    else:
        assert result.loss == expected.loss


def test_label_at_minus_infinity(fl, dtype, rng):
    x = rng.standard_normal((2, 6)).astype(dtype)
    x[0, 2] = -np.inf
    result = fl.cross_entropy_with_grad(x, [2, 1], reduction="none")
    assert result.loss[0] == np.inf
    assert_close(result.grad_logits, oracle.cross_entropy(x, np.array([2, 1]), reduction="none").grad)
    assert result.grad_logits[0, 2] == -1


def test_zero_probability_times_infinite_loss_is_nothing(fl, dtype):
    x = np.array([[1, -np.inf, 2]], dtype)
    t = np.array([[0.25, 0, 0.75]], dtype)
    result = fl.cross_entropy_with_grad(x, t)
    exact = oracle.cross_entropy(x, t)
    assert np.isfinite(exact.loss.value)
    assert_close(result.loss, exact.loss)
    assert_close(result.grad_logits, exact.grad)
    assert result.grad_logits[0, 1] == 0


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_losses_of_half_types_are_float32(fl, reduction):
    """131008 is beyond float16."""
    loss = fl.cross_entropy(np.array([[65504, -65504]] * 2, np.float16), [1, 1], reduction=reduction)
    assert loss.dtype == np.float32
    assert (loss == 131008).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reduced_loss_is_a_scalar(fl, reduction, dtype):
    loss = fl.cross_entropy(np.ones((3, 4), dtype), [0, 1, 2], reduction=reduction)
    assert isinstance(loss, np.generic)
    result = fl.cross_entropy_with_grad(np.ones((3, 4), dtype), [0, 1, 2], reduction=reduction)
    assert result._fields == ("loss", "grad_logits")
    assert isinstance(result.loss, np.generic)


def test_many_rows_are_summed_in_double(fl):
    """2**19 equal losses: a sum in float32 would drift by hundreds of epsilons."""
    x = np.broadcast_to(np.array([0.1, 0.7, -0.3], np.float32), (2**19, 3))
    loss = fl.cross_entropy(x, np.zeros(2**19, np.int64), reduction="sum")
    exact = oracle.cross_entropy(x[:1], np.zeros(1, np.int64), reduction="sum").loss.value * 2**19
    assert abs(loss / exact - 1) < 16 * np.finfo(np.float32).eps


def test_one_row_without_other_axes(fl, dtype):
    x = np.array([1, 3, 2], dtype)
    exact = oracle.cross_entropy(x, np.array(2))
    for labels in (2, np.int8(2), np.array(2)):
        result = fl.cross_entropy_with_grad(x, labels)
        assert_close(result.loss, exact.loss)
        assert_close(result.grad_logits, exact.grad)
