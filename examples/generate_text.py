"""Text from a tiny language model: transformers' own processors beside ours, in tokens per second.

A Llama of one layer learns bytes of the source of Python's standard library, for some seconds. Then it writes on, with
a repetition penalty, top-k and top-p: by the options of `generate`, by `LogitsProcessor` in their place, and by
`Sampler`, which also draws, with a seed for each sequence. Its vocabulary has 50257 places, as that of GPT-2, of which
bytes are the first 256, so that filters have to do what they have to in larger models.

    python examples/generate_text.py
"""

import argparse
import sysconfig
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers

from fastlogits.torch import hf

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
VOCABULARY, BYTES = 50257, 256
BATCH, LENGTH = 16, 48
PROMPT = b"    def "
OPTIONS = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1}


def train(steps, seed=0):
    """A model that has seen `steps` batches of pieces of the library's source."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, bos_token_id=None, eos_token_id=None, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    text = np.frombuffer(b"".join(path.read_bytes() for path in sorted(LIBRARY.glob("*.py"))), np.uint8)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        starts = rng.integers(0, len(text) - LENGTH, BATCH)
        ids = torch.from_numpy(text[starts[:, None] + np.arange(LENGTH)].astype(np.int64))
        logits = model(ids).logits
        loss = hf.causal_lm_loss(logits, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def ways(seeds):
    """The arguments of `generate`, by name."""
    processor = hf.LogitsProcessor(**OPTIONS)
    sampler = hf.Sampler(seed=seeds, **OPTIONS)
    return {
        "transformers": {"do_sample": True, **OPTIONS},
        "LogitsProcessor": {"do_sample": True, "top_k": 0, "logits_processor": [processor]},
        "Sampler": {"do_sample": False, "logits_processor": [sampler]},
    }


def generate(model, tokens, **options):
    """(ids after the prompt, tokens per second)"""
    prompt = torch.tensor([list(PROMPT)] * BATCH)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about attention masks, since 0 is a byte here
        start = time.perf_counter()
        ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, **options)
        seconds = time.perf_counter() - start
    return ids[:, len(PROMPT) :], BATCH * tokens / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=32)
    arguments = parser.parse_args()
    model = train(arguments.steps)
    seeds = np.arange(BATCH)
    for name, options in ways(seeds).items():
        torch.manual_seed(0)
        ids, speed = generate(model, arguments.tokens, **options)
        print(f"{name:<16}{speed:>8.0f} tokens/s   {show(ids[0])}")


def show(ids):
    return repr((PROMPT + bytes(i for i in ids.tolist() if i < BYTES)).decode("latin-1"))


if __name__ == "__main__":
    main()
