"""Logits in Spark: a column of lists of floats, by a pandas UDF.

Spark hands the UDF some rows at a time, as pandas Series by way of Arrow. Its tasks run side by side, one for each
core, so that each gets one thread.

    pip install fastlogits "pyspark[sql]"      # and a Java runtime
    python examples/spark_pandas_udf.py
"""

import os
import sys

import numpy as np
import pandas as pd

import fastlogits

SCHEMA = "nll float, argmax bigint, entropy float, max_prob float, drawn bigint"


def stats(logits: pd.Series, label: pd.Series, row: pd.Series) -> pd.DataFrame:
    """One row for each of the batch, with the columns of SCHEMA."""
    batch = np.stack(logits.to_numpy())
    with fastlogits.settings(num_threads=1):
        found = fastlogits.row_stats(batch, label.to_numpy(), want=("nll", "argmax", "entropy", "max_prob"))
        # By its number in the whole a row's draw does not depend on how Spark cuts the rows.
        drawn = fastlogits.sample(batch, seed=0, rows=row.to_numpy(), top_p=0.9)
    return pd.DataFrame(vars(found) | {"drawn": drawn.ids})


def main():
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import pandas_udf

    # Spark's workers are to run this Python, which has fastlogits, and not the first of the PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2000, 500)).astype(np.float32), rng.integers(500, size=2000)
    table = pd.DataFrame({"row": np.arange(2000), "label": labels, "logits": list(logits)})
    spark = SparkSession.builder.config("spark.sql.execution.arrow.pyspark.enabled", True).getOrCreate()
    frame = spark.createDataFrame(table, "row bigint, label bigint, logits array<float>")
    udf = pandas_udf(stats, SCHEMA)
    result = frame.select("row", udf("logits", "label", "row").alias("stats")).select("row", "stats.*").toPandas()
    result = result.sort_values("row")
    print(result.head())
    print("loss:", result.nll.mean(), "in memory:", fastlogits.cross_entropy(logits, labels))
    print("draws as in memory:", np.array_equal(result.drawn, fastlogits.sample(logits, seed=0, top_p=0.9).ids))
    spark.stop()


if __name__ == "__main__":
    main()
