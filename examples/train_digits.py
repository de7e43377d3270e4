"""Train two models on handwritten digits, with SciPy's loss and with fastlogits' loss, and compare.

The models are plain NumPy. Everything but the loss function is the same code, the same starting weights and
the same mini-batches, so the losses and accuracies must agree; only the time may differ.

    python examples/train_digits.py [--epochs 100] [--picture train_digits.png]
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import scipy.special
from sklearn.datasets import load_digits

import fastlogits

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

MODELS = {"softmax regression": (64, 10), "one hidden layer": (64, 64, 10)}
BATCH = 64
LEARNING_RATE = 0.05
MOMENTUM = 0.9
NUM_SHOWN = 8
GREY, BLUE, RED, INK = "#b4b2a9", "#185fa5", "#a32d2d", "#2c2c2a"


def scipy_loss(logits, labels):
    """Mean cross-entropy and its gradient, as one usually writes them."""
    rows = np.arange(len(labels))
    log_probs = scipy.special.log_softmax(logits, axis=1)
    loss = -log_probs[rows, labels].mean()
    grad_logits = np.exp(log_probs)
    grad_logits[rows, labels] -= 1
    grad_logits /= len(labels)
    return loss, grad_logits


def fastlogits_loss(logits, labels):
    """The same in one call, which writes the gradient over the logits."""
    return fastlogits.cross_entropy_with_grad(logits, labels, out=logits)


LOSSES = {"SciPy": scipy_loss, "fastlogits": fastlogits_loss}


class Network:
    """Dense layers with tanh between them, trained by gradient descent with momentum."""

    def __init__(self, sizes, seed=0):
        rng = np.random.default_rng(seed)
        self.parameters = []
        for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
            weight = rng.standard_normal((fan_in, fan_out), dtype=np.float32) * np.float32(fan_in**-0.5)
            self.parameters += [weight, np.zeros(fan_out, np.float32)]
        self.velocities = [np.zeros_like(parameter) for parameter in self.parameters]

    def forward(self, images):
        """The logits; the input of every layer is kept for `backward`."""
        self.inputs = []
        for weight, bias in zip(self.parameters[::2], self.parameters[1::2], strict=True):
            if self.inputs:
                np.tanh(images, out=images)
            self.inputs.append(images)
            images = images @ weight + bias
        return images

    def backward(self, grad):
        """One step down the gradient that arrives at the logits."""
        for layer in reversed(range(len(self.inputs))):
            image = self.inputs[layer]
            weight = self.parameters[2 * layer]
            grads = image.T @ grad, grad.sum(axis=0)
            if layer:
                grad = (grad @ weight.T) * (1 - image * image)
            for index, parameter_grad in enumerate(grads, start=2 * layer):
                self.velocities[index] *= MOMENTUM
                self.velocities[index] -= LEARNING_RATE * parameter_grad
                self.parameters[index] += self.velocities[index]


@dataclass
class Run:
    """One model trained with one loss function: its weights, its loss by epoch, its times by step."""

    network: Network
    loss_function: callable
    losses: list = field(default_factory=list)
    loss_seconds: list = field(default_factory=list)
    step_seconds: list = field(default_factory=list)

    def epoch(self, images, labels, order):
        total = 0.0
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            batch_images, batch_labels = images[batch], labels[batch]
            begin = time.perf_counter()
            logits = self.network.forward(batch_images)
            loss_begin = time.perf_counter()
            loss, grad_logits = self.loss_function(logits, batch_labels)
            loss_end = time.perf_counter()
            self.network.backward(grad_logits)
            self.step_seconds.append(time.perf_counter() - begin)
            self.loss_seconds.append(loss_end - loss_begin)
            total += float(loss)
        self.losses.append(total / (len(order) // BATCH))

    def speeds(self):
        """Loss steps and whole steps per second (medians, so that a busy machine disturbs little)."""
        return [1 / statistics.median(seconds) for seconds in (self.loss_seconds, self.step_seconds)]

    def accuracy(self, images, labels):
        return np.mean(fastlogits.argmax(self.network.forward(images)) == labels)


def load():
    """Images as rows of 64 numbers in [0, 1], split into 1347 to train with and 450 to test."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.data[order] / 16).astype(np.float32)
    labels = digits.target[order]
    return (images[:1347], labels[:1347]), (images[1347:], labels[1347:])


def progress(model, epoch, epochs, runs):
    """A line that rewrites itself on a terminal; elsewhere one line each quarter."""
    losses = "   ".join(f"{name} {run.losses[-1]:.4f}" for name, run in runs.items())
    text = f"{model:<18}  epoch {epoch:>3} of {epochs}   loss: {losses}"
    if sys.stdout.isatty():
        print(f"\r{text}", end="\n" if epoch == epochs else "", flush=True)
    elif epoch * 4 // epochs != (epoch - 1) * 4 // epochs:
        print(text, flush=True)


def train(model, images, labels, epochs):
    """Train `model` once with each loss. They take turns epoch by epoch, so the machine treats them alike."""
    runs = {name: Run(Network(MODELS[model]), loss_function) for name, loss_function in LOSSES.items()}
    rng = np.random.default_rng(0)
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(labels))
        for run in runs.values():
            run.epoch(images, labels, order)
        progress(model, epoch, epochs, runs)
    return runs


