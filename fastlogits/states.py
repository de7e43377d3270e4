"""What is known of rows of logits after some of their classes: partial results that can be merged.

`row_stats` reads everything that it returns off a `RowState`, so that a vocabulary in shards, or an array in chunks,
gives the answers of the whole.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlogits import _checks, _layout, config
from fastlogits._results import RowStats
from fastlogits._scaling import PLAIN, Scaling, inverse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from numpy.typing import ArrayLike

    from fastlogits._typing import OneTemperature

    Ties = Literal["first", "min"]


# Classes in a block of the kernels: kernels/sizes.py.
BLOCK = 1024


class Field(NamedTuple):
    """A field of `RowStats`: what is swept up of each row for it, and its formula."""

    parts: tuple[str, ...]
    formula: Callable[[Any], np.ndarray]


# With m the largest logit and s what logits are multiplied by: log_sum = lse - s m, norm = exp(log_sum); so is nothing
# subtracted that nearly cancels.
FIELDS = {
    "lse": Field(("rest",), lambda row: np.where(np.isinf(row.peak), row.peak, row.scale * row.peak + row.log_sum)),
    "nll": Field(
        ("rest", "label_logit"),
        lambda row: np.where(row.ignored, 0, row.log_sum + row.scale * (row.peak - row.label_logit)),
    ),
    "argmax": Field(("argmax",), lambda row: row.argmax),
    "correct": Field(("argmax", "label_logit"), lambda row: (row.argmax == row.label) & ~row.ignored),
    "entropy": Field(("rest", "moment"), lambda row: row.log_sum - row.moment / row.norm),
    "max_prob": Field(("rest",), lambda row: 1 / row.norm),
    "rank": Field(
        ("ahead", "label_logit"),
        lambda row: np.where(row.ignored, -1, row.before) if row.ignored.any() else row.before,
    ),
    "margin": Field(("second",), lambda row: row.scale * (row.peak - row.second)),
    "topk_ids": Field(("top_ids",), lambda row: row.top_ids),
    "topk_log_probs": Field(
        ("top_ids", "rest"),
        lambda row: np.expand_dims(row.scale, -1) * (row.top_values - row.peak[..., None]) - row.log_sum[..., None],
    ),
}
# What a part is.
KINDS = {
    "label_logit": np.float64,
    "peak": np.float64,
    "rest": np.float64,
    "moment": np.float64,
    "argmax": np.intp,
    "second": np.float64,
    "ahead": np.intp,
    "above": np.intp,
}
# Fields that the kernels finish themselves where they have whole rows, in the computing dtype.
FINISHED = ("lse", "nll", "entropy", "max_prob", "margin")
# Which classes have a better rank than the label: those before it in the order of `topk`, or those with larger logits.
TIES = {"first": "ahead", "min": "above"}


@dataclasses.dataclass(frozen=True, eq=False)
class RowState:
    """What a piece of the class axis, or some of the rows, has to say about `row_stats`.

    Made by `RowState.of`. `merge` puts pieces of the class axis together, `concatenate` pieces of the rows, and
    `results` turns the whole into `RowStats`. It can be pickled, and has the size of some numbers a row.

    Attributes
    ----------
    first_class, stop_class : int
        The classes that went in.
    want, top_k, axis, dtype, ignore_index
        What was asked for, of which logits.
    parts : dict of ndarray
        Some numbers a row, of the shape of the logits without `axis`. With m the largest logit and s the inverse of the
        temperature, `peak` is m, `rest` is the sum of exp(s (x - m)) over all classes but one maximum, and `moment`
        that of s (x - m) exp(s (x - m)); `scale` is s, where that is not 1.

    Examples
    --------
    Two halves of a vocabulary:

    >>> import numpy as np
    >>> from fastlogits.states import RowState
    >>> logits = np.array([[0.0, 1.0, 3.0, 2.0]])
    >>> left = RowState.of(logits[:, :2], want=["lse", "argmax"])
    >>> right = RowState.of(logits[:, 2:], want=["lse", "argmax"], first_class=2)
    >>> left.merge(right).results().argmax
    array([2])
    """

    first_class: int
    stop_class: int
    want: tuple[str, ...]
    top_k: int
    axis: int
    dtype: np.dtype
    ignore_index: int
    parts: dict[str, Any]

    @classmethod
    def of(
        cls,
        logits: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        want: Iterable[str] | None = None,
        top_k: int | None = None,
        axis: int = -1,
        ignore_index: int = -100,
        temperature: ArrayLike | OneTemperature = 1.0,
        ties: Ties = "first",
        first_class: int = 0,
        label_logits: np.ndarray | None = None,
    ) -> RowState:
        """The state of a piece, from one sweep over its logits.

        Parameters
        ----------
        logits, labels, want, top_k, axis, ignore_index, temperature, ties
            As of `row_stats`. Labels count the classes of the whole, and may lie in other pieces. What has a fit for
            each class, a bias or a mask is made of the pieces before.
        first_class : int, default 0
            Which class of the whole the first of this piece is.
        label_logits : ndarray of float64, optional
            The logit at each row's label, wherever it lies: a piece that does not hold the label must know it to count
            the larger ones for `rank`. See `label_logits`.
        """
        x = _layout.floats(logits, "logits")
        layout = _layout.of(x, _checks.one_axis(axis))
        want, needed = asked(want, labels is not None, top_k is not None, ties)
        top_k = 0 if top_k is None else _checks.top_k("top_k", top_k)
        scaling = Scaling(*inverse(temperature, layout))
        parts, at = {}, None
        if scaling.scale != 1.0:
            parts["scale"] = np.broadcast_to(scaling.rest(layout), layout.batch_shape).astype(np.float64)
        if labels is not None:
            # A copy: the state stays what it is, whoever writes to the labels later.
            parts["label"] = labels = _checks.class_indices(labels, layout.batch_shape).copy()
            at = labels.astype(np.int64, copy=False) - first_class
        if label_logits is not None:
            shape = layout.batch_shape
            parts["threshold"] = _checks.weights("label_logits", label_logits, shape, np.float64)
        parts |= sweep(x, layout, needed, min(top_k, layout.classes), at, parts.get("threshold"), scaling=scaling)
        for name in parts.keys() & {"argmax", "top_ids"}:
            parts[name] += first_class
        ignore_index = _checks.ignore_index(ignore_index, labelled=labels is not None)
        stop_class = first_class + layout.classes
        return cls(first_class, stop_class, want, top_k, layout.axes[0], x.dtype, ignore_index, parts)

    def merge(self, *others: RowState) -> RowState:
        """The state of all these pieces of the class axis together, in whatever order they are given.

        They must be of the same rows, be asked for the same, and follow upon each other. Sums are merged in double
        precision; everything else, ties included, is exactly that of the whole.
        """
        pieces = sorted((self, *others), key=lambda piece: piece.first_class)
        for piece, following in zip(pieces, pieces[1:], strict=False):
            _checks.neighbours(piece, following)
        return functools.reduce(_joined, pieces)

    @classmethod
    def concatenate(cls, states: Iterable[RowState], axis: int = 0) -> RowState:
        """The state of these rows together, one piece after the other along `axis` of the results."""
        states = list(states)
        first = states[0]
        for state in states[1:]:
            _checks.same_questions(first, state, "first_class", "stop_class")
        axis = _checks.axes(_checks.one_axis(axis), first.parts["peak"].ndim)[0]
        parts = {name: np.concatenate([state.parts[name] for state in states], axis) for name in first.parts}
        return dataclasses.replace(first, parts=parts)

    @property
    def log_sum(self) -> np.ndarray:
        """lse - s m of each row, accurate also where it is nearly 0."""
        return np.log1p(self.parts["rest"])

    def softmax(self, logits: ArrayLike) -> np.ndarray:
        """The probabilities of a piece of the class axis of the rows that this is the state of.

        The state must have been asked for a field that comes of sums: lse, nll, entropy, max_prob or topk_log_probs.
        """
        return self._of_piece(logits, log=False)

    def log_softmax(self, logits: ArrayLike) -> np.ndarray:
        """The log-probabilities of a piece, as `softmax`."""
        return self._of_piece(logits, log=True)

    def _of_piece(self, logits, log):
        x = _layout.floats(logits, "logits")
        peak = self.parts["peak"]
        _checks.piece(x.shape, peak.shape, self.axis)
        if "scale" in self.parts:
            return self._of_scaled_piece(x, log)
        return normalized(x, self.axis, peak, self.parts["rest"], 1.0, log)

    @np.errstate(all="ignore")
    def _of_scaled_piece(self, x, log):
        peak, scale, log_sum = (np.expand_dims(v, self.axis) for v in (self.parts["peak"], self.scale, self.log_sum))
        # Of halves: x - peak may be too large where the result is not.
        values = 2 * scale * (x * 0.5 - peak * 0.5) - log_sum
        if not log:
            values = np.exp(values)
            values[values < np.finfo(_layout.COMPUTE[x.dtype]).tiny] = 0
        return _layout.rounded(values, x.dtype)

    @property
    def scale(self) -> Any:
        """What the logits of each row are multiplied by."""
        return self.parts.get("scale", 1.0)

    @np.errstate(all="ignore")
    def results(self) -> RowStats:
        """What was wanted, floats in the dtype of the logits, or float32 if that is smaller.

        Raises
        ------
        IndexError
            If a label is neither in one of the pieces nor `ignore_index`; the first is named.
        ValueError
            If `top_k` is larger than the number of classes, or there are none to take the largest of.
        """
        classes = self.stop_class - self.first_class
        _checks.top_k("top_k", self.top_k, classes)
        if "argmax" in self.parts:
            _checks.some_classes((classes,), 0)
        row = types.SimpleNamespace(**{"scale": 1.0} | self.parts)
        row.before = before(self.parts)
        if "label" in self.parts:
            row.ignored = row.label == self.ignore_index
            inside = (row.label >= self.first_class) & (row.label < self.stop_class)
            if not (row.ignored | inside).all():
                raise _checks.bad_label(row.label, self.stop_class, self.ignore_index)
        if "rest" in self.parts:
            row.norm, row.log_sum = 1 + row.rest, self.log_sum
        ndim = self.parts["peak"].ndim
        found = {name: FIELDS[name].formula(row) for name in self.want}
        dtype = _layout.COMPUTE[self.dtype]
        delivery = {name: delivered(values, ndim, self.axis, dtype) for name, values in found.items()}
        return RowStats(self.axis, **delivery)


def before(parts):
    """How many classes have a better rank than the label, whatever becomes of ties."""
    return next((parts[name] for name in TIES.values() if name in parts), None)


class SoftmaxState(NamedTuple):
    """What some classes of rows have to say about softmax and log_softmax, so that the whole's very bits come of it.

    Pieces begin at multiples of `BLOCK` classes: each has the blocks in which the kernels take the whole rows, and
    `merge` loses nothing of them.

    Attributes
    ----------
    peaks, sums, rests : ndarray of float64, shape (..., blocks)
        See `blocks_rows` in kernels/pieces.py.
    """

    peaks: np.ndarray
    sums: np.ndarray
    rests: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, axis: int, scale: float) -> SoftmaxState:
        """The state of a piece of softmax(scale * logits)."""
        layout = _layout.of(logits, axis)
        found = np.empty((3, layout.rows, -(-layout.classes // BLOCK)))
        if logits.size:
            for rows, x, stride, _, _ in layout.side_by_side(logits):
                config.backend().softmax_blocks(
                    x, *found[:, rows], rows.stop - rows.start, layout.classes, stride, scale, config.threads(x.size)
                )
        return cls(*map(layout.unflatten, found))

    def merge(self, *others: SoftmaxState) -> SoftmaxState:
        """The state of these pieces together, each followed by the next."""
        return SoftmaxState(*(np.concatenate(parts, -1) for parts in zip(self, *others, strict=True)))

    def settled(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """m and the sum of exp(scale (x - m)) over all classes but one maximum, of each row, as `normalized` asks."""
        shape, blocks = self.peaks.shape[:-1], self.peaks.shape[-1]
        parts = [np.ascontiguousarray(values).reshape(-1, blocks) for values in self]
        peaks, rests = np.empty((2, len(parts[0])))
        config.backend().softmax_merged(*parts, peaks, rests, blocks * BLOCK, scale)
        return peaks.reshape(shape), rests.reshape(shape)


def normalized(x, axis, peaks, rests, scale, log):
    """softmax or log_softmax of a piece of rows, given m and the rest of the whole rows."""
    layout = _layout.of(x, axis)
    y, y_stride = layout.destination(None, x.dtype)
    if x.size:
        peaks, rests = layout.flatten(peaks), layout.flatten(rests)
        for rows, logits, stride, probs, probs_stride in layout.side_by_side(x, y, y_stride):
            config.backend().softmax_piece(
                logits, probs, peaks[rows], rests[rows], rows.stop - rows.start, layout.classes, stride, probs_stride,
                scale, log, config.threads(logits.size),
            )  # fmt: skip
    return y


def label_logits(logits: ArrayLike, labels: ArrayLike, axis: int = -1, *, first_class: int = 0) -> np.ndarray:
    """The logit at each row's label in float64; NaN where the label is not in this piece.

    Where `rank` is wanted of pieces of the class axis, this is the first of two stages: ``numpy.fmax`` of the pieces'
    label logits is what each `RowState.of` must be given. It reads one logit a row.
    """
    x = _layout.floats(logits, "logits")
    layout = _layout.of(x, _checks.one_axis(axis))
    at = _checks.class_indices(labels, layout.batch_shape).astype(np.int64) - first_class
    return sweep(x, layout, {"label_logit"}, labels=at)["label_logit"]


def count_labels(labels, indices, layout, ignore_index):
    """How many rows count, given their labels also as int64: all of them classes or `ignore_index`."""
    flat = layout.flatten(indices)
    first_bad, counted = config.backend().count_labels(flat, None, None, layout.classes, ignore_index)
    if first_bad >= 0:
        raise _checks.bad_label(labels, layout.classes, ignore_index)
    return counted


def asked(want, labelled, ranked, ties="first"):
    """The wanted fields, and the parts that they are made of."""
    if want is not None:
        want = (want,) if isinstance(want, str) else tuple(want)
    _checks.one_of("ties", ties, TIES)
    want = _wanted(want, labelled, ranked)
    return want, parts_of(want, ties)


@functools.lru_cache
def _wanted(want, labelled, ranked):
    return _checks.fields(want, {name: field.parts for name, field in FIELDS.items()}, labelled, ranked)


@functools.lru_cache
def parts_of(want, ties):
    parts = {"peak"}.union(*(FIELDS[name].parts for name in want))
    return frozenset(TIES[ties] if name == "ahead" else name for name in parts)


@np.errstate(all="ignore")
def whole(x, layout, want, top_k, labels, ignore_index, scaling=PLAIN, ties="first"):
    """The wanted fields of rows that are here as a whole, some of them: what `RowState.results` has."""
    # Not in double, where the kernel's logarithm and NumPy's, which pieces take, differ in the last bit.
    finished = () if x.dtype == np.float64 else FINISHED
    unfinished = tuple(name for name in want if name not in finished)
    needed = {*finished} & {*want} | parts_of(unfinished, ties) - {"peak"}
    if finished:
        needed.discard("label_logit")
    if not finished or "topk_log_probs" in want:
        needed.add("peak")
    parts = sweep(x, layout, needed, top_k, labels, ignore_index=ignore_index, scaling=scaling)
    row = types.SimpleNamespace(**parts, scale=scaling.rest(layout), before=before(parts))
    if labels is not None:
        row.label, row.ignored = labels, labels == ignore_index
    if "rest" in parts:
        row.norm, row.log_sum = 1 + row.rest, np.log1p(row.rest)
    found = {name: getattr(row, name) if name in finished else FIELDS[name].formula(row) for name in want}
    ndim, axis = len(layout.batch_shape), layout.axes[0]
    dtype = _layout.COMPUTE[x.dtype]
    return RowStats(axis, **{name: delivered(values, ndim, axis, dtype) for name, values in found.items()})


def delivered(values, ndim, axis, dtype):
    """Values of rows, in their shape of `ndim` axes, as a caller gets them; several of a row lie along `axis`."""
    if values.ndim > ndim:
        values = np.moveaxis(values, -1, axis)
    return (_layout.rounded(values, dtype) if values.dtype.kind == "f" else values)[()]


def sweep(x, layout, needed, top_k=0, labels=None, threshold=None, *, ordered=True, ignore_index=-1, scaling=PLAIN):
    """The needed parts of each row, see `fastlogits.backends.numpy._row_stats`, in the batch's shape."""
    rows = layout.rows
    parts = {name: np.empty(rows, kind) for name, kind in KINDS.items() if name in needed}
    parts |= {name: np.empty(rows, _layout.COMPUTE[x.dtype]) for name in FINISHED if name in needed}
    if "top_ids" in needed:
        parts["top_values"] = np.empty((rows, top_k), _layout.COMPUTE[x.dtype])
        parts["top_ids"] = np.empty((rows, top_k), np.intp)
    if x.size:
        if labels is not None:
            labels = layout.flatten(labels)
        if threshold is not None:
            threshold = layout.flatten(threshold)
        backend = config.backend()
        for rows, logits, shape, scales in _pieces(x, layout, backend, needed, top_k, scaling):
            own = (array if array is None else array[rows] for array in (labels, threshold))
            results = {name: values[rows] for name, values in parts.items()}
            threads = config.threads(logits.size)
            backend.row_stats(logits, *own, results, *shape, ordered, ignore_index, threads, **scales)
    else:
        for name, values in parts.items():
            values.fill(0 if values.dtype.kind == "i" else -np.inf if name in ("peak", "second") else np.nan)
    return {name: layout.unflatten(values) for name, values in parts.items()}


