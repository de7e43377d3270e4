"""Temperature scaling: the one number that makes a classifier's probabilities most likely."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _checks, _checks_calibration, dispatch
from fastlogits.calibration._rows import labelled_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike

# A step of log(beta) below this is the last: convergence is quadratic, so that what it leaves is about its square.
LAST_STEP = 1e-4
# So many rows, spread evenly, give a starting point within some hundredths.
SAMPLE = 4096
LONGEST_STEP = 7.0
MOST_STEPS = 100
# Where variance / mean, the z of the classes that matter, is smaller, the probabilities are uniform.
UNIFORM = 1e-8
LOWEST, HIGHEST = _checks.SCALE_RANGE


class TemperatureFit(NamedTuple):
    """What `fit_temperature` returns."""

    temperature: float
    nll: float
    iterations: int


@dispatch.by_array
def fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    classes: Iterable[Any] | None = None,
) -> TemperatureFit:
    """The temperature T that minimises the mean negative log-likelihood of `labels` under ``softmax(logits / T)``.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities of rows that the classifier was not trained on. Only read; nothing of their
        size is allocated.
    labels : array_like of integers, shape (...)
        Class indices in [0, C), or `ignore_index`.
    axis : int, default -1
        The class axis.
    sample_weight : array_like of float32 or float64, shape (...), optional
        Weight of each row, not negative.
    ignore_index : int, default -100
        Rows with this label are left out, as are rows of weight 0.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    TemperatureFit
        The named tuple (temperature, nll, iterations): the optimum, to about 1e-8; the mean negative
        log-likelihood there, in nats; and how often all the logits were read.

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; the first is named.
    ValueError
        If no rows are left, or the likelihood of one is 0 or NaN at every temperature: a label at a logit of -inf, a
        row with NaN or +inf. The first is named; give it the label `ignore_index` to go without.

    Notes
    -----
    The likelihood may have no maximum at a positive, finite temperature. `temperature` is then the limit at which
    it is approached, and `nll` the limit there:

    - 0.0 where every label is at a largest logit of its row, so that ever more confidence pays;
    - inf where the labels' logits are no larger, on average, than the mean logit of their rows;
    - 1.0 where all temperatures are equally good, since each row's logits are all the same.

    The negative log-likelihood is convex in ``beta = 1 / T``. A pass over the logits gives its exact first and second
    derivatives, and Newton's method on the logarithm of the ratio of the two terms of the first,
    ``E[beta x] - beta x_label``, finds the root in a few passes from the optimum of every n-th row; signs of the
    derivative bracket it. Sums are formed in double precision.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks.

    Examples
    --------
    Of four predictions, all made with odds of 9 to 1, three are right: the odds should have been 3 to 1.

    >>> import numpy as np
    >>> from fastlogits.calibration import fit_temperature
    >>> logits = np.log([[9.0, 1.0]] * 4)
    >>> fit = fit_temperature(logits, [0, 0, 0, 1])
    >>> round(fit.temperature, 6) == 2.0, round(fit.nll, 6)
    (True, 0.562335)
    """
    return temperature_of(labelled_rows(logits, labels, axis, ignore_index, sample_weight))


def temperature_of(rows):
    """The fit of `LabelledRows`."""
    if not rows.total > 0:
        raise _checks_calibration.no_rows(rows.layout.batch_shape)
    likelihood, sample = _LikelihoodOfRows(rows), None
    if rows.stride is not None and rows.inner == 1 and rows.outer >= 1024:
        some = rows.every(max(8, rows.outer // SAMPLE))
        sample = _LikelihoodOfRows(some) if some.total else None
    fit = optimum(likelihood, sample)
    if not math.isfinite(fit.nll):
        raise _checks_calibration.impossible_labels(rows.layout.unflatten(likelihood.each()))
    return fit


def optimum(likelihood, sample=None):
    """The fit of a `Likelihood`, from the optimum of that of a part of the rows on; its `nll` may be inf or NaN."""
    beta = 1.0 if sample is None else _newton(sample, 1.0, last_step=0.02)[0]
    beta, nll = _newton(likelihood, beta if 0 < beta < math.inf else 1.0, LAST_STEP)
    if beta == math.inf and math.isfinite(nll):
        nll = likelihood.limit(HIGHEST)
        beta = 1.0 if likelihood.limit(LOWEST) == nll else math.inf
    return TemperatureFit(1.0 / beta if beta else math.inf, nll, likelihood.passes)


class Likelihood:
    """The likelihood of the labels as a function of beta, wherever the logits are.

    `means(beta)` of a subclass reads them all: the means over the rows of gap, mean and variance, see
    kernels/moments.py. Then `log_norm()` is that of log(1 + rest).
    """

    passes = 0

    def __call__(self, beta):
        self.passes += 1
        return self.means(beta)

    def nll(self, beta, gap):
        """The mean at the beta of the last call, which gave `gap`."""
        return self.log_norm() + beta * gap

    def limit(self, beta):
        """The mean where beta is so small, or the labels' gaps are 0, that the second term vanishes."""
        self(beta)
        return self.nll(beta, 0.0)


class _LikelihoodOfRows(Likelihood):
    def __init__(self, rows):
        self.rows = rows
        self.results = rows.empty()

    def means(self, beta):
        self.rows.moments(beta, self.results)
        return [self._mean(values) for values in self.results[1:4]]

    @np.errstate(invalid="ignore")
    def log_norm(self):
        return self._mean(np.log1p(self.results[0]))

    def each(self):
        """Each row's negative log-likelihood but for beta, or what makes it infinite or NaN at any beta."""
        return self.results[0] + self.results[1]

    def _mean(self, values):
        weight = self.rows.weight
        return float(np.add.reduce(values if weight is None else values * weight)) / self.rows.total


def _newton(likelihood, beta, last_step):
    """(beta, nll) where the mean negative log-likelihood is least, from a step below `last_step` of log(beta) on.

    With its slope g = beta gap - mean in log(beta), and the slope of log(mean / (beta gap)), -variance / mean, the
    step is mean / variance log(mean / (beta gap)): exact for logits whose mean falls as a power of beta, and good
    far from the optimum, where Newton's step for g itself is many times too long.
    """
    low, high = 0.0, math.inf
    for _ in range(MOST_STEPS):
        # The kernels of float32 logits would round it.
        beta = float(np.float32(beta))
        gap, mean, variance = likelihood(beta)
        slope = beta * gap - mean
        if gap == 0 or not math.isfinite(slope):
            return math.inf, likelihood.nll(beta, gap)
        if slope > 0 and variance < UNIFORM * mean:
            # Not so if there is a class so far below the others that only a smaller beta shows it.
            nll, limit = likelihood.nll(beta, gap), likelihood.limit(LOWEST)
            return (0.0, limit) if limit < nll * (1 + 1e-6) else (beta, nll)
        low, high = (low, beta) if slope > 0 else (beta, high)
        step = math.copysign(LONGEST_STEP, -slope)
        if min(mean, variance) > 0:
            newton = mean / variance * math.log(mean / beta / gap)
            step = max(-LONGEST_STEP, min(newton, LONGEST_STEP))
        following = min(max(LOWEST, beta * math.exp(step)), HIGHEST)
        if abs(step) < last_step or high <= low * (1 + 1e-6):
            break
        beta = following if low < following < high else math.sqrt(low) * math.sqrt(high)
    # Taylor's polynomial: what it leaves out is of the order of step^3.
    return following, likelihood.nll(beta, gap) + step * (slope + step * (variance + slope) / 2)
