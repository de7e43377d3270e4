"""Diagram of prediction sets, by matplotlib, which is loaded when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastlogits import _checks, dispatch
from fastlogits.calibration.plots import axes, draw_share, legend
from fastlogits.conformal.measures import STRATA, CoverageReport, coverage_report
from fastlogits.conformal.sets import PredictionSets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike


@dispatch.by_array
def plot_coverage(
    sets: ArrayLike | PredictionSets,
    labels: ArrayLike,
    *,
    alpha: float | None = None,
    strata: Iterable[int] = STRATA,
    axis: int = -1,
    ax: Axes | None = None,
    classes: Iterable[Any] | None = None,
) -> Axes:
    """Coverage against size: how many sets of each stratum have their label, and how many sets it has.

    Parameters
    ----------
    sets, labels, strata, axis, classes
        As of `coverage_report`.
    alpha : float, optional
        For a line at the coverage that was asked for, ``1 - alpha``.
    ax : matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib Axes

    See Also
    --------
    draw_coverage : for a report that is there.

    Examples
    --------
    >>> from fastlogits import conformal
    >>> ax = conformal.plot_coverage([[True, False, True], [True, False, False]], [2, 1], alpha=0.1)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Size of the set', 'Coverage')
    """
    return draw_coverage(coverage_report(sets, labels, strata=strata, axis=axis), alpha=alpha, ax=ax)


def draw_coverage(report: CoverageReport, *, alpha: float | None = None, ax: Axes | None = None) -> Axes:
    """`plot_coverage` of a `CoverageReport`."""
    asked = None if alpha is None else 1 - _checks.fraction("alpha", alpha)
    report = CoverageReport(*map(np.asarray, report))
    ax = axes(ax)
    at = np.arange(len(report.strata))
    bars = {"width": 0.9, "linewidth": 0.5, "edgecolor": "white"}
    ax.bar(at, report.stratum_coverage, color="tab:blue", **bars)
    ax.axhline(report.coverage, color="tab:red", linestyle=":", linewidth=1, label="all sets")
    if asked is not None:
        ax.axhline(asked, color="black", linestyle="--", linewidth=1, label="asked for")
    ax.set(ylim=(0, 1), xlabel="Size of the set", ylabel="Coverage")
    ax.set_xticks(at, _names(report.strata))
    legend(ax, f"mean size {report.mean_size:.2f}")
    draw_share(ax, at, report.stratum_count, **bars)
    return ax


def _names(bounds):
    """0-1, 2, 3+ of the lower bounds 0, 2, 3."""
    lasts = bounds[1:] - 1
    closed = [f"{first}" if first == last else f"{first}-{last}" for first, last in zip(bounds, lasts, strict=False)]
    return [*closed, f"{bounds[-1]}+"]
