"""What NumPy gets from NumPy arrays, every framework gets from its own: values, derivatives, dtypes, errors."""

import concurrent.futures
import functools
import inspect

import ml_dtypes
import numpy as np
import pytest
from tensors import ADAPTERS
from tolerance import compute_type

import fastlogits
from fastlogits import calibration, conformal

X = np.random.default_rng(0).standard_normal((4, 5, 3))
G = np.random.default_rng(1).standard_normal((4, 5, 3))
LABELS = np.arange(12).reshape(4, 3) % 5
IDS = np.arange(24).reshape(4, 2, 3) % 5
SHARES = np.abs(G)
MASK = X > -0.5
MASK[0, :, 0] = False
SOME = MASK.copy()
SOME[:, 0] = True  # a row of nothing has no finite differences
WEIGHT, ROWS = np.linspace(0.5, 1, 5), np.linspace(1, 2, 12).reshape(4, 3)

CALLS = {
    "softmax": (fastlogits.softmax, (X,), {}),
    "softmax of two axes": (fastlogits.softmax, (X,), {"axis": (0, 2), "temperature": 0.7}),
    "softmax of all": (fastlogits.softmax, (X,), {"axis": None}),
    "softmax of some": (fastlogits.softmax, (X,), {"axis": 1, "where": MASK}),
    "log_softmax": (fastlogits.log_softmax, (X,), {"axis": 0, "temperature": 2.0}),
    "log_softmax of some": (fastlogits.log_softmax, (X,), {"axis": 1, "where": MASK}),
    "logsumexp": (fastlogits.logsumexp, (X,), {"axis": None}),
    "logsumexp of some": (fastlogits.logsumexp, (X,), {"axis": 1, "where": MASK, "keepdims": True}),
    "logsumexp weighted": (fastlogits.logsumexp, (X,), {"axis": 1, "b": SHARES, "where": MASK[:1]}),
    "logsumexp signed": (fastlogits.logsumexp, (X,), {"b": G, "return_sign": True}),
    "logsumexp and sign": (fastlogits.logsumexp, (X,), {"return_sign": True}),
    "softmax_backward": (fastlogits.softmax_backward, (G, SHARES), {"axis": 1}),
    "log_softmax_backward": (fastlogits.log_softmax_backward, (G, X), {}),
    "cross_entropy": (fastlogits.cross_entropy, (X, LABELS), {"axis": 1, "weight": WEIGHT, "z_loss": 0.1}),
    "cross_entropy of shares": (fastlogits.cross_entropy, (X, SHARES), {"axis": 0, "reduction": "none"}),
    "cross_entropy of rows": (
        fastlogits.cross_entropy, (X, LABELS), {"axis": -2, "sample_weight": ROWS, "ignore_index": 1},
    ),
    "cross_entropy of some rows": (fastlogits.cross_entropy, (X, LABELS), {"axis": 1, "ignore_index": 2}),
    "cross_entropy with a divisor": (
        fastlogits.cross_entropy, (X, LABELS),
        {"axis": 1, "normalizer": 2.5, "softcap": 3.0, "logit_scale": 0.7, "label_smoothing": 0.1},
    ),
    "selective_log_softmax": (fastlogits.selective_log_softmax, (X, LABELS), {"axis": 1}),
    "selective_log_softmax of several": (fastlogits.selective_log_softmax, (X, IDS), {"axis": -2}),
    "selective_log_softmax_backward": (fastlogits.selective_log_softmax_backward, (ROWS, X, LABELS), {"axis": 1}),
    "selective_log_softmax_backward of several": (
        fastlogits.selective_log_softmax_backward, (G[:, :2], X, IDS), {"axis": 1},
    ),
}  # fmt: skip
each_call = pytest.mark.parametrize(("function", "args", "options"), CALLS.values(), ids=CALLS)


@pytest.fixture(params=ADAPTERS)
def framework(request):
    return loaded(request.param)


COMPILED = [name for name, framework in ADAPTERS.items() if framework.compiles_gradients]


