"""What a type checker knows of the public functions, in a user's strictly checked program."""

import re
import subprocess
import sys

import pytest
import verified
from conftest import need

PROGRAM = """
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import fastlogits


class Tensor:
    shape = (2, 3)


tensor = Tensor()
labels = np.zeros(2, np.int64)
x: npt.NDArray[np.float32] = np.zeros((2, 3), np.float32)

assert_type(fastlogits.softmax(x), npt.NDArray[np.float32])
assert_type(fastlogits.softmax(tensor, temperature=2.0, axis=(0, 1)), Tensor)
assert_type(fastlogits.softmax([[1.0, 2.0]]), "np.ndarray[Any, Any]")
assert_type(fastlogits.logsumexp(tensor, keepdims=True), Tensor)
assert_type(fastlogits.logsumexp(x, return_sign=True), tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]])
assert_type(fastlogits.softmax_backward(x, x, out=x), npt.NDArray[np.float32])
assert_type(fastlogits.topk(tensor, 2).indices, Tensor)
assert_type(fastlogits.loglikelihood(tensor, labels, lengths=[1, 1]).log_prob, Tensor)
assert_type(fastlogits.sample(tensor, seed=0, top_p=0.9).ids, Tensor)
assert_type(fastlogits.cross_entropy_with_grad(x, labels, reduction="sum").grad_logits, npt.NDArray[np.float32])
assert_type(fastlogits.filter_logits(x, top_k=[2, 3]), npt.NDArray[np.float32])
with fastlogits.settings(backend="numpy", num_threads=1):
    assert_type(fastlogits.row_stats(x, labels, want=["nll"]), fastlogits.RowStats)
    stats = fastlogits.row_stats(tensor, ["cat", "dog"], classes=("cat", "dog", "eel"))
    assert_type(len(stats), int)
    assert_type(stats.nll, Any)
    assert_type(stats[:1], Any)
    assert_type(stats._asdict(), dict[str, Any])

fastlogits.softmax(x, axes=1)  # call-arg
fastlogits.softmax(x, temperature="hot")  # arg-type
fastlogits.topk(x)  # call-arg
fastlogits.cross_entropy(x, labels, reduction="avg")  # arg-type
fastlogits.settings(backend="numpi")  # arg-type
fastlogits.row_stats(x, labels, classes=3)  # arg-type
fastlogits.show_config("dict")  # arg-type
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """(line, code) of each complaint."""
    need("mypy")
    path = tmp_path_factory.mktemp("typing") / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-incremental", path]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    return {(int(line), code) for line, code in re.findall(r"program\.py:(\d+): error: .*\[([\w-]+)\]$", output, re.M)}


def test_what_is_wrong_is_said_and_nothing_else(said):
    lines = enumerate(PROGRAM.splitlines(), 1)
    assert said == {(number, line.split("# ")[1]) for number, line in lines if "  # " in line}


def test_public_names_have_types(tmp_path):
    """All but those whose classes scikit-learn and torchmetrics leave untyped, and dask's lazy measures."""
    need("basedpyright")
    for module in verified.PUBLIC:
        need(module)
    count, without = verified.unknown(tmp_path)
    assert count > 300
    assert len(without) <= 0.05 * count, without
