"""The time of what comes after the logits: statistics of rows and the largest logits."""

import numpy as np

import fastlogits

from .common import DTYPES, TOLERANCES, Inputs


def log_sum_exp(x):
    return np.log(np.exp(x - x.max(1, keepdims=True)).sum(1)) + x.max(1)


def nll(x, labels):
    return log_sum_exp(x) - x[np.arange(len(x)), labels]


def entropy(x):
    log_p = x - log_sum_exp(x)[:, None]
    return -(np.exp(log_p) * log_p).sum(1)


# How we are called on logits and labels, and what must come of some rows, in float64.
CALLS = {
    "topk": (
        lambda lib, x, labels: lib.topk(x, 5).values,
        lambda x, labels: -np.sort(-x)[:, :5],
    ),
    "entropy": (
        lambda lib, x, labels: lib.entropy(x),
        lambda x, labels: entropy(x),
    ),
    "loglikelihood of rows": (
        lambda lib, x, labels: lib.loglikelihood(x, labels, lengths=np.ones(len(x), int)).log_prob,
        lambda x, labels: -nll(x, labels),
    ),
    "row_stats of lse, argmax, nll": (
        lambda lib, x, labels: lib.row_stats(x, labels, want=("lse", "argmax", "nll")).nll,
        nll,
    ),
    "row_stats of all fields": (
        lambda lib, x, labels: lib.row_stats(x, labels, top_k=5).entropy,
        lambda x, labels: entropy(x),
    ),
}


class PostProcessing:
    param_names = ("call", "backend", "dtype", "size")
    params = (
        tuple(CALLS),
        ("cython", "numba"),
        tuple(DTYPES),
        ("65536x10", "4096x1000", "256x32000", "1x128256"),
    )
    rounds = 2
    repeat = (3, 10, 0.4)
    sample_time = 0.02
    warmup_time = 0.05

    def setup(self, call, backend, dtype, size):
        inputs = Inputs(size, dtype)
        self.arrays, (self.call, exact) = (inputs.logits, inputs.labels), CALLS[call]
        try:
            self.settings = fastlogits.settings(backend=backend)
            self.settings.__enter__()
            result = self.call(fastlogits, *self.arrays)
        except (AttributeError, ImportError) as error:
            raise NotImplementedError("this commit has no such function or backend") from error
        expected = exact(inputs.rows("logits"), inputs.labels[inputs.picked])
        error = np.abs(result[inputs.picked].astype(np.float64) - expected).max() / np.abs(expected).max()
        assert error <= TOLERANCES[dtype][0], f"{call} is wrong: error {error:.1e} of the largest value"

    def teardown(self, *_):
        self.settings.__exit__(None, None, None)

    def time_call(self, *_):
        self.call(fastlogits, *self.arrays)