def report(results, images, labels):
    """Print speed, loss and accuracy of every run. True if both losses trained the same, good model."""
    heads = f"{'loss steps/s':>14}{'':7}{'whole steps/s':>14}{'':7}{'loss':>9}{'test accuracy':>15}"
    print(f"\n{'model':<20}{'loss code':<11}{heads}")
    good = True
    for model, runs in results.items():
        usual = runs["SciPy"].speeds()
        outcomes = set()
        for name, run in runs.items():
            speeds = ""
            for speed, base in zip(run.speeds(), usual, strict=True):
                ratio = f"{speed / base:.1f}x" if run is not runs["SciPy"] else ""
                speeds += f"{speed:>14,.0f}{ratio:>7}"
            accuracy = run.accuracy(images, labels)
            outcome = f"{run.losses[-1]:>9.4f}{accuracy:>15.4f}"
            print(f"{model:<20}{name:<11}{speeds}{outcome}")
            outcomes.add(outcome)
            good &= accuracy >= 0.95
        good &= len(outcomes) == 1
    return good


def least_certain(network, images, labels):
    """Test images whose best class has the least probability: (image, label, two best classes, probs)."""
    probs = fastlogits.softmax(network.forward(images))
    found = []
    for index in np.argsort(probs.max(axis=1))[:NUM_SHOWN]:
        best = np.argsort(probs[index])[:-3:-1]
        found.append((images[index].reshape(8, 8), labels[index], best, probs[index, best]))
    return found


def draw(results, uncertain, path):
    """Loss curves over each other, speed bars, and the digits the network is least sure of."""
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 11, "axes.titlelocation": "left"})
    plt.rcParams.update({"text.color": INK, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(11, 6.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    top, bottom = figure.subfigures(2, height_ratios=(9, 4.2))
    curves, bars = top.subplots(1, 2)
    draw_losses(curves, results)
    draw_speeds(bars, results)
    draw_digits(bottom, uncertain)
    figure.savefig(path, dpi=150)


def draw_losses(axes, results):
    for model, runs in results.items():
        usual, ours = (run.losses for run in runs.values())
        epochs = range(1, len(ours) + 1)
        axes.plot(epochs, usual, color=GREY, linewidth=6, solid_capstyle="round", label="SciPy")
        axes.plot(epochs, ours, color=BLUE, linewidth=1.5, label="fastlogits")
        middle = len(ours) // 2
        axes.annotate(model, (epochs[middle], ours[middle]), (4, 10), textcoords="offset points")
    axes.set(title="Training loss", xlabel="epoch", yscale="log")
    axes.legend(*(entries[:2] for entries in axes.get_legend_handles_labels()), frameon=False)


def draw_speeds(axes, results):
    bars = [
        (f"{model}\n{what}", *(run.speeds()[kind] for run in runs.values()))
        for model, runs in results.items()
        for kind, what in enumerate(("loss step", "whole step"))
    ]
    for row, (_, usual, ours) in enumerate(bars):
        axes.barh(row - 0.17, usual, 0.32, color=GREY)
        axes.barh(row + 0.17, ours, 0.32, color=BLUE)
        texts = (usual, -0.17, INK, f"{usual:,.0f}"), (ours, 0.17, BLUE, f"{ours:,.0f}   {ours / usual:.1f}x")
        for width, shift, color, text in texts:
            place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(text, (width, row + shift), color=color, **place)
    axes.set_title("Steps per second")
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.25)


def draw_digits(figure, uncertain):
    title = "The test images the network is least sure of (red: it is wrong)"
    figure.suptitle(title, x=0.013, ha="left", fontsize=11)
    for axes, (image, label, best, probs) in zip(figure.subplots(1, len(uncertain)), uncertain, strict=True):
        axes.imshow(image, cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        axes.spines[:].set(color=GREY if best[0] == label else RED, linewidth=1.5)
        axes.set_xlabel(f"{best[0]}: {probs[0]:.0%}   {best[1]}: {probs[1]:.0%}\nis a {label}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--picture", default="train_digits.png")
    options = parser.parse_args()

    train_set, test_set = load()
    print(f"{len(train_set[1])} handwritten digits to train with, {BATCH} a step; {len(test_set[1])} to test")
    config = fastlogits.show_config("dicts")
    print(f"fastlogits {config['fastlogits']}, backend {config['backend']}, {config['instruction set']}\n")
    results = {model: train(model, *train_set, options.epochs) for model in MODELS}
    good = report(results, *test_set)

    uncertain = least_certain(results["one hidden layer"]["fastlogits"].network, *test_set)
    print("\nleast sure of (one hidden layer, fastlogits):")
    for _, label, best, probs in uncertain:
        print(f"  a {label}, taken for {best[0]} with {probs[0]:.2f}, for {best[1]} with {probs[1]:.2f}")
    draw(results, uncertain, options.picture)
    print(f"\npicture: {options.picture}")
    if not good:
        sys.exit("The two losses should have trained the same model to 0.95 or better: please report this.")


if __name__ == "__main__":
    main()
