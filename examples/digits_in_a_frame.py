"""Logits in a DataFrame, with an image in each row and a digit's name over each column.

Labels are names too, and are matched by them; what comes back has the images' index, so that it can be joined with
whatever else is known of them. The same logits in polars or in Arrow give the same.

    pip install fastlogits scikit-learn pandas
    python examples/digits_in_a_frame.py
"""

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import fastlogits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TRAIN = 300


def load():
    """Logits of images that the classifier was not trained on, and their labels by name, a few of them not known."""
    images, labels = load_digits(return_X_y=True)
    index = pd.Index([f"image {i}" for i in range(len(labels))])
    names = pd.Series(labels, index).map(dict(enumerate(NAMES))).astype("category")
    classifier = LogisticRegression(max_iter=500).fit(images[:TRAIN] / 16, names[:TRAIN])
    # Columns in the classifier's order, which is the alphabet's.
    logits = pd.DataFrame(classifier.decision_function(images[TRAIN:] / 16), index[TRAIN:], classifier.classes_)
    labels = names[TRAIN:].copy()
    labels.iloc[::100] = None
    return logits, labels


def evaluate(logits, labels):
    """(statistics with the index of the images, mean nll of each digit)"""
    stats = fastlogits.row_stats(logits, labels, top_k=2, ignore_index=-100)
    table = stats.to_frame().assign(label=labels, prediction=logits.columns[stats.argmax])
    return table, table.dropna(subset="label").groupby("label", observed=True).nll.mean()


def main():
    logits, labels = load()
    table, losses = evaluate(logits, labels)
    print(f"accuracy: {fastlogits.accuracy(logits, labels, ignore_index=-100):.3f}")
    print("least certain images:")
    print(table.nlargest(5, "entropy")[["label", "prediction", "max_prob", "entropy", "nll"]].round(3))
    print("mean nll by digit:")
    print(losses.sort_values(ascending=False).round(3).to_string())
    print("probabilities of one image:")
    print(fastlogits.softmax(logits.loc["image 301"]).nlargest(3).round(3).to_string())


if __name__ == "__main__":
    main()
