"""Metrics from logits for torchmetrics: `update`, `compute`, synchronised over processes and mergeable like its own."""

from typing import Any

import torch
import torchmetrics
from torch import Tensor

import fastlogits
from fastlogits import _checks
from fastlogits.calibration import CalibrationState


class _OfLogits(torchmetrics.Metric):
    """Sums over rows; `logits` of shape (..., C) and `labels` of shape (...)."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, ignore_index: int = -100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def _sum(self, name, *shape):
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def _row(self, logits, labels, field):
        """(a field of `row_stats`, which rows count)"""
        found = fastlogits.row_stats(logits.detach(), labels, want=(field,), ignore_index=self.ignore_index)
        return getattr(found, field), labels != self.ignore_index


class Perplexity(_OfLogits):
    """exp of the mean negative log-likelihood of the labels.

    Parameters
    ----------
    ignore_index : int, default -100
        Rows with this label do not count.
    **kwargs
        As of `torchmetrics.Metric`.
    """

    higher_is_better: bool | None = False

    def __init__(self, ignore_index: int = -100, **kwargs: Any) -> None:
        super().__init__(ignore_index, **kwargs)
        self._sum("total")
        self._sum("count")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Rows of logits and their labels."""
        nll, counted = self._row(logits, labels, "nll")
        self.total += nll.double()[counted].sum()
        self.count += counted.sum()

    def compute(self) -> Tensor:
        """Of all rows so far; NaN of none."""
        return (self.total / self.count).exp().float()


class TopKAccuracy(_OfLogits):
    """How many labels are among the `k` largest logits; of equal logits the first is the larger, as in `topk`.

    Parameters
    ----------
    k : int, default 1
        At least 1.
    ignore_index, **kwargs
        As of `Perplexity`.
    """

    higher_is_better: bool | None = True

    def __init__(self, k: int = 1, ignore_index: int = -100, **kwargs: Any) -> None:
        super().__init__(ignore_index, **kwargs)
        self.k: int = _checks.count("k", k)
        self._sum("total")
        self._sum("count")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Rows of logits and their labels."""
        rank, counted = self._row(logits, labels, "rank")
        self.total += (rank < self.k)[counted].sum()
        self.count += counted.sum()

    def compute(self) -> Tensor:
        """Of all rows so far; NaN of none."""
        return (self.total / self.count).float()


class ExpectedCalibrationError(_OfLogits):
    """As `fastlogits.calibration.expected_calibration_error`, of all batches together.

    Parameters
    ----------
    bins : int, default 15
        Of equal width.
    ignore_index, **kwargs
        As of `Perplexity`.
    """

    higher_is_better: bool | None = False

    def __init__(self, bins: int = 15, ignore_index: int = -100, **kwargs: Any) -> None:
        super().__init__(ignore_index, **kwargs)
        self.bins: int = _checks.count("bins", bins)
        for name in ("count", "correct", "confidence"):
            self._sum(name, bins)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Rows of logits and their labels."""
        x = logits.detach().cpu()
        x = x.float() if x.dtype.itemsize == 2 else x
        state = CalibrationState.of(x.numpy(), labels.cpu().numpy(), bins=self.bins, ignore_index=self.ignore_index)
        for name in ("count", "correct", "confidence"):
            part = torch.from_numpy(getattr(state, name)).to(self.device, torch.float64)
            setattr(self, name, getattr(self, name) + part)

    def compute(self) -> Tensor:
        """Of all rows so far; NaN of none."""
        return ((self.correct - self.confidence).abs().sum() / self.count.sum()).float()
