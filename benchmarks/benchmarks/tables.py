"""What it costs that logits come in a frame or in lists of Arrow: their CPU time beside that of the plain array.

The target is at most 1.1, for 1,000,000 rows of 100 classes. CPU time, of all threads, since the difference is small
beside what else a machine does.
"""

import time

import numpy as np

import fastlogits

ROWS, CLASSES = 1_000_000, 100


def frame(x):
    import pandas as pd

    return pd.DataFrame(x, copy=False)


def frame_of_columns(x):
    import pandas as pd

    return pd.DataFrame({f"class {i}": column for i, column in enumerate(x.T)})


def fixed_size_lists(x):
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), CLASSES)


def lists(x):
    import pyarrow as pa

    starts = np.arange(len(x) + 1, dtype=np.int32) * CLASSES
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(x.ravel()))


HOLDERS = {each.__name__: each for each in (frame, frame_of_columns, fixed_size_lists, lists)}
CALLS = {
    "softmax": lambda x, labels: fastlogits.softmax(x),
    "entropy": lambda x, labels: fastlogits.entropy(x),
    "row_stats": lambda x, labels: fastlogits.row_stats(x, labels, want=("nll", "argmax")),
}


def cpu_time(call, *args):
    start = time.process_time()
    call(*args)
    return time.process_time() - start


class Tables:
    param_names = ("call", "holder")
    params = (tuple(CALLS), tuple(HOLDERS))
    timeout = 300
    unit = "times the plain array"

    def setup(self, call, holder):
        self.x = np.random.default_rng(0).standard_normal((ROWS, CLASSES), np.float32)
        self.labels, self.call = np.arange(ROWS) % CLASSES, CALLS[call]
        try:
            self.held = HOLDERS[holder](self.x)
            few = fastlogits.entropy(HOLDERS[holder](self.x[:9]))
        except (ImportError, TypeError) as error:
            raise NotImplementedError("not installed, or this commit takes no tables") from error
        np.testing.assert_allclose(np.asarray(few), fastlogits.entropy(self.x[:9]), 1e-5)

    def track_share(self, *_):
        """The least of several, one beside the other."""
        times = [[cpu_time(self.call, x, self.labels) for x in (self.held, self.x)] for _ in range(7)]
        held, plain = np.min(times[1:], axis=0)
        return held / plain