@pytest.fixture(params=[*ADAPTERS, *(f"{name} compiled" for name in COMPILED)])
def differentiating(request):
    """A framework, and what makes a function that differentiates run there: nothing, or its compiler."""
    framework = loaded(request.param.partition(" ")[0])
    return framework, framework.compiled if "compiled" in request.param else lambda function: function


@functools.cache
def loaded(name):
    return ADAPTERS[name]()


def prepared(framework, values):
    """Every array among the values (of a dict, of a sequence) as a tensor."""
    if isinstance(values, dict):
        return {key: prepared(framework, [value])[0] for key, value in values.items()}
    return [framework.tensor(value) if isinstance(value, np.ndarray) else value for value in values]


def flat(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("mode", ["plain", "tracked", "compiled"])
@each_call
def test_same_numbers_as_numpy(framework, function, args, options, mode):
    expected = flat(function(*args, **options))
    x, *others = prepared(framework, args)
    options = prepared(framework, options)

    def call(x):
        return function(x, *others, **options)

    if mode == "tracked":
        weights = np.where(np.isfinite(expected[0]), np.random.default_rng(2).random(np.shape(expected[0])), 0)
        total, _ = framework.value_and_gradient(
            lambda x: framework.where_finite(flat(call(x))[0]) * framework.tensor(weights), x
        )
        found, expected = [total], [np.sum(weights * np.where(weights, expected[0], 0))]
    else:
        found = flat(framework.compiled(call)(x) if mode == "compiled" else call(x))
    for ours, exact in zip(found, expected, strict=True):
        ours = framework.array(ours)
        assert ours.dtype == np.asarray(exact).dtype
        np.testing.assert_allclose(ours, exact, rtol=1e-12, atol=1e-14)
    assert framework.array(x).tobytes() == args[0].tobytes()


def slope(function, x, direction, step=1e-5):
    """The derivative of the array `function(x)` along `direction`, by differences of fourth order."""
    forward, back = ([function(x + sign * k * step * direction) for k in (1, 2)] for sign in (1, -1))
    return (8 * (forward[0] - back[0]) - (forward[1] - back[1])) / (12 * step)


@each_call
def test_first_and_second_derivatives(differentiating, function, args, options):
    framework, made = differentiating
    if "where" in options:
        options = options | {"where": SOME if options["where"].shape == X.shape else SOME[:1]}
    others = args[1:]
    tensors, tensor_options = prepared(framework, others), prepared(framework, options)
    upstream = np.random.default_rng(2).standard_normal(np.shape(flat(function(*args, **options))[0]))
    finite = np.isfinite(flat(function(*args, **options))[0])
    weights = framework.tensor(np.where(finite, upstream, 0))

    def values(x):
        result = np.asarray(flat(function(x, *others, **options))[0])
        return np.sum(upstream[finite] * result[finite])

    def gradient(x, again=False):
        def weighted(x):
            result = flat(function(x, *tensors, **tensor_options))[0]
            return framework.where_finite(result) * weights

        return framework.value_and_gradient(weighted, x, again)[1]

    x, direction = args[0], np.random.default_rng(3).standard_normal(args[0].shape)
    first = framework.array(made(gradient)(framework.tensor(x)))
    np.testing.assert_allclose(np.sum(first * direction), slope(values, x, direction), rtol=1e-7, atol=1e-9)

    def along(x):
        return gradient(x, again=True) * framework.tensor(direction)

    def second(x):
        return framework.value_and_gradient(along, x)[1]

    exact = slope(lambda x: np.sum(framework.array(gradient(framework.tensor(x))) * direction), x, direction)
    found = np.sum(framework.array(made(second)(framework.tensor(x))) * direction)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-8)


