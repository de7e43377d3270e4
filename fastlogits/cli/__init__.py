"""The command line, also as ``python -m fastlogits``."""

import json
import sys

from fastlogits.cli import arguments
from fastlogits.cli.failures import Failure


def main(argv=None):
    """Do what the command line says; returns the exit status."""
    args = arguments.parse(argv, {"apply": _apply})
    try:
        return args.run(args)
    except Failure as failure:
        message, status = str(failure), failure.status
    except OSError as error:
        message, status = f"{error.filename}: {error.strerror}", 1
    except (ImportError, MemoryError, ValueError) as error:
        message, status = f"{type(error).__name__}: {error}", 1
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    print(f"fastlogits: {message}", file=sys.stderr)
    return status


def _apply(args):
    from fastlogits.cli.apply import apply

    summary = apply(args)
    if args.json:
        print(json.dumps(summary))
    else:
        print(_sentence(summary))
    return 0


def _sentence(summary):
    """For people."""
    size = " x ".join(map(str, summary["shape"]))
    nan = f"; rows with NaN: {summary['nan_rows']}" if summary["nan_rows"] else ""
    rate = summary["bytes_per_second"] / 1e9
    return (
        f"{summary['target']}: {summary['operation']} of {size} {summary['dtype']} in {summary['seconds']:.1f} s "
        f"({rate:.2f} GB/s){nan}"
    )
