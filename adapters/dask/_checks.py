"""What can be said of arrays without computing them, and the errors of this adapter."""

import ast
import math
import re

import numpy as np

POSITION = re.compile(r"(?<=( at|row) )\((\d+, ?)+(\d+)?\)")


def stand_in(array, beside=()):
    """An array of the shape and dtype of `array`, without its memory, for the checks of fastlogits to look at.

    Sizes that are unknown, here or in the shape `beside`, pass for those of the other; 1 where both are.
    """
    shape = array.shape
    if len(beside) == len(shape):
        shape = [m if math.isnan(n) or math.isnan(m) else n for n, m in zip(shape, beside, strict=True)]
    return np.broadcast_to(np.empty((), array.dtype), [1 if math.isnan(n) else n for n in shape])


def unknown_classes(name, sizes, axis):
    return ValueError(
        f"{name}: expected known chunk sizes along the class axis {axis}, got {sizes}; "
        f"call {name}.compute_chunk_sizes() first"
    )


def unknown_rows(chunks, expected):
    return ValueError(
        f"expected as many chunks as the logits have, whose sizes are unknown, {tuple(map(len, expected))}, "
        f"got chunks {chunks}; logits.compute_chunk_sizes() makes the sizes known"
    )


def known_rows(shape):
    """The shape of the rows, if it is known."""
    if any(map(math.isnan, shape)):
        raise ValueError(
            f"logits: expected known numbers of rows, got {shape}; call logits.compute_chunk_sizes() first"
        )
    return shape


def not_lazy(function):
    return TypeError(f"fastlogits.{function} has no lazy form: hand it the result of .compute()")


def unnumbered_rows(chunks):
    return ValueError(
        f"rows: expected a number for each row, since chunk sizes are unknown, {chunks}; "
        "logits.compute_chunk_sizes() makes them known"
    )


def in_the_whole(error, spans):
    """An error that names a position in a block, about the array of which the block is the slices `spans`.

    Where chunk sizes are unknown, the position remains that in the block.
    """
    position = POSITION.search(str(error))
    if not position or spans is None or any(math.isnan(span.start) for span in spans):
        return error
    place = ast.literal_eval(position[0])
    if len(place) != len(spans):
        return error
    place = tuple(n + span.start for n, span in zip(place, spans, strict=True))
    return type(error)(f"{error}"[: position.start()] + f"{place}" + f"{error}"[position.end() :])


def not_per_row(name, value):
    return TypeError(f"{name}: expected one array for all rows, got {type(value).__name__}")
