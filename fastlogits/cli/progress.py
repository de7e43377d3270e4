"""A bar with the rate and the time left on stderr, where that is a terminal and tqdm is installed."""

import contextlib
import sys


class _Silent:
    def update(self, amount):
        pass


def bar(total, done, wanted, what=None):
    """Of `total` bytes, of which an earlier run has `done`; `what` is written before it."""
    if wanted and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            import tqdm

            return tqdm.tqdm(total=total, initial=done, desc=what, unit="B", unit_scale=True, dynamic_ncols=True)
    return contextlib.nullcontext(_Silent())
