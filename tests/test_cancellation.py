"""Gradients of a class that dominates its row, which come from the others alone; and numbers near the largest.

Where p_m rounds to 1, the gradient at m is a sum over the other classes (p_m (their shares) - share_m (their p), and
the like for the backward functions); as a difference from what m has itself it loses every digit. The oracle's bounds
are relative to that sum.
"""

import mpmath
import numpy as np
import oracle
import pytest
from operations import LAYOUTS, laid_out
from tolerance import BFLOAT16, DTYPES, assert_close

import fastlogits

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
BIG = {F32: 20.0, F64: 37.43, np.dtype(np.float16): 9.0, BFLOAT16: 20.0}


# of short rows, of rows of one block, of several blocks
CLASSES = [2, 3, 10, 32, 33, 300, 1024, 1500, 4100]


def dominated_logits(rows, classes, dtype, rng):
    """Every row another gap from the maximum, which lies anywhere; some rows that nothing dominates among them."""
    x = rng.standard_normal((rows, classes)) / 2
    top = rng.integers(classes, size=rows)
    gaps = BIG[dtype] * rng.choice([0, 0.1, 0.4, 0.7, 1, 1.6], rows)
    x[np.arange(rows), top] += gaps
    return x.astype(dtype)


def distributions(x, rng):
    """At the maximum alone, all but a little of it, elsewhere, spread, near the model's own, and not normalised."""
    rows, classes = x.shape
    top = np.argmax(x.astype(np.float64), axis=-1)
    other = rng.integers(classes, size=rows)
    t = np.zeros((rows, classes))
    kind = np.arange(rows) % 6
    t[np.arange(rows), top] = 1
    little = kind == 1
    t[little] += 1e-9 * rng.random((little.sum(), classes))
    t[kind == 2] = np.eye(classes)[other[kind == 2]]
    t[kind == 3] = rng.dirichlet(np.ones(classes), (kind == 3).sum())
    near = np.asarray(oracle.softmax(x).value, np.float64)
    t[kind == 4] = near[kind == 4]
    t[kind == 5] *= 0.3
    return t.astype(x.dtype)


def soft_case(rows, classes, dtype):
    rng = np.random.default_rng([rows, classes])
    x = dominated_logits(rows, classes, dtype, rng)
    return x, distributions(x, rng)


OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "weights": {"weight": True},
    "smoothing and weights": {"label_smoothing": 0.25, "weight": True},
    "soft cap": {"softcap": 30.0},
    "soft cap, smoothing and weights": {"softcap": 40.0, "label_smoothing": 0.1, "weight": True},
    "scale": {"logit_scale": 0.75},
    "negative scale": {"logit_scale": -1.0},
    "z-loss": {"z_loss": 1e-3},
}


def with_weights(options, classes):
    """Class weights of all sizes: with uniform masses one class can have nearly all of it."""
    options = dict(options)
    if options.pop("weight", False):
        options["weight"] = 10.0 ** (-(np.arange(classes) % 8))
    return options


def check(module, x, labels, axis=-1, plain=None, **options):
    options = with_weights(options, x.shape[axis])
    result = module.cross_entropy_with_grad(x, labels, axis=axis, reduction="none", **options)
    plain_x, plain_labels = (x, labels) if plain is None else plain
    exact = oracle.cross_entropy(plain_x, plain_labels, reduction="none", **options)
    grad = np.moveaxis(np.asarray(result.grad_logits), axis, -1)
    assert_close(grad.reshape(exact.grad.value.shape), exact.grad, "gradient")
    loss = np.asarray(result.loss)
    assert_close(loss.reshape(exact.loss.value.shape), exact.loss, "loss")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("classes", CLASSES)
