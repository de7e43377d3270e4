"""`fastlogits apply`: every operation, from and to every format, equals the function on the array in memory."""


import files
import numpy as np
import pytest
from conftest import need
from files import FORMATS

import fastlogits
from fastlogits.cli import main

LABELLED = "correct", "nll", "rank"


def apply(*words, expect=0):
    """What the command says in JSON."""
    assert main(["apply", *map(str, words), "--json", "--no-progress"]) == expect


@pytest.fixture
def logits(rng):
    x = rng.normal(scale=4, size=(60, 33)).astype(np.float32)
    x[3, 5] = np.nan
    x[4] = -np.inf
    x[5, 7] = np.inf
    x[6, ::2] = -np.inf
    return x


@pytest.fixture
def labels(rng):
    labels = rng.integers(33, size=60)
    labels[10] = -100
    return labels


def top(logits, k, axis=-1):
    return fastlogits.topk(logits, k, axis)._asdict()


def stats(logits, labels=None, axis=-1, **options):
    return vars(fastlogits.row_stats(logits, labels, axis=axis, **options))


# name: (options, what the results must be)
OPERATIONS = {
    "softmax": ([], lambda x, y, axis: {"probs": fastlogits.softmax(x, axis)}),
    "softmax, warm": (
        ["--temperature", "2.5"],
        lambda x, y, axis: {"probs": fastlogits.softmax(x, axis, temperature=2.5)},
    ),
    "log-softmax": ([], lambda x, y, axis: {"log_probs": fastlogits.log_softmax(x, axis)}),
    "logsumexp": ([], lambda x, y, axis: stats(x, want=["lse"], axis=axis)),
    "argmax": ([], lambda x, y, axis: {"argmax": fastlogits.argmax(x, axis)}),
    "topk": (["--top-k", "4"], lambda x, y, axis: top(x, 4, axis)),
    "stats": ([], lambda x, y, axis: stats(x, axis=axis)),
    "stats, some": (
        ["--want", "margin,topk_log_probs", "--top-k", "3"],
        lambda x, y, axis: stats(x, want=["margin", "topk_log_probs"], top_k=3, axis=axis),
    ),
    "stats, labels": (["--labels"], lambda x, y, axis: stats(x, y, axis=axis)),
    "temperature": (
        ["--temperature", "1.7"],
        lambda x, y, axis: {"logits": (x.astype(np.float64) / 1.7).astype(x.dtype)},
    ),
}


def run(name, source, target, labels, *words):
    options = list(OPERATIONS[name][0])
    if "--labels" in options:
        options.append(labels)
    apply(name.partition(",")[0], source, target, *options, *words)


def assert_same(path, expected):
    found = files.read(path)
    if set(found) == {None}:
        found = dict.fromkeys(expected, found[None])
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("target", [".npz", ".safetensors"])
def test_operations(name, target, logits, labels, tmp_path):
    np.save(tmp_path / "x.npy", logits)
    np.save(tmp_path / "y.npy", labels)
    run(name, tmp_path / "x.npy", tmp_path / f"out{target}", tmp_path / "y.npy")
    assert_same(tmp_path / f"out{target}", OPERATIONS[name][1](logits, labels, -1))


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_formats(source, target, logits, tmp_path):
    for suffix in (source, target):
        need(FORMATS[suffix].library)
    FORMATS[source].write(tmp_path / f"x{source}", {"logits": logits})
    apply("softmax", tmp_path / f"x{source}", tmp_path / f"out{target}")
    assert_same(tmp_path / f"out{target}", {"probs": fastlogits.softmax(logits)})


@pytest.mark.parametrize("target", [suffix for suffix in FORMATS if suffix != ".npy"])
def test_several_results(target, logits, labels, tmp_path):
    """Also: labels from the file of the logits."""
    FORMATS[target].write(tmp_path / f"x{target}", {"logits": logits, "labels": labels})
    x, out = f"{tmp_path / 'x'}{target}", tmp_path / f"out{target}"
    apply("stats", f"{x}:logits", out, "--labels", f"{x}:labels", "--top-k", 2)
    assert_same(out, stats(logits, labels, top_k=2))


AXES = [((7, 5, 6), axis) for axis in (0, 1, 2, -2)] + [((9,), 0), ((3, 4, 2, 5), 1)]


@pytest.mark.parametrize(("shape", "axis"), AXES)
@pytest.mark.parametrize("name", ["softmax", "logsumexp", "topk", "stats, labels"])
@pytest.mark.parametrize("memory", ["512MB", "3KB", "200"])
def test_any_axis_in_blocks(shape, axis, name, memory, rng, tmp_path):
    x = rng.normal(size=shape).astype(np.float32)
    y = rng.integers(shape[axis], size=np.delete(shape, axis))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    run(name, *(tmp_path / n for n in ("x.npy", "out.npz", "y.npy")), "--axis", axis, "--memory", memory)
    expected = OPERATIONS[name][1](x, y, axis)
    found = files.read(tmp_path / "out.npz")
    for result, array in expected.items():
        if array.dtype.kind == "f" and memory != "512MB":
            np.testing.assert_array_max_ulp(found[result], array, 2)
        else:
            np.testing.assert_array_equal(found[result], array)
