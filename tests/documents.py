"""What is written for people: the README and the pages of docs/, taken apart."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")), ROOT / "benchmarks" / "README.md")
}
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    page: str
    language: str
    text: str


def blocks(*languages):
    """The code blocks of all pages in these languages, in order."""
    found = []
    for name, path in PAGES.items():
        pieces = FENCE.findall(path.read_text(encoding="utf-8"))
        found += [Block(name, language, text) for language, text in pieces if language in languages]
    return found


def commands(program):
    """(page, what follows the program's name) of every command line in the pages that calls it."""
    lines = [(block.page, line) for block in blocks("sh", "console") for line in block.text.splitlines()]
    calls = [(page, re.match(rf"(?:\$ )?(?:\w+=\S+ )*{program} ([^#]*)", line)) for page, line in lines]
    return [(page, call[1].strip()) for page, call in calls if call]


def named(pattern):
    """What the pattern's group finds in the prose and code of all pages."""
    texts = (path.read_text(encoding="utf-8") for path in PAGES.values())
    return sorted({match for text in texts for match in re.findall(pattern, text, re.MULTILINE)})


def links(path):
    """Targets of a page's links and pictures, but for those into the internet."""
    text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", path.read_text(encoding="utf-8")))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith(("http:", "https:"))]
