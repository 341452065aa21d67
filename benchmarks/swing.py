"""Swing: against the formula written down in plain Python, and its seconds on all of MovieLens-1M.

Both are exact: no limit bites. The reference runs on the events of the first `--users` users, since
it compares every two of them; the largest difference of a score is printed. Timed is the fit from
the parquet file to the model, without session start and a small fit.
"""

import argparse
from collections import defaultdict
from itertools import combinations
from typing import Any

import pandas as pd
from _measure import Figures, fastest, measure, report, start_session
from pyspark.sql import DataFrame

from sparkrec.baselines.item_to_item.swing import Swing, SwingModel
from sparkrec.datasets.synthetic import synthetic_events

NO_LIMIT = 1_000_000


def brute_force(events: pd.DataFrame, config: Any) -> dict[tuple[int, int], float]:
    """sim(i, j) of every pair of movies that two users had, the smaller id first."""
    items = events.groupby("user_id")["movie_id"].agg(set)
    weight = {
        user: (len(had) + config.smoothing) ** -config.exponent for user, had in items.items()
    }
    scores: defaultdict[tuple[int, int], float] = defaultdict(float)
    for u, v in combinations(items.index, 2):
        both = sorted(items[u] & items[v])
        term = weight[u] * weight[v] / (config.alpha + len(both))
        for pair in combinations(both, 2):
            scores[pair] += term
    return scores


def largest_difference(model: SwingModel, expected: dict[tuple[int, int], float]) -> float:
    """Over all pairs; one that the model lacks has the score 0."""
    ids = model.catalogue.ids.to_pylist()
    found = {
        (item, ids[other]): score
        for item, others, scores in zip(ids, model.neighbours, model.scores, strict=True)
        for other, score in zip(others.tolist(), scores.tolist(), strict=True)
        if other >= 0 and item < ids[other]
    }
    pairs = found.keys() | expected.keys()
    return max(abs(found.get(pair, 0.0) - expected.get(pair, 0.0)) for pair in pairs)


def main() -> None:
    """Print the machine, a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("ml_1m", metavar="EVENTS", help="parquet folder with movie_id")
    parser.add_argument("--users", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    spark, started = start_session("swing")
    print(f"session start {started:.1f} s")
    _, warmed = fastest(lambda: Swing().fit(synthetic_events(spark, 20_000)), 1)
    print(f"warm-up {warmed:.1f} s")

    def fit(estimator: Swing, condition: str) -> tuple[SwingModel, Figures]:
        def events() -> DataFrame:
            return spark.read.parquet(options.ml_1m).where(condition)

        runs = [measure(spark, lambda: estimator.fit(events())) for _ in range(options.repeats)]
        model, figures = min(runs, key=lambda run: run[1]["seconds"])
        assert isinstance(model, SwingModel)
        return model, figures

    exact: dict[str, Any] = {
        "max_users_per_item": NO_LIMIT,
        "max_items_per_user": NO_LIMIT,
        "item_col": "movie_id",
    }
    estimator = Swing(**exact, num_neighbours=10_000)
    sample = f"user_id <= {options.users}"
    model, ours = fit(estimator, sample)
    frame = spark.read.parquet(options.ml_1m).where(sample).select("user_id", "movie_id").toPandas()
    expected, seconds = fastest(lambda: brute_force(frame, estimator.config), 1)
    ours["largest_difference"] = largest_difference(model, expected)
    _, whole = fit(Swing(**exact), "true")
    rows: dict[str, Figures] = {
        f"sparkrec, {options.users} users": ours,
        f"plain Python, {options.users} users": {"seconds": seconds},
        "sparkrec, MovieLens-1M": whole,
    }
    report(rows, {"to plain Python": ours["seconds"] / seconds})
    spark.stop()


if __name__ == "__main__":
    main()
