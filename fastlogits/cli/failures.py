"""What goes wrong with files, said in one line that begins with the file's name."""

import contextlib
import importlib
import os
import sys


class Failure(Exception):
    """Ends the command with one line on stderr and this exit status."""

    def __init__(self, path, message, status=1):
        super().__init__(f"{path}: {message}")
        self.status = status


def tell(message):
    """One line on stderr, whatever the names in it."""
    print("fastlogits:", message.replace("\n", "\\n"), file=sys.stderr, flush=True)


@contextlib.contextmanager
def named(path):
    """Whatever a library raises about a file, with the file's name; errors of the system keep their number."""
    try:
        yield
    except (Failure, MemoryError):
        raise
    except OSError as error:
        if error.errno is None:
            raise Failure(path, one_line(error)) from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    except Exception as error:
        raise Failure(path, one_line(error)) from error


@contextlib.contextmanager
def kept(opener, path, *args, **kwargs):
    """The file that `opener` opens at `path`; closed again only where something goes wrong with it."""
    with named(path), contextlib.ExitStack() as stack:
        file = opener(path, *args, **kwargs)
        stack.callback(file.close)
        yield file
        stack.pop_all()


def one_line(error):
    return " ".join(str(error).split()) or type(error).__name__


def library(name, path, extra="files"):
    """The module `name`, which `path` needs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise Failure(path, f"needs {package}, which is missing: pip install 'fastlogits[{extra}]'") from None
