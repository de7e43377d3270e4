"""Train with `model.fit`, once with Keras's loss and once with fastlogits', and compare.

Two models: handwritten digits, and the next word of the source of Python's own standard library, which is on every
machine. Everything but the loss is the same code and the same seed.

    python examples/keras_fit.py [--epochs 3] [--steps 40]
"""

import argparse
import collections
import os
import re
import statistics
import sys
import sysconfig
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from sklearn.datasets import load_digits

import fastlogits.tensorflow.keras

VOCABULARY = 32000
CONTEXT = 4  # words to predict the next one from
MAX_WORDS = 400_000
BATCH = 256
LOSSES = {
    "Keras": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "fastlogits": fastlogits.tensorflow.keras.SparseCategoricalCrossentropy,
}


def digits():
    """Images and labels to train and to test with, and the model."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images, labels = (data.data[order] / 16).astype(np.float32), data.target[order]
    layers = [keras.Input((64,)), keras.layers.Dense(64, "tanh"), keras.layers.Dense(10)]
    return (images[:1347], labels[:1347]), (images[1347:], labels[1347:]), layers


def words(steps):
    """Four words and the one that follows, the commonest words as small numbers; 0 stands for all rare ones."""
    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts:
            found += re.findall(r"[^\W\d]\w*|\d+|[^\w\s]", path.read_text("utf-8", errors="replace"))
        if len(found) > MAX_WORDS:
            break
    known = {word: n for n, (word, _) in enumerate(collections.Counter(found).most_common(VOCABULARY - 1), 1)}
    numbers = np.array([known.get(word, 0) for word in found])
    places = np.random.default_rng(0).permutation(len(numbers) - CONTEXT)[: (steps + 4) * BATCH]
    contexts, following = numbers[places[:, None] + np.arange(CONTEXT)], numbers[places + CONTEXT]
    split = steps * BATCH
    layers = [
        keras.Input((CONTEXT,)),
        keras.layers.Embedding(VOCABULARY, 32),
        keras.layers.Flatten(),
        keras.layers.Dense(64, "tanh"),
        keras.layers.Dense(VOCABULARY),
    ]
    return (contexts[:split], following[:split]), (contexts[split:], following[split:]), layers


class Clock(keras.callbacks.Callback):
    """Seconds of every step; the first, in which the model is traced, do not count."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self.begin)


class Run:
    def __init__(self, make, loss):
        keras.utils.set_random_seed(0)
        self.train, self.test, layers = make()
        self.model = keras.Sequential(layers)
        # Without learning rates by weight, whose work would hide that of the loss.
        self.model.compile(keras.optimizers.SGD(0.5), loss(), metrics=["accuracy"])
        self.seconds, self.losses = [], []

    def epoch(self):
        clock = Clock()
        history = self.model.fit(*self.train, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[clock])
        self.seconds += clock.seconds[1:]
        self.losses += history.history["loss"]

    @property
    def milliseconds(self):
        return 1e3 * statistics.median(self.seconds)

    def accuracy(self):
        return self.model.evaluate(*self.test, batch_size=BATCH, verbose=0)[1]


def progress(name, epoch, epochs, runs):
    losses = "   ".join(f"{loss} {run.losses[-1]:.4f}" for loss, run in runs.items())
    text = f"{name:<7}  epoch {epoch:>2} of {epochs}   loss: {losses}"
    if sys.stdout.isatty():
        print(f"\r{text}", end="\n" if epoch == epochs else "", flush=True)
    elif epoch == epochs:
        print(text, flush=True)


def train(name, make, epochs):
    """Train with each loss; they take turns epoch by epoch, so that the machine treats them alike."""
    runs = {loss: Run(make, LOSSES[loss]) for loss in LOSSES}
    for epoch in range(1, epochs + 1):
        for run in runs.values():
            run.epoch()
        progress(name, epoch, epochs, runs)
    return runs


def report(results):
    """Print time, loss and accuracy of every run. True if both losses trained the same model."""
    print(f"\n{'model':<9}{'loss code':<12}{'step':>10}{'':8}{'last loss':>10}{'accuracy':>10}")
    same = True
    for name, runs in results.items():
        usual = runs["Keras"]
        for loss, run in runs.items():
            ratio = "" if run is usual else f"{usual.milliseconds / run.milliseconds:.1f}x"
            accuracy = run.accuracy()
            print(f"{name:<9}{loss:<12}{run.milliseconds:>7.2f} ms{ratio:>8}{run.losses[-1]:>10.4f}{accuracy:>10.4f}")
        same &= np.allclose(usual.losses, runs["fastlogits"].losses, rtol=1e-3)
        same &= abs(usual.accuracy() - runs["fastlogits"].accuracy()) < 0.005
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=3, help="over the words; ten times as many over the digits")
    parser.add_argument("--steps", type=int, default=40, help="in an epoch over the words")
    options = parser.parse_args()

    print(f"Keras {keras.__version__}; {BATCH} a step; words of {VOCABULARY:,} classes, digits of 10\n")
    results = {
        "digits": train("digits", digits, 10 * options.epochs),
        "words": train("words", lambda: words(options.steps), options.epochs),
    }
    if not report(results):
        sys.exit("The two losses should have trained the same models: please report this.")


if __name__ == "__main__":
    main()
