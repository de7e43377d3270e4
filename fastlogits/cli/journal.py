"""TARGET.partial.journal: what a run computes from what, and how much of it is safely on the disk.

A line is a digest of the first line and itself, and a JSON object. So a line that a crash cut short, or that anybody
has changed, is none, and those before it count.

The journal is locked while its run lives. Where the system or the file system has no locks everybody gets it: a second
run then finds the journal of the first, and at the end each looks whether the files are still its own.
"""

import errno
import hashlib
import json
import os

from fastlogits.cli.failures import Failure, named
from fastlogits.cli.whole import created, is_at, reopened, sync

try:
    import fcntl
except ImportError:  # Windows, where nobody can replace a file that is open
    fcntl = None

# Many times what a run of a week writes.
LONGEST = 1 << 26
LOCKED = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


class Journal:
    """The journal at `path` for results at `target`.

    `task` is its first line and `entry` its last one, None where there are none; `damaged` says that it holds something
    else.
    """

    def __init__(self, path, target):
        self.path = path
        with named(path):
            self.file = _opened(path)
        if not _locked(self.file) or not self.is_ours():
            os.close(self.file)
            raise Failure(target, "another run is writing it")
        with named(path):
            self._read()

    def _read(self):
        content = b""
        while len(content) < LONGEST and (more := os.read(self.file, LONGEST)):
            content += more
        self.first, *lines = content.split(b"\n")[:-1] or [b""]
        self.task, self.entry, self.end = _checked(b"", self.first), None, len(self.first) + 1
        self.damaged = bool(content) and self.task is None
        for line in lines:
            if (entry := _checked(self.first, line)) is None:
                break
            self.entry, self.end = entry, self.end + len(line) + 1

    def begin(self, task):
        """Forget what is there."""
        with named(self.path):
            os.ftruncate(self.file, 0)
        self.first, self.end, self.task = b"", 0, task
        self.first = self.enter(task)

    def enter(self, entry):
        """One more line, which is on the disk afterwards."""
        text = json.dumps(entry).encode()
        line = _digest(self.first, text) + b" " + text
        with named(self.path):
            os.lseek(self.file, self.end, os.SEEK_SET)
            rest = line + b"\n"
            while rest:
                rest = rest[os.write(self.file, rest) :]
            sync(self.file)
        self.end += len(line) + 1
        return line

    def is_ours(self):
        """Whether it is still there, and not that of a run that began after somebody removed it."""
        return is_at(self.path, os.fstat(self.file))

    def is_empty(self):
        return not os.fstat(self.file).st_size

    def close(self):
        os.close(self.file)


def _opened(path):
    while True:
        try:
            return created(path, like="")
        except FileExistsError:
            try:
                return reopened(path)
            except FileNotFoundError:  # removed meanwhile, by a run that is done
                continue


def _locked(file):
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in LOCKED
    return True


def _digest(first, text):
    return hashlib.sha256(first + b"\n" + text).hexdigest()[:16].encode()


def _checked(first, line):
    """What a line says; None where it is none."""
    digest, _, text = line.partition(b" ")
    entry = json.loads(text) if text and digest == _digest(first, text) else None
    return entry if isinstance(entry, dict) else None
