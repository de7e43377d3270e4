"""Files and folders that appear when they are whole: made beside their place, and put there in one step.

What stands at a name is somebody else's until we made it: no link is followed but that of the target itself, nothing is
opened that is no plain file of one name, and nothing is put in place that is not what was written.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat

from fastlogits.cli.failures import Failure, named

# Absent where there is no such thing.
FLAGS = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
# What file systems answer that cannot wait for their disk.
NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def appearing(path, replace):
    """Where to write a file that becomes `path` if all goes well. That it can be made there shows at the beginning."""
    path = followed(path)
    mind(path, replace)
    partial = f"{path}.{secrets.token_hex(4)}.partial"
    with named(path):
        descriptor = created(partial, like=path)
    try:
        yield partial
        mind(path, replace)
        with named(path):
            sync(descriptor)
            put(partial, path, os.fstat(descriptor))
    except BaseException:
        remove(partial)
        raise
    finally:
        os.close(descriptor)


def followed(path):
    """Where a link points to: it may lead to a disk with more room, and stays a link."""
    return os.path.realpath(path) if os.path.islink(path) else path


def mind(path, replace):
    """That nothing is there, or what may be replaced and shall: a plain file, or for a .zarr a folder of such."""
    if not os.path.lexists(path):
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise Failure(path, os.strerror(errno.ENOENT))
        return
    if os.path.isdir(path):
        if not path.lower().endswith(".zarr"):
            raise Failure(path, "is a folder")
        if (names := os.listdir(path)) and not {"zarr.json", ".zgroup", ".zarray"}.intersection(names):
            raise Failure(path, "is a folder, but no zarr: nothing replaces it")
    elif not os.path.isfile(path):
        raise Failure(path, "is neither file nor folder: nothing replaces it")
    if not replace:
        raise Failure(path, "exists already; --force replaces it")


def created(path, like):
    """The descriptor of a new file, with the rights of the file `like`, where that exists."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | FLAGS, 0o666)
    if os.path.isfile(like):
        _give_rights(descriptor if os.chmod in os.supports_fd else path, os.stat(like))
    return descriptor


def created_folder(path, like):
    """The status of a new folder, with the rights of the folder `like`, where that exists."""
    os.mkdir(path)
    if os.path.isdir(like):
        _give_rights(path, os.stat(like))
    return os.stat(path)


def _give_rights(new, old):
    """Mode, and the owner where that is allowed: what replaces a private file is private too."""
    with contextlib.suppress(OSError, AttributeError):
        os.chown(new, old.st_uid, old.st_gid)
    os.chmod(new, stat.S_IMODE(old.st_mode))


def reopened(path):
    """The descriptor of a file that an earlier run has left; a link, a pipe or a file of two names is not one."""
    if stat.S_ISREG(os.lstat(path).st_mode):
        descriptor = os.open(path, os.O_RDWR | FLAGS)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return descriptor
        os.close(descriptor)
    raise Failure(path, "is no file of ours: a link, or something else that must not be written to")


def is_at(path, status):
    """Whether that file or folder, and no other, is there."""
    try:
        return os.path.samestat(os.lstat(path), status)
    except FileNotFoundError:
        return False


def put(new, path, status, aside=None):
    """Rename what is of this status, over what may be at `path`. A folder there has to step `aside` first."""
    if not is_at(new, status):
        raise Failure(new, "was removed or replaced while it was in use")
    if os.path.isdir(path) or (os.path.isdir(new) and os.path.exists(path)):
        os.rename(path, aside)
    os.replace(new, path)
    # The file is whole; that its name outlives a crash is more than some folders can tell.
    with contextlib.suppress(OSError):
        sync_path(os.path.dirname(path) or ".")


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sync_tree(path):
    sync_path(path)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            sync_path(os.path.join(folder, name))


def sync_path(path):
    if os.name == "nt" and os.path.isdir(path):  # cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor):
    """Wait until the disk has it, where the file system knows how."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
