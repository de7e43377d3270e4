"""Log-likelihoods as harnesses that evaluate language models ask for them, from saved logits.

The model guesses a byte from the one before it, by counts in the source of Python's own standard library, so that all
of it is on every machine. Its logits are saved in half precision, as those of a large model would be. From the files
come, as from lm-evaluation-harness, the log-probability of a continuation and whether the model would have written it
by itself, and the perplexity of documents, read in windows. Both are compared with log_softmax and a gather in double.

    python examples/loglikelihood.py
"""

import sysconfig
import tempfile
from pathlib import Path

import numpy as np

import fastlogits

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
DOCUMENTS = ("this", "keyword", "bisect", "textwrap")  # not trained on
REQUESTS = (
    (b"a list of re", b"quests"),
    (b"a list of req", b"u"),
    (b"import", b" the"),
    (b"import", b" this"),
)
WINDOW = 512
IGNORED = -100


def train():
    """Logits of the next byte, one row for each byte before it: logarithms of counts, in half precision."""
    counts = np.full((256, 256), 0.5)
    for path in sorted(LIBRARY.glob("*.py")):
        if path.stem not in DOCUMENTS:
            text = as_tokens(path.read_bytes())
            counts += np.bincount(256 * text[:-1] + text[1:], minlength=256 * 256).reshape(256, 256)
    return np.log(counts).astype(np.float16)


def as_tokens(text):
    return np.frombuffer(text, np.uint8).astype(np.int64)


def save_requests(path, model):
    """Labels and lengths of the requests, whose logits go to `path`, one request after the other."""
    labels, lengths, before = [], [], []
    for context, continuation in REQUESTS:
        tokens = as_tokens(context + continuation)
        following = tokens[1:].copy()
        following[: len(context) - 1] = IGNORED
        labels.append(following)
        lengths.append(len(following))
        before.append(tokens[:-1])
    np.save(path, model[np.concatenate(before)])
    return np.concatenate(labels), lengths


def save_documents(path, model):
    """Labels, and the document of each row: windows of documents, the longest first, as a model is fed with them."""
    windows = []
    for number, name in enumerate(DOCUMENTS):
        tokens = as_tokens(b"\n" + (LIBRARY / f"{name}.py").read_bytes())
        for start in range(0, len(tokens) - 1, WINDOW):
            windows.append((number, tokens[start : start + WINDOW + 1]))
    windows.sort(key=lambda window: -len(window[1]))
    np.save(path, model[np.concatenate([tokens[:-1] for _, tokens in windows])])
    groups = np.repeat([number for number, _ in windows], [len(tokens) - 1 for _, tokens in windows])
    return np.concatenate([tokens[1:] for _, tokens in windows]), groups


def by_gather(logits, labels, groups):
    """The log-probabilities of documents in double precision, from an array of all log-probabilities."""
    log_probs = fastlogits.log_softmax(logits.astype(np.float64))
    counted = labels != IGNORED
    picked = np.take_along_axis(log_probs, np.where(counted, labels, 0)[:, None], 1)[:, 0]
    return np.bincount(groups, np.where(counted, picked, 0))


def evaluate(folder):
    """What fastlogits finds of the requests and of the documents, and what log_softmax and a gather find."""
    model = train()
    labels, lengths = save_requests(folder / "requests.npy", model)
    logits = np.load(folder / "requests.npy", mmap_mode="r")
    requests = fastlogits.loglikelihood(logits, labels, lengths=lengths)
    gathered = [by_gather(logits, labels, np.repeat(np.arange(len(lengths)), lengths))]
    labels, groups = save_documents(folder / "documents.npy", model)
    logits = np.load(folder / "documents.npy", mmap_mode="r")
    documents = fastlogits.loglikelihood(logits, labels, groups=groups)
    return requests, documents, *gathered, by_gather(logits, labels, groups)


def main():
    with tempfile.TemporaryDirectory() as folder:
        requests, documents, *gathered = evaluate(Path(folder))
    print("log-probability  greedy  continuation")
    for (context, continuation), log_prob, greedy in zip(REQUESTS, requests.log_prob, requests.greedy, strict=True):
        print(f"{log_prob:15.3f}  {greedy!s:6}  {context.decode()}[{continuation.decode()}]")
    bits = documents.bits_per_byte([(LIBRARY / f"{name}.py").stat().st_size for name in DOCUMENTS])
    print("\ntokens  perplexity  bits per byte  document")
    for tokens, perplexity, each, name in zip(documents.tokens, documents.perplexity, bits, DOCUMENTS, strict=True):
        print(f"{tokens:6}  {perplexity:10.2f}  {each:13.3f}  {name}")
    pairs = zip((requests, documents), gathered, strict=True)
    apart = max(np.abs(found.log_prob / exact - 1).max() for found, exact in pairs)
    print(f"\nfarthest from log_softmax and a gather in double precision: {apart:.0e}, relative")


if __name__ == "__main__":
    main()
