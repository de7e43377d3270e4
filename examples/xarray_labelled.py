"""Labelled arrays, in memory or in chunks: fastlogits through `xarray.apply_ufunc`.

With dask="allowed" xarray hands its dask arrays to fastlogits as they are, and `fastlogits.dask` serves them lazily,
chunked along any dimension, that of the classes included.

    pip install fastlogits "xarray[parallel]"
    python examples/xarray_labelled.py
"""

import numpy as np
import xarray as xr

import fastlogits


def softmax(logits, dim="class", **options):
    """Probabilities along `dim`, with the dimensions and coordinates of `logits`."""
    probs = xr.apply_ufunc(
        fastlogits.softmax, logits, kwargs=options, input_core_dims=[[dim]], output_core_dims=[[dim]], dask="allowed"
    )
    return probs.transpose(*logits.dims)


def entropy(logits, dim="class"):
    """Nats, without `dim`."""
    return xr.apply_ufunc(fastlogits.entropy, logits, input_core_dims=[[dim]], dask="allowed")


def losses(logits, labels, dim="class", **options):
    """The cross-entropy of each row; labels are aligned by their coordinates."""
    options["reduction"] = "none"
    return xr.apply_ufunc(
        fastlogits.cross_entropy, logits, labels, kwargs=options, input_core_dims=[[dim], []], dask="allowed"
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
    lazy = logits.chunk({"image": 50, "class": 500})
    probs = softmax(lazy, temperature=2.0).mean("crop")
    print(probs)
    print("computed:", probs.sum("class").compute().values[:3])
    print("entropy:", entropy(lazy).mean().compute().item())
    print("loss by crop:", dict(zip(logits.crop.values, losses(lazy, labels).mean("image").values, strict=True)))


if __name__ == "__main__":
    main()
