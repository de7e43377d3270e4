"""``{measured} WHAT`` is a table, ``{picture} WHAT`` a picture, made of the results in benchmarks/results."""

import json
import os
from pathlib import Path

import report
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DRAWN = ROOT / "build" / "pictures"


def speed(results, who):
    return report.speed_table(results, who)


def origin(results, who):
    return report.origin(results["machine"])


def limits(results, who):
    """What the machine can do, as plain loops have measured it in the same run."""
    names = {"read_GB_s": "read", "update_GB_s": "update in place", "copy_GB_s": "copy"}
    rates = {"exp32_G_s": "float32", "exp64_G_s": "float64"}
    heads = [f"{name}, GB/s" for name in names.values()] + [f"exp of {name}, 10⁹/s" for name in rates.values()]
    lines = ["| Held to | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for label, found in results["limits"].items():
        figures = [f"{found[name]:.0f}" for name in names] + [f"{found[name]:.1f}" for name in rates]
        lines.append(f"| {label} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def errors(results, who):
    """The largest error of each operation in one dtype, as a share of what is allowed, beside what others have."""
    table = results["errors"][who]
    columns = list(next(iter(table.values())))
    lines = ["| Operation | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for operation, found in table.items():
        lines.append(f"| `{operation}` | " + " | ".join(map(share, found.values())) + " |")
    return "\n".join(lines)


def share(error):
    if error is None:
        return "–"
    if error == "infinite":
        return "∞"
    return f"{error:.2f}" if error < 10 else f"{error:.0f}" if error < 1e4 else f"{error:.0e}".replace("e+0", "e")


TABLES = {"speed": speed, "origin": origin, "limits": limits, "errors": errors}
SOURCES = {"errors": "errors.json"}


class Measured(SphinxDirective):
    """A table. The option `of` says of whom: a row of ours in compare.json, or a dtype."""

    required_arguments = 1
    option_spec = {"of": directives.unchanged, "source": directives.unchanged}

    def run(self):
        what = self.arguments[0]
        source = RESULTS / self.options.get("source", SOURCES.get(what, "compare.json"))
        depends(self, source)
        results = json.loads(source.read_text("utf-8"))
        frame = nodes.container(classes=["figures"])
        frame += self.parse_text_to_nodes(TABLES[what](results, self.options.get("of", "cython")))
        return [frame]


def ratios(results, who, path):
    return report.draw_ratios(report.plotted(results, who), path, across=1)


def roofline(results, who, path):
    return report.draw_roofline(report.plotted(results, who), results, path)


PICTURES = {
    "ratios": (ratios, "How much faster {who} is than its fastest peer, in every cell"),
    "roofline": (roofline, "Exponentials per second over exponentials per byte moved, beside what the machine can do"),
}


class Picture(SphinxDirective):
    """A picture, in a frame that scrolls where the page is too narrow to read it."""

    required_arguments = 1
    option_spec = {"of": directives.unchanged}

    def run(self):
        what, who = self.arguments[0], self.options.get("of", "cython")
        draw, words = PICTURES[what]
        source = RESULTS / "compare.json"
        depends(self, source)
        DRAWN.mkdir(parents=True, exist_ok=True)
        path = DRAWN / f"{what}-{who}.png"
        draw(report.load(source), who, path)
        place = os.path.relpath(path, Path(self.env.doc2path(self.env.docname)).parent)
        return wide(self, place, words.format(who=who))


def depends(directive, source):
    """The page is to be made again where the results or what makes it have changed."""
    for path in (source, __file__, report.__file__):
        directive.env.note_dependency(str(path))


def wide(directive, place, words):
    frame = nodes.container(classes=["wide"])
    frame += directive.parse_text_to_nodes(f"![{words}]({place})")
    return [frame]


def setup(app):
    app.add_directive("measured", Measured)
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True}
