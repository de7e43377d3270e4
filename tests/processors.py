"""The logits processors of Hugging Face transformers, in the order in which `generate` applies them."""

import contextlib
from unittest import mock

from conftest import need

torch = need("torch")
logits_process = need("transformers.generation.logits_process")

NAMES = {
    "top_h": "TopHLogitsWarper",
    "top_k": "TopKLogitsWarper",
    "top_p": "TopPLogitsWarper",
    "min_p": "MinPLogitsWarper",
    "typical_p": "TypicalLogitsWarper",
    "epsilon_cutoff": "EpsilonLogitsWarper",
    "eta_cutoff": "EtaLogitsWarper",
}


@contextlib.contextmanager
def stable():
    """torch.sort and torch.topk choose among equals as they please; here by index, the lowest first."""
    sort = torch.sort

    def stable_sort(values, dim=-1, descending=False):
        return sort(values, dim=dim, descending=descending, stable=True)

    def topk(values, k, dim=-1, largest=True, sorted=True):
        best = stable_sort(values, dim, True)
        return torch.return_types.topk((best.values.narrow(dim, 0, k), best.indices.narrow(dim, 0, k)))

    with mock.patch.object(torch, "sort", stable_sort), mock.patch.object(torch, "topk", topk):
        yield


def filter_logits(x, *, min_keep=1, dtype="float64", history=None, **parameters):
    """What transformers makes of the rows of x: divided by the temperature as they are, filtered in `dtype`."""
    scores = torch.from_numpy(x)
    if "logit_bias" in parameters:
        bias = {(i,): value for i, value in parameters["logit_bias"].items()}
        scores = logits_process.SequenceBiasLogitsProcessor(bias)(torch.zeros(len(x), 1, dtype=torch.long), scores)
    if "repetition_penalty" in parameters:
        processor = logits_process.RepetitionPenaltyLogitsProcessor(parameters["repetition_penalty"])
        scores = processor(torch.from_numpy(history), scores)
    if "temperature" in parameters:
        scores = logits_process.TemperatureLogitsWarper(parameters["temperature"])(None, scores)
    scores = scores.to(getattr(torch, dtype))
    with stable():
        for name, processor in NAMES.items():
            if name in parameters:
                keep = {} if name == "top_h" else {"min_tokens_to_keep": min_keep}
                warper = getattr(logits_process, processor)(parameters[name], **keep)
                if name == "eta_cutoff":
                    warper.epsilon = torch.tensor(parameters[name], dtype=scores.dtype)  # which would be float32
                scores = warper(None, scores)
    return scores.numpy()
