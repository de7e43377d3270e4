"""Diagrams of calibration, by matplotlib, which is loaded when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlogits import _checks_calibration, dispatch
from fastlogits.calibration.measures import RiskCoverageCurve, reliability_curve, risk_coverage_curve
from fastlogits.calibration.state import ReliabilityCurve, edges

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


@dispatch.by_array
def plot_reliability(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 15,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    ax: Axes | None = None,
    classes: Iterable[Any] | None = None,
) -> Axes:
    """Reliability diagram: accuracy in bins of confidence, and how many rows each bin has.

    Parameters
    ----------
    logits, labels, bins, axis, temperature, ignore_index
        As of `reliability_curve`.
    ax : matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib Axes

    See Also
    --------
    draw_reliability : for the curve of a `CalibrationState`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import plot_reliability
    >>> ax = plot_reliability(np.log([[0.6, 0.4], [0.1, 0.9]]), [1, 1], bins=5)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Confidence', 'Accuracy')
    """
    curve = reliability_curve(logits, labels, bins=bins, axis=axis, temperature=temperature, ignore_index=ignore_index)
    return draw_reliability(curve, ax)


@dispatch.by_array
def plot_risk_coverage(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
    ax: Axes | None = None,
    classes: Iterable[Any] | None = None,
) -> Axes:
    """Risk-coverage diagram: the share of wrong predictions if only the most confident are given.

    Parameters and result as of `plot_reliability`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import plot_risk_coverage
    >>> ax = plot_risk_coverage(np.log([[0.6, 0.4], [0.1, 0.9]]), [1, 1])
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Coverage', 'Risk')
    """
    curve = risk_coverage_curve(logits, labels, axis=axis, temperature=temperature, ignore_index=ignore_index)
    return draw_risk_coverage(curve, ax)


def draw_reliability(curve: ReliabilityCurve, ax: Axes | None = None) -> Axes:
    """`plot_reliability` of a curve that is there, such as that of a merged `CalibrationState`."""
    ax = axes(ax)
    bins, rows = len(curve.count), curve.count.sum()
    at, width = edges(bins)[:-1], 1 / bins
    filled = curve.count > 0
    gap = curve.confidence - curve.accuracy
    error = np.abs(gap[filled]) @ curve.count[filled] / max(1, rows)
    bars = {"width": width, "align": "edge", "linewidth": 0.5}
    ax.bar(at, curve.accuracy, color="tab:blue", edgecolor="white", label="accuracy", **bars)
    ax.bar(
        at, gap, bottom=curve.accuracy, color="tab:red", alpha=0.25, edgecolor="tab:red",
        label="gap to confidence", **bars,
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="calibrated")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="Confidence", ylabel="Accuracy")
    ax.legend(loc="upper left", title=f"ECE {error:.4f}", frameon=False)
    draw_share(ax, at, curve.count, edgecolor="white", **bars)
    return ax


def draw_risk_coverage(curve: RiskCoverageCurve, ax: Axes | None = None) -> Axes:
    """`plot_risk_coverage` of a curve that is there."""
    ax = axes(ax)
    ax.step(curve.coverage, curve.risk, where="post", color="tab:blue")
    ax.set(xlim=(0, 1), xlabel="Coverage", ylabel="Risk")
    ax.set_ylim(bottom=0)
    return ax


def draw_share(ax, at, count, **bars):
    """How the rows are shared out among the bars of a diagram, above it."""
    share = ax.inset_axes([0, 1.03, 1, 0.15], sharex=ax)
    share.bar(at, count / max(1, count.sum()), color="tab:gray", **bars)
    share.tick_params(labelbottom=False, bottom=False)
    share.locator_params(axis="y", nbins=2, prune="lower")
    share.set_ylabel("Share")
    share.spines[["top", "right"]].set_visible(False)


def axes(ax):
    """Where to draw: `ax`, or those of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise _checks_calibration.missing_library("matplotlib", "draw", "plot") from error
    return pyplot.subplots(figsize=(5, 5), layout="constrained")[1]
