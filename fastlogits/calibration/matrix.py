"""Matrix and Dirichlet scaling: a linear map of all logits, fitted by SciPy on our losses and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastlogits import _blocks as blocks
from fastlogits import _checks, _checks_calibration, _layout, dispatch
from fastlogits.calibration._rows import labelled_rows
from fastlogits.calibration.temperature import temperature_of
from fastlogits.calibration.vector import minimizer
from fastlogits.config import settings
from fastlogits.cross_entropy import cross_entropy_with_grad
from fastlogits.softmax import log_softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class MatrixScalingFit(NamedTuple):
    """What `fit_matrix_scaling` and `fit_dirichlet` return."""

    weight: np.ndarray
    bias: np.ndarray
    nll: float
    iterations: int
    converged: bool
    dirichlet: bool

    def apply(self, logits: ArrayLike, axis: int = -1) -> np.ndarray:
        """Calibrated logits, of the shape and dtype of `logits`."""
        x = _layout.floats(logits, "logits")
        axis = _checks.axes(_checks.one_axis(axis), x.ndim)[0]
        _checks_calibration.same_classes(x.shape[axis], len(self.bias))
        rows = np.moveaxis(x, axis, -1).astype(np.float64)
        z = mapped(log_softmax(rows) if self.dirichlet else rows, self.weight) + self.bias
        return _layout.rounded(np.moveaxis(z, -1, axis), x.dtype)


@dispatch.by_array
def fit_matrix_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    off_diagonal: float = 0.0,
    intercept: float = 0.0,
    max_iter: int = 500,
) -> MatrixScalingFit:
    """The matrix and bias that minimise the mean negative log-likelihood of `labels`.

    It is that of ``softmax(weight @ logits + bias)``, and convex in both. Needs SciPy, whose L-BFGS-B starts from the
    optimal temperature. With C * C numbers to fit it is for few classes and many rows; `off_diagonal` and `intercept`
    keep it from learning the rows by heart.

    Parameters
    ----------
    logits, labels, axis, sample_weight, ignore_index
        As of `fit_temperature`; logits must be finite.
    off_diagonal, intercept : float, default 0.0
        Weights of the regularisation of Kull et al. (ODIR): of the mean square of the matrix off its diagonal, and of
        the mean square of the bias. At least 0.
    max_iter : int, default 500
        At least 1. Each iteration reads all the logits, mostly once.

    Returns
    -------
    MatrixScalingFit
        The named tuple (weight, bias, nll, iterations, converged, dirichlet): float64 arrays of shape (C, C) and (C,);
        the mean negative log-likelihood with them, in nats, without the regularisation; and whether `max_iter` was
        enough. Its `apply` makes calibrated logits of logits.

    Raises
    ------
    IndexError, ValueError
        As `fit_temperature`.
    ImportError
        If SciPy is not installed.

    Notes
    -----
    Where a linear map separates the labels, there is no optimum without regularisation: the better the larger, and the
    fit stops where the rest of the gain is negligible.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks. Kull et al. (2019), Beyond
    temperature scaling: obtaining well-calibrated multiclass probabilities with Dirichlet calibration.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import fit_matrix_scaling
    >>> fit = fit_matrix_scaling(np.zeros((3, 2)), [0, 1, 1])
    >>> round(fit.nll, 6)
    0.636514
    >>> float(np.diff(fit.apply(np.zeros(2))).round(4)[0])  # log(2)
    0.6931
    """
    rows = labelled_rows(logits, labels, axis, ignore_index, sample_weight)
    return _fit(rows, (off_diagonal, intercept), max_iter, dirichlet=False)


@dispatch.by_array
def fit_dirichlet(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    off_diagonal: float = 0.0,
    intercept: float = 0.0,
    max_iter: int = 500,
) -> MatrixScalingFit:
    """As `fit_matrix_scaling`, of ``softmax(weight @ log_softmax(logits) + bias)``: Dirichlet calibration.

    It is the calibration map of probabilities that are Dirichlet distributed within each class. A constant added to
    a row's logits changes nothing, unlike in matrix scaling.

    Parameters, result, errors and references as of `fit_matrix_scaling`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlogits.calibration import fit_dirichlet
    >>> round(fit_dirichlet(np.zeros((3, 2)), [0, 1, 1]).nll, 6)
    0.636514
    """
    rows = labelled_rows(logits, labels, axis, ignore_index, sample_weight)
    return _fit(rows, (off_diagonal, intercept), max_iter, dirichlet=True)


def mapped(x, weight):
    """weight @ x of each row, whose classes come last."""
    return np.einsum("...j,ij->...i", x, weight, optimize=True)


def _fit(rows, regularization, max_iter, dirichlet):
    minimize = minimizer()
    max_iter = _checks_calibration.at_least_one("max_iter", max_iter)
    strengths = [
        _checks_calibration.not_negative(name, value)
        for name, value in zip(("off_diagonal", "intercept"), regularization, strict=True)
    ]
    classes = rows.layout.classes
    x, labels, weight = _counted(rows, dirichlet)
    temperature = temperature_of(rows).temperature
    # In units of the optimal temperature the steps of all parameters are of the order of 1.
    unit = 1 / temperature if 0 < temperature < np.inf else 1.0
    start = np.zeros((classes + 1, classes))
    start[:classes] = 0.0 if temperature == np.inf else np.eye(classes)
    data = x * unit, labels, weight, rows.total
    penalties = strengths[0] / max(1, classes * (classes - 1)), strengths[1] / max(1, classes), unit
    with settings(num_threads=1):  # as in vector.py
        result = minimize(
            _loss_and_gradient, start.ravel(), (data, penalties), jac=True, method="L-BFGS-B",
            options={"maxiter": max_iter, "ftol": 1e-12, "gtol": 1e-8, "maxcor": 20},
        )  # fmt: skip
        nll, _ = _loss_and_gradient(result.x, data, (0.0, 0.0, unit))
    found = result.x.reshape(classes + 1, classes)
    return MatrixScalingFit(unit * found[:-1], found[-1], float(nll), int(result.nit), result.status != 1, dirichlet)


def _counted(rows, dirichlet):
    """(logits in double, labels, weights) of the rows that count, as their logarithms of probabilities if asked."""
    rows = rows.packed()
    shape = rows.outer, rows.layout.classes, rows.inner
    logits = blocks.view(rows.x, *shape, rows.stride)
    labels = rows.labels.reshape(rows.outer, rows.inner)
    parts = [logits[block][labels[block] >= 0].astype(np.float64) for block in blocks.blocks(*shape)]
    x = np.concatenate([*parts, np.empty((0, rows.layout.classes))])
    if dirichlet:
        x = log_softmax(x)
    _checks_calibration.finite_logits(x)
    order = [labels[block][labels[block] >= 0] for block in blocks.blocks(*shape)]
    weight = None
    if rows.weight is not None:
        weights = rows.weight.reshape(labels.shape)
        weight = np.concatenate([weights[block][labels[block] >= 0] for block in blocks.blocks(*shape)])
    return x, np.concatenate([*order, np.empty(0, np.int64)]), weight


def _loss_and_gradient(parameters, data, penalties):
    """The mean negative log-likelihood under z = W x + bias with its penalties, and the gradient to (W, bias)."""
    x, labels, weight, total = data
    off_diagonal, intercept, unit = penalties
    classes = x.shape[1]
    parameters = parameters.reshape(classes + 1, classes)
    matrix, bias = parameters[:-1], parameters[-1]
    loss, grad = cross_entropy_with_grad(x @ matrix.T + bias, labels, sample_weight=weight, reduction="sum")
    gradient = np.vstack([grad.T @ x, grad.sum(axis=0)]) / total
    others = unit * matrix * (1 - np.eye(classes))
    gradient[:-1] += 2 * off_diagonal * unit * others
    gradient[-1] += 2 * intercept * bias
    penalty = off_diagonal * np.square(others).sum() + intercept * np.square(bias).sum()
    return float(loss) / total + penalty, gradient.ravel()
