"""From logits on disk to answers, by the command line: probabilities, doubts, calibration and samples.

A classifier of handwritten digits leaves the logits of its test images in a file. What follows needs no Python, but
for a look into the files that come out.

    python examples/digits_from_the_command_line.py [--folder digits]
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

NUM_SHOWN = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default="digits", help="for the files; default: digits")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    labels = classify(folder)

    print("\nThe probabilities of all classes:")
    fastlogits(folder, "apply softmax logits.npy probabilities.npy --force")
    with np.printoptions(precision=3, suppress=True):
        print(np.load(folder / "probabilities.npy")[:2])

    print(f"\nWhat there is to know about every image, and the {NUM_SHOWN} least certain:")
    fastlogits(folder, "apply stats logits.npy stats.npz --labels labels.npy --top-k 2 --force")
    show_least_certain(np.load(folder / "stats.npz"), labels)

    print("\nHow far the confidences can be trusted, before and after temperature scaling:")
    fastlogits(folder, "calibrate logits.npy labels.npy --plot reliability.png --save temperature.json --force")

    print("\nLabels drawn with the calibrated probabilities:")
    fastlogits(folder, "apply sample logits.npy samples.npz --temperature temperature.json --seed 1 --force")
    drawn = np.load(folder / "samples.npz")["ids"]
    print(f"{np.mean(drawn == labels):.3f} of them are right; the files are in {folder}")


def classify(folder):
    """Train on a part of the digits; the logits and labels of the others go to files."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    # Few images and many steps: it comes to know them by heart, and is sure of itself.
    train, test = order[:200], order[200:]
    network = MLPClassifier(32, alpha=0, max_iter=2000, tol=1e-5, random_state=0).fit(images[train], labels[train])
    hidden = np.maximum(images[test] @ network.coefs_[0] + network.intercepts_[0], 0)
    logits = hidden @ network.coefs_[1] + network.intercepts_[1]
    np.save(folder / "logits.npy", logits.astype(np.float32))
    np.save(folder / "labels.npy", labels[test])
    print(f"{len(train)} digits to train with; the logits of {len(test)} others are in {folder / 'logits.npy'}")
    return labels[test]


def fastlogits(folder, words):
    """Show a command and what it says."""
    print(f"$ fastlogits {words}", flush=True)
    subprocess.run([sys.executable, "-m", "fastlogits", *words.split()], cwd=folder, check=True)


def show_least_certain(stats, labels):
    for image in np.argsort(-stats["entropy"])[:NUM_SHOWN]:
        (first, second), (p, q) = stats["topk_ids"][image], np.exp(stats["topk_log_probs"][image])
        right = "right" if stats["correct"][image] else f"it is a {labels[image]}"
        print(f"image {image:>4}: a {first} ({p:.2f}) or a {second} ({q:.2f}); {right}")


if __name__ == "__main__":
    main()