def test_distributions(fl, classes, options, dtype):
    check(fl, *soft_case(140 if classes < 64 else 12, classes, dtype), **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("classes", [2, 3, 10, 33, 1500])
def test_class_indices(fl, classes, options, dtype):
    """At the maximum, where the label is not smoothed away, and elsewhere."""
    rng = np.random.default_rng(classes)
    x = dominated_logits(130 if classes < 64 else 12, classes, dtype, rng)
    labels = np.argmax(x.astype(np.float64), axis=-1)
    labels[1::3] = rng.integers(classes, size=len(labels[1::3]))
    labels[2::9] = -100
    check(fl, x, labels, **options)
    check(fl, x, labels, **{**options, "label_smoothing": 1.0})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("classes", [2, 17, 40])
def test_layouts_of_distributions(fl, classes, layout, dtype):
    views, axis, plain = laid_out(soft_case(6, classes, dtype), layout)
    check(fl, *views, axis=axis, plain=plain)


@pytest.mark.parametrize("options", [OPTIONS["plain"], OPTIONS["soft cap, smoothing and weights"]], ids=str)
@pytest.mark.parametrize("columns", [2, 16, 300])
@pytest.mark.parametrize("classes", [2, 40, 1100])
def test_columns_of_distributions(fl, classes, columns, options, dtype):
    if classes * columns > 50_000:
        columns = 20
    x, t = soft_case(columns, classes, dtype)
    for both in ((x, t), (x, np.argmax(x.astype(float), axis=-1))):
        across = [np.ascontiguousarray(np.moveaxis(a, -1, 0)) if a.ndim == 2 else a for a in both]
        check(fl, *across, axis=0, plain=both, **options)


@pytest.mark.parametrize("classes", [40_000, 2**18 + 5])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_long_row(fl, classes, threads, dtype):
    """Shared by threads, or of more classes than stay in cache."""
    rng = np.random.default_rng(classes)
    x = np.zeros((1, classes))
    top = int(rng.integers(classes))
    x[0, top] = BIG[dtype] + np.log(classes)
    x = x.astype(dtype)
    t = np.zeros_like(x)
    t[0, top] = 1
    spread = np.full_like(x, 1e-9)
    spread[0, top] = 1
    with fastlogits.settings(num_threads=threads):
        check(fl, x, t)
        check(fl, x, spread, label_smoothing=0.01)
        g = np.full_like(x, 1e-3)
        g[0, top] = 1
        p, log_p = oracle.softmax(x).value.astype(dtype), oracle.log_softmax(x).value.astype(dtype)
        assert_close(fl.softmax_backward(g, p), oracle.softmax_backward(g, p), "softmax")
        exact = oracle.log_softmax_backward(t, log_p)
        assert_close(fl.log_softmax_backward(t, log_p), exact, "log_softmax")


def cotangents(x, rng):
    """At the maximum, at it and beside it, the same everywhere, elsewhere, small beside a large one, of all sizes."""
    rows, classes = x.shape
    top = np.argmax(x.astype(np.float64), axis=-1)
    g = np.zeros((rows, classes))
    g[np.arange(rows), top] = 1
    kind = np.arange(rows) % 6
    g[kind == 1, 0] = 1
    g[kind == 2] = 0.7
    g[kind == 3] = np.eye(classes)[rng.integers(classes, size=(kind == 3).sum())]
    g[kind == 4] += 1e-6 * rng.standard_normal(((kind == 4).sum(), classes))
    g[kind == 5] = rng.standard_normal(((kind == 5).sum(), classes))
    return g.astype(x.dtype)


def backward_case(rows, classes, dtype):
    rng = np.random.default_rng([classes, rows])
    x = dominated_logits(rows, classes, dtype, rng)
    return cotangents(x, rng), oracle.softmax(x).value.astype(dtype), oracle.log_softmax(x).value.astype(dtype)


@pytest.mark.parametrize("classes", CLASSES)
def test_backward_functions(fl, classes, dtype):
    g, p, log_p = backward_case(250 if classes < 64 else 12, classes, dtype)
    assert_close(fl.softmax_backward(g, p), oracle.softmax_backward(g, p), "softmax")
    assert_close(fl.log_softmax_backward(g, log_p), oracle.log_softmax_backward(g, log_p), "log_softmax")


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "one class for all"])
@pytest.mark.parametrize("classes", [2, 40, 1100])
def test_layouts_of_backward_functions(fl, classes, layout, dtype):
    (g, p, log_p), axis, plain = laid_out(backward_case(6, classes, dtype), layout)
    for name, result in (("softmax_backward", p), ("log_softmax_backward", log_p)):
        exact = getattr(oracle, name)(plain[0], plain[1 + name.startswith("log")])
        actual = np.moveaxis(getattr(fl, name)(g, result, axis), axis, -1)
        assert_close(actual.reshape(exact.value.shape), exact, name)