def _pieces(x, layout, backend, needed, top_k, scaling):
    """(rows, their logits, (outer, classes, inner, stride), what is to be done to them): as they lie, with the classes
    of a row side by side, or scaled and shifted already.
    """
    classes = layout.classes
    swept = needed != {"label_logit"}
    if scaling.where is not None or (scaling.shifts and not (swept and backend.takes_bias(classes, top_k))):
        for rows, logits in scaling.blocks(x, layout):
            yield rows, logits, (len(logits), classes, 1, classes), {}
        return
    apart = scaling.shifts or not backend.columns_pay(classes, top_k)
    parts = layout.parts((x,), (layout.stride_of(x),), side_by_side=apart)
    for rows, outer, inner, (logits,), (stride,) in parts:
        yield rows, logits, (outer, classes, inner, stride), scaling.rows(rows)


@np.errstate(all="ignore")
def _joined(left, right):
    """The state of two neighbouring pieces of the class axis, `left` the one with the lower classes."""
    a, b = left.parts, right.parts
    leads = (a["peak"] >= b["peak"]) | np.isnan(a["peak"])
    gap = np.where(a["peak"] == b["peak"], 0, -np.abs(a["peak"] - b["peak"])) * left.scale

    def lead_and_other(name):
        return np.where(leads, a[name], b[name]), np.where(leads, b[name], a[name])

    def moved(values):
        """Sums of exp(x - m) in terms of the larger m; 0 where nothing is left of them, though gap may be -1e308."""
        factor = np.exp(gap)
        return np.where(factor == 0, 0, values * factor)

    parts = dict(a, peak=np.maximum(a["peak"], b["peak"]))
    if "label" in a:
        parts["label_logit"] = np.fmax(a["label_logit"], b["label_logit"])
    if "rest" in a:
        rest, other_rest = lead_and_other("rest")
        parts["rest"] = rest + moved(1 + other_rest)
    if "moment" in a:
        moment, other_moment = lead_and_other("moment")
        parts["moment"] = moment + moved(other_moment + gap * (1 + other_rest))
    if "argmax" in a:
        parts["argmax"] = lead_and_other("argmax")[0]
    if "second" in a:
        seconds = np.fmax(a["second"], b["second"])
        parts["second"] = np.fmax(seconds, np.fmin(a["peak"], b["peak"]))
    for name in a.keys() & {*TIES.values()}:
        parts[name] = a[name] + b[name]
    if "top_ids" in a:
        values = np.concatenate([a["top_values"], b["top_values"]], -1)
        ids = np.concatenate([a["top_ids"], b["top_ids"]], -1)
        top_k = min(left.top_k, values.shape[-1])
        top = sweep(values, _layout.of(values, -1), {"peak", "top_ids"}, top_k)
        parts |= {"top_values": top["top_values"], "top_ids": np.take_along_axis(ids, top["top_ids"], -1)}
    return dataclasses.replace(left, stop_class=right.stop_class, parts=parts)