def test_nothing_selected_has_no_gradient(framework):
    where = framework.tensor(MASK)
    for function in (fastlogits.softmax, fastlogits.logsumexp):
        _, grad = framework.value_and_gradient(
            lambda x, function=function: framework.where_finite(function(x, 1, where=where)), framework.tensor(X)
        )
        grad = framework.array(grad)
        assert not grad[0, :, 0].any()
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("soft", [False, True])
def test_losses_by_the_names_of_the_framework(differentiating, dtype, soft):
    """Losses and gradients of the dtype that came in, those of NumPy rounded to it."""
    framework, made = differentiating
    x = (3 * X[..., 0]).astype(dtype)
    labels = SHARES[..., 0].astype(dtype) if soft else LABELS[:, 0]
    upstream = np.linspace(0.5, 2, 4).astype(dtype)

    def losses_and_gradient(x, labels, upstream):
        losses = framework.row_losses(x, labels)
        _, grad = framework.value_and_gradient(lambda x: framework.row_losses(x, labels) * upstream, x)
        return losses, grad

    found = made(losses_and_gradient)(*map(framework.tensor, (x, labels, upstream)))
    exact = fastlogits.cross_entropy_with_grad(x, labels, reduction="none", grad_loss=upstream.astype(float))
    for ours, numpy in zip(found, exact, strict=True):
        ours = framework.array(ours)
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, numpy.astype(dtype))


def test_softmaxes_by_the_names_of_the_framework(framework, dtype):
    x = X.astype(dtype)
    for name in ("softmax", "log_softmax"):
        ours = framework.array(getattr(framework.adapter, name)(framework.tensor(x), 1))
        np.testing.assert_array_equal(ours, getattr(fastlogits, name)(x, 1))
    ours = framework.array(framework.logsumexp(framework.tensor(x), 1))
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, fastlogits.logsumexp(x, 1).astype(dtype))


def test_cross_entropy_with_grad(framework, dtype):
    x, labels = X.astype(dtype), framework.tensor(LABELS)
    options = {"axis": 1, "grad_loss": 2.0, "label_smoothing": 0.1}
    loss, grad = fastlogits.cross_entropy_with_grad(framework.tensor(x), labels, **options)
    exact = fastlogits.cross_entropy_with_grad(x, LABELS, **options)
    assert framework.array(loss).dtype == compute_type(dtype)
    np.testing.assert_array_equal(framework.array(loss), exact.loss)
    np.testing.assert_array_equal(framework.array(grad), exact.grad_logits)
    options |= {"reduction": "none", "grad_loss": ROWS}
    rows = fastlogits.cross_entropy_with_grad(framework.tensor(x), labels, **prepared(framework, options))
    exact = fastlogits.cross_entropy_with_grad(x, LABELS, **options)
    np.testing.assert_array_equal(framework.array(rows.grad_logits), exact.grad_logits)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_incoming_gradients(differentiating, dtype, reduction):
    """Whatever arrives, the first time and later, alike or changing, one number or one for each row."""
    framework, made = differentiating
    x = X.astype(dtype)
    shape = ROWS.shape if reduction == "none" else ()
    kind = compute_type(dtype)
    arriving = [np.full(shape, number, kind) for number in (1 / 12, 1, 1, 0.3)]
    if shape:
        arriving += [ROWS.astype(kind), ROWS.astype(kind), np.full(shape, 1, kind)]

    def gradient(x, upstream):
        def weighted(x):
            loss = fastlogits.cross_entropy(x, framework.tensor(LABELS), axis=1, reduction=reduction)
            return loss * upstream

        return framework.value_and_gradient(weighted, x)[1]

    run = made(gradient)
    for upstream in arriving:
        exact = fastlogits.cross_entropy_with_grad(
            x, LABELS, axis=1, reduction=reduction, grad_loss=upstream.astype(np.float64)
        )
        found = framework.array(run(framework.tensor(x), framework.tensor(upstream)))
        rounded = 2 * float(ml_dtypes.finfo(dtype).eps)  # of a gradient that is multiplied afterwards
        np.testing.assert_allclose(found.astype(float), exact.grad_logits.astype(float), rtol=rounded)


def test_argmax_and_integers(framework):
    found = framework.array(fastlogits.argmax(framework.tensor(X), 1))
    np.testing.assert_array_equal(found, np.argmax(X, 1))
    assert found.dtype == np.int64
    numbers = np.array([[1, 2, 3]])
    found = framework.array(fastlogits.softmax(framework.tensor(numbers)))
    np.testing.assert_array_equal(found, fastlogits.softmax(numbers))