@pytest.mark.parametrize("classes", [3, 60, 1500])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_backward_in_place(fl, name, axis, classes, dtype):
    g, p, log_p = (a if axis else np.ascontiguousarray(a.T) for a in backward_case(20, classes, dtype))
    result = log_p if name.startswith("log") else p
    expected = getattr(fl, name)(g, result, axis)
    for out in (g.copy(), result.copy()):
        args = (out, result) if out.tobytes() == g.tobytes() else (g, out)
        np.testing.assert_array_equal(getattr(fl, name)(*args, axis, out=out), expected)


@pytest.mark.parametrize("classes", [2, 40, 1500])
@pytest.mark.parametrize("axis", [0, 1])
def test_loss_in_place(fl, axis, classes, dtype):
    x, t = soft_case(20, classes, dtype)
    x, t = (a if axis else np.ascontiguousarray(a.T) for a in (x, t))
    expected = fl.cross_entropy_with_grad(x, t, axis=axis)
    out = x.copy()
    actual = fl.cross_entropy_with_grad(out, t, axis=axis, out=out)
    np.testing.assert_array_equal(actual.grad_logits, expected.grad_logits)
    assert actual.loss == expected.loss


@pytest.mark.parametrize("axis", [0, 1])
def test_one_dominated_row_among_many(fl, axis, dtype):
    """After a call in which all were: what it left in scratch memory is nothing to the others."""
    every = backward_case(100, 5, dtype)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 5))
    x[40, 2] = 20
    x = x.astype(dtype)
    g, p, log_p = cotangents(x, rng), oracle.softmax(x).value.astype(dtype), oracle.log_softmax(x).value.astype(dtype)
    for name, i, result in (("softmax_backward", 1, p), ("log_softmax_backward", 2, log_p)):
        for grad, of in ((every[0], every[i]), (g, result)):
            exact = getattr(oracle, name)(grad, of)
            laid = [a if axis else np.ascontiguousarray(a.T) for a in (grad, of)]
            actual = getattr(fl, name)(*laid, axis)
            assert_close(actual if axis else actual.T, exact, name)


