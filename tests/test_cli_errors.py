"""What `fastlogits` says when it cannot: one line with the file's name; and no file that looks like a result."""

import os

import numpy as np
import pytest

from fastlogits.cli import main


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", rng.normal(size=(6, 4)).astype(np.float32))
    np.save("y.npy", np.arange(6) % 4)
    np.savez("two.npz", a=np.zeros((2, 3)), b=np.zeros((2, 3)))
    return tmp_path


def complaint(capsys, words, status=1):
    """The one line on stderr."""
    try:
        found = main(words.split())
    except SystemExit as stop:
        found = stop.code
    output, errors = capsys.readouterr()
    assert found == status, errors
    assert output == ""
    (line,) = errors.splitlines()
    assert line.startswith("fastlogits")
    return line


USAGE = {
    "apply": "required: OP",
    "apply softplus x.npy out.npy": "invalid choice: 'softplus'",
    "apply softmax x.npy": "required: TARGET",
    "apply softmax x.csv out.npy": "got 'x.csv'",
    "apply softmax x.npy out.txt": "got 'out.txt'",
    "apply softmax x.npy out.npz:probs": "names of their own",
    "apply softmax x.npy out.npy --top-k 3": "unrecognized arguments: --top-k",
    "apply softmax x.npy out.npy --temperature 0": "temperature: expected a number above 0",
    "apply softmax x.npy out.npy --temperature nan": "temperature: expected a number above 0",
    "apply softmax x.npy out.npy --memory much": "expected a size such as 512MB, got 'much'",
    "apply softmax x.npy out.npy --memory 0": "expected a size such as 512MB, got '0'",
    "apply softmax x.npy out.npy --threads 0": "expected an integer of at least 1, got '0'",
    "apply softmax x.npy out.npy --dtype int8": "invalid choice: 'int8'",
    "apply temperature x.npy out.npy": "required: --temperature",
    "apply topk x.npy out.npz": "required: --top-k",
    "apply topk x.npy out.npz --top-k -1": "top_k: expected an integer from 0",
    "apply stats x.npy out.npz --want lse,perplexity": "want: expected some of",
    "apply stats x.npy out.npz --want nll": "labels: expected, since 'nll' is wanted",
    "apply stats x.npy out.npz --want lse --labels y.npy": "labels: has no effect",
}


@pytest.mark.parametrize("words", USAGE)
def test_usage(words, folder, capsys):
    assert USAGE[words] in complaint(capsys, words, status=2)
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]


FAILURES = {
    "apply softmax none.npy out.npy": "none.npy: no such file",
    "apply softmax x.npy none/out.npy": "none/out.npy",
    "apply softmax x.npy y.npy": "y.npy: exists already; --force replaces it",
    "apply softmax x.npy out.npy --axis 2": "x.npy: axis 2 is out of bounds",
    "apply softmax x.npy:a out.npy": "x.npy: has no array 'a'",
    "apply softmax two.npz out.npy": "two.npz: expected one array, found: a, b; name one, as two.npz:a",
    "apply softmax two.npz:c out.npy": "two.npz: has no array 'c', only: a, b",
    "apply topk x.npy out.npy --top-k 2": "out.npy: .npy holds one array, not values and indices",
    "apply topk x.npy out.npz --top-k 5": "x.npy: top_k: expected an integer from 0 to the number of classes, 4",
    "apply softmax x.npy out.npy --dtype bfloat16": "out.npy: .npy cannot hold bfloat16",
    "apply stats x.npy out.parquet --axis 0 --top-k 2": "out.parquet: .parquet holds rows",
    "apply stats x.npy out.npz --labels none.npy": "none.npy: no such file",
    "apply stats x.npy out.npz --labels x.npy": "x.npy: expected integer labels, found float32",
    "apply stats x.npy out.npz --labels y.npy --axis 0": "y.npy: expected labels of shape (4,), found (6,)",
}


@pytest.mark.parametrize("words", FAILURES)
def test_failures(words, folder, capsys):
    assert FAILURES[words] in complaint(capsys, words)
    assert sorted(os.listdir()) == ["two.npz", "x.npy", "y.npy"]
