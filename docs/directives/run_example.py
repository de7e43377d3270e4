"""The gallery: ``{example} NAME`` is a program of examples/, and what it prints and draws when it is run.

An example runs as its reader would run it: in a process of its own, in an empty folder, with the arguments that the
page gives. What came of it is kept under build/gallery until the example or the package has changed.
"""

import ast
import datetime
import hashlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

import fastlogits

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "gallery"
LONGEST = 1200  # seconds; to notice what hangs
log = getLogger(__name__)


def about(path):
    """Title line and the rest of an example's docstring, without the command."""
    title, _, rest = ast.get_docstring(ast.parse(path.read_text("utf-8"))).partition("\n")
    paragraphs = [part for part in rest.strip().split("\n\n") if not part.startswith("    ")]
    return title, "\n\n".join(paragraphs)


def run(path, arguments, folder):
    """Run an example into `folder`, if what is there is not of this very text, package and arguments.

    Returns what the run was and its standard output; raises CalledProcessError where the example fails.
    """
    record = folder / "run.json"
    key = _key(path, arguments)
    if record.exists():
        known = json.loads(record.read_text("utf-8"))
        if known["key"] == key:
            return known
    for old in (*folder.rglob("*.png"), record):
        old.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(path), *arguments.split()]
    environment = os.environ | {"MPLBACKEND": "Agg", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=LONGEST)
    output, errors = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, output, errors)
    known = {"key": key, "date": datetime.date.today().isoformat(), "machine": machine(), "output": output}
    record.write_text(json.dumps(known), "utf-8")
    return known


def machine():
    config = fastlogits.show_config("dicts")
    return f"{platform.machine()}, {config['instruction set']}, {os.cpu_count()} processors, Python {config['python']}"


def _key(path, arguments):
    digest = hashlib.sha256(f"{arguments}\0{platform.python_version()}\0".encode())
    package = (
        file
        for folder in ("fastlogits", "adapters")
        for file in sorted((ROOT / folder).rglob("*"))
        if file.suffix in (".py", ".pyx", ".pxd", ".pxi", ".h")
    )
    for file in (path, *package):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def pictures(folder):
    return sorted(folder.rglob("*.png"))


def shown(output):
    """Output as a terminal leaves it: of a line that rewrites itself, the last state."""
    lines = (line.rstrip().rpartition("\r")[2] for line in output.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


class Example(SphinxDirective):
    required_arguments = 1
    option_spec = {"arguments": directives.unchanged, "needs": directives.unchanged}

    def run(self):
        path = ROOT / "examples" / self.arguments[0]
        for source in (path, __file__):
            self.env.note_dependency(str(source))
        arguments = self.options.get("arguments", "")
        title, rest = about(path)
        lines = [title, "", rest, "", *self._results(path, arguments), "```{rubric} The program", "```", ""]
        lines += [f"```{{literalinclude}} {self._relative(path)}", ":language: python", "```"]
        return self.parse_text_to_nodes("\n".join(lines))

    def _relative(self, path):
        return os.path.relpath(path, Path(self.env.doc2path(self.env.docname)).parent)

    def _results(self, path, arguments):
        missing = [name for name in self.options.get("needs", "").split() if importlib.util.find_spec(name) is None]
        command = f"$ python examples/{path.name} {arguments}".strip()
        if missing:
            reason = f"It needs {' and '.join(missing)}, and was not run for this page."
            return ["```console", command, "```", "", reason, ""]
        if not self.config.run_examples:
            return ["```console", command, "```", ""]
        folder = KEPT / path.stem
        log.info("examples/%s", path.name)
        try:
            known = run(path, arguments, folder)
        except subprocess.CalledProcessError as error:
            log.warning("%s\n%s%s", error, error.stdout, error.stderr, location=self.get_location())
            return []
        lines = ["```console", command, shown(known["output"]), "```", ""]
        for picture in pictures(folder):
            lines += ["::::{container} wide", f"![What {path.name} draws]({self._relative(picture)})", "::::", ""]
        return [*lines, f"Run on {known['date']}, {known['machine']}. Times are those of this one run.", ""]


def setup(app):
    app.add_config_value("run_examples", True, "env", bool)
    app.add_directive("example", Example)
    return {"parallel_read_safe": True}
