"""The command line: what can be said, and what is understood."""

import argparse
import json
import re

from fastlogits import __version__, _checks
from fastlogits.cli import formats
from fastlogits.cli.failures import Failure, named
from fastlogits.cli.operations import OPERATIONS

DTYPES = ("float32", "float64", "float16", "bfloat16")
UNITS = ("", "K", "M", "G", "T")

DESCRIPTION = """\
Logits in files: probabilities, predictions and statistics of arrays larger than memory.

A file is one of .npy, .npz, .safetensors, .zarr, .parquet, .h5 and .hdf5; where it holds several arrays, FILE:NAME is
one of them. The classes of a .parquet may be columns: all that it has, or those of a pattern, as FILE:logit_*. Exit
status: 0, 1 for a failure, 2 for a command that makes no sense, 130 after Ctrl-C."""

APPLY = """\
TARGET appears when it is whole. Until then TARGET.partial and TARGET.partial.journal stand for it; after an
interruption the same command with --resume goes on from there, to the same bytes. A .npy holds one array, and only
.safetensors holds bfloat16 (the raw bytes that NumPy and HDF5 make of it can be read)."""

CALIBRATE = """\
The temperature minimises the negative log-likelihood (nll) of LABELS; brier is the Brier score, ece and mce are the
expected and the maximum calibration error of equally wide bins. Rows without
probabilities (NaN, infinite) are counted and left out. What --save
writes is understood by the --temperature of apply."""

FILES = {"--plot": ((".png", ".pdf", ".svg"), "reliability diagrams"), "--save": ((".json",), "what --json prints")}


def _type(check, *given):
    """An argparse type: what `check` makes of the text; its error in argparse's words, which name the option."""

    def convert(text):
        try:
            return check(*given, text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(f"{given[0]}: " if given else "")) from None

    return convert


def _size(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?)(I?)B?", text.upper())
    if not match or not (size := float(match[1])):
        raise ValueError(f"expected a size such as 512MB, got {text!r}")
    return int(size * (1024 if match[3] else 1000) ** UNITS.index(match[2]))


def _shapes(text):
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*(,[1-9]\d*x[1-9]\d*)*", text):
        raise ValueError(f"expected such as 4096x1000,64x32000, got {text!r}")
    return [tuple(map(int, shape.split("x"))) for shape in text.split(",")]


def _whole_file(text):
    place = formats.place(text)
    if place.key is not None:
        raise ValueError(f"expected a file, got {text!r}: the results have names of their own")
    return place


def _temperature(text):
    """A number, or the name of a file with one."""
    if not text.lower().endswith(".json"):
        return float(text)
    with named(text), open(text) as file:
        summary = json.load(file)
    if not isinstance(summary, dict) or not isinstance(summary.get("temperature"), (int, float)):
        raise Failure(text, "expected what calibrate --save writes")
    return float(summary["temperature"])


def _file_of(suffixes, text):
    if not text.lower().endswith(suffixes):
        raise ValueError(f"expected a file of {', '.join(suffixes)}, got {text!r}")
    return text


OPTIONS = {
    "temperature": {
        "type": _type(_temperature),
        "default": 1.0,
        "metavar": "T",
        "help": "what the logits are divided by: a number, or the .json that calibrate --save wrote",
    },  # fmt: skip
    "want": {"type": lambda text: tuple(text.split(",")), "metavar": "FIELD,...", "help": "default: all there can be"},
    "labels": {"type": _type(formats.place), "metavar": "FILE", "help": "class indices, of the shape of the rows"},
    "ignore_index": {"type": int, "default": -100, "metavar": "N", "help": "label of rows that do not count"},
    "top_k": {"type": int, "metavar": "K", "help": "how many of the largest"},
    "ties": {
        "choices": ("first", "min"),
        "default": "first",
        "help": "whether equals of a lower index come before the label in its rank; default: first, they do",
    },
    "top_p": {"type": float, "metavar": "P", "help": "of the likeliest classes, those with this probability together"},
    "min_p": {"type": float, "metavar": "P", "help": "classes with this part of the largest probability"},
    "typical_p": {"type": float, "metavar": "P", "help": "the most typical classes with this probability together"},
    "epsilon_cutoff": {"type": float, "metavar": "P", "help": "classes of at least this probability"},
    "eta_cutoff": {"type": float, "metavar": "P", "help": "the same, less where the entropy is large"},
    "min_keep": {"type": int, "default": 1, "metavar": "N", "help": "as many are kept in any case"},
    "seed": {"type": int, "default": 0, "metavar": "N", "help": "of the random numbers; default: 0"},
}


