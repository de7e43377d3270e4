"""What README.md shows works: its examples run, and the commands and files it names exist."""

import doctest
import re
from pathlib import Path

import pytest
from conftest import need

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```pycon\n(.*?)```", README, re.DOTALL)


def named(pattern):
    return sorted(set(re.findall(pattern, README, re.MULTILINE)))


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(example):
    for framework in re.findall(r"fastlogits\.(torch|tensorflow|jax|dask)", example):
        need(framework)
    test = doctest.DocTestParser().get_doctest(example, {}, "README.md", "README.md", None)
    report = []
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert results.attempted > 1
    assert results.failed == 0, "".join(report)


def test_every_python_block_is_run():
    assert README.count(">>> import") == len(EXAMPLES) > 0
    assert "```python" not in README


@pytest.mark.parametrize("target", named(r"(?:^|`)make ([a-z-]+)"))
def test_make_target(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", named(r"`((?:fastlogits|tests|examples)/[\w./]*)`"))
def test_path(path):
    assert (ROOT / path).exists()
