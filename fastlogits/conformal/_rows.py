"""Rows of logits by blocks that stay in cache, with their probabilities and random numbers."""

import math
from typing import NamedTuple

import numpy as np

from fastlogits import _checks, _checks_conformal, _checks_filters, _layout
from fastlogits.backends.numpy import uniform
from fastlogits.softmax import softmax

BLOCK = 1 << 16  # logits at a time


class Method(NamedTuple):
    """A nonconformity score: what a class at some place of its row has."""

    name: str
    penalty: float
    k_reg: int

    def score(self, mass, above, rank, top, u):
        """Of classes with the probability `mass`, below `rank` classes of the probability `above` in all.

        Rounding is monotonic, and `above` is exact: of a row's classes none has a smaller score than one before it.
        """
        if self.name == "saps":
            return np.where(rank == 0, u * top, top + (rank - 1 + u) * self.penalty)
        score = above + u * mass
        if self.name == "raps":
            score = score + self.penalty * np.maximum(0, rank + 1 - self.k_reg)
        return score


class Block(NamedTuple):
    """Some rows: which they are, by index and by number, and what they have."""

    place: tuple
    rows: slice
    x: np.ndarray
    mass: np.ndarray
    u: np.ndarray


class Rows(NamedTuple):
    """Logits with the options of a score, checked once."""

    x: np.ndarray  # classes last
    method: Method
    temperature: float
    u: np.ndarray | None  # None: 1 for each row

    @classmethod
    def of(cls, logits, method, penalty, k_reg, seed, rows, temperature, axis):
        x = _layout.floats(logits, "logits")
        layout = _layout.of(x, _checks.one_axis(axis))
        method = Method(method, *_checks_conformal.options(method, penalty, k_reg))
        temperature = _checks.scale("temperature", temperature)
        u = None
        if _checks_conformal.randomized(method.name, seed, rows):
            numbers = _checks_filters.row_numbers(rows, layout.batch_shape)
            u = uniform(*_checks_filters.seed(seed), numbers.ravel())
        return cls(np.moveaxis(x, layout.axes[0], -1), method, temperature, u)

    @property
    def batch_shape(self):
        return self.x.shape[:-1]

    @property
    def classes(self):
        return self.x.shape[-1]

    def blocks(self):
        """All rows in order, as `Block`s; none where there are no logits."""
        start = 0
        shape = self.batch_shape if self.x.size else (0,)
        for place in _layout.row_blocks(shape, max(1, BLOCK // max(1, self.classes))):
            part = self.x[place]
            count = math.prod(part.shape[:-1])
            rows = slice(start, start + count)
            # Classes side by side: in columns, the last bits of probabilities may be others.
            x = np.ascontiguousarray(part.reshape(count, self.classes), np.float64)
            u = np.ones(count) if self.u is None else self.u[rows]
            yield Block(place, rows, x, self._masses(x), u)
            start += count

    def _masses(self, x):
        """Probabilities, in multiples of 2**-52.

        They add up to less than 2, so that each of their sums is exact, whatever the order: the mass above a label is
        the same number whether a mask picks it or the classes were sorted.
        """
        mass = softmax(x, temperature=self.temperature)
        mass += 1.0
        mass -= 1.0
        return mass
