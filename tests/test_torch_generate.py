"""Filters and draws in transformers' `generate`: the same classes as by its own processors, and its greedy search."""

import itertools
import warnings

import numpy as np
import processors
import pytest
import torch
import transformers
from refusals import refused

import fastlogits
from fastlogits.torch import hf

CLASSES = 500
OPTIONS = {
    "temperature": (0.25, 0.7, 3.0),
    "top_h": (0.3, 0.7, 0.95),
    "top_k": (1, 7, 300),
    "top_p": (0.3, 0.9),
    "min_p": (0.02, 0.3),
    "typical_p": (0.3, 0.9),
    "repetition_penalty": (0.8, 1.3),
    "logit_bias": ({3: 2.0, 4: -np.inf}, {0: -3.0}),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=CLASSES, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


PROMPT = torch.arange(8).reshape(2, 4) * 11 + 1


def generate(model, *own, **options):
    """Four more tokens of two sequences."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.generate(PROMPT, max_new_tokens=4, logits_processor=[*own], **options)


def cases():
    rng = np.random.default_rng(0)
    single = [{name: value} for name, values in OPTIONS.items() for value in values]
    several = ({name: values[rng.integers(len(values))] for name, values in OPTIONS.items() if rng.random() < 0.5}
               for _ in itertools.count())  # fmt: skip
    return [*single, *itertools.islice(several, 40)]


@pytest.mark.parametrize("options", cases(), ids=str)
def test_the_same_classes_as_transformers(options):
    """In float64, where rounding decides nothing."""
    rng = np.random.default_rng(len(str(options)))
    x = 3 * rng.standard_normal((4, CLASSES))
    history = rng.integers(0, CLASSES, (4, 30))
    penalised = {"history": history} if "repetition_penalty" in options else {}
    theirs = processors.filter_logits(x, **options, **penalised)
    ours = hf.LogitsProcessor(**options)(torch.from_numpy(history), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    np.testing.assert_array_equal(ours, fastlogits.filter_logits(x, **options, **penalised))


def test_generation_is_that_of_transformers(model):
    """Processor beside configuration: the same scores at every step, hence the same draws."""
    options = {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.4}
    torch.manual_seed(1)
    theirs = generate(model, do_sample=True, **options)
    torch.manual_seed(1)
    ours = generate(model, hf.LogitsProcessor(**options), do_sample=True, top_k=0)
    np.testing.assert_array_equal(ours, theirs)


def test_sampler(model):
    """A sequence's draws depend on the seed and its place; with seeds of their own, not on the place."""
    sampler = hf.Sampler(seed=5, top_p=0.99)
    first = generate(model, sampler, do_sample=False)
    np.testing.assert_array_equal(generate(model, sampler, do_sample=False), first)
    assert (first != generate(model, hf.Sampler(seed=6, top_p=0.99), do_sample=False)).any()
    assert first[:, :4].equal(PROMPT)
    logits, rows = torch.zeros(2, 30), 8 + torch.arange(2)
    expected = fastlogits.sample(logits, seed=5, rows=rows).ids
    chosen = hf.Sampler(seed=5)(PROMPT, logits)
    assert (chosen == 0).sum() == 2
    np.testing.assert_array_equal(chosen.argmax(-1), expected)
    own = hf.Sampler(seed=[3, 4])(PROMPT, logits).argmax(-1)
    swapped = hf.Sampler(seed=[4, 3])(PROMPT, logits).argmax(-1)
    np.testing.assert_array_equal(own, swapped.flip(0))
    longer = torch.cat([hf.Sampler(seed=[3, 4])(PROMPT[:, :n], logits).argmax(-1) for n in range(1, 5)])
    assert len(longer.unique()) > 2


def test_history_is_what_follows_the_prompt():
    logits = torch.ones(2, 80)
    found = hf.LogitsProcessor(frequency_penalty=0.25, prompt_ignore_length=3)(PROMPT, logits)
    assert (found != 1).sum() == 2
    assert found[0, PROMPT[0, 3]] == found[1, PROMPT[1, 3]] == 0.75


def test_a_mask_for_each_step():
    """Of bits, as xgrammar's matcher fills it."""
    words = np.zeros((2, 16), np.int32)
    words[0, 1], words[1, 15] = 0b101, 1
    seen = []

    def allowed(input_ids):
        seen.append(input_ids.shape)
        return torch.from_numpy(words)

    found = hf.LogitsProcessor(allowed=allowed)(PROMPT, torch.zeros(2, CLASSES))
    assert (found > -torch.inf).nonzero().tolist() == [[0, 32], [0, 34], [1, 480]]
    assert seen == [(2, 4)]


def test_unknown_options():
    for name in ("history", "rows", "topk"):
        with refused(TypeError, name, "top_k"):
            hf.LogitsProcessor(**{name: 1})
    with refused(TypeError, "draws", "xtc_probability"):
        hf.Sampler(draws=2)
