"""Evaluation with torchmetrics and Trainer, from logits: the numbers of the whole, batch by batch."""

import copy

import numpy as np
import pytest
from conftest import need
from operations import make_logits
from refusals import refused

import fastlogits
from fastlogits import calibration

torch = need("torch")
torchmetrics = need("torchmetrics")
transformers = need("transformers")
from fastlogits.torch import hf, metrics  # noqa: E402

X = torch.from_numpy(3 * np.random.default_rng(0).standard_normal((40, 7), np.float32))
LABELS = torch.from_numpy(fastlogits.sample(X.numpy() / 2, seed=0).ids)
LABELS[::9] = -100
METRICS = {
    "perplexity": (metrics.Perplexity(), lambda x, y: fastlogits.perplexity(x, y)),
    "accuracy": (metrics.TopKAccuracy(), lambda x, y: fastlogits.accuracy(x, y)),
    "top 3": (metrics.TopKAccuracy(3), lambda x, y: fastlogits.accuracy(x, y, top_k=3)),
    "ece": (metrics.ExpectedCalibrationError(6), lambda x, y: calibration.expected_calibration_error(x, y, bins=6)),
}


@pytest.mark.parametrize("name", METRICS)
def test_batches_are_as_the_whole(name):
    metric, function = METRICS[name]
    metric = copy.deepcopy(metric)
    for start in range(0, 40, 16):
        metric.update(X[start : start + 16], LABELS[start : start + 16])
    exact = float(function(X.numpy(), LABELS.numpy()))
    assert metric.compute().item() == pytest.approx(exact, rel=1e-6)
    other = copy.deepcopy(metric)
    other.reset()
    other.update(X[:16], LABELS[:16])
    rest = copy.deepcopy(metric)
    rest.reset()
    rest.update(X[16:], LABELS[16:])
    other.merge_state(rest)
    assert other.compute().item() == pytest.approx(exact, rel=1e-6)
    half = copy.deepcopy(metric)
    half.reset()
    half.update(X.bfloat16(), LABELS)
    exact = float(function(X.bfloat16().double().numpy(), LABELS.numpy()))
    assert half.compute().item() == pytest.approx(exact, rel=1e-2)


def test_they_are_torchmetrics_own():
    """In a collection, beside those of torchmetrics."""
    counted = LABELS >= 0
    collection = torchmetrics.MetricCollection(
        {"ours": metrics.ExpectedCalibrationError(10), "perplexity": metrics.Perplexity()}
    )
    found = collection(X[counted], LABELS[counted])
    theirs = torchmetrics.functional.calibration_error(
        X[counted].softmax(-1), LABELS[counted], "multiclass", n_bins=10, num_classes=7
    )
    assert found["ours"].item() == pytest.approx(theirs.item(), rel=1e-4)
    perplexity = torchmetrics.functional.text.perplexity(X[None], LABELS[None], ignore_index=-100)
    assert found["perplexity"].item() == pytest.approx(perplexity.item(), rel=1e-5)
    with refused(ValueError, "bins", "at least 1"):
        metrics.ExpectedCalibrationError(0)


def test_the_trainer_keeps_statistics(tmp_path):
    """Of a tiny random model: the numbers of the logits, which are gone by then."""
    need("accelerate")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=None, eos_token_id=None, pad_token_id=0, use_cache=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 50, (7, 9)))
    labels = ids.clone()
    labels[2, 5:] = -100
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=3, report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, arguments, eval_dataset=rows, compute_metrics=hf.compute_metrics,
        preprocess_logits_for_metrics=hf.preprocess_logits_for_metrics,
    )  # fmt: skip
    found = trainer.evaluate()
    with torch.no_grad():
        x = model(ids).logits[:, :-1].numpy()
    following = labels[:, 1:].numpy()
    assert found["eval_perplexity"] == pytest.approx(fastlogits.perplexity(x, following), rel=1e-5)
    assert found["eval_accuracy"] == pytest.approx(fastlogits.accuracy(x, following))
    assert found["eval_tokens"] == (following != -100).sum()


def test_half_logits_are_scored_in_float32():
    x = torch.from_numpy(make_logits(2, 30, np.float32)).nan_to_num(0.0, 1.0, -1.0)[:, None].repeat(1, 3, 1).bfloat16()
    nll, predicted = hf.preprocess_logits_for_metrics((x, None), torch.tensor([[1, 2, 3], [4, 5, -100]]))
    assert nll.dtype == torch.float32
    assert nll.shape == predicted.shape == (2, 3)
    assert (nll[:, -1] == 0).all()
    assert nll[1, 1] == 0


def test_nothing_to_score():
    prediction = transformers.EvalPrediction((np.zeros((1, 2)), np.zeros((1, 2), int)), np.full((1, 2), -100))
    found = hf.compute_metrics(prediction)
    assert np.isnan(found["perplexity"])
    assert found["tokens"] == 0