class Parser(argparse.ArgumentParser):
    """Errors take one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def parse(argv):
    """The arguments of the command line; `command` is the first."""
    parser = Parser(prog="fastlogits", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"fastlogits {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_apply(commands)
    _add_calibrate(commands)
    _add_bench(commands)
    _add_json(_add_command(commands, "info", "what is in force, and which files can be read"))
    args = parser.parse_args(argv)
    if args.command == "apply":
        operation = OPERATIONS[args.op]
        try:
            args.operation = operation(**{option: getattr(args, option) for option in operation.takes})
        except (TypeError, ValueError) as error:
            args.parser.error(str(error))
    return args


def _add_command(commands, name, about, **more):
    return commands.add_parser(name, help=about, description=about, **more)


def _add_json(parser):
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_apply(commands):
    parser = commands.add_parser("apply", help="make a file of results from a file of logits", epilog=APPLY)
    operations = parser.add_subparsers(dest="op", required=True, metavar="OP")
    for name, operation in OPERATIONS.items():
        _add_operation(operations, name, operation)


def _add_operation(operations, name, operation):
    parser = _add_command(operations, name, operation.__doc__, epilog=APPLY)
    parser.set_defaults(labels=None, parser=parser)
    parser.add_argument("source", type=_type(formats.place), metavar="SOURCE", help="the logits")
    parser.add_argument("target", type=_type(_whole_file), metavar="TARGET", help="where the results go")
    for option in operation.takes:
        required = {"required": True, "default": None} if option in operation.needs else {}
        parser.add_argument(f"--{option.replace('_', '-')}", **OPTIONS[option] | required)
    _add_axis(parser)
    own = "default: that of the logits, float32 at least for numbers of rows"
    parser.add_argument("--dtype", choices=DTYPES, help=f"of the floats that come out; {own}")
    _add_run(parser)
    parser.add_argument("--force", action="store_true", help="replace a TARGET that exists, forget an interrupted run")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run got to, if there is one")
    _add_json(parser)


def _add_axis(parser):
    parser.add_argument("--axis", type=int, default=-1, metavar="N", help="the class axis; default: the last")


def _add_run(parser):
    """How files are read."""
    parser.add_argument(
        "--memory", type=_type(_size), default="512MB", metavar="SIZE", help="for blocks of the file; default: 512MB"
    )
    _add_threads(parser)
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no bar on stderr")


def _add_threads(parser):
    parser.add_argument(
        "--threads", type=_type(_checks.thread_count, "--threads"), metavar="N", help="default: one per processor"
    )


def _add_calibrate(commands):
    about = "fit a temperature to labels, and show what it does to the confidences"
    parser = _add_command(commands, "calibrate", about, epilog=CALIBRATE)
    parser.add_argument("source", type=_type(formats.place), metavar="LOGITS", help="of rows not trained on")
    parser.add_argument("labels", type=_type(formats.place), metavar="LABELS", help=OPTIONS["labels"]["help"])
    parser.add_argument("--ignore-index", **OPTIONS["ignore_index"])
    parser.add_argument(
        "--bins", type=_type(_checks.count, "--bins"), default=15, metavar="N", help="of confidence; default: 15"
    )
    for option, (suffixes, content) in FILES.items():
        about = f"{content}, into a {' or '.join(suffixes)}"
        parser.add_argument(option, type=_type(_file_of, suffixes), metavar="FILE", help=about)
    _add_axis(parser)
    _add_run(parser)
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    _add_json(parser)


def _add_bench(commands):
    parser = _add_command(commands, "bench", "our time beside that of what is installed, on this machine")
    parser.add_argument("--shapes", type=_type(_shapes), metavar="ROWSxCLASSES,...", help="of the logits")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, for a first look in seconds")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    _add_threads(parser)
    _add_json(parser)