def test_long_columns(fl, dtype):
    """What sums of so many others round away would show."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 30_000))
    x[:, 7] = BIG[dtype] + np.log(30_000)
    x = x.astype(dtype)
    g = np.full_like(x, 0.7)
    g[:, 7] = 1
    p, log_p = oracle.softmax(x).value.astype(dtype), oracle.log_softmax(x).value.astype(dtype)
    for name, result in (("softmax_backward", p), ("log_softmax_backward", log_p)):
        actual = getattr(fl, name)(np.ascontiguousarray(g.T), np.ascontiguousarray(result.T), 0).T
        assert_close(actual, getattr(oracle, name)(g, result), name.removesuffix("_backward"))


def test_a_row_does_not_depend_on_its_neighbours(compiled_backend, dtype):
    """The second look is at a row, not at what takes the steps together with it."""
    for classes in (5, 50, 600):
        x, t = soft_case(36, classes, dtype)
        g, p, log_p = backward_case(36, classes, dtype)
        whole = fastlogits.cross_entropy_with_grad(x, t, reduction="none").grad_logits
        backward = fastlogits.softmax_backward(g, p), fastlogits.log_softmax_backward(g, log_p)
        for row in range(36):
            one = slice(row, row + 1)
            alone = fastlogits.cross_entropy_with_grad(x[one], t[one], reduction="none").grad_logits
            np.testing.assert_array_equal(alone, whole[one])
            np.testing.assert_array_equal(fastlogits.softmax_backward(g[one], p[one]), backward[0][one])
            np.testing.assert_array_equal(fastlogits.log_softmax_backward(g[one], log_p[one]), backward[1][one])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("classes", [3, 40, 1500])
def test_what_is_no_distribution_is_none(fl, classes, axis, dtype):
    """Several classes of probability 1: the plain formulas."""
    g = np.zeros((20, classes))
    g[:, 1] = 1
    g = (g if axis else g.T).astype(dtype).copy()
    ones = np.ones_like(g)
    np.testing.assert_array_equal(fl.softmax_backward(g, ones, axis), g - 1)
    np.testing.assert_array_equal(fl.log_softmax_backward(g, ones - 1, axis), g - 1)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_adds_up_to_more_is_no_distribution(fl, axis, dtype):
    """Though one class is above 3/4 and little is left of its gradient."""
    p = np.full((20, 5), 0.5, dtype)
    p[:, 1] = 0.875
    g = np.zeros_like(p)
    g[:, 1] = 1
    log_p = np.log(p.astype(np.float64)).astype(dtype)
    for name, result in (("softmax_backward", p), ("log_softmax_backward", log_p)):
        laid = [a if axis else np.ascontiguousarray(a.T) for a in (g, result)]
        actual = getattr(fl, name)(*laid, axis)
        assert_close(actual if axis else actual.T, getattr(oracle, name)(g, result), name)


def test_in_known_numbers(fl):
    grad = fl.cross_entropy_with_grad(np.float32([[20, 0]]), np.float32([[1, 0]])).grad_logits
    np.testing.assert_allclose(grad, [[-2.0611537e-9, 2.0611537e-9]], rtol=1e-5)
    for labels in ([[1.0, 0.0]], [0]):
        grad = fl.cross_entropy_with_grad(np.array([[37.43, 0]]), np.array(labels)).grad_logits
        np.testing.assert_allclose(grad, [[-5.5508e-17, 5.5508e-17]], rtol=1e-4)
    x, g = np.array([37.43, 0]), np.array([1.0, 0])
    grads = fl.softmax_backward(g, fl.softmax(x)), fl.log_softmax_backward(g, fl.log_softmax(x))
    np.testing.assert_allclose(grads, [[5.5508e-17, -5.5508e-17]] * 2, rtol=1e-4)
    # What the classes beside it have in common with the dominating one drops out as well.
    np.testing.assert_array_equal(fl.softmax_backward(np.full(2, 0.7), fl.softmax(x)), 0)


def test_the_oracle_agrees_with_mpmath():
    """To a hundredth of what results are allowed."""
    x, t = soft_case(24, 5, F64)
    exact = oracle.cross_entropy(x, t, reduction="none", label_smoothing=0.1, z_loss=0.01)
    g, p, log_p = backward_case(24, 5, F64)
    of_softmax, of_log = oracle.softmax_backward(g, p), oracle.log_softmax_backward(g, log_p)
    with mpmath.workdps(60):
        for row in range(24):
            z, even = [mpmath.mpf(v) for v in x[row]], mpmath.mpf(0.1) / 5
            share = [(1 - 5 * even) * mpmath.mpf(v) + even for v in t[row]]
            lse = mpmath.log(sum(map(mpmath.exp, z)))
            total = sum(share)
            for c in range(5):
                grad = total * mpmath.exp(z[c] - lse) - share[c] + 2 * mpmath.mpf(0.01) * lse * mpmath.exp(z[c] - lse)
                assert abs(wide(grad) - exact.grad.value[row, c]) <= exact.grad.error[row, c] / 64
            self_and_others(g[row], p[row], of_softmax, row, log=False)
            self_and_others(g[row], [mpmath.exp(v) for v in log_p[row]], of_log, row, log=True)


def self_and_others(g, p, exact, row, log):
    g, p = [mpmath.mpf(v) for v in g], [mpmath.mpf(v) for v in p]
    top = max(range(5), key=p.__getitem__)
    for c in range(5):
        others = [k for k in range(5) if k != c]
        value = g[c] - p[c] * sum(g) if log else p[c] * (g[c] - sum(a * b for a, b in zip(g, p, strict=True)))
        if p[top] > 0.75 and log and c == top:
            value = g[c] * sum(p[k] for k in others) - p[c] * sum(g[k] for k in others)
        elif p[top] > 0.75 and not log:
            value = p[c] * ((g[c] - g[top]) - sum((g[k] - g[top]) * p[k] for k in range(5)))
        assert abs(wide(value) - exact.value[row, c]) <= exact.error[row, c] / 64


def wide(value):
    return np.longdouble(mpmath.nstr(value, 30))


# Near the largest numbers

LARGE = [F32, F64, BFLOAT16]
by_large = pytest.mark.parametrize("dtype", LARGE, ids=str)


def largest(dtype):
    return float(dtype.type(np.finfo(np.float32).max * 0.99)) if dtype == BFLOAT16 else float(np.finfo(dtype).max)


def spread_rows(big, classes, dtype, axis):
    """[big, -big, 0, ...] as every row or column."""
    row = np.zeros(classes)
    row[:2] = big, -big
    x = np.tile(row.astype(dtype), (40, 1))
    return x if axis else np.ascontiguousarray(x.T)


@by_large
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("classes", [3, 40, 1500, 3000])
def test_the_largest_numbers(fl, classes, axis, dtype):
    """Labels at the largest one, at the smallest of a scaled row, distributions, smoothing, z-loss: all is finite."""
    big = largest(dtype)
    x = spread_rows(big, classes, dtype, axis)
    n, eps = 40, 2.0**-7 if dtype == BFLOAT16 else 4 * float(np.finfo(dtype).eps)

    def losses(labels, **options):
        return fl.cross_entropy(x, labels, axis=axis, reduction="none", **options).astype(float)

    assert (losses(np.zeros(n, int)) == 0).all()
    np.testing.assert_allclose(losses(np.ones(n, int), logit_scale=0.5), big, rtol=eps)
    np.testing.assert_allclose(losses(np.ones(n, int), logit_scale=-0.5), 0, atol=0)
    t = np.zeros((classes, n))
    t[0], t[1] = 0.75, 0.25
    t = (t.T if axis else t).astype(dtype).copy()
    np.testing.assert_allclose(losses(t), big / 2, rtol=eps)
    np.testing.assert_allclose(losses(t, logit_scale=0.5), big / 4, rtol=eps)
    np.testing.assert_allclose(losses(np.zeros(n, int), label_smoothing=0.1), 0.1 * big, rtol=2 * eps)
    np.testing.assert_allclose(losses(np.zeros(n, int), z_loss=1 / 16 / big), big / 16, rtol=eps)


@by_large
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("classes", [4, 40, 1500, 3000])
@pytest.mark.parametrize("soft", [False, True])
def test_z_loss_of_the_largest_numbers(fl, soft, classes, axis, dtype):
    """2 z_loss lse may be too large where its product with a probability is not: 0, or a third."""
    big = largest(dtype)
    x = spread_rows(big, classes, dtype, axis)
    rows = x if axis else x.T
    labels = np.zeros(40, int)
    if soft:
        labels = np.zeros((40, classes))
        labels[:, 0] = 1
        labels = (labels if axis else labels.T).astype(dtype).copy()
    grad = fl.cross_entropy_with_grad(x, labels, axis=axis, reduction="sum", z_loss=1.0).grad_logits
    grad = (grad if axis else grad.T).astype(float)
    assert (grad[:, 1:] == 0).all()
    assert (grad[:, 0] == np.inf).all()
    places = [0, 2, classes - 1]
    rows[:, places] = big
    grad = fl.cross_entropy_with_grad(x, labels, axis=axis, reduction="sum", z_loss=1.0).grad_logits
    grad = (grad if axis else grad.T).astype(float)
    expected = 2 * (big / 3)
    np.testing.assert_allclose(grad[:, places], expected, rtol=1e-2 if dtype == BFLOAT16 else 1e-5)
    assert (grad[:, 1] == 0).all()


@by_large
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("classes", [3, 40, 1500])
def test_temperature_of_the_largest_numbers(fl, classes, axis, dtype):
    """The difference from the maximum is too large, a half of it is not."""
    big = largest(dtype)
    x = spread_rows(big, classes, dtype, axis)
    result = fl.log_softmax(x, axis, temperature=2.0)
    result = (result if axis else result.T).astype(float)
    np.testing.assert_allclose(result[:, :3], np.broadcast_to([0, -big, -big / 2], (40, 3)), rtol=1e-2)
    probs = fl.softmax(x, axis, temperature=2.0).astype(float)
    assert (np.sort(probs, axis)[(slice(None), -1) if axis else -1] == 1).all()


@pytest.mark.parametrize("scale", [1e-38, -2e-38, 0.0])
def test_scales_that_make_the_largest_numbers_small(fl, scale):
    big = 3e38
    for axis in (0, 1):
        for classes in (3, 40, 1500):
            x = spread_rows(big, classes, F32, axis)
            exact = oracle.cross_entropy(x if axis else x.T, np.ones(40, int), reduction="none", logit_scale=scale)
            result = fl.cross_entropy(x, np.ones(40, int), axis=axis, reduction="none", logit_scale=scale)
            np.testing.assert_allclose(result, exact.loss.value, rtol=1e-5)


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d != F64], ids=str)
def test_a_distribution_of_the_largest_float16_and_its_like(fl, dtype):
    """The sums of gaps go through float32: no half type may overflow before its own range does."""
    x = np.array([[6e4, -6e4, 0, 1]] * 3, dtype)
    t = np.full((3, 4), 0.25, dtype)
    exact = oracle.cross_entropy(x, t, reduction="none")
    assert_close(fl.cross_entropy(x, t, reduction="none"), exact.loss, "loss")
