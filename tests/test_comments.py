"""What comments refer to exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [
    path for folder in ("fastlogits", "adapters", "examples") for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyx", ".pxd", ".pxi", ".h"}
]  # fmt: skip
NAMES = {path.name for path in SOURCES}


def test_files_that_are_named_exist():
    missing = [
        (path.name, name)
        for path in SOURCES
        for name in re.findall(r"(?<![\w*.])\w+\.(?:pyx|pxd|pxi|py)\b", path.read_text())
        if name not in NAMES
    ]
    assert not missing


def test_functions_are_where_comments_find_them():
    """As "`name` in folder/file.py"."""
    for path in SOURCES:
        for name, file in re.findall(r"`(\w+)` in\s+(\w+/\w+\.py)\b", path.read_text()):
            assert f"def {name}(" in (ROOT / "fastlogits" / file).read_text(), f"{path.name}: {name} in {file}"
