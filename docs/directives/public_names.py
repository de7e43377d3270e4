"""``.. public:: MODULE``: the public names of a module, all of them, from their docstrings.

A name stands under the heading of the module that defines it, so that a new function has its place by itself.
"""

import importlib
import inspect

from sphinx.util.docutils import SphinxDirective

# The families of `fastlogits`, in the order in which one learns them. One that is not named here comes last.
FAMILIES = {
    "softmax": "Probabilities",
    "cross_entropy": "The loss",
    "row_stats": "Statistics of rows",
    "likelihood": "Likelihoods of documents",
    "selective": "Log-probabilities of chosen classes",
    "filters": "Filters",
    "sampling": "Draws",
    "states": "Partial results",
    "config": "Settings",
    "temperature": "Temperature scaling",
    "vector": "Vector scaling",
    "estimator": "As a scikit-learn estimator",
    "methods": "Nonconformity scores",
    "quantiles": "Thresholds",
    "sets": "Prediction sets",
    "measures": "Measures",
    "plots": "Diagrams",
    "state": "Partial results",
}


def public_names(module):
    """Name and object of all that a module offers, but for modules within it."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name, value in vars(module).items() if _own(module, name, value)]
    found = [(name, getattr(module, name)) for name in names]
    return [(name, value) for name, value in found if not inspect.ismodule(value)]


def _own(module, name, value):
    return not name.startswith("_") and callable(value) and value.__module__ == module.__name__ and value.__doc__


def families(module):
    """Heading and names of each family of the module, in order."""
    found = {}
    for name, value in public_names(module):
        family = value.__module__.rpartition(".")[2].lstrip("_")
        found.setdefault(family, []).append(name)
    for names in found.values():
        names.sort(key=lambda name: _place(getattr(module, name)))
    order = list(FAMILIES)
    ranked = sorted(found, key=lambda family: order.index(family) if family in order else len(order))
    return [(FAMILIES.get(family, family.replace("_", " ").capitalize()), found[family]) for family in ranked]


def _place(value):
    """Where it is defined; what functions return, after all of them."""
    result = inspect.isclass(value) and issubclass(value, tuple)
    return result, inspect.getsourcelines(inspect.unwrap(value))[1]


def text(module):
    """The page in reStructuredText: a table of all names, and then each with its docstring."""
    lines = [f".. currentmodule:: {module.__name__}", ""]
    groups = families(module)
    if len(groups) == 1 or module.__name__ not in ("fastlogits", "fastlogits.calibration", "fastlogits.conformal"):
        groups = [(None, [name for _, names in groups for name in names])]
    for heading, names in groups:
        lines += [f"**{heading}**", ""] if heading else []
        lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names), ""]
    for heading, names in groups:
        lines += [heading, "-" * len(heading), ""] if heading else []
        for name in names:
            lines += _entry(name, getattr(module, name))
    return "\n".join(lines)


def _entry(name, value):
    if not inspect.isclass(value):
        return [f".. autofunction:: {name}", ""]
    members = "   :members:"
    if issubclass(value, tuple):
        # The fields of a named tuple say no more than its signature.
        methods = [each for each, member in vars(value).items() if inspect.isfunction(member) and each[0] != "_"]
        members = f"   :members: {', '.join(methods)}" if methods else ""
    return [f".. autoclass:: {name}", members, ""]


class PublicNames(SphinxDirective):
    required_arguments = 1

    def run(self):
        module = importlib.import_module(self.arguments[0])
        for source in (inspect.getfile(module), __file__):
            self.env.note_dependency(source)
        return self.parse_text_to_nodes(text(module), allow_section_headings=True)


def skip(app, what, name, value, skipped, options):
    """scikit-learn gives its estimators methods of its own making."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    app.connect("autodoc-skip-member", skip)
    app.add_directive("public", PublicNames)
    return {"parallel_read_safe": True}
