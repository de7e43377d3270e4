"""The loss of causal language models for Hugging Face transformers."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastlogits._options import LossOptions
from fastlogits.torch.functional import along


def causal_lm_loss(
    logits,
    labels: Tensor | None = None,
    vocab_size: int | None = None,
    num_items_in_batch: Tensor | int | None = None,
    ignore_index: int = -100,
    shift_labels: Tensor | None = None,
    **kwargs,
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
