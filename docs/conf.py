"""Sphinx's configuration of the site; README.md beside it says how the pages are made."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "directives"), str(HERE.parent / "benchmarks")]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded for its docstrings

import fastlogits  # noqa: E402 - after the paths

project = "fastlogits"
copyright = "the fastlogits developers"
version = release = fastlogits.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "public_names",
    "command_line",
    "run_example",
    "measured",
]
exclude_patterns = ["README.md"]
nitpicky = True
# `name` in a docstring is a link where these pages have such a name, and code elsewhere.
default_role = "autolink"
nitpick_ignore_regex = [("py:obj", r"(?!fastlogits\.).*")]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "none"  # numpydoc's Parameters say them
numpydoc_show_class_members = False
add_module_names = False

html_theme = "furo"
html_title = f"fastlogits {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

# False: pages show the examples, and what they print is left out. For tests, in which an example has its own.
run_examples = True
