"""Labelled arrays, in memory or in chunks: fastlogits takes those of xarray, and returns them.

`axis` is the name of a dimension, labels are matched by theirs, and results keep the coordinates. Arrays in chunks are
served lazily, by `fastlogits.dask`, chunked along any dimension, that of the classes included.

    pip install fastlogits "xarray[parallel]"
    python examples/xarray_labelled.py
"""

import numpy as np
import xarray as xr

import fastlogits


def answers(logits, labels):
    """Calibrated probabilities, nats, and the loss of each row."""
    return (
        fastlogits.softmax(logits, "class", temperature=2.0),
        fastlogits.entropy(logits, "class"),
        fastlogits.cross_entropy(logits, labels, axis="class", reduction="none"),
    )


def example(images=200, classes=1500):
    rng = np.random.default_rng(0)
    logits = xr.DataArray(
        rng.normal(size=(images, classes, 4)).astype(np.float32),
        dims=("image", "class", "crop"),
        coords={"image": np.arange(images), "crop": ["left", "right", "top", "bottom"]},
    )
    labels = xr.DataArray(rng.integers(classes, size=(images, 4)), dims=("image", "crop"), coords=logits.coords)
    return logits, labels


def main():
    logits, labels = example()
    probs, entropy, losses = answers(logits.chunk({"image": 50, "class": 500}), labels)
    print(probs.mean("crop"))
    print("computed:", probs.sum("class").mean("crop").compute().values[:3])
    print("entropy:", entropy.mean().compute().item())
    print("loss by crop:", dict(zip(logits.crop.values, losses.mean("image").values, strict=True)))


if __name__ == "__main__":
    main()
