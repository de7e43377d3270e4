"""Files and folders that appear when they are whole: made beside their place, and put there in one step."""

import contextlib
import os
import shutil

from fastlogits.cli.failures import Failure, named


@contextlib.contextmanager
def appearing(path, replace):
    """Where to write a file that becomes `path` if all goes well. That it can be made there shows at the beginning."""
    path = followed(path)
    partial = f"{path}.partial"
    mind(path, replace)
    with or_nothing(partial):
        with named(path):
            open(partial, "wb").close()
        yield partial
        mind(path, replace)
        with named(path):
            sync(partial)
            put(partial, path)


def followed(path):
    """Where a link points to: it may lead to a disk with more room, and stays a link."""
    return os.path.realpath(path) if os.path.islink(path) else path


def mind(path, replace):
    """That nothing is there, unless it shall be replaced; and no folder, unless its name is that of an array."""
    if os.path.lexists(path) and not replace:
        raise Failure(path, "exists already; --force replaces it")
    if os.path.isdir(path) and not path.endswith(".zarr"):
        raise Failure(path, "is a folder")


@contextlib.contextmanager
def or_nothing(path):
    """What cannot be made there completely is removed."""
    try:
        yield
    except BaseException:
        remove(path)
        raise


def put(new, path):
    """Rename, over what may be there. Only where one of both is a folder, the old one has to step aside first."""
    aside = f"{path}.partial.replaced"
    if os.path.isdir(path) or (os.path.isdir(new) and os.path.exists(path)):
        remove(aside)
        os.rename(path, aside)
    os.replace(new, path)
    remove(aside)
    sync(os.path.dirname(path) or ".")


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sync_tree(path):
    sync(path)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            sync(os.path.join(folder, name))


def sync(path):
    if os.name == "nt" and os.path.isdir(path):  # cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
