"""Every backend function on every way through memory, for holding the backends side by side bit by bit."""

import numpy as np
from tolerance import DTYPES

import fastlogits

LOSSES = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "bent": {"softcap": 3.0, "z_loss": 0.1},
    "negative": {"logit_scale": -0.5, "z_loss": 0.01},
    "weight": {"weight": True},
    "all": {
        "weight": True, "sample_weight": True, "label_smoothing": 0.2, "z_loss": 0.1, "softcap": 2.0,
        "logit_scale": 1.5, "grad_loss": True,
    },
}  # fmt: skip
FILTERS = {
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.05},
    "typical_p": {"typical_p": 0.7},
    "epsilon_cutoff": {"epsilon_cutoff": 0.02},
    "eta_cutoff": {"eta_cutoff": 0.05},
    "all": {"temperature": 1.3, "top_k": 20, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9, "min_keep": 2},
}
# (shape, axis): one class and few, short rows, rows of one block and of many, one that threads share, columns
SHAPES = [
    ((5, 1), 1), ((300, 3), 1), ((140, 10), 1), ((33, 40), 1), ((17, 333), 1), ((5, 1031), 1), ((2, 5000), 1),
    ((1, 70_000), 1), ((2, 21, 300), 1), ((3, 40, 33), 1), ((1, 2, 5), 1),
]  # fmt: skip
SMALL = [((7, 3), 1), ((20, 10), 1), ((3, 40), 1), ((2, 1031), 1), ((2, 5, 40), 1)]


def logits(shape, dtype, rng):
    """Plain ones, and a row in five with each of: infinities, NaN, equal logits, a dominant one."""
    x = 3 * rng.standard_normal(shape)
    rows = np.moveaxis(x, 1, -1).reshape(-1, shape[1])
    rows[1::10, ::2] = -np.inf
    rows[3::10, -1] = np.nan
    rows[5::10] = 0.25
    rows[7::10, 0] = 60.0
    return np.moveaxis(rows.reshape(*np.delete(shape, 1), shape[1]), -1, 1).astype(dtype)


def softmax_family(x, axis, rng):
    probs, log_probs = fastlogits.softmax(x, axis=axis), fastlogits.log_softmax(x, axis=axis)
    g = rng.standard_normal(x.shape).astype(x.dtype)
    yield "softmax", probs
    yield "softmax, temperature", fastlogits.softmax(x, axis=axis, temperature=0.7)
    yield "log_softmax", log_probs
    yield "logsumexp", fastlogits.logsumexp(x, axis=axis)
    yield "argmax", fastlogits.argmax(x, axis=axis)
    yield "softmax_backward", fastlogits.softmax_backward(g, probs, axis=axis)
    yield "log_softmax_backward", fastlogits.log_softmax_backward(g, log_probs, axis=axis)


def losses(x, axis, rng):
    classes, batch = x.shape[axis], tuple(np.delete(x.shape, axis))
    labels = rng.integers(0, classes, batch)
    labels[..., ::4] = -100
    targets = rng.random(x.shape).astype(x.dtype)
    own = {"weight": rng.random(classes), "sample_weight": rng.random(batch), "grad_loss": rng.random(batch)}
    for name, options in LOSSES.items():
        options = {key: own[key] if value is True else value for key, value in options.items()}
        for kind, y in (("labels", labels), ("targets", targets)):
            found = fastlogits.cross_entropy_with_grad(x, y, axis=axis, reduction="none", **options)
            yield f"loss, {kind}, {name}", found.loss
            yield f"gradient, {kind}, {name}", found.grad_logits
            options_of_loss = {key: value for key, value in options.items() if key != "grad_loss"}
            yield f"mean, {kind}, {name}", fastlogits.cross_entropy(x, y, axis=axis, **options_of_loss)


def statistics(x, axis, rng):
    classes, batch = x.shape[axis], tuple(np.delete(x.shape, axis))
    labels = rng.integers(0, classes, batch)
    for k in sorted({0, min(3, classes), min(300, classes)}):
        found = fastlogits.row_stats(x, labels, top_k=k, axis=axis)
        yield from ((f"row_stats, top {k}, {name}", value) for name, value in vars(found).items() if value is not None)
    for k in sorted({1, min(7, classes), min(600, classes)}):
        for order in (True, False):
            found = fastlogits.topk(x, k, axis, sorted=order)
            yield f"topk values, {k}, {order}", found.values
            yield f"topk indices, {k}, {order}", found.indices
    yield "entropy", fastlogits.entropy(x, axis=axis)


def filtered(x, axis, rng):
    for name, rules in FILTERS.items():
        rules = rules | ({"top_k": min(rules["top_k"], x.shape[axis])} if "top_k" in rules else {})
        yield f"filter_logits, {name}", fastlogits.filter_logits(x, axis=axis, **rules)
        drawn = fastlogits.sample(x, seed=5, axis=axis, **rules)
        yield f"sample ids, {name}", drawn.ids
        yield f"sample log_probs, {name}", drawn.log_probs


FAMILIES = {"softmax": softmax_family, "losses": losses, "statistics": statistics, "filters": filtered}


def results(family, dtype, shapes):
    """{case: its bits, NaN made one} of a family with the settings in force."""
    found = {}
    for shape, axis in shapes:
        rng = np.random.default_rng([*shape, axis])
        x = logits(shape, DTYPES[dtype], rng)
        if family == "filters":  # which refuse rows without a finite logit, and NaN
            x = np.nan_to_num(x.astype(np.float64), nan=0.5, neginf=-30.0).astype(x.dtype)
        for name, value in FAMILIES[family](x, axis, rng):
            value = np.asarray(value)
            with np.errstate(invalid="ignore"):
                found[f"{name} of {shape}"] = np.where(value != value, np.nan, value).astype(value.dtype).tobytes()
    return found
