"""Evaluation: ours, on Spark, against a scorer in pandas.

Timed is all from the parquet files of recommendations and queries to the figures: ours gives nine
metrics at two cut-offs with intervals from 1,000 bootstrap replicates, the scorer the means of
recall, NDCG and MRR at 20. The largest difference of these three is printed. Session start and a
small evaluation stand apart; each time is the least of `--repeats`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from _measure import Figures, fastest, in_child, measure, report, start_session
from pyspark.sql import SparkSession

from sparkrec.evaluation.metrics import Evaluation, evaluate

K, ITEMS = 20, 20_000


def write_tables(folder: Path, queries: int) -> None:
    """Lists of K distinct items, some of them relevant ones, and the items' counts."""
    random = np.random.default_rng(1)
    starts = random.integers(0, ITEMS, queries)
    steps = random.integers(1, ITEMS // K, (queries, K)).cumsum(axis=1)
    lists = (starts[:, None] + steps) % ITEMS
    relevant = np.where(
        random.random((queries, 2)) < 0.3,
        np.take_along_axis(lists, random.integers(0, K, (queries, 2)), axis=1),
        random.integers(0, ITEMS, (queries, 2)),
    )
    scores = np.tile(np.arange(K, 0, -1.0), queries)
    entries = pa.StructArray.from_arrays(
        [pa.array(lists.ravel()), pa.array(scores)], ["item_id", "score"]
    )
    offsets = pa.array(np.arange(queries + 1, dtype=np.int32) * K)
    numbers = pa.array(np.arange(queries))
    tables = {
        "recommendations": {
            "query_id": numbers,
            "recommended": pa.ListArray.from_arrays(offsets, entries),
        },
        "queries": {
            "query_id": numbers,
            "user_id": pa.array(np.arange(queries) // 3),
            "relevant": pa.array(list(map(np.unique, relevant))),
        },
        "counts": {
            "item": pa.array(np.arange(ITEMS)),
            "count": pa.array(np.arange(ITEMS, 0, -1)),
        },
    }
    for name, columns in tables.items():
        pyarrow.parquet.write_table(
            pa.table(columns), folder / f"{name}.parquet", row_group_size=queries // 4 + 1
        )


def score_in_pandas(folder: Path, repeats: int) -> Figures:
    """recall@20, ndcg@20 and mrr@20, and the seconds."""

    def score() -> Figures:
        given = pd.read_parquet(folder / "recommendations.parquet").explode("recommended")
        given["item"] = given["recommended"].map(lambda entry: entry["item_id"])
        given["place"] = given.groupby("query_id").cumcount() + 1
        queries = pd.read_parquet(folder / "queries.parquet").set_index("query_id")["relevant"]
        wanted = queries.explode().rename("item").reset_index()
        hits = wanted.merge(given[["query_id", "item", "place"]], on=["query_id", "item"])
        sizes = queries.map(len)
        gain = (1 / np.log2(hits["place"] + 1)).groupby(hits["query_id"]).sum()
        ideal = np.cumsum(1 / np.log2(np.arange(2, K + 2)))
        found = hits.groupby("query_id")["place"]
        return {
            "recall@20": found.count().div(sizes, fill_value=0).mean(),
            "ndcg@20": gain.div(pd.Series(ideal[sizes.clip(upper=K) - 1], sizes.index)).sum()
            / len(sizes),
            "mrr@20": (1 / found.min()).sum() / len(sizes),
        }

    figures, seconds = fastest(score, repeats)
    return {"seconds": seconds, **figures}


def score_on_spark(spark: SparkSession, folder: Path) -> Evaluation:
    """All metrics of the tables in a folder."""
    tables = [
        spark.read.parquet(str(folder / f"{name}.parquet"))
        for name in ("recommendations", "queries", "counts")
    ]
    return evaluate(tables[0], tables[1], "user_id", tables[2])


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--queries", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    spark, started = start_session("evaluation")
    print(f"session start {started:.1f} s")
    with tempfile.TemporaryDirectory() as scratch:
        small, folder = Path(scratch) / "small", Path(scratch) / "tables"
        for path, queries in ((small, 300), (folder, options.queries)):
            path.mkdir()
            write_tables(path, queries)
        _, warmed = fastest(lambda: score_on_spark(spark, small), 1)
        print(f"warm-up {warmed:.1f} s")
        runs = [
            measure(spark, lambda: score_on_spark(spark, folder)) for _ in range(options.repeats)
        ]
        theirs = in_child(score_in_pandas, folder, options.repeats)
    found, ours = min(runs, key=lambda run: run[1]["seconds"])
    names = ("recall@20", "ndcg@20", "mrr@20")
    ours |= {name: found.metrics[name] for name in names}
    ratios = {
        "to pandas": ours["seconds"] / theirs["seconds"],
        "largest difference": max(abs(ours[name] - theirs[name]) for name in names),
    }
    report({"sparkrec": ours, "pandas": theirs}, ratios)
    spark.stop()


if __name__ == "__main__":
    main()
