"""``{command-line}``: what --help says, of every command and operation."""

import contextlib
import io
import os
import re
from unittest import mock

from sphinx.util.docutils import SphinxDirective

from fastlogits.cli import arguments

WIDTH = "90"


def help_of(*words):
    printed = io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS=WIDTH), contextlib.redirect_stdout(printed):
        with contextlib.suppress(SystemExit):
            arguments.parse([*words, "--help"])
    return printed.getvalue().rstrip()


def commands(text):
    """The commands that a help text lists under its metavar."""
    return re.findall(r"^    (\S+)(?:  |$)", text, re.MULTILINE)


def sections(words=()):
    """Words and help of a command and of all below it."""
    text = help_of(*words)
    yield words, text
    for name in commands(text):
        yield from sections((*words, name))


class CommandLine(SphinxDirective):
    def run(self):
        for source in (arguments.__file__, __file__):
            self.env.note_dependency(source)
        lines = []
        for words, text in sections():
            lines += [f"## fastlogits {' '.join(words)}".rstrip(), "", "```text", text, "```", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app):
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
