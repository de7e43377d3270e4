"""How likely documents are to a model: log-probabilities of labels, summed over the rows of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import numpy as np

from fastlogits import _checks, _checks_likelihood, _layout, dispatch
from fastlogits._scaling import PLAIN, Scaling
from fastlogits._typing import Array
from fastlogits.cross_entropy import int64
from fastlogits.states import count_labels, sweep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from fastlogits._typing import Lists, Temperature


class LogLikelihood(NamedTuple, Generic[Array]):
    """What `loglikelihood` returns: one entry a document."""

    log_prob: Array
    tokens: Array
    mean: Array
    perplexity: Array
    greedy: Array

    def bits_per_byte(self, n_bytes: ArrayLike) -> Any:
        """``-log_prob / (n_bytes * log(2))``, which compares models of different vocabularies.

        Parameters
        ----------
        n_bytes : array_like of numbers
            How long the text is: one number for each document, or one for all. It need not be whole.

        Returns
        -------
        ndarray
            Of the shape and dtype of `log_prob`. A document of 0 bytes has inf, or NaN if its `log_prob` is 0.

        Examples
        --------
        >>> import fastlogits
        >>> fastlogits.loglikelihood([[[0.0, 0.0]] * 6, [[0.0, 0.0]] * 6], [[1] * 6] * 2).bits_per_byte([6, 12])
        array([1. , 0.5])
        """
        return bits_per_byte(self.log_prob, n_bytes)


@dispatch.by_array
def loglikelihood(
    logits: Array | Lists,
    labels: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    offsets: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: Temperature = 1.0,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    classes: Iterable[Any] | None = None,
) -> LogLikelihood[Array]:
    """Log-probability, perplexity and greediness of documents, from a single read of the logits.

    Documents are told apart by at most one of `lengths`, `offsets` and `groups`. Without, a document's tokens lie along
    the last of the axes that are not `axis`: logits of shape (documents, tokens, C) are so many documents, those of
    shape (tokens, C) one.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16, shape (..., C)
        Unnormalised log-probabilities. Integers become float64.
    labels : array_like of integers of any width, shape (...)
        Class indices: of each row, the token that followed. For logits of a causal language model that are the tokens
        from the second on, beside logits without the last row.
    lengths : array_like of integers, shape (documents,), optional
        How many rows each document has, one after the other. Their sum is the number of rows.
    offsets : array_like of integers, shape (documents + 1,), optional
        Where documents begin and end, as of a list array of Arrow: document i has the rows from ``offsets[i]`` up to
        ``offsets[i + 1]``. The first is 0, the last the number of rows.
    groups : array_like of integers, shape (...) or (rows,), optional
        The number of each row's document, in any order. There are ``max(groups) + 1`` documents; one whose number
        does not occur is empty.
    axis : int, default -1
        The class axis.
    ignore_index : int, default -100
        Rows with this label, such as a prompt or padding, do not count, whatever their logits.
    temperature, bias, where
        As of `row_stats`.
    classes : iterable, optional
        The names of the classes in their order, for labels that are names: :doc:`/inputs`.

    Returns
    -------
    LogLikelihood
        The named tuple (log_prob, tokens, mean, perplexity, greedy), of shape (documents,); by axes, of the shape of
        `labels` without its last axis, so that one document has scalars:

        log_prob
            sum of log p(label), in the dtype of `logits`, or float32 if that is smaller
        tokens : intp
            how many rows count
        mean
            log_prob / tokens
        perplexity
            exp(-mean)
        greedy : bool
            whether each label that counts is the argmax of its row, the first of equals

    Raises
    ------
    IndexError
        If a label is neither in [0, C) nor `ignore_index`; the first is named.
    ValueError
        If `lengths`, `offsets` or `groups` do not divide up the rows, or more than one of them is given.

    Notes
    -----
    Rows are numbered as ``labels.ravel()`` has them. Each row's log-probability is finished in double precision, and so
    are the sums and what comes of them. A document in which nothing counts has 0, 0, NaN, NaN and True. A label at a
    logit of -inf makes its document's log_prob -inf and the perplexity inf; a row with NaN or +inf, or of nothing but
    -inf, makes both NaN.

    ``numpy.unique(keys, return_inverse=True)[1]`` makes `groups` of any keys.

    See Also
    --------
    perplexity : of all rows together.
    row_stats : of each row; `nll` is the negative log-probability.

    Examples
    --------
    >>> import fastlogits
    >>> logits = [[2.0, 0.0], [0.0, 0.0], [0.0, 3.0]]
    >>> found = fastlogits.loglikelihood(logits, [0, 1, 1], lengths=[2, 1])
    >>> found.log_prob.round(4), found.tokens, found.greedy
    (array([-0.8201, -0.0486]), array([2, 1]), array([False,  True]))
    """
    x = _layout.floats(logits, "logits")
    layout = _layout.of(x, _checks.one_axis(axis))
    labels = _checks.class_indices(labels, layout.batch_shape)
    ignore_index = _checks.ignore_index(ignore_index)
    documents = Documents.of(layout.batch_shape, lengths, offsets, groups)
    dtype = _layout.COMPUTE[x.dtype]
    x, layout, scaling = Scaling.of(x, layout, temperature, bias, where)
    return of_documents(*likelihoods(x, layout, labels, ignore_index, scaling), documents, dtype)


def likelihoods(x, layout, labels, ignore_index, scaling=PLAIN):
    """What `of_rows` has of each row, from one sweep."""
    indices = int64(labels, ignore_index)
    if layout.rows:
        count_labels(labels, indices, layout, ignore_index)
    parts = sweep(x, layout, PARTS, labels=indices, scaling=scaling)
    return of_rows(parts, indices, ignore_index, scaling.rest(layout))


PARTS = {"peak", "rest", "label_logit", "argmax"}


@np.errstate(all="ignore")
def of_rows(parts, labels, ignore_index, scale=1.0):
    """(-log p(label) in double, whether the row counts, whether nothing speaks against greedy) of each row."""
    counted = labels != ignore_index
    losses = np.log1p(parts["rest"]) + scale * (parts["peak"] - parts["label_logit"])
    return np.where(counted, losses, 0), counted, (parts["argmax"] == labels) | ~counted


class Documents(NamedTuple):
    """Which rows make up each document: taken in `order` (None: their own), those from one offset up to the next."""

    order: np.ndarray | None
    offsets: np.ndarray
    shape: tuple  # of what has one entry a document

    @classmethod
    def of(cls, batch_shape, lengths, offsets, groups):
        rows, order = math.prod(batch_shape), None
        way, value = _checks_likelihood.one_way(lengths=lengths, offsets=offsets, groups=groups)
        if way is None:
            shape, tokens = batch_shape[:-1], batch_shape[-1] if batch_shape else 1
            return cls(None, tokens * np.arange(math.prod(shape) + 1), shape)
        if way == "offsets":
            offsets = _checks_likelihood.offsets(value, rows)
        else:
            if way == "groups":
                ids = _checks_likelihood.groups(value, batch_shape, rows)
                # Rows of a document side by side and in order: whichever way it is given, it is the same sum.
                order, lengths = np.argsort(ids, kind="stable"), np.bincount(ids)
            else:
                lengths = _checks_likelihood.lengths(value, rows)
            offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls(order, offsets, (len(offsets) - 1,))

    def reduced(self, function, values, empty):
        """`values`, one a row, under the ufunc `function` over each document; what has no rows is `empty`."""
        values = values.ravel()
        if self.order is not None:
            values = values[self.order]
        starts = self.offsets[:-1]
        some = starts < self.offsets[1:]
        result = np.full(len(starts), empty, values.dtype)
        result[some] = function.reduceat(values, starts[some])
        return result.reshape(self.shape)


@np.errstate(all="ignore")
def of_documents(losses, counted, greedy, documents, dtype):
    """`LogLikelihood` of what `of_rows` has, with floats in `dtype`."""
    total = documents.reduced(np.add, losses, 0.0)
    tokens = documents.reduced(np.add, counted.astype(np.intp), 0)
    greedy = documents.reduced(np.logical_and, greedy, True)
    loss = total / tokens
    floats = 0 - total, 0 - loss, np.exp(loss)  # not -total, which is -0.0 where no token counts
    log_prob, mean, perplexity = (_layout.rounded(values, dtype)[()] for values in floats)
    return LogLikelihood(log_prob, tokens[()], mean, perplexity, greedy[()])


@dispatch.by_array
def bits_per_byte(log_prob, n_bytes):
    divisor = _checks_likelihood.byte_counts(n_bytes, log_prob.shape) * math.log(2)
    with np.errstate(all="ignore"):
        return (0 - log_prob) / divisor.astype(log_prob.dtype)