OF_ROWS = {"labels": LABELS, "axis": 1}
COLD, FIRST = np.linspace(0.5, 2, 12).reshape(4, 3), np.arange(12).reshape(4, 3) + 5
AFTERWARDS = {
    "argmax": (fastlogits.argmax, {"axis": 1}),
    "topk": (fastlogits.topk, {"k": 2, "axis": 1}),
    "entropy": (fastlogits.entropy, {"axis": 1}),
    "perplexity": (fastlogits.perplexity, OF_ROWS),
    "accuracy": (fastlogits.accuracy, OF_ROWS | {"top_k": 2}),
    "loglikelihood": (fastlogits.loglikelihood, OF_ROWS | {"groups": LABELS}),
    "row_stats": (fastlogits.row_stats, OF_ROWS | {"top_k": 2}),
    "selective_log_softmax": (fastlogits.selective_log_softmax, {"ids": IDS, "axis": 1}),
    "filter_logits": (fastlogits.filter_logits, {"temperature": COLD, "top_k": 3, "axis": 1}),
    "sample": (fastlogits.sample, {"seed": 3, "rows": FIRST, "temperature": COLD, "top_p": 0.9, "axis": 1}),
    "filter_logits of a history": (
        fastlogits.filter_logits,
        {
            "history": np.arange(24).reshape(4, 3, 2) % 5, "repetition_penalty": COLD, "allowed": MASK,
            "logit_bias": {1: 0.5}, "axis": 1,
        },
    ),
    "sample by seeds": (fastlogits.sample, {"seed": FIRST, "draws": 2, "top_h": 0.9, "temperature": COLD, "axis": 1}),
    **{
        name: (getattr(calibration, name), OF_ROWS)
        for name in (
            "expected_calibration_error", "maximum_calibration_error", "adaptive_calibration_error",
            "classwise_calibration_error", "brier_score", "negative_log_likelihood", "reliability_curve",
            "risk_coverage_curve",
        )
    },
    "scores": (conformal.scores, OF_ROWS | {"method": "raps", "seed": 3, "rows": FIRST}),
    "prediction_sets": (conformal.prediction_sets, {"threshold": 0.6, "method": "aps", "axis": 1}),
    "prediction_sets of ids": (conformal.prediction_sets, {"threshold": 0.6, "axis": 1, "as_ids": True}),
    "fit_temperature": (calibration.fit_temperature, OF_ROWS | {"sample_weight": ROWS}),
    "fit_vector_scaling": (calibration.fit_vector_scaling, OF_ROWS),
}  # fmt: skip


@pytest.mark.parametrize(("function", "options"), AFTERWARDS.values(), ids=AFTERWARDS)
def test_after_the_model(framework, dtype, function, options):
    """Tensors in, tensors out, within named tuples and RowStats too; numbers are NumPy's to the bit."""
    array = X.astype(dtype)
    found = function(logits=framework.tensor(array), **prepared(framework, options))
    expected = function(array, **options)
    if isinstance(expected, (tuple, fastlogits.RowStats)):
        assert type(found) is type(expected)
    for ours, exact in zip(parts(found), parts(expected), strict=True):
        if isinstance(exact, (np.ndarray, np.generic)):
            ours = framework.array(ours)
            assert ours.dtype == exact.dtype
        else:
            assert type(ours) is type(exact)
        np.testing.assert_array_equal(ours, exact)


def parts(result):
    return list(vars(result).values()) if isinstance(result, fastlogits.RowStats) else flat(result)


def test_bits_per_byte(framework):
    found = fastlogits.loglikelihood(framework.tensor(X), framework.tensor(LABELS), axis=1)
    exact = fastlogits.loglikelihood(X, LABELS, axis=1)
    for n_bytes in (7, [1, 2, 3, 4], np.arange(1, 5)):
        np.testing.assert_array_equal(framework.array(found.bits_per_byte(n_bytes)), exact.bits_per_byte(n_bytes))
    counts = framework.tensor(np.arange(1, 5))
    np.testing.assert_array_equal(framework.array(found.bits_per_byte(counts)), exact.bits_per_byte(np.arange(1, 5)))


