"""Train a tiny causal language model through Hugging Face's Trainer, with fastlogits as its loss.

One argument does it: ``Trainer(compute_loss_func=fastlogits.torch.hf.causal_lm_loss)``. The model is initialised
at random and the text is made up, so nothing is downloaded.

    python examples/huggingface_trainer.py [--steps 20]
"""

import argparse
import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import fastlogits.torch

VOCABULARY = 32000
LENGTH = 64


def make_model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
        )
    )


def make_text(rows=64):
    """Sequences that count in steps, with padding at the end: something that can be learnt."""
    starts = torch.arange(rows)[:, None]
    tokens = (starts + torch.arange(LENGTH) * (1 + starts % 3)) % 500
    labels = torch.where(torch.arange(LENGTH) < LENGTH - starts % 8, tokens, -100)
    return [{"input_ids": ids, "labels": label} for ids, label in zip(tokens, labels, strict=True)]


def train(compute_loss_func, steps):
    """The loss that the Trainer reports, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            logging_steps=steps,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            seed=0,
        )
        trainer = Trainer(make_model(), arguments, train_dataset=make_text(), compute_loss_func=compute_loss_func)
        result = trainer.train()
    return result.training_loss, result.metrics["train_runtime"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    runs = {
        "transformers' own loss": train(None, steps),
        "fastlogits": train(fastlogits.torch.hf.causal_lm_loss, steps),
    }
    for name, (loss, seconds) in runs.items():
        print(f"{name:<24} loss {loss:.4f}   {seconds:.1f} s")


if __name__ == "__main__":
    main()
