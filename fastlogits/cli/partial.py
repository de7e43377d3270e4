"""Results under construction: an interrupted run leaves no file that looks whole, and can be resumed.

Beside TARGET stand, until it is done, TARGET.partial (the results, each in its place) and TARGET.partial.journal; for
a format that is made of finished arrays TARGET.partial.whole, at the end. A folder that is to be replaced is for a
moment TARGET.partial.replaced. What has such a name is ours where the journal says so, and else nobody touches it.
"""

import os
import time

from fastlogits.cli import formats, marks
from fastlogits.cli.failures import Failure, named
from fastlogits.cli.formats import safetensors
from fastlogits.cli.formats.raw import RawFile
from fastlogits.cli.interrupts import held_back
from fastlogits.cli.journal import Journal
from fastlogits.cli.whole import created, created_folder, followed, mind, put, remove, reopened, sync_tree
from fastlogits.cli.workers import Workers

# Between two waits for the disk pass so many times what one takes, but no fewer seconds than make them rare, and no
# more than are gladly lost to a crash. With waits from the first tenths of a second on, softmax of 1 GB took 2.5 s
# instead of 1.9.
SYNC_PAUSE = 20
SHORTEST_PAUSE, LONGEST_PAUSE = 2, 10


class Partial:
    """The results of one run. `blocks` blocks are on the disk already, with `nan_rows` rows of NaN."""

    def __init__(self, target, replace, resume):
        self.format, self.replace = target.format, replace
        self.target = followed(target.path)
        self.path = f"{self.target}.partial"
        self.whole, self.replaced = f"{self.path}.whole", f"{self.path}.replaced"
        self.blocks, self.nan_rows, self.file, self.done = 0, 0, None, False
        mind(self.target, replace or resume)
        self.journal = Journal(f"{self.path}.journal", self.target)
        self._syncer, self._syncing, self._next = Workers(1), None, 0.0

    def is_whole(self, task):
        """Whether TARGET is the result of `task`: what it tells, or the journal of a run that could not clean up."""
        if not os.path.exists(self.target):
            return False
        if (nan_rows := marks.nan_rows(self.target, task)) is None:
            old, entry = self.journal.task or {}, self.journal.entry or {}
            if old | {"step": None} != task | {"step": None} or entry.get("whole") != _identity(self.target):
                return False
            nan_rows = entry["nan_rows"]
        self.nan_rows = nan_rows
        return True

    def is_left(self):
        """Whether there is something to resume."""
        return self.file is not None and os.path.lexists(self.path)

    def begin(self, task, specs):
        """From the first block."""
        for path in (self.path, self.whole, self.replaced):
            if os.path.lexists(path) and self.journal.task is None:
                self._check_ours(path)
            remove(path)
        try:
            self.journal.begin(task)
            self._open(created(self.path, like=self.target), specs)
            self.file.begin()
            self._enter()
        except BaseException:
            self.discard()
            raise

    def _check_ours(self, path):
        """What no journal tells of is not ours to remove."""
        if not self.replace:
            raise Failure(path, "exists, and is not from an interrupted run; --force removes it")
        if os.path.isdir(path) and not os.path.islink(path):
            raise Failure(path, "is a folder, and not from an interrupted run")

    def resume(self, specs):
        """From where an interrupted run got to."""
        self.blocks, self.nan_rows = self.journal.entry["blocks"], self.journal.entry["nan_rows"]
        with named(self.path):
            descriptor = reopened(self.path)
        remove(self.whole)
        self._open(descriptor, specs)
        self.file.check()

    def _open(self, descriptor, specs):
        self.file = RawFile(self.path, descriptor, specs, getattr(self.format, "layout", safetensors.layout))

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
        with held_back():
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
        self._check()
        self.file.sync()
        self._enter(blocks, nan_rows)
        self.blocks, self.nan_rows = blocks, nan_rows
        stop = time.monotonic()
        self._next = stop + min(max(SYNC_PAUSE * (stop - start), SHORTEST_PAUSE), LONGEST_PAUSE)

    def _enter(self, blocks=0, nan_rows=0, **more):
        self.journal.enter({"blocks": blocks, "nan_rows": nan_rows} | more)

    def _check(self):
        """That the files are there and ours: they may have been removed, and another run begun."""
        self.file.check()
        if not self.journal.is_ours():
            raise Failure(self.journal.path, "was removed or replaced while it was in use")

    def finish(self):
        """Make TARGET of what is there, in one step."""
        with held_back() as let_through:
            result, status = self.path, self.file.status()
            if not hasattr(self.format, "layout"):
                result, status = self.whole, self._assemble(let_through)
            mind(self.target, self.replace)
            self._check()
            let_through()
            marks.mark(result, self.journal.task, self.nan_rows)
            self._enter(self.blocks, self.nan_rows, whole=_identity(result))
            with named(self.target):
                put(result, self.target, status, aside=self.replaced)
            self.done = True
            self.discard()

    def _assemble(self, let_through):
        """The status of what the format's library made of the arrays."""
        with named(self.whole):
            status = self._made()
            try:
                self.format.assemble(self.whole, self.file.arrays(let_through))
                sync_tree(self.whole)
            except BaseException:
                remove(self.whole)
                raise
        return status

    def _made(self):
        if self.format.FOLDER:
            return created_folder(self.whole, like=self.target)
        descriptor = created(self.whole, like=self.target)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def discard(self):
        """Leave nothing of it; what another run has made meanwhile stays, and what no journal tells of."""
        ours = self.journal.task is not None and self.journal.is_ours()
        if ours and (self.done or self.file is None or self.file.is_there()):
            for path in (self.whole, self.replaced, self.path, self.journal.path):
                remove(path)

    def close(self):
        """`blocks` is true afterwards: what the disk was still busy with has been entered."""
        self._syncer.shutdown()
        if self.file is not None:
            self.file.close()
        elif self.journal.is_empty() and self.journal.is_ours():
            remove(self.journal.path)
        self.journal.close()


def _identity(path):
    """What tells a finished file or folder from any other at its place."""
    return [os.stat(path).st_ino, formats.state(path)]
