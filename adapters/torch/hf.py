"""For Hugging Face transformers: loss and evaluation of causal language models, filters and draws in `generate`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

import fastlogits
from fastlogits._checks_filters import PENALTIES
from fastlogits._options import LossOptions
from fastlogits.torch.functional import along

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

__all__ = ["LogitsProcessor", "Sampler", "causal_lm_loss", "compute_metrics", "preprocess_logits_for_metrics"]

IGNORED = -100


def causal_lm_loss(
    logits: Any,
    labels: Tensor | None = None,
    vocab_size: int | None = None,
    num_items_in_batch: Tensor | int | None = None,
    ignore_index: int = -100,
    shift_labels: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    """As `transformers.loss.loss_utils.ForCausalLMLoss`, without a float32 copy of half-precision logits.

    Works as ``Trainer(compute_loss_func=causal_lm_loss)``, as ``model.loss_function = causal_lm_loss`` and as
    ``LOSS_MAPPING["ForCausalLM"] = causal_lm_loss``.

    Parameters
    ----------
    logits : Tensor of shape (..., T, vocab_size), or a model's output that has them
    labels : Tensor of shape (..., T)
        The tokens themselves: position t is scored on the label at t + 1.
    vocab_size : int, optional
        Taken from the logits if None.
    num_items_in_batch : int or Tensor, optional
        What to divide the sum of the losses by: the labels of all micro-batches of a step. By default the
        labels here that are not ignored.
    ignore_index : int, default -100
        Label of padding.
    shift_labels : Tensor of shape (..., T), optional
        Labels that are shifted already, in the place of `labels`.
    **kwargs
        Whatever else a model hands to its loss function; of no effect, as in `ForCausalLMLoss`.

    Returns
    -------
    Tensor
        A scalar; float32 for half-precision logits.
    """
    if not isinstance(logits, Tensor):
        logits = logits["logits"] if isinstance(logits, dict) else logits[0]
    if shift_labels is None:
        # Shifting the labels spares a copy of the logits.
        shift_labels = pad(labels, (0, 1), value=ignore_index)[..., 1:]
    half = logits.dtype.itemsize == 2
    rows, labels = logits.reshape(-1, vocab_size or logits.shape[-1]), shift_labels.reshape(-1).to(logits.device)
    options = LossOptions(1, ignore_index, normalizer=num_items_in_batch)
    return along((rows, labels, None, None), options, loss_dtype=torch.float32 if half else logits.dtype)


def preprocess_logits_for_metrics(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> tuple[Tensor, Tensor]:
    """(negative log-likelihood, prediction) of each token: what `Trainer` keeps instead of the logits.

    Works as ``Trainer(preprocess_logits_for_metrics=preprocess_logits_for_metrics, compute_metrics=compute_metrics)``.
    Evaluation then keeps two numbers a token, from one read of the logits, and not a vocabulary of them.

    Parameters
    ----------
    logits : Tensor of shape (batch, T, C), or a tuple that begins with it
    labels : Tensor of shape (batch, T)
        The tokens themselves: position t is scored on the label at t + 1; -100 does not count.

    Returns
    -------
    tuple of Tensor, each of shape (batch, T)
        float32 and int64, of the token that follows each position. Where none is to be scored, the first is 0.
    """
    if not isinstance(logits, Tensor):
        logits = logits[0]
    following = pad(labels, (0, 1), value=IGNORED)[..., 1:]
    found = fastlogits.row_stats(logits.detach(), following, want=("nll", "argmax"), ignore_index=IGNORED)
    return found.nll.float(), found.argmax


def compute_metrics(prediction: Any) -> dict[str, float]:
    """Perplexity and accuracy of the next token, of what `preprocess_logits_for_metrics` has kept.

    Parameters
    ----------
    prediction : transformers.EvalPrediction
        Its predictions are the two arrays, its label_ids the tokens.

    Returns
    -------
    dict
        "perplexity", "accuracy" and "tokens", of the tokens that count.
    """
    nll, predicted = (np.asarray(part)[..., :-1] for part in prediction.predictions)
    following = np.asarray(prediction.label_ids)[..., 1:]
    counted = following != IGNORED
    tokens = int(counted.sum())
    return {
        "perplexity": float(np.exp(np.mean(nll[counted], dtype=np.float64))) if tokens else float("nan"),
        "accuracy": float(np.mean((predicted == following)[counted])) if tokens else float("nan"),
        "tokens": tokens,
    }


class LogitsProcessor:
    """The filters and penalties of `fastlogits.filter_logits`, in the place of transformers' own processors.

    Of the options that both have, the same classes are left. Use it as
    ``model.generate(..., do_sample=True, logits_processor=[LogitsProcessor(top_p=0.9)])``; what the generation's
    configuration asks for comes beside it, its default ``top_k=50`` too: pass ``top_k=0`` to `generate`.

    Parameters
    ----------
    prompt_ignore_length : int, default 0
        How many of the first ids do not count for penalties. With the prompt's length, `frequency_penalty` and
        `presence_penalty` are those of vLLM.
    **options
        As of `fastlogits.filter_logits`. The ids so far are the `history`. `allowed` may be a function, which is called
        with the ids so far at each step and returns the mask: a grammar's, of bool or of packed bits.
    """

    function: ClassVar[Callable[..., Any]] = staticmethod(fastlogits.filter_logits)
    given: ClassVar[tuple[str, ...]] = ("history", "axis", "out")

    def __init__(self, *, prompt_ignore_length: int = 0, **options: Any) -> None:
        known = inspect.signature(self.function).parameters.keys() - set(self.given) - {"logits"}
        for name in options.keys() - known:
            raise TypeError(f"{name}: expected one of {', '.join(sorted(known))}")
        self.prompt_ignore_length = prompt_ignore_length
        self.options: dict[str, Any] = options

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self.function(scores.detach(), **self._of_step(input_ids))

    def _of_step(self, input_ids):
        options = dict(self.options)
        if any(options.get(name) is not None for name in PENALTIES):
            options["history"] = input_ids[:, self.prompt_ignore_length :]
        if callable(options.get("allowed")):
            options["allowed"] = options["allowed"](input_ids)
        return options


class Sampler(LogitsProcessor):
    """`LogitsProcessor` that also draws, by `fastlogits.sample`.

    Use it as ``model.generate(..., do_sample=False, logits_processor=[Sampler(seed=0, top_p=0.9)])``: it leaves the
    class that it has drawn, which the greedy search then takes. What is drawn depends on the logits, the seed, the
    length so far and the sequence's place in the batch; or, with a seed for each sequence, not on its place.

    Parameters
    ----------
    seed : int, array_like of int, numpy.random.Generator or None, optional
        As of `fastlogits.sample`.
    prompt_ignore_length, **options
        As of `LogitsProcessor`, and `xtc_probability`.
    """

    function: ClassVar[Callable[..., Any]] = staticmethod(fastlogits.sample)
    given: ClassVar[tuple[str, ...]] = ("history", "axis", "rows", "draws", "replacement")

    def __init__(
        self, *, seed: ArrayLike | np.random.Generator | None = None, prompt_ignore_length: int = 0, **options: Any
    ) -> None:
        super().__init__(prompt_ignore_length=prompt_ignore_length, seed=seed, **options)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        options = self._of_step(input_ids)
        batch, length = input_ids.shape
        own = getattr(options["seed"], "__len__", None) is not None
        rows = torch.full((batch,), length) if own else length * batch + torch.arange(batch)
        ids = self.function(scores.detach(), rows=rows, **options).ids
        return torch.full_like(scores, -torch.inf).scatter_(1, ids[:, None].to(scores.device), 0.0)
