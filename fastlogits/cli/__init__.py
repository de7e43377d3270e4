"""The command line, also as ``python -m fastlogits``.

A command is a module of this package: `run(args)` returns what `--json` prints, and `text` tells it to people.
"""

import importlib
import json
import os
import sys

from fastlogits.cli import arguments, interrupts
from fastlogits.cli.failures import Failure, one_line, tell


def main(argv=None):
    """Do what the command line says; returns the exit status."""
    if argv is None:
        return _main(None)
    with interrupts.restored():
        return _main(argv)


def _main(argv):
    _open_standard_files()
    try:
        args = arguments.parse(argv)
        command = importlib.import_module(f"fastlogits.cli.{args.command}")
        summary = command.run(args)
        _say(json.dumps(summary) if args.json else command.text(summary))
        return 0
    except Failure as failure:
        message, status = str(failure), failure.status
    except OSError as error:
        message, status = ": ".join(filter(None, (error.filename, error.strerror))) or one_line(error), 1
    except (ImportError, MemoryError, ValueError) as error:
        message, status = one_line(error), 1
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    interrupts.heard()
    tell(message)
    return status


def _open_standard_files():
    """Where one was closed by the caller, a file of ours would take its number, and what is printed would go there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))


def _say(text):
    try:
        print(text, flush=True)
    except OSError as error:
        # Python would try once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Failure("standard output", error.strerror) from error
