"""What README.md and docs/ show works: examples run, commands are understood, links lead somewhere; and the site."""

import doctest
import html.parser
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import documents
import numpy as np
import pytest
from conftest import need
from documents import DOCS, PAGES, ROOT

import fastlogits
from fastlogits.cli import arguments, main

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
BLOCKS = documents.blocks("pycon")


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.page}-{n}" for n, block in enumerate(BLOCKS)])
def test_example(block):
    for framework in re.findall(r"fastlogits\.(torch|tensorflow|jax|dask)\b|import (dask)", block.text):
        need(framework[0] or framework[1])
    test = doctest.DocTestParser().get_doctest(block.text, {}, block.page, block.page, None)
    report = []
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert results.attempted > 1
    assert results.failed == 0, "".join(report)


def test_every_python_block_is_run():
    """Each stands by itself, and none is only to look at; benchmarks/README.md has what needs a machine, and
    tests/test_core.py compiles those of C."""
    assert all(re.match(r">>> (import|from) ", block.text) for block in BLOCKS)
    assert {block.page for block in documents.blocks("python", "py")} <= {"benchmarks/README.md"}
    languages = {"pycon", "sh", "text", "console", "python", "c"}
    unknown = {language for page in PAGES.values() for language, _ in documents.FENCE.findall(page.read_text("utf-8"))}
    assert {language for language in unknown - languages if not language.startswith("{")} == set()


def test_no_line_of_code_is_cut():
    """The site shows so many columns, and scrolls beyond."""
    ours = (block for block in documents.blocks("pycon", "sh", "text") if block.page.startswith("docs/"))
    assert not [(block.page, line) for block in ours for line in block.text.splitlines() if len(line) > 88]


@pytest.mark.parametrize("page", sorted({page for page, _ in documents.commands("fastlogits")}))
def test_commands_of_fastlogits(page, tmp_path, monkeypatch):
    """They run one after the other in a folder with logits and labels; those that only take time are understood."""
    monkeypatch.chdir(tmp_path)
    logits = 3 * np.random.default_rng(0).standard_normal((300, 10), np.float32)
    np.save("logits.npy", logits)
    np.save("labels.npy", fastlogits.sample(logits / 2, seed=0).ids)
    assert main(["apply", "temperature", "logits.npy", "logits.safetensors", "--temperature", "1"]) == 0
    for where, command in documents.commands("fastlogits"):
        if where != page:
            continue
        words = shlex.split(command)
        if "--plot" in words:
            need("matplotlib")
        if words[0] == "bench":
            arguments.parse(words)
        else:
            assert main(words) == 0, command


