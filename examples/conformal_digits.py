"""Sets of digits that have the right one nine times of ten, from a classifier that is often in doubt.

The logits of some images with known labels give the threshold; the sets of the others are then counted: how many have
the label, how large they are, and how this differs between the methods.

    python examples/conformal_digits.py [--alpha 0.1] [--picture conformal_digits.png]
"""

import argparse

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from fastlogits import conformal

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

TRAIN, CALIBRATION = 200, 598
NUM_SHOWN = 8
METHODS = {
    "LAC": {"method": "lac"},
    "APS": {"method": "aps", "seed": 0},
    "RAPS": {"method": "raps", "seed": 0, "penalty": 0.05, "k_reg": 2},
    "SAPS": {"method": "saps", "seed": 0, "penalty": 0.1},
}


def load():
    """Logits and labels of digits that the classifier was not trained on."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order] / 16, labels[order]
    # Noise, so that there is something to doubt.
    images += np.random.default_rng(1).normal(scale=0.4, size=images.shape)
    classifier = LogisticRegression(max_iter=500).fit(images[:TRAIN], labels[:TRAIN])
    return classifier.decision_function(images[TRAIN:]), labels[TRAIN:]


def compare(logits, labels, alpha):
    """Fit each method to some rows, and report on the sets of the others: (sets, report) by its name."""
    results = {}
    for name, options in METHODS.items():
        classifier = conformal.ConformalClassifier(alpha=alpha, **options)
        classifier.fit(logits[:CALIBRATION], labels[:CALIBRATION])
        sets = classifier.predict_sets(logits[CALIBRATION:])
        results[name] = sets, conformal.coverage_report(sets, labels[CALIBRATION:], strata=(0, 2, 3, 4, 5))
    return results


def show(results):
    print(f"{'method':<8}{'coverage':>10}{'mean size':>11}{'worst size':>12}{'worst class':>13}")
    for name, (_, report) in results.items():
        worst = f"{report.size_stratified_coverage:>12.3f}{report.worst_class_coverage:>13.3f}"
        print(f"{name:<8}{report.coverage:>10.3f}{report.mean_size:>11.2f}{worst}")


def show_sets(sets, labels):
    print(f"\nThe {NUM_SHOWN} largest sets of LAC:")
    for row in np.argsort(-conformal.set_sizes(sets), kind="stable")[:NUM_SHOWN]:
        digits = ", ".join(map(str, np.flatnonzero(sets[row])))
        print(f"  one of {digits}: {'it' if sets[row, labels[row]] else 'no, it'} is a {labels[row]}")


def draw(results, alpha, path):
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
    for ax, name in zip(axes, ("LAC", "RAPS"), strict=True):
        conformal.draw_coverage(results[name][1], alpha=alpha, ax=ax)
        ax.set_title(name, y=1.2)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--picture", default="conformal_digits.png")
    options = parser.parse_args()
    logits, labels = load()
    held_out = labels[CALIBRATION:]
    right = np.mean(logits[CALIBRATION:].argmax(axis=1) == held_out)
    print(f"{TRAIN} noisy digits to train with, {CALIBRATION} for the threshold, {len(held_out)} to look at.")
    print(f"The largest logit is right for {right:.3f} of them, and {1 - options.alpha:g} of the sets are to be.\n")
    results = compare(logits, labels, options.alpha)
    show(results)
    show_sets(results["LAC"][0], held_out)
    draw(results, options.alpha, options.picture)
    print(f"\npicture: {options.picture}")


if __name__ == "__main__":
    main()
