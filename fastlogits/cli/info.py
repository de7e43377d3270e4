"""`fastlogits info`: what is in force, and which files can be read."""

import importlib
import importlib.metadata

import fastlogits
from fastlogits.cli import formats


def run(args):
    return fastlogits.show_config("dicts") | {suffix: _library(module) for suffix, module in formats.MODULES.items()}


def _library(module):
    """Name and version of what the files of a format take."""
    needed = importlib.import_module(f"fastlogits.cli.formats.{module}").NEEDS
    if not needed:
        return "nothing more"
    try:
        return f"{needed[0]} {importlib.metadata.version(needed[0])}"
    except importlib.metadata.PackageNotFoundError:
        return f"{needed[0]} is missing: pip install 'fastlogits[files]'"


def text(summary):
    width = max(map(len, summary))
    return "\n".join(f"{key:<{width}}  {value}" for key, value in summary.items())
