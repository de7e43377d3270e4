"""The options of a loss: parsed and checked once, and one record from the public function to the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastlogits import _checks

if TYPE_CHECKING:
    import numpy as np


class Unasked(int):
    """An ignore_index that the user did not pass."""


IGNORE_INDEX = Unasked(-100)
NOTHING = Unasked(-_checks.INT64_MAX - 1)  # which none may pass: for frameworks whose losses ignore no label
MASKED = Unasked(1 - 2**31)  # label of rows that a mask leaves out
UNASKED = {number: number for number in (IGNORE_INDEX, NOTHING, MASKED)}
REDUCTIONS = ("mean", "sum", "none")


class LossOptions(NamedTuple):
    """What a loss is computed with, beside arrays: as the caller gives it, until it is `checked`."""

    axis: int = -1
    ignore_index: int = IGNORE_INDEX
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    logit_scale: float = 1.0
    reduction: str = "mean"
    normalizer: float | None = None
    label_name: str = "labels"  # for errors

    def checked(self) -> LossOptions:
        """The same in plain numbers, if they are in their ranges."""
        axis, ignore_index, label_smoothing, z_loss, softcap, logit_scale, reduction, normalizer, label_name = self
        return LossOptions._make((
            _checks.one_axis(axis),
            ignore_index if type(ignore_index) is Unasked else _checks.ignore_index(ignore_index),
            _checks.fraction("label_smoothing", label_smoothing),
            _checks.finite("z_loss", z_loss),
            None if softcap is None else _checks.scale("softcap", softcap),
            _checks.finite("logit_scale", logit_scale),
            _checks.one_of("reduction", reduction, REDUCTIONS),
            None if normalizer is None else _checks.normalizer(normalizer, reduction),
            label_name,
        ))  # fmt: skip

    @classmethod
    def of_plain(cls, values) -> LossOptions:
        """What a graph or a compiled program holds as plain values, `tuple(options)`, as options again."""
        axis, ignore_index, *others = values
        return cls(axis, UNASKED.get(ignore_index, ignore_index), *others)

    def check_labels(self, soft) -> None:
        """Whether an ignore_index, if asked for, applies to the labels."""
        if soft and type(self.ignore_index) is not Unasked:
            raise _checks.ignored_distribution(self.label_name)

    @property
    def named_index(self) -> int | None:
        """The ignore_index that an error may offer."""
        return None if self.ignore_index is NOTHING or self.ignore_index is MASKED else int(self.ignore_index)


class LossArrays(NamedTuple):
    """What a backend computes a loss of: rows of classes, and where they are not None, numbers for each row."""

    logits: np.ndarray
    targets: np.ndarray | None  # distributions in the place of labels
    grad: np.ndarray | None  # where the gradient goes
    labels: np.ndarray | None
    sample_weight: np.ndarray | None
    grad_loss: np.ndarray | None
    losses: np.ndarray
    weight: np.ndarray | None  # of each class
