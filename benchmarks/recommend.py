"""Prediction offline: `jobs/recommend.py` on a million synthetic users, rows a second and memory.

Run by `make bench`, which gives it the model of a finished run. Users are made with a seed: each
has 5 to 40 items of the model's catalogue, drawn by their count in train.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _measure import measure, report, start_session

from sparkrec.io.publishing import publish
from sparkrec.retrieval.load import load_model
from sparkrec.retrieval.offline import Recommend, RecommendInput, write_recommendations

SHORTEST, LONGEST, GROUP = 5, 40, 50_000


def write_users(folder: Path, model_path: str, users: int, seed: int) -> None:
    """A published table of users with histories."""
    model = load_model(model_path)
    ids = model.catalogue.ids
    shares = model.catalogue.counts / model.catalogue.counts.sum()
    rng = np.random.default_rng(seed)
    with publish(str(folder), "benchmark", about={"rows": users}) as staging:
        Path(staging).mkdir(parents=True)
        for start in range(0, users, GROUP):
            count = min(GROUP, users - start)
            lengths = rng.integers(SHORTEST, LONGEST + 1, count)
            items = ids.take(pa.array(rng.choice(len(ids), lengths.sum(), p=shares)))
            if isinstance(items, pa.ChunkedArray):
                items = items.combine_chunks()
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
            table = pa.table(
                {
                    model.columns.user: np.arange(start, start + count),
                    model.get("history_col"): pa.ListArray.from_arrays(offsets, items),
                }
            )
            pq.write_table(table, Path(staging) / f"part-{start:09d}.parquet")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="folder of a saved model")
    parser.add_argument("--users", type=int, default=1_000_000)
    options = parser.parse_args()
    spark, _ = start_session("recommend")
    with tempfile.TemporaryDirectory() as folder:
        write_users(Path(folder, "users"), options.model, options.users, seed=1)
        config = Recommend(
            job="recommend",
            input=RecommendInput(queries=str(Path(folder, "users"))),
            model_path=options.model,
            output_path=str(Path(folder, "out")),
        )
        said, figures = measure(spark, lambda: write_recommendations(spark, config))
    print(said)
    figures["rows_per_second"] = options.users / figures["seconds"]
    report({f"{options.users:,} users": figures})
    spark.stop()


if __name__ == "__main__":
    main()
