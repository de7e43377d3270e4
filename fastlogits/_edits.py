"""What is done to logits before temperature and cuts: forbidden classes, biases, penalties for ids that have been."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastlogits import _checks, _checks_filters

ALL_BITS = -1
# More words that are neither full nor empty are unpacked with all others.
SOME_WORDS = 1 / 8


class Changes(NamedTuple):
    """Of some classes of some rows, ordered by row: row r's are those from starts[r] to starts[r + 1]."""

    starts: np.ndarray
    ids: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, rows, ids, values, count):
        """Of `count` rows."""
        order = np.argsort(rows, kind="stable")
        starts = np.searchsorted(rows[order], np.arange(count + 1))
        return cls(starts, ids[order], values[order])

    def within(self, rows):
        """Those of some rows, which follow upon each other: (row counted from the first, id, value)."""
        starts = self.starts[rows.start : rows.stop + 1]
        part = slice(starts[0], starts[-1])
        return np.repeat(np.arange(len(starts) - 1), np.diff(starts)), self.ids[part], self.values[part]


class Edits(NamedTuple):
    """Options of `filter_logits`, checked once. Arrays of classes have a row for each row of logits, or one for all."""

    allowed: np.ndarray | None
    packed: bool  # 32 classes of `allowed` in a word
    bias: np.ndarray | None
    biases: Changes | None
    history: Changes | None  # how often each id has been
    penalties: dict  # by their names, as of `of_each_row`

    @classmethod
    def of(cls, options, layout, penalties):
        """Of `Options`, and the numbers of its penalties."""
        allowed, packed = None, False
        if options.allowed is not None:
            allowed = _checks.as_array("allowed", options.allowed)
            packed = _checks_filters.mask(allowed)
            if packed:
                _checks_filters.words(allowed.shape, layout.axes[0] - len(layout.shape), layout.classes)
                allowed = allowed.view(np.int32)
            allowed = by_row("allowed", allowed, layout, -(-layout.classes // 32) if packed else layout.classes)
        bias, biases = _biases(options.logit_bias, layout)
        history = None if options.history is None else _history(options.history, layout)
        return cls(allowed, packed, bias, biases, history, penalties)

    @property
    def any(self):
        return any(part is not None for part in (self.allowed, self.bias, self.biases, self.history))

    def apply(self, block, rows):
        """To a copy of these rows, in place."""
        if self.allowed is not None:
            allowed = some(self.allowed, rows)
            if self.packed:
                forbid_words(block, allowed)
            else:
                forbid(block, allowed)
        if self.bias is not None:
            block += some(self.bias, rows).astype(block.dtype, copy=False)
        if self.biases is not None:
            row, ids, values = self.biases.within(rows)
            np.add.at(block, (row, ids), values.astype(block.dtype))
        if self.history is not None:
            row, ids, counts = self.history.within(rows)
            repetition, frequency, presence = (
                some(values, rows)[row if len(values) > 1 else 0].astype(block.dtype)
                for values in self.penalties.values()
            )
            x = block[row, ids]
            x = np.where(x < 0, x * repetition, x / repetition)
            block[row, ids] = x - (frequency * counts.astype(block.dtype) + presence)


def forbid(block, allowed):
    """-inf wherever `allowed` is false, whatever stands there."""
    np.copyto(block, -np.inf, where=~allowed)


def forbid_words(block, words):
    """As `forbid`, of a packed mask. Where it allows nearly all, or nearly nothing, hardly a class is looked at."""
    for x, own in zip(block, np.broadcast_to(words, (len(block), words.shape[1])), strict=True):
        changed = np.flatnonzero(own != ALL_BITS)
        if len(changed) > SOME_WORDS * len(own):
            changed = np.flatnonzero(own)
            if len(changed) > SOME_WORDS * len(own):
                forbid(x, unpacked(own, x.size))
                continue
            row, bit = np.nonzero(unpacked(own[changed, None], 32))
            ids = changed[row] * 32 + bit
            ids = ids[ids < x.size]
            kept = x[ids]
            x.fill(-np.inf)
            x[ids] = kept
        else:
            row, bit = np.nonzero(~unpacked(own[changed, None], 32))
            ids = changed[row] * 32 + bit
            x[ids[ids < x.size]] = -np.inf


def unpacked(words, classes):
    """A row of bool for each row of words; class c is bit c % 32 of word c // 32."""
    octets = np.ascontiguousarray(words, words.dtype.newbyteorder("<")).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=classes, bitorder="little").view(bool)


def some(values, rows):
    """What these rows have of values that have one for each, or one for all."""
    return values[rows] if len(values) > 1 else values


def by_row(name, values, layout, length):
    """An array of classes that broadcasts to the logits as one of rows; a single one, where all are the same."""
    axis = layout.axes[0]
    shape = _checks_filters.form_of_classes(name, values.shape, layout.shape, axis, length)
    values = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    if values.size == values.shape[axis]:
        return np.broadcast_to(values.reshape(1, -1), (1, length))
    values = np.moveaxis(np.broadcast_to(values, shape), axis, -1)
    if layout.batch_order is not None:
        values = values.transpose(*layout.batch_order, values.ndim - 1)
    return values.reshape(layout.rows, length)


def _biases(value, layout):
    """(bias of every class, biases of some), of which one at least is None."""
    if value is None:
        return None, None
    mappings = [value] if isinstance(value, Mapping) else value
    if not isinstance(value, np.ndarray) and mappings and all(isinstance(each, Mapping) for each in mappings):
        shared = mappings is not value
        if not shared and layout.batch_shape != (len(mappings),):
            raise _checks_filters.not_a_mapping_each(len(mappings), layout.batch_shape)
        lengths = [len(each) for each in mappings]
        ids = np.array([_checks_filters.id_of("logit_bias", i) for each in mappings for i in each], np.int64)
        values = np.array([_checks.real("logit_bias", v) for each in mappings for v in each.values()], np.float64)
        _checks_filters.ids_within("logit_bias", ids, layout.classes)
        rows = np.repeat(np.arange(len(mappings)), lengths)
        if shared:
            rows, ids, values = (
                np.repeat(np.arange(layout.rows), ids.size), np.tile(ids, layout.rows), np.tile(values, layout.rows),
            )  # fmt: skip
        return None, Changes.of(rows, ids, _checks_filters.bias(values), layout.rows)
    values = _checks.as_array("logit_bias", value)
    if values.dtype.kind not in "iuf" and values.dtype.name != "bfloat16":
        raise _checks_filters.not_a_bias(values.dtype)
    values = by_row("logit_bias", values, layout, layout.classes)
    return _checks_filters.bias(values), None


def _history(value, layout):
    """How often each id has been in each row."""
    ids, rows = _checks_filters.history(value, layout.batch_shape)
    _checks_filters.ids_within("history", ids, layout.classes, rows)
    if layout.batch_order is not None:
        places = np.empty(layout.rows, np.int64)
        places[layout.flatten(np.arange(layout.rows).reshape(layout.batch_shape))] = np.arange(layout.rows)
        rows = places[rows]
    there = ids >= 0
    keys, counts = np.unique(rows[there] * layout.classes + ids[there], return_counts=True)
    rows, ids = np.divmod(keys, max(1, layout.classes))
    return Changes.of(rows, ids, counts, layout.rows)
