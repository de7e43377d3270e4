"""`RowState`s of the blocks of an array, merged over the pieces of each row."""

import dataclasses
import math

import numpy as np

from fastlogits.dask._blocks import lazily, merged
from fastlogits.states import RowState, label_logits


def row_states(x, labels=None, *, want, temperature=None, **options):
    """For `lazily`: the `RowState` of each block of rows, with the axes of the logits `x`.

    Where sizes along the classes are unknown, only what names no class may be wanted. `temperature` is a number, or
    those of the rows as of `lazily`.
    """
    arrays, known = (x.blocks, labels, x.location), None
    if not isinstance(temperature, tuple):
        options["number"], temperature = temperature, None
    if "rank" in want and x.in_pieces:
        picked = lazily(_label_logits, x.all, *arrays, axis=x.axes[0], dtype=np.float64, chunks=x.one_class)
        known = merged(largest, picked, x.axes), x.all
    states = lazily(
        _state, x.all, *arrays, known, temperature, axes=x.axes, sizes=x.shape(x.axes), want=want, dtype=object,
        chunks=x.one_class, **options,
    )  # fmt: skip
    known = all(map(math.isfinite, x.shape(x.axes)))
    return merged(_merged if known else _merged_in_order, states, x.axes), x.all


def _state(x, labels, location, label_logits, temperature, *, axes, sizes, number=None, **options):
    spans = [location[axis] for axis in axes]
    # Classes along several axes are counted block after block.
    first_class = sum(
        span.start * math.prod(sizes[i + 1 :]) * math.prod(other.stop - other.start for other in spans[:i])
        for i, span in enumerate(spans)
    )
    if label_logits is not None:
        label_logits = label_logits.squeeze(axes)
    x, axis = one_axis(x, axes)
    if math.isnan(first_class):
        first_class = 0
    if temperature is None:
        temperature = 1.0 if number is None else number
    return RowState.of(
        x, labels, axis=axis, first_class=first_class, label_logits=label_logits, temperature=temperature, **options
    )


def one_axis(x, axes):
    """`x` with its class axes made one, and that."""
    if len(axes) == 1:
        return x, axes[0]
    x = np.moveaxis(x, axes, range(-len(axes), 0))
    return x.reshape(*x.shape[: -len(axes)], -1), -1


def _merged(*states):
    return RowState.merge(*states)


def _merged_in_order(*states):
    """As `_merged`, where none knows how many classes come before it."""
    following, numbered = 0, []
    for state in states:
        stop = following + state.stop_class - state.first_class
        numbered.append(dataclasses.replace(state, first_class=following, stop_class=stop))
        following = stop
    return RowState.merge(*numbered)


def _label_logits(x, labels, location, *, axis):
    return np.expand_dims(label_logits(x, labels, axis, first_class=location[axis].start), axis)


def largest(*pieces):
    """Of what is NaN in all pieces but one, that one's."""
    return np.fmax.reduce(pieces)
