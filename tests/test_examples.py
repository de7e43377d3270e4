"""What engines of other people call, given what they give: the recipes of examples/."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from conftest import need
from operations import labels_like, make_logits

import fastlogits

WANT = ("nll", "argmax", "entropy", "max_prob")


def example(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("chunks", [None, {"image": 7}, {"image": 7, "class": 500, "crop": 3}], ids=str)
def test_xarray(chunks):
    need("xarray"), need("dask.array")
    recipe = example("xarray_labelled")
    logits, labels = recipe.example(images=20)
    x, marks = logits.values, labels.values
    given = logits if chunks is None else logits.chunk(chunks)
    expected = (
        fastlogits.softmax(x, 1, temperature=2.0),
        fastlogits.entropy(x, 1),
        fastlogits.cross_entropy(x, marks, axis=1, reduction="none"),
    )
    for ours, exact in zip(recipe.answers(given, labels), expected, strict=True):
        assert (ours.chunks is None) == (chunks is None)
        np.testing.assert_allclose(ours.values, exact, rtol=1e-6)
        assert ours.dims == tuple(dim for dim in logits.dims if dim in ours.dims)
        assert (ours.crop == logits.crop).all()


def test_loglikelihood(tmp_path, capsys):
    recipe = example("loglikelihood")
    requests, documents, *gathered = recipe.evaluate(tmp_path)
    for found, exact in zip((requests, documents), gathered, strict=True):
        np.testing.assert_allclose(found.log_prob, exact, rtol=1e-6)
    assert requests.tokens.tolist() == [len(continuation) for _, continuation in recipe.REQUESTS]
    assert {*requests.greedy} == {True, False}
    sizes = [(recipe.LIBRARY / f"{name}.py").stat().st_size for name in recipe.DOCUMENTS]
    assert documents.tokens.tolist() == sizes
    np.testing.assert_allclose(documents.bits_per_byte(sizes), np.log2(documents.perplexity), rtol=1e-6)
    recipe.main()
    assert "textwrap" in capsys.readouterr().out


def test_ensemble_in_numba():
    need("numba"), need("fastlogits.backends.cython")
    recipe = example("ensemble_in_numba")
    rng = np.random.default_rng(0)
    features, weights, biases = (rng.standard_normal(s).astype(np.float32) for s in ((150, 8), (3, 8, 5), (3, 5)))
    logits = features @ weights + biases[:, None]
    found = recipe.mean_probabilities(features, weights, biases)
    np.testing.assert_allclose(found, fastlogits.softmax(logits).mean(0), rtol=1e-5)


def test_ray_data():
    """A batch is a dict of arrays; whatever the batches, the rows get the same."""
    recipe = example("ray_data")
    x = make_logits(50, 300, np.float32)
    labels = labels_like(x)
    whole = recipe.with_stats({"row": np.arange(50), "logits": x, "label": labels})
    pieces = [
        recipe.with_stats({"row": np.arange(50)[rows], "logits": x[rows], "label": labels[rows]})
        for rows in (slice(0, 7), slice(7, 8), slice(8, 50))
    ]
    assert "logits" not in whole
    for name, values in whole.items():
        np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), values)
    np.testing.assert_array_equal(whole["drawn"], fastlogits.sample(x, seed=0, top_p=0.9).ids)
    np.testing.assert_array_equal(whole["nll"], fastlogits.row_stats(x, labels).nll)


def test_generate_text():
    """All three ways write tokens of the library's kind; processors beside configuration the very same."""
    torch = need("torch")
    need("transformers")
    recipe = example("generate_text")
    model = recipe.train(4)
    written = {}
    for name, options in recipe.ways(np.arange(recipe.BATCH)).items():
        torch.manual_seed(0)
        written[name], speed = recipe.generate(model, 3, **options)
        assert written[name].shape == (recipe.BATCH, 3)
        assert speed > 0
    np.testing.assert_array_equal(written["LogitsProcessor"], written["transformers"])


def test_conformal_digits():
    """Each method has the coverage that was asked for, within four standard deviations of what so few rows tell."""
    need("sklearn"), need("matplotlib")
    recipe = example("conformal_digits")
    for alpha in (0.1, 0.3):
        deviation = np.sqrt(alpha * (1 - alpha) * (1 / recipe.CALIBRATION + 1 / 999))
        results = recipe.compare(*recipe.load(), alpha)
        assert {*results} == {*recipe.METHODS}
        for sets, report in results.values():
            assert len(sets) == 999
            assert abs(report.coverage - (1 - alpha)) < 4 * deviation


def test_digits_in_a_frame(capsys):
    """Results come back with the images' index; by whatever library the table is, the numbers are the same."""
    pd, pl, pa = need("pandas"), need("polars"), need("pyarrow")
    need("sklearn")
    recipe = example("digits_in_a_frame")
    logits, labels = recipe.load()
    table, losses = recipe.evaluate(logits, labels)
    assert table.index.equals(logits.index)
    assert {*losses.index} == {*recipe.NAMES}
    codes = np.where(labels.isna(), -100, pd.Index(logits.columns).get_indexer(labels))
    exact = fastlogits.row_stats(logits.to_numpy(), codes, top_k=2)
    np.testing.assert_array_equal(table.nll, exact.nll)
    np.testing.assert_array_equal(table.topk_ids_1, exact.topk_ids[:, 1])
    assert (table.prediction[exact.correct] == table.label[exact.correct]).all()
    for held in (pl.from_pandas(logits), pa.Table.from_pandas(logits, preserve_index=False)):
        for names in (labels, pl.from_pandas(labels).cast(pl.Enum(sorted(recipe.NAMES)))):
            stats = fastlogits.row_stats(held, names, want="nll", ignore_index=-100)
            np.testing.assert_array_equal(np.asarray(stats.nll), exact.nll)
    recipe.main()
    assert "least certain" in capsys.readouterr().out


def test_spark_pandas_udf():
    """Series as Spark makes them of Arrow's lists."""
    pa = need("pyarrow")
    need("pandas")
    recipe = example("spark_pandas_udf")
    x = make_logits(50, 300, np.float32)
    labels = labels_like(x)
    table = pa.table({"logits": list(x), "label": labels, "row": np.arange(50)})
    assert table.schema.field("logits").type == pa.list_(pa.float32())
    found = [recipe.stats(*(batch.column(i).to_pandas() for i in range(3))) for batch in table.to_batches(20)]
    exact = fastlogits.row_stats(x, labels, want=WANT)
    for name in WANT:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in found]), getattr(exact, name))
    drawn = np.concatenate([part["drawn"] for part in found])
    np.testing.assert_array_equal(drawn, fastlogits.sample(x, seed=0, top_p=0.9).ids)
    assert [name.split()[0] for name in recipe.SCHEMA.split(", ")] == [*found[0].columns]
