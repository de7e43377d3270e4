"""The options of filters, checked once, and what they do to rows that the backends' filters do not do."""

from typing import Any, NamedTuple

import numpy as np

from fastlogits import _checks_filters, _layout, config
from fastlogits._edits import Edits, forbid, some
from fastlogits._scaling import PLAIN, Scaling, applied, has_apply, is_fit, number
from fastlogits.backends.numpy import NEAR
from fastlogits.states import sweep

# transformers' cap on the classes that top_h looks at.
TOP_H_CLASSES = 100
RULES_OFF = np.array([[_checks_filters.PARAMETERS[name].off for name in _checks_filters.RULES]])


class Options(NamedTuple):
    """The options of `filter_logits` and `sample`, as a caller gives them."""

    temperature: Any = 1.0
    top_k: Any = None
    top_p: Any = None
    min_p: Any = None
    typical_p: Any = None
    epsilon_cutoff: Any = None
    eta_cutoff: Any = None
    min_keep: Any = 1
    top_n_sigma: Any = None
    top_h: Any = None
    xtc_threshold: Any = None
    xtc_probability: Any = None
    order: str = "temperature_first"
    history: Any = None
    repetition_penalty: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None
    allowed: Any = None
    bias: Any = None
    where: Any = None

    def fitted(self, x, layout):
        """(x, layout, options) where a fit has made the logits, and the temperature is numbers."""
        fit = self.temperature
        if has_apply(fit):
            x = applied(fit, x, layout.axes[0])
            return x, _layout.of(x, layout.axes[0]), self._replace(temperature=1.0)
        return x, layout, self._replace(temperature=number(fit)) if is_fit(fit) else self


class Filters(NamedTuple):
    """`Options` of rows. Numbers are arrays of one for each row, or one for all; None where a filter is off."""

    rules: np.ndarray  # a row as the backends take them
    edits: Edits
    top_n_sigma: np.ndarray | None
    top_h: np.ndarray | None
    xtc_threshold: np.ndarray | None
    xtc_probability: np.ndarray | None
    last_temperature: np.ndarray | None  # that of the rules is 1
    scaling: Scaling  # with a bias or a mask: of the temperature too, so that that of the rules is 1, or 0

    @classmethod
    def of(cls, options, x, layout, greedy=False):
        """Of the logits `x`, which no fit is left for. With `greedy` the temperature may be 0."""
        _checks_filters.combination(options)

        def numbers(name):
            zero = greedy and name == "temperature"
            value = _checks_filters.filter_parameter(name, getattr(options, name), layout.batch_shape, zero)
            if value.size == 1:
                return value.reshape(1)
            return layout.flatten(np.broadcast_to(value, layout.batch_shape))

        def optional(name):
            return None if getattr(options, name) is None else numbers(name)

        parameters = {name: numbers(name) for name in _checks_filters.RULES}
        last = None
        if options.order == "temperature_last":
            last, parameters["temperature"] = parameters["temperature"], np.ones(1)
        scaling = PLAIN
        if options.bias is not None or options.where is not None:
            temperature = parameters["temperature"]
            parameters["temperature"] = np.where(temperature > 0, 1.0, 0.0)
            divisor = np.where(temperature > 0, temperature, 1.0)
            divisor = divisor.item() if divisor.size == 1 else layout.unflatten(divisor)
            scaling = Scaling.of(x, layout, divisor, options.bias, options.where)[2]
        penalties = {name: numbers(name) for name in _checks_filters.PENALTIES}
        return cls(
            rules(parameters, layout), Edits.of(options, layout, penalties), optional("top_n_sigma"),
            optional("top_h"), optional("xtc_threshold"), optional("xtc_probability"), last, scaling,
        )  # fmt: skip

    @property
    def by_backend(self):
        """Whether the rules are all there is."""
        cuts = self.top_n_sigma, self.top_h, self.xtc_threshold, self.last_temperature
        return not self.edits.any and self.scaling.is_plain and all(part is None for part in cuts)

    @property
    def by_rules(self):
        """Whether the rules are all that is left after `blocks`."""
        return self.xtc_threshold is None and self.last_temperature is None

    def blocks(self, x, layout, y=None):
        """(rows, copy of their logits, where to write results) of a few rows at a time, in the computing dtype.

        Edits, bias, mask, top_n_sigma and top_h are done.
        """
        arrays = x, self.scaling.where, y
        for rows, _, _, (block, where, target), _ in layout.parts(arrays, (None,) * 3, 2, side_by_side=True):
            block = block.astype(_layout.COMPUTE[x.dtype], copy=False)
            with np.errstate(all="ignore"):
                self.edits.apply(block, rows)
                self.scaling.apply(block, rows)
                if where is not None:
                    forbid(block, where)
                self._cut_before(block, rows)
            yield rows, block, target

    def _cut_before(self, block, rows):
        rules = some(self.rules, rows)
        temperature, min_keep = rules[:, 0], rules[:, 7].astype(np.intp)
        if self.top_n_sigma is not None:
            cut_top_n_sigma(block, some(self.top_n_sigma, rows), min_keep)
        if self.top_h is not None:
            # At temperature 0 the first is taken anyway.
            cut_top_h(block, some(self.top_h, rows), np.where(temperature > 0, temperature, 1), min_keep)

    def cut(self, block, rows, xtc_chosen=None):
        """Everything else, in place; XTC for all rows, or for those chosen."""
        rules = some(self.rules, rows)
        last = None if self.last_temperature is None else some(self.last_temperature, rows)
        greedy = np.broadcast_to((rules[:, 0] if last is None else last) == 0, len(block))
        if greedy.any():
            leave_the_largest(block, greedy)
            rules = np.where((np.arange(rules.shape[1]) == 0) & (rules == 0), 1, rules)
        shape = len(block), block.shape[1], 1, block.shape[1], block.shape[1]
        config.backend().filter_logits(block, block, rules, *shape, config.threads(block.size))
        with np.errstate(all="ignore"):
            if self.xtc_threshold is not None:
                threshold = np.broadcast_to(some(self.xtc_threshold, rows), len(block))
                cut_xtc(block, threshold if xtc_chosen is None else np.where(xtc_chosen, threshold, 1))
            if last is not None:
                block /= np.where(last > 0, last, 1).astype(block.dtype)[:, None]


