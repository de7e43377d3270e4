"""Vector scaling: a factor and an offset for each class, fitted by SciPy on our losses and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _blocks as blocks
from fastlogits import _checks, _checks_calibration, _layout, dispatch
from fastlogits.calibration._rows import labelled_rows
from fastlogits.calibration.temperature import temperature_of
from fastlogits.config import settings
from fastlogits.cross_entropy import cross_entropy_with_grad

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from numpy.typing import ArrayLike


class VectorScalingFit(NamedTuple):
    """What `fit_vector_scaling` returns."""

    scale: np.ndarray
    bias: np.ndarray
    nll: float
    iterations: int
    converged: bool

    @np.errstate(over="ignore", invalid="ignore")
    def apply(self, logits: ArrayLike, axis: int = -1) -> np.ndarray:
        """Calibrated logits, ``scale * logits + bias``, of the shape and dtype of `logits`. -inf stays.

        The fit itself may be the `temperature` of `fastlogits.softmax`, `fastlogits.row_stats` and the like.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlogits.calibration import fit_vector_scaling
        >>> fit = fit_vector_scaling(np.zeros((3, 2)), [0, 1, 1])
        >>> np.exp(np.diff(fit.apply([[0.0, 0.0]]))).round(3)
        array([[2.]])
        """
        x = _layout.floats(logits, "logits")
        axis = _checks.axes(_checks.one_axis(axis), x.ndim)[0]
        _checks_calibration.same_classes(x.shape[axis], len(self.bias))
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, bias = (values.reshape(shape).astype(_layout.COMPUTE[x.dtype]) for values in self[:2])
        return _layout.rounded(np.where(x == -np.inf, x, x * scale + bias), x.dtype)


@dispatch.by_array
def fit_vector_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    max_iter: int = 500,
    classes: Iterable[Any] | None = None,
) -> VectorScalingFit:
    """The scale and bias of each class that minimise the mean negative log-likelihood of `labels`.

    It is that of ``softmax(scale * logits + bias)``, and convex in both. Needs SciPy, whose L-BFGS-B starts from the
    optimal temperature.

    Parameters
    ----------
    logits, labels, axis, sample_weight, ignore_index
        As of `fit_temperature`.
    max_iter : int, default 500
        At least 1. Each iteration reads all the logits, mostly once.

    Returns
    -------
    VectorScalingFit
        The named tuple (scale, bias, nll, iterations, converged): two float64 arrays of shape (C,); the mean negative
        log-likelihood with them, in nats; and whether `max_iter` was enough. Its `apply` makes calibrated logits.

    Raises
    ------
    IndexError, ValueError
        As `fit_temperature`.
    ImportError
        If SciPy is not installed.

    Notes
    -----
    Many classes want many rows: a class that is no row's label has no optimal bias, but the lower the better, and the
    fit stops where the rest of the gain is negligible. A constant added to all biases changes nothing. Logits of -inf
    keep the probability 0. Computed in double precision, some rows at a time.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks.

    Examples
    --------
    The second class is twice as frequent as its logits say:

    >>> import numpy as np
    >>> from fastlogits.calibration import fit_vector_scaling
    >>> fit = fit_vector_scaling(np.zeros((3, 2)), [0, 1, 1])
    >>> round(float(np.exp(fit.bias[1] - fit.bias[0])), 6), round(fit.nll, 6)
    (2.0, 0.636514)
    """
    minimize = minimizer()
    max_iter = _checks_calibration.at_least_one("max_iter", max_iter)
    rows = labelled_rows(logits, labels, axis, ignore_index, sample_weight)
    temperature = temperature_of(rows).temperature
    # In units of the optimal temperature the steps of both parameters are of the order of 1.
    unit = 1 / temperature if 0 < temperature < np.inf else 1.0
    start = np.zeros((2, rows.layout.classes))
    start[0] = 0.0 if temperature == np.inf else 1.0
    # A thread of our own beside SciPy's: its BLAS wakes some in each iteration, which then spin where ours should run.
    # Two took 140 ms for the loss and gradient of 20000 x 50 on two cores, and one takes 3.5.
    with settings(num_threads=1):
        result = minimize(
            _loss_and_gradient, start.ravel(), (rows.packed(), unit), jac=True, method="L-BFGS-B",
            options={"maxiter": max_iter, "ftol": 1e-11, "gtol": 1e-7, "maxcor": 20},
        )  # fmt: skip
    scale, bias = result.x.reshape(2, -1)
    return VectorScalingFit(unit * scale, bias, float(result.fun), int(result.nit), result.status != 1)


def _loss_and_gradient(parameters, rows, unit):
    """The mean negative log-likelihood under z = scale unit x + bias, and its gradient to (scale, bias)."""
    scale, bias = parameters.reshape(2, -1)
    shape = rows.outer, rows.layout.classes, rows.inner
    logits = blocks.view(rows.x, *shape, rows.stride)
    labels = rows.labels.reshape(rows.outer, rows.inner)
    weight = None if rows.weight is None else rows.weight.reshape(labels.shape)
    loss, gradient = 0.0, np.zeros((2, rows.layout.classes))
    for block in blocks.blocks(*shape):
        counted = labels[block] >= 0
        x = unit * logits[block][counted].astype(np.float64)
        masked = np.isneginf(x)
        x[masked] = 0.0
        z = scale * x + bias
        z[masked] = -np.inf
        row_weight = None if weight is None else weight[block][counted]
        part, grad = cross_entropy_with_grad(
            z, labels[block][counted], sample_weight=row_weight, reduction="sum", out=z
        )
        loss += float(part)
        gradient += np.einsum("nc,nc->c", grad, x), grad.sum(axis=0)
    return loss / rows.total, gradient.ravel() / rows.total


def minimizer():
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise _checks_calibration.missing_library("SciPy", "fit vector and matrix scaling", "calibration") from error
    return minimize
