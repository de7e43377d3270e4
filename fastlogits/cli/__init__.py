"""The command line, also as ``python -m fastlogits``.

A command is a module of this package: `run(args)` returns what `--json` prints, and `text` tells it to people.
"""

import importlib
import json
import sys

from fastlogits.cli import arguments
from fastlogits.cli.failures import Failure, one_line


def main(argv=None):
    """Do what the command line says; returns the exit status."""
    try:
        args = arguments.parse(argv)
        command = importlib.import_module(f"fastlogits.cli.{args.command}")
        summary = command.run(args)
    except Failure as failure:
        message, status = str(failure), failure.status
    except OSError as error:
        message, status = f"{error.filename}: {error.strerror}", 1
    except (ImportError, MemoryError, ValueError) as error:
        message, status = one_line(error), 1
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    else:
        print(json.dumps(summary) if args.json else command.text(summary))
        return 0
    print(f"fastlogits: {message}", file=sys.stderr)
    return status
