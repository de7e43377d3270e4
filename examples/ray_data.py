"""Logits in Ray Data: statistics and draws by `map_batches`.

Ray calls a function with batches of rows; fastlogits is that function, and a batch of any size gives a row the same.
Ray sets OMP_NUM_THREADS to a task's processors, and fastlogits keeps to that.

    pip install fastlogits "ray[data]"
    python examples/ray_data.py
"""

import numpy as np

import fastlogits

WANT = ("nll", "argmax", "entropy", "max_prob", "topk_ids")


def with_stats(batch, seed=0):
    """A batch in Ray's format "numpy": columns `row`, `logits` and `label`, and what comes of them."""
    stats = fastlogits.row_stats(batch["logits"], batch["label"], want=WANT, top_k=5)
    # By its number in the whole a row's draw does not depend on how Ray cuts the rows.
    drawn = fastlogits.sample(batch["logits"], seed=seed, rows=batch["row"], top_p=0.9)
    columns = {name: values for name, values in batch.items() if name != "logits"}
    return columns | vars(stats) | {"drawn": drawn.ids}


def main():
    import ray

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4000, 1000)).astype(np.float32), rng.integers(1000, size=4000)
    ray.init(include_dashboard=False)
    rows = ray.data.from_numpy(logits).rename_columns({"data": "logits"})
    columns = ray.data.from_numpy(np.arange(4000)).rename_columns({"data": "row"})
    marks = ray.data.from_numpy(labels).rename_columns({"data": "label"})
    stats = rows.zip(columns).zip(marks).map_batches(with_stats, batch_size=1024, batch_format="numpy")
    table = stats.to_pandas().sort_values("row")
    print(table.head())
    print("loss:", table.nll.mean(), "in memory:", fastlogits.cross_entropy(logits, labels))
    print("draws as in memory:", np.array_equal(table.drawn, fastlogits.sample(logits, seed=0, top_p=0.9).ids))


if __name__ == "__main__":
    main()
