"""Train a word-level language model with PyTorch's loss and with fastlogits' loss, and compare.

The text is the source of Python's own standard library, so it is on every machine. Each training has a process
of its own, for its peak memory; everything but the loss function is the same code and the same seed.

    python examples/train_language_model.py [--steps 150] [--picture train_language_model.png]
"""

import argparse
import collections
import json
import re
import resource
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import torch

import fastlogits.torch

VOCABULARY = 32768
CONTEXT = 4  # words to predict the next one from
BATCH = 512
EMBEDDING, HIDDEN = 64, 96
LEARNING_RATE = 3e-3
MAX_WORDS = 1_500_000
LOSSES = {"PyTorch": torch.nn.functional.cross_entropy, "fastlogits": fastlogits.torch.cross_entropy}
GREY, BLUE, INK = "#b4b2a9", "#185fa5", "#2c2c2a"


def load():
    """The words of the standard library as numbers, the commonest first; 0 stands for all rare ones."""
    words = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts:
            words += re.findall(r"[^\W\d]\w*|\d+|[^\w\s]", path.read_text("utf-8", errors="replace"))
        if len(words) > MAX_WORDS:
            break
    known = {word: n for n, (word, _) in enumerate(collections.Counter(words).most_common(VOCABULARY - 1), 1)}
    return torch.tensor([known.get(word, 0) for word in words]), len(known) + 1


class Model(torch.nn.Module):
    """The next word from the last few, as in Bengio et al. (2003)."""

    def __init__(self, vocabulary):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, EMBEDDING)
        self.hidden = torch.nn.Linear(CONTEXT * EMBEDDING, HIDDEN)
        self.output = torch.nn.Linear(HIDDEN, vocabulary)

    def forward(self, context):
        return self.output(torch.tanh(self.hidden(self.embedding(context).flatten(1))))


def train(loss_function, steps):
    """Train from the seed; yields, step by step, the loss and the seconds in the loss and in all."""
    words, vocabulary = load()
    torch.manual_seed(0)
    model = Model(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    for _ in range(steps):
        places = torch.randint(CONTEXT, len(words), (BATCH,))
        context = torch.stack([words[places - back] for back in range(CONTEXT, 0, -1)], 1)
        begin = time.perf_counter()
        optimizer.zero_grad()
        # The loss is timed alone: it ends where its gradient arrives at the logits.
        logits = model(context)
        loss_begin = time.perf_counter()
        loss = loss_function(logits, words[places])
        (grad_logits,) = torch.autograd.grad(loss, logits)
        loss_seconds = time.perf_counter() - loss_begin
        logits.backward(grad_logits)
        optimizer.step()
        yield loss.item(), loss_seconds, time.perf_counter() - begin


def megabytes(rusage):
    return rusage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def work(name, steps):
    """In the child process: a line of JSON for every step, and one with the peak memory."""
    for step in train(LOSSES[name], steps):
        print(json.dumps(step), flush=True)
    print(json.dumps(megabytes(resource.getrusage(resource.RUSAGE_SELF))), flush=True)


def run(name, steps):
    """Train in a process of its own; (losses, seconds in the loss, seconds in all, peak megabytes)."""
    command = [sys.executable, __file__, "--steps", str(steps), "--only", name]
    history = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            found = json.loads(line)
            if isinstance(found, float):
                peak = found
            else:
                history.append(found)
                progress(name, len(history), steps, found[0])
    if process.returncode:
        sys.exit(f"training with {name} failed")
    return *zip(*history, strict=True), peak


def progress(name, step, steps, loss):
    """A bar that rewrites itself on a terminal; elsewhere one line each quarter."""
    done = 30 * step // steps
    text = f"{name:<11} [{'#' * done}{'.' * (30 - done)}] step {step:>4} of {steps}   loss {loss:.4f}"
    if sys.stdout.isatty():
        print(f"\r{text}", end="\n" if step == steps else "", flush=True)
    elif step * 4 // steps != (step - 1) * 4 // steps:
        print(text, flush=True)


def report(runs):
    """Print the figures. True if both trainings went the same way."""
    heads = f"{'loss step':>12}{'':7}{'whole step':>13}{'':7}{'peak memory':>13}{'last loss':>11}"
    print(f"\n{'loss code':<11}{heads}")
    usual = None
    for name, (losses, *seconds, peak) in runs.items():
        times = [1e3 * statistics.median(values) for values in seconds]
        usual = usual or times
        columns = ""
        for width, value, base in zip((9, 10), times, usual, strict=True):
            ratio = f"{base / value:.1f}x" if times is not usual else ""
            columns += f"{value:>{width}.1f} ms{ratio:>7}"
        print(f"{name:<11}{columns}{peak:>10.0f} MB{losses[-1]:>11.4f}")
    ours, theirs = (runs[name][0] for name in ("fastlogits", "PyTorch"))
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 1e-3 and ours[-1] < ours[0]


def draw(runs, path):
    """Loss curves over each other; bars of time and memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.titlesize": 11, "axes.titlelocation": "left"})
    plt.rcParams.update({"text.color": INK, "axes.spines.top": False, "axes.spines.right": False})
    figure, (curves, *bars) = plt.subplots(1, 4, figsize=(11, 3.4), layout="constrained", width_ratios=(3, 1, 1, 1))
    styles = {"PyTorch": (GREY, 5), "fastlogits": (BLUE, 1.3)}
    for name, (color, width) in styles.items():
        curves.plot(runs[name][0], color=color, linewidth=width, label=name)
    curves.set(title="Training loss", xlabel="step")
    curves.legend(frameon=False)
    figures = {
        "Loss step, ms": lambda run: 1e3 * statistics.median(run[1]),
        "Whole step, ms": lambda run: 1e3 * statistics.median(run[2]),
        "Peak memory, MB": lambda run: run[3],
    }
    for axes, (title, figure_of) in zip(bars, figures.items(), strict=True):
        values = [figure_of(runs[name]) for name in styles]
        drawn = axes.bar(list(styles), values, color=[color for color, _ in styles.values()], width=0.6)
        axes.bar_label(drawn, fmt="{:,.0f}" if values[1] >= 10 else "{:,.1f}", padding=2)
        axes.set(title=title, yticks=[], ylim=(0, 1.15 * max(values)))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="x", length=0)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--picture", default="train_language_model.png")
    parser.add_argument("--only", choices=LOSSES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return work(options.only, options.steps)

    words, vocabulary = load()
    print(f"{len(words):,} words of Python's standard library, {vocabulary:,} different; {BATCH} a step")
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads\n")
    runs = {name: run(name, options.steps) for name in LOSSES}
    same = report(runs)
    draw(runs, options.picture)
    print(f"\npicture: {options.picture}")
    if not same:
        sys.exit("The two losses should have trained the same model: please report this.")
    return None


if __name__ == "__main__":
    main()
