"""Results under construction: an interrupted run leaves no file that looks whole, and can be resumed.

Beside TARGET stand, until it is done, TARGET.partial (the results, each in its place) and TARGET.partial.journal; for
a format that is made of finished arrays TARGET.partial.whole, at the end. The journal's first line tells what is
computed from what, the others how many blocks are safely on the disk. It is locked while its run lives.
"""

import contextlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

from fastlogits.cli.failures import Failure, named
from fastlogits.cli.formats import safetensors
from fastlogits.cli.formats.raw import RawFile
from fastlogits.cli.whole import followed, mind, or_nothing, put, remove, sync_tree

try:
    import fcntl
except ImportError:  # Windows, where nobody can replace a file that is open
    fcntl = None

# Between two waits for the disk pass so many times what one takes, but no fewer seconds than make them rare, and no
# more than are gladly lost to a crash. With waits from the first tenths of a second on, softmax of 1 GB took 2.5 s
# instead of 1.9.
SYNC_PAUSE = 20
SHORTEST_PAUSE, LONGEST_PAUSE = 2, 10


class Partial:
    """The results of one run. `blocks` blocks are on the disk already, with `nan_rows` rows of NaN."""

    def __init__(self, target, replace):
        self.format, self.replace = target.format, replace
        self.target = followed(target.path)
        self.path = f"{self.target}.partial"
        self.whole = f"{self.path}.whole"
        self.blocks, self.nan_rows, self.file = 0, 0, None
        mind(self.target, replace)
        self.journal = _locked(f"{self.path}.journal", self.target)
        self._syncer, self._syncing, self._next = ThreadPoolExecutor(1), None, 0.0

    def interrupted(self):
        """(task, last entry) of a run that was interrupted; None where there is none."""
        entries = []
        self.journal.seek(0)
        for line in self.journal:
            with contextlib.suppress(ValueError):  # cut short by what ended the run
                entries.append(json.loads(line))
        return (entries[0], entries[-1]) if len(entries) > 1 and os.path.exists(self.path) else None

    def begin(self, task, specs):
        """From the first block."""
        remove(self.path)
        self.journal.truncate(0)
        with or_nothing(self.path):
            self._open(specs)
        self._enter(task)
        self._enter({"blocks": 0, "nan_rows": 0})

    def resume(self, entry, specs):
        """From where an interrupted run got to."""
        self.blocks, self.nan_rows = entry["blocks"], entry["nan_rows"]
        self._open(specs)

    def _open(self, specs):
        remove(self.whole)
        self.file = RawFile(self.path, specs, getattr(self.format, "layout", safetensors.layout))

    def write(self, name, region, values):
        self.file.write(name, region, values)

    def note(self, blocks, nan_rows):
        """The first `blocks` are written. Entered when the disk has them, without waiting for it here."""
        if self._syncing is not None and self._syncing.done():
            self._settle()
        if self._syncing is None and time.monotonic() >= self._next:
            self._syncing = self._syncer.submit(self._sync, blocks, nan_rows)

    def sync(self, blocks, nan_rows):
        """The same, and wait."""
        self._settle()
        self._syncing = self._syncer.submit(self._sync, blocks, nan_rows)
        self._settle()

    def _settle(self):
        # The system reports an error of the disk once, to whoever asks first.
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def _sync(self, blocks, nan_rows):
        start = time.monotonic()
        self.file.sync()
        self._enter({"blocks": blocks, "nan_rows": nan_rows})
        self.blocks, self.nan_rows = blocks, nan_rows
        stop = time.monotonic()
        self._next = stop + min(max(SYNC_PAUSE * (stop - start), SHORTEST_PAUSE), LONGEST_PAUSE)

    def _enter(self, entry):
        with named(self.journal.name):
            self.journal.write(json.dumps(entry) + "\n")
            self.journal.flush()
            os.fsync(self.journal.fileno())

    def finish(self):
        """Make TARGET of what is there, in one step."""
        result = self.path
        if not hasattr(self.format, "layout"):
            result = self.whole
            with named(result), or_nothing(result):
                self.format.assemble(result, self.file.arrays())
                sync_tree(result)
        mind(self.target, self.replace)
        with named(self.target):
            put(result, self.target)
        self.discard()

    def discard(self):
        """Leave nothing of it."""
        for path in (self.whole, self.path, self.journal.name):
            remove(path)

    def close(self):
        self._syncer.shutdown()
        if self.file is not None:
            self.file.close()
        elif not os.path.getsize(self.journal.name):
            remove(self.journal.name)
        self.journal.close()


def _locked(path, target):
    """The journal, opened for reading and appending, that no other run has."""
    with named(path):
        journal = open(path, "a+")
        try:
            if fcntl is not None:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(journal.fileno()), os.stat(path))
        except OSError:
            mine = False
    if not mine:
        journal.close()
        raise Failure(target, "another run is writing it")
    return journal
