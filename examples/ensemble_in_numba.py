"""An ensemble's mean probabilities in a loop that Numba compiles, which calls fastlogits.h without the interpreter."""

import ctypes

import numba
import numpy as np

import fastlogits

# fl_rows of fastlogits.h.
CALL = np.dtype(
    [
        ("size", np.uintp), ("dtype", np.intc), ("threads", np.intc), ("listen", np.intc),
        *((name, np.int64) for name in ("outer", "classes", "inner", "x_stride", "y_stride", "z_stride")),
        ("x", np.uintp), ("y", np.uintp), ("z", np.uintp), ("scale", np.float64),
    ],
    align=True,
)  # fmt: skip
FL_FLOAT32, FL_OK = 1, 0


class Api(ctypes.Structure):
    """The beginning of fl_api."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("abi", ctypes.c_int),
        ("softmax", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)),
    ]


def api():
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return Api.from_address(get(fastlogits._C_API, b"fastlogits._C_API"))


softmax = api().softmax


@numba.njit(nogil=True)
def mean_probabilities(features, weights, biases, step=64):
    """Of `models` linear models with weights of shape (models, features, classes); some rows at a time, so that the
    logits stay in cache."""
    models, _, classes = weights.shape
    total = np.zeros((len(features), classes), np.float32)
    logits = np.empty((step, classes), np.float32)
    calls = np.zeros(1, CALL)
    call = calls[0]
    call["size"] = calls.itemsize
    call["dtype"], call["threads"] = FL_FLOAT32, 1
    call["classes"] = call["x_stride"] = call["z_stride"] = classes
    call["inner"], call["scale"] = 1, 1.0
    call["x"] = call["z"] = logits.ctypes.data
    for start in range(0, len(features), step):
        rows = features[start : start + step]
        call["outer"] = len(rows)
        for model in range(models):
            logits[: len(rows)] = rows @ weights[model] + biases[model]
            if softmax(calls.ctypes) != FL_OK:
                raise MemoryError
            total[start : start + step] += logits[: len(rows)]
    return total / np.float32(models)


def main():
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    features, target = (digits.data[order] / 16).astype(np.float32), digits.target[order]
    test = slice(1000, None)
    models = [
        LogisticRegression(max_iter=300).fit(features[i : i + 50], target[i : i + 50]) for i in range(0, 1000, 50)
    ]
    weights = np.array([model.coef_.T for model in models], np.float32)
    biases = np.array([model.intercept_ for model in models], np.float32)
    probabilities = mean_probabilities(features[test], weights, biases)
    alone = np.mean([model.score(features[test], target[test]) for model in models])
    together = np.mean(probabilities.argmax(1) == target[test])
    print(f"right of {len(probabilities)} digits: a model by itself {alone:.3f}, {len(models)} together {together:.3f}")


if __name__ == "__main__":
    main()
