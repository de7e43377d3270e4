"""Log-probabilities of documents, of dask arrays."""

import functools
import inspect

import dask
import dask.array as da
import numpy as np

from fastlogits import LogLikelihood, _checks, _layout, likelihood
from fastlogits.dask._blocks import chunked, lazily, pick
from fastlogits.dask._checks import known_rows
from fastlogits.dask._scaling import scaled
from fastlogits.dask._states import row_states
from fastlogits.dask.row_stats import class_indices

# Of dask arrays it is lazy as it stands.
bits_per_byte = inspect.unwrap(likelihood.bits_per_byte)


def loglikelihood(
    logits, labels, *, lengths=None, offsets=None, groups=None, axis=-1, ignore_index=-100, temperature=1.0, bias=None,
    where=None,
):  # fmt: skip
    """As `fastlogits.loglikelihood`. `lengths`, `offsets` and `groups` are arrays in memory."""
    x = chunked("logits", logits, _checks.one_axis(axis))
    ignore_index = _checks.ignore_index(ignore_index)
    compute = _layout.COMPUTE[x.dtype]
    x, temperature = scaled(x, temperature, bias, where)
    labels = class_indices(labels, x)
    documents = likelihood.Documents.of(known_rows(x.shape(x.batch)), lengths, offsets, groups)
    states = row_states(x, labels, want=("nll", "correct"), ignore_index=ignore_index, temperature=temperature)
    rows = lazily(_of_rows, x.batch, states, dtype=object, rows=x.rows), x.batch
    losses, counted, greedy = (pick(rows, i, x.batch, kind) for i, kind in enumerate((np.float64, bool, bool)))
    # A document may have rows in any chunks: what is known of the rows, some numbers each, comes together.
    summed = functools.partial(likelihood.of_documents, documents=documents, dtype=compute)
    found = dask.delayed(summed, pure=True)(losses, counted, greedy)
    kinds = LogLikelihood(compute, np.intp, compute, compute, bool)
    return LogLikelihood(*(da.from_delayed(found[i], documents.shape, np.dtype(kind)) for i, kind in enumerate(kinds)))


def _of_rows(state):
    state.results()  # which checks the labels
    return likelihood.of_rows(state.parts, state.parts["label"], state.ignore_index, state.scale)
