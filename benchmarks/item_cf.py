"""ItemCF: the fit of ours, on Spark, against that of `implicit`'s CosineRecommender.

Both find the same neighbours of every item (cosine of the item's binary user vectors; the largest
difference of the scores is printed), on MovieLens-1M (`--ml-1m`, a folder of events as
jobs/prepare_ml_1m.py writes it) and on synthetic events. Ours is timed from the parquet file to the
model, `implicit` from its matrix in memory to the model, and also from the same file
(`read_seconds` more). Session start and a small fit stand apart; each time is the least of
`--repeats`. `implicit` runs in a process of its own.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from _measure import Figures, fastest, in_child, measure, report, start_session
from pyspark.sql import SparkSession
from scipy import sparse

from sparkrec.baselines.item_to_item.item_cf import ItemCF, ItemCFModel
from sparkrec.datasets.synthetic import synthetic_events

K = 100


def run_implicit(path: str, item: str, checked: int, repeats: int) -> Figures:
    """Seconds of `implicit`, and the scores of the neighbours of the first items, best first."""
    from implicit.nearest_neighbours import CosineRecommender

    def read() -> sparse.csr_matrix:
        events = pd.read_parquet(path, columns=["user_id", item])
        users, _ = pd.factorize(events["user_id"])
        items, _ = pd.factorize(events[item], sort=True)
        matrix = sparse.csr_matrix((np.ones(len(events)), (users, items)))
        matrix.data[:] = 1.0  # repeated events were added up
        return matrix

    matrix, read_seconds = fastest(read, repeats)
    model = CosineRecommender(K=K + 1)  # the item itself is the first
    _, seconds = fastest(lambda: model.fit(matrix, show_progress=False), repeats)
    scores = np.zeros((checked, K))
    for row in range(checked):
        start, stop = model.similarity.indptr[row : row + 2]
        others = model.similarity.indices[start:stop] != row
        found = np.sort(model.similarity.data[start:stop][others])[::-1][:K]
        scores[row, : len(found)] = found
    return {"seconds": seconds, "read_seconds": read_seconds, "scores": scores}


def run_ours(
    spark: SparkSession, path: str, item: str, repeats: int
) -> tuple[ItemCFModel, Figures]:
    """The fastest of several fits."""
    estimator = ItemCF(item_col=item, user_weight=False, num_neighbours=K, max_items_per_user=0)
    runs = [measure(spark, lambda: estimator.fit(spark.read.parquet(path))) for _ in range(repeats)]
    model, figures = min(runs, key=lambda run: run[1]["seconds"])
    assert isinstance(model, ItemCFModel)
    return model, figures


def compare(spark: SparkSession, path: str, item: str, repeats: int) -> dict[str, Figures]:
    """The figures of both on one table of events."""
    model, ours = run_ours(spark, path, item, repeats)
    checked = min(500, len(model.catalogue))
    theirs = in_child(run_implicit, path, item, checked, repeats)
    scores = np.where(model.neighbours[:checked] >= 0, model.scores[:checked], 0.0)
    ours["largest_difference"] = float(np.abs(scores - theirs.pop("scores")).max())
    return {"sparkrec": ours, "implicit": theirs}


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ml-1m", metavar="EVENTS", help="parquet folder with movie_id")
    parser.add_argument("--events", type=int, default=10_000_000, help="synthetic ones; 0 for none")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    spark, started = start_session("item_cf")
    print(f"session start {started:.1f} s")
    rows: dict[str, Figures] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        tables = {"ml-1m": (options.ml_1m, "movie_id")} if options.ml_1m else {}
        if options.events:
            path = str(Path(scratch) / "events")
            synthetic_events(spark, options.events, seed=1).write.parquet(path)
            tables["synthetic"] = (path, "item_id")
        warm = synthetic_events(spark, 20_000)
        _, warmed = fastest(lambda: ItemCF().fit(warm), 1)
        print(f"warm-up {warmed:.1f} s")
        for name, (path, item) in tables.items():
            found = compare(spark, path, item, options.repeats)
            rows |= {f"{name}, {who}": figures for who, figures in found.items()}
            ours, theirs = found["sparkrec"], found["implicit"]
            ratios[f"{name}: fit to implicit's fit"] = ours["seconds"] / theirs["seconds"]
            whole = theirs["seconds"] + theirs["read_seconds"]
            ratios[f"{name}: fit to implicit's read and fit"] = ours["seconds"] / whole
    report(rows, ratios)
    spark.stop()


if __name__ == "__main__":
    main()