@pytest.mark.parametrize("target", documents.named(r"(?:^|`|\$ )make ([a-z-]+)"))
def test_make_target(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


FOLDERS = "fastlogits|adapters|tests|examples|benchmarks|docs"


@pytest.mark.parametrize("path", documents.named(rf"`((?:{FOLDERS})/\w[\w./]*)`"))
def test_path(path):
    # benchmarks/README.md names the files of the asv suite from where it stands.
    assert (ROOT / path).exists() or (ROOT / "benchmarks" / path).exists()


@pytest.mark.parametrize("extra", documents.named(r"(?:fastlogits|\.)\[([a-z0-9]+)\]"))
def test_extra(extra):
    assert extra in EXTRAS


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_every_extra_is_explained(page):
    rows = [line for line in PAGES[page].read_text("utf-8").splitlines() if line.startswith("| `")]
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    missing = set(EXTRAS) - explained
    assert not missing, f"{page}: its table of extras lacks {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    for target in documents.links(PAGES[page]):
        file, _, _ = target.partition("#")
        assert not file or (PAGES[page].parent / file).exists(), target


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_in_the_gallery(name):
    page = DOCS / "gallery" / f"{Path(name).stem}.md"
    assert page.exists(), f"docs/gallery/{page.name} is missing: a title, and {{example}} {name}"
    assert f"{{example}} {name}" in page.read_text("utf-8")
    assert re.search(rf"^{page.stem}$", (DOCS / "gallery" / "index.md").read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def directive(monkeypatch):
    """A module of docs/directives by name."""
    need("sphinx")
    monkeypatch.syspath_prepend(DOCS / "directives")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


PROGRAM = """'''Adds.

More about it.

    python examples/adds.py
'''
import sys
from pathlib import Path
print("working", end="\\r")
print(sum(map(int, sys.argv[1:])))
Path("drawn.png").write_bytes(b"")
sys.exit("7" in sys.argv)
"""


def test_the_gallery_runs_an_example(directive, tmp_path):
    """In its folder, with its arguments; again only where something has changed; and loudly where it fails."""
    gallery = directive("run_example")
    program, folder = tmp_path / "adds.py", tmp_path / "kept"
    program.write_text(PROGRAM)
    assert gallery.about(program) == ("Adds.", "More about it.")
    first = gallery.run(program, "1 2", folder)
    assert gallery.shown(first["output"]) == "3"
    assert [picture.name for picture in gallery.pictures(folder)] == ["drawn.png"]
    record = (folder / "run.json").stat().st_mtime_ns
    assert gallery.run(program, "1 2", folder) == first
    assert (folder / "run.json").stat().st_mtime_ns == record
    assert gallery.shown(gallery.run(program, "2 2", folder)["output"]) == "4"
    program.write_text(PROGRAM.replace("sum", "max"))
    assert gallery.shown(gallery.run(program, "2 2", folder)["output"]) == "2"
    with pytest.raises(subprocess.CalledProcessError):
        gallery.run(program, "7", folder)
    assert not (folder / "run.json").exists()


def test_figures_are_those_of_the_results(directive):
    """README's table and the pages' come of benchmarks/results, where these were written last."""
    report = directive("report")
    results = report.load(ROOT / "benchmarks" / "results" / "compare.json")
    assert report.readme_region(results, "benchmarks/results") in PAGES["README.md"].read_text("utf-8")
    errors = json.loads((ROOT / "benchmarks" / "results" / "errors.json").read_text("utf-8"))
    assert set(errors["errors"]) == {"float32", "float64", "float16", "bfloat16"}
    for table in errors["errors"].values():
        for found in table.values():
            ours = [error for name, error in found.items() if name not in ("formula in NumPy", "SciPy")]
            assert len(ours) >= 3
            assert all(error <= 1 for error in ours)


class Page(html.parser.HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
        elif tag == "link" and found.get("href"):
            self.loads.add(found["href"])
        for name in ("src", "srcset", "poster", "data"):
            if tag != "a" and found.get(name):
                self.loads.add(found[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site without what its examples print; a warning is an error."""
    for name in ("sphinx", "numpydoc", "myst_parser", "furo", "sphinx_copybutton", "matplotlib"):
        need(name)
    for name in ("torch", "tensorflow", "jax", "dask", "sklearn"):
        need(name)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-D", "run_examples=0", DOCS, folder]
    done = subprocess.run(command, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return {path.relative_to(folder).as_posix(): Page(path) for path in folder.rglob("*.html")} | {"": folder}


def test_the_site_loads_nothing_from_elsewhere(site):
    for name, page in site.items():
        if name:
            assert not {load for load in page.loads if re.match(r"\w+:|//", load) and not load.startswith("data:")}
    for style in site[""].rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", text), style
    for script in site[""].rglob("*.js"):
        assert "cdn." not in script.read_text(encoding="utf-8"), script


def test_links_of_the_site(site):
    for name, page in site.items():
        for link in page.links if name else ():
            if re.match(r"\w+:|//", link):
                continue
            target, _, anchor = link.partition("#")
            file = ((site[""] / name).parent / target).resolve() if target else site[""] / name
            assert file.exists(), f"{name}: {link}"
            other = site.get(file.relative_to(site[""]).as_posix())
            assert not anchor or other is None or anchor in other.anchors, f"{name}: {link}"


MODULES = (
    "calibration", "conformal", "torch", "torch.hf", "torch.metrics", "tensorflow", "tensorflow.keras",
    "tensorflow.metrics", "jax", "dask",
)  # fmt: skip


@pytest.mark.parametrize("module", ["fastlogits", *(f"fastlogits.{name}" for name in MODULES)])
def test_every_public_name_is_in_the_reference(site, directive, module):
    anchors = set().union(*(page.anchors for name, page in site.items() if name))
    names = [name for name, _ in directive("public_names").public_names(importlib.import_module(module))]
    assert names
    assert {f"{module}.{name}" for name in names} <= anchors
