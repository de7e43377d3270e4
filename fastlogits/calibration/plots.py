"""Diagrams of calibration, by matplotlib, which is loaded when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlogits import _checks_calibration, dispatch
from fastlogits.calibration.measures import RiskCoverageCurve, reliability_curve, risk_coverage_curve
from fastlogits.calibration.state import ReliabilityCurve, edges
from fastlogits.calibration.uncertainty import classwise_reliability_curves
from fastlogits.row_stats import entropy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
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


@dispatch.by_array
def plot_classwise_reliability(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    which: Sequence[int] | None = None,
    bins: int = 10,
    axis: int = -1,
    temperature: float = 1.0,
    ignore_index: int = -100,
) -> Figure:
    """A reliability diagram of each class: how often it is the label, in bins of its probability.

    Parameters
    ----------
    logits, labels, bins, axis, temperature, ignore_index
        As of `classwise_reliability_curves`.
    which : sequence of int, optional
        The classes to draw; by default all, which many are too small to read.

    Returns
    -------
    matplotlib Figure
        A grid of diagrams, each with its class and calibration error as a title, and one legend beside them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import plot_classwise_reliability
    >>> figure = plot_classwise_reliability(np.log([[0.6, 0.4], [0.1, 0.9]]), [1, 1])
    >>> [ax.get_title() for ax in figure.axes if ax.get_title()]
    ['class 0: 0.3500', 'class 1: 0.3500']
    """
    curves = classwise_reliability_curves(
        logits, labels, bins=bins, axis=axis, temperature=temperature, ignore_index=ignore_index
    )
    chosen = range(len(curves.count)) if which is None else which
    columns = min(5, max(1, len(chosen)))
    rows = max(1, -(-len(chosen) // columns))
    figure, grid = pyplot().subplots(
        rows, columns, figsize=(2.2 * columns + 1.6, 2.2 * rows + 0.3), layout="constrained", squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    for ax, c in zip(grid.flat, chosen, strict=False):
        error = _bars(ax, ReliabilityCurve(*(part[c] for part in curves)))
        ax.set_title(f"class {c}: {error:.4f}", fontsize="small")
    for ax in grid.flat[len(chosen) :]:
        ax.set_axis_off()
    figure.supxlabel("Probability of the class")
    figure.supylabel("Frequency of the class")
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


@dispatch.by_array
def plot_entropy(
    logits: ArrayLike, *, bins: int = 30, least_certain: int = 5, axis: int = -1, ax: Axes | None = None
) -> Axes:
    """Histogram of the entropies of rows, with the rows that are the least certain named beside it.

    Parameters
    ----------
    logits : array_like of shape (..., C)
        Unnormalised log-probabilities.
    bins : int, default 30
        From 0 to log(C), the entropy of equal probabilities.
    least_certain : int, default 5
        How many rows to name.
    axis : int, default -1
        The class axis.
    ax : matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from fastlogits.calibration import plot_entropy
    >>> ax = plot_entropy([[1.0, 0.0], [0.0, 0.0]], least_certain=1)
    >>> ax.get_legend().get_texts()[0].get_text()
    '1: 0.693'
    """
    bins = _checks_calibration.at_least_one("bins", bins)
    found = np.asarray(entropy(logits, axis), np.float64)
    classes = np.shape(logits)[axis]
    ax = axes(ax)
    ax.hist(found.ravel(), np.linspace(0, np.log(max(2, classes)), bins + 1), color="tab:blue", edgecolor="white")
    order = np.argsort(-found.ravel(), kind="stable")[:least_certain]
    for place in order:
        row = ", ".join(map(str, np.unravel_index(place, found.shape)))
        ax.plot([], [], " ", label=f"{row}: {found.flat[place]:.3f}")
    ax.set(xlabel="Entropy (nats)", ylabel="Rows")
    if len(order):
        legend(ax, "Least certain rows")
    return ax


def draw_reliability(curve: ReliabilityCurve, ax: Axes | None = None) -> Axes:
    """`plot_reliability` of a curve that is there, such as that of a merged `CalibrationState`."""
    ax = axes(ax)
    error = _bars(ax, curve)
    ax.set(xlabel="Confidence", ylabel="Accuracy")
    legend(ax, f"ECE {error:.4f}")
    bins = len(curve.count)
    draw_share(ax, edges(bins)[:-1], curve.count, edgecolor="white", width=1 / bins, align="edge", linewidth=0.5)
    return ax


def _bars(ax, curve):
    """The bars of a reliability curve; returns its calibration error."""
    bins, rows = len(curve.count), curve.count.sum()
    at, width = edges(bins)[:-1], 1 / bins
    filled = curve.count > 0
    gap = curve.confidence - curve.accuracy
    bars = {"width": width, "align": "edge", "linewidth": 0.5}
    ax.bar(at, curve.accuracy, color="tab:blue", edgecolor="white", label="accuracy", **bars)
    ax.bar(
        at, gap, bottom=curve.accuracy, color="tab:red", alpha=0.25, edgecolor="tab:red",
        label="gap to confidence", **bars,
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="calibrated")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    return np.abs(gap[filled]) @ curve.count[filled] / max(1, rows)


def draw_risk_coverage(curve: RiskCoverageCurve, ax: Axes | None = None) -> Axes:
    """`plot_risk_coverage` of a curve that is there."""
    ax = axes(ax)
    ax.step(curve.coverage, curve.risk, where="post", color="tab:blue")
    ax.set(xlim=(0, 1), xlabel="Coverage", ylabel="Risk")
    ax.set_ylim(bottom=0)
    return ax


def legend(ax, title):
    """Beside the diagram, where it hides no bar."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, title=title, frameon=False)


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
    return pyplot().subplots(figsize=(6.5, 5), layout="constrained")[1]


def pyplot():
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise _checks_calibration.missing_library("matplotlib", "draw", "plot") from error
    return pyplot