def test_by_memory_has_no_gradient(framework):
    with pytest.raises(RuntimeError, match=r"logits: .*topk has no gradient; pass "):
        framework.value_and_gradient(lambda x: fastlogits.topk(x, 2).values, framework.tensor(X))


def test_signatures_are_those_of_fastlogits(framework):
    """But for `classes`: labels are class indices before a framework sees them."""
    uniform = framework.adapter.uniform
    for name in set(fastlogits.__all__) & vars(uniform).keys() - {"CrossEntropy"}:
        ours = inspect.signature(getattr(uniform, name)).parameters.values()
        theirs = inspect.signature(inspect.unwrap(getattr(fastlogits, name))).parameters.values()
        theirs = [(p.name, p.kind, p.default) for p in theirs if p.name != "classes"]
        assert [(p.name, p.kind, p.default) for p in ours] == theirs


def test_a_label_out_of_range(framework):
    x = framework.tensor(X[..., 0])
    for bad, where in ((7, "1"), (-1, "3")):
        labels = LABELS[:, 0].copy()
        labels[int(where)] = bad
        labels = framework.tensor(labels)
        for function in (framework.row_losses, fastlogits.cross_entropy, fastlogits.cross_entropy_with_grad):
            with pytest.raises(framework.label_error, match=rf"got {bad} at \({where},\)"):
                function(x, labels)


BAD = {
    "axis": (lambda x, _: fastlogits.softmax(x, 2), (ValueError, IndexError), "axis"),
    "axis given twice": (lambda x, _: fastlogits.logsumexp(x, (0, -2)), ValueError, "axis"),
    "temperature": (lambda x, _: fastlogits.softmax(x, temperature=0), ValueError, "temperature"),
    "reduction": (lambda x, y: fastlogits.cross_entropy(x, y, reduction="max"), ValueError, "reduction: .*max"),
    "batch": (lambda x, y: fastlogits.cross_entropy(x, y[1:]), ValueError, "labels: .*shape"),
    "smoothing": (lambda x, y: fastlogits.cross_entropy(x, y, label_smoothing=2), ValueError, "smoothing"),
    "softcap": (lambda x, y: fastlogits.cross_entropy(x, y, softcap=-1.0), ValueError, "softcap"),
    "weight": (lambda x, y: fastlogits.cross_entropy(x, y, weight=x[0, 1:]), ValueError, "weight: .*shape"),
    "normalizer": (
        lambda x, y: fastlogits.cross_entropy(x, y, reduction="sum", normalizer=2), ValueError, "normalizer",
    ),
    "ignore_index": (
        lambda x, _: fastlogits.cross_entropy(x, abs(x), ignore_index=-100), ValueError, "ignore_index",
    ),
}  # fmt: skip


def test_unsupported_dtypes(framework):
    with pytest.raises(TypeError, match="expected .*float32.*got .*complex128"):
        fastlogits.softmax(framework.tensor(X + 0j))


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(framework, call, error, message):
    with pytest.raises(error, match=message):
        call(framework.tensor(X[..., 0]), framework.tensor(LABELS[:, 0]))


def test_several_threads(differentiating):
    """Each gets its own numbers, of calls large enough for threads of ours and for memory that is kept."""
    framework, made = differentiating
    x = np.random.default_rng(0).standard_normal((8, 300, 4000)).astype(np.float32)
    labels = np.arange(300)
    exact = [fastlogits.cross_entropy_with_grad(each, labels).grad_logits for each in x]

    def gradient(x, labels):
        return framework.value_and_gradient(lambda x: fastlogits.cross_entropy(x, labels), x)[1]

    run = made(gradient)
    run(framework.tensor(x[0]), framework.tensor(labels))

    def wrong(number):
        grads = [run(framework.tensor(x[number]), framework.tensor(labels)) for _ in range(2)]
        return any((framework.array(grad) != exact[number]).any() for grad in grads)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(wrong, range(8)))