def rules(parameters, layout):
    """Numbers of rows as the backends take them: a row of numbers for each row, or one for all."""
    limits = dict(parameters)
    for name, values in parameters.items():
        if name in ("top_k", "min_keep"):
            limits[name] = np.minimum(values, max(1, layout.classes))
        elif name in ("top_p", "typical_p"):
            limits[name] = np.maximum(values - NEAR, 0)
            np.copyto(limits[name], 1, where=values >= 1)
        elif name != "temperature":
            limits[name] = values * (1 - NEAR)
    return np.stack(np.broadcast_arrays(*limits.values()), axis=-1)


def leave_the_largest(block, where):
    """Of rows that are to be greedy: the first of the largest, and -inf elsewhere."""
    rows = np.flatnonzero(where)
    ids = block[rows].argmax(axis=1)
    largest = block[rows, ids]
    block[rows] = -np.inf
    block[rows, ids] = largest


def cut_top_n_sigma(block, top_n_sigma, min_keep):
    """Drops what is less than the largest by more than so many standard deviations of the finite logits."""
    peak = block.max(axis=1, keepdims=True).astype(np.float64)
    finite = block > -np.inf
    gap = np.where(finite, peak - block, 0)
    count = finite.sum(axis=1)
    total = gap.sum(axis=1)
    variance = (np.square(gap, out=gap).sum(axis=1) - total * total / count) / np.maximum(count - 1, 1)
    limit = peak[:, 0] - top_n_sigma * (1 + NEAR) * np.sqrt(np.maximum(variance, 0))
    if (min_keep > 1).any():
        ordered = np.sort(block, axis=1)
        places = np.broadcast_to(np.maximum(block.shape[1] - min_keep, 0), len(block))
        limit = np.fmin(limit, ordered[np.arange(len(block)), places])
    np.copyto(block, -np.inf, where=block < limit[:, None])


def cut_top_h(block, top_h, temperature, min_keep):
    """Keeps the likeliest of the `TOP_H_CLASSES` likeliest, as long as they have `top_h` of the entropy together."""
    classes = block.shape[1]
    capped = min(TOP_H_CLASSES, classes)
    count = min(max(capped, int(min_keep.max())), classes)
    top = sweep(block, _layout.of(block, -1), {"peak", "top_ids"}, count)
    gap = (top["top_values"] - top["peak"][:, None]) / temperature[:, None]
    mass = np.exp(gap[:, :capped])
    p = mass / mass.sum(axis=1, keepdims=True)
    terms = np.where(p > 0, -p * np.log(p), 0)
    kept = np.broadcast_to(np.arange(count) < min_keep[:, None], gap.shape).copy()
    kept[:, :capped] |= np.cumsum(terms, axis=1) <= (top_h * terms.sum(axis=1) * (1 + NEAR))[:, None]
    fine = np.isfinite(top["peak"])
    values, ids = np.where(kept, top["top_values"], -np.inf)[fine], top["top_ids"][fine]
    block[fine] = -np.inf
    block[np.flatnonzero(fine)[:, None], ids] = values


def cut_xtc(block, threshold):
    """Drops all but the least likely of the classes that have at least the threshold's probability."""
    found = sweep(block, _layout.of(block, -1), {"peak", "rest"})
    limit = found["peak"] + np.log(threshold * (1 - NEAR) * (1 + found["rest"]))
    above = block >= limit[:, None]
    several = np.flatnonzero(np.count_nonzero(above, axis=1) > 1)
    if several.size:
        x, above = block[several], above[several]
        # Of equals the last: the one that a stable sort leaves.
        ids = block.shape[1] - 1 - np.where(above, x, np.inf)[:, ::-1].argmin(axis=1)
        above[np.arange(len(several)), ids] = False
        x[above] = -np.inf
        block[several] = x
