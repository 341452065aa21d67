"""Ranking metrics of recommendations, each with a 95% interval over users.

For a query with relevant items G (a set) and recommended items r_1, r_2, ... (best first), let
rel(i) = 1 if r_i is in G, else 0, and 0 past the end of the list. hits(k) = sum_{i<=k} rel(i).

===========  =======================================================================
precision@k  hits(k) / k
recall@k     hits(k) / |G|
f1@k         2 hits(k) / (k + |G|), the harmonic mean of precision@k and recall@k
hit@k        1 if hits(k) > 0, else 0
mrr@k        1 / i of the first i <= k with rel(i) = 1, else 0
map@k        sum_{i<=k} rel(i) hits(i) / i, divided by min(|G|, k)
ndcg@k       sum_{i<=k} rel(i) / log2(i + 1), divided by sum_{i<=min(|G|,k)} 1 / log2(i + 1)
coverage@K   share of the catalogue that is in the first K places of at least one list
popularity@K mean train count of the items in the first K places of the lists
===========  =======================================================================

A metric is the mean over queries; all queries have the same weight. precision, recall, map and ndcg
are equal to those of `pyspark.ml.evaluation.RankingEvaluator` (precisionAtK, recallAtK,
meanAveragePrecisionAtK, ndcgAtK). The denominator of map@k is min(|G|, k); other libraries divide
by |G| or by hits(k). K is the largest of the ks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Literal

import numpy as np
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkrec.errors import DataError
from sparkrec.evaluation.bootstrap import bootstrap_sums, ratio_interval
from sparkrec.evaluation.inputs import catalogue_size, check_columns, check_rows, join_inputs

_DECIMALS = 6  # hides rounding, which depends on the order in which Spark sums


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one set of recommendations.

    Attributes
    ----------
    n
        Number of queries that were evaluated: those with at least one relevant item.
    metrics
        Value by name, such as `recall@20`.
    interval95
        95% interval over users, (low, high), by name of the metric.
    """

    n: int
    metrics: dict[str, float]
    interval95: dict[str, tuple[float, float]]


def count_items(events: DataFrame, item: str) -> DataFrame:
    """Count the events of each item; the output is the `item_counts` of `evaluate`."""
    return events.groupBy(F.col(item).alias("item")).count()


def evaluate(
    recommendations: DataFrame,
    queries: DataFrame,
    user: str,
    item_counts: DataFrame,
    ks: Sequence[int] = (5, 10, 20),
    replicates: int = 1000,
    seed: int = 0,
    ties: Literal["by_id", "conservative"] = "by_id",
) -> Evaluation:
    """Evaluate recommendations by the formulas of this module's docstring.

    Parameters
    ----------
    recommendations
        `query_id`, and `recommended: array<struct<item_id, score>>`, best first. A list for a
        query that is not evaluated is ignored.
    queries
        `query_id`, the column named by `user`, and `relevant: array<item>`. Rows without a relevant
        item are not evaluated. A query without recommendations has no hit, and neither have the
        places after the end of a short list.
    user
        Column of the user id. Users are the units that the bootstrap resamples.
    item_counts
        The catalogue: one row per item, with `item` and `count`, its number of events in train. A
        recommended item that is not in it adds nothing to coverage and has popularity 0.
    ks
        Cut-offs.
    replicates, seed
        Number of bootstrap replicates, and their seed.
    ties
        Rank of a relevant item that has the same score as other items. `by_id`: its place in the
        list. `conservative`: after all items with that score; it is no hit if they reach the end of
        a full list. `conservative` is for queries with one relevant item.

    Returns
    -------
    Evaluation
        Values are rounded to 6 decimals and do not depend on the partitions of the inputs.

    Raises
    ------
    DataError
        A column is missing, the item types differ, a `query_id` is null or in two rows of one
        input, a list has an item twice, an item is counted twice, or no query has a relevant item.

    Notes
    -----
    The intervals are percentile intervals (2.5%, 97.5%) of sum(metric) / sum(rows) in a bootstrap
    over users. Rows are not resampled, because the rows of a user are not independent.

    Coverage is not a mean: a resample has 63% of the users and covers less by construction, so a
    percentile interval would not contain the estimate. Its interval is the estimate +- 1.96
    standard errors of the jackknife, cut to [0, 1]. Without user u, coverage is smaller by the s_u
    items that were recommended to u only, so the variance is (m - 1) / m * sum_u (s_u - mean(s))^2
    / catalogue^2 for m users. It tends to be too large (Efron & Stein 1981).

    The lazy inputs are computed once, and persisted on the executors (memory, then disk) during the
    evaluation.
    """
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise DataError(f"ks must be positive cut-offs, not {ks}")
    check_columns(recommendations, queries, user, item_counts)
    joined = join_inputs(recommendations, queries, user, ks[-1])
    conservative = ties == "conservative"
    joined = joined.withColumn("hits", _hit_positions(ks[-1] if conservative else None))
    joined.persist(StorageLevel.MEMORY_AND_DISK)
    counts = item_counts
    if not item_counts.is_cached:  # the caller may have persisted it, and may still need it
        counts = item_counts.select("item", "count").persist(StorageLevel.MEMORY_AND_DISK)
    try:
        check_rows(joined)
        catalogue = catalogue_size(counts)
        rows = joined.filter(F.size("relevant") > 0)
        lists = rows.select("user_hash", F.explode("items").alias("item"))
        lists = lists.join(counts.select("item", "count"), "item")

        columns = {name: value for k in ks for name, value in _metrics_at(k).items()}
        sums = bootstrap_sums(
            _user_sums(rows, lists, columns),
            "user_hash",
            [*columns, "rows", "users", "popularity", "slots"],
            replicates,
            seed,
        )
        users = int(sums[0, -3])
        covered, error = _coverage(lists, users)
    finally:
        joined.unpersist()
        if counts is not item_counts:
            counts.unpersist()

    n = sums[:, len(columns)]
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for position, name in enumerate(columns):
        metrics[name] = sums[0, position] / n[0]
        intervals[name] = ratio_interval(sums[1:, position], n[1:])
    coverage = covered / catalogue
    metrics[f"coverage@{ks[-1]}"] = coverage
    margin = 1.96 * error / catalogue
    intervals[f"coverage@{ks[-1]}"] = max(coverage - margin, 0.0), min(coverage + margin, 1.0)
    metrics[f"popularity@{ks[-1]}"] = sums[0, -2] / max(sums[0, -1], 1.0)
    intervals[f"popularity@{ks[-1]}"] = ratio_interval(sums[1:, -2], sums[1:, -1])
    return Evaluation(
        n=int(n[0]),
        metrics={name: round(float(value), _DECIMALS) for name, value in metrics.items()},
        interval95={
            name: (round(low, _DECIMALS), round(high, _DECIMALS))
            for name, (low, high) in intervals.items()
        },
    )


def _hit_positions(full: int | None) -> Column:
    """Positions (from 1) of the relevant items in `items`, ascending.

    If `full` is given, the position is that of the last item with the same score, and there is none
    if that is the end of a list of length `full`.
    """

    def place(item: Column) -> Column:
        found = F.array_position("items", item).cast("int")
        if full is None:
            return found
        score = F.get("scores", found - 1)
        last = F.size(F.filter("scores", lambda other: other >= score))
        first = F.size(F.filter("scores", lambda other: other > score)) + 1
        return F.when((found == 0) | ((last == full) & (first < full)), 0).otherwise(last)

    # Over relevant items and not over recommended ones, because there are fewer, usually one.
    places = F.transform("relevant", place)
    return F.sort_array(F.filter(places, lambda place: place > 0))


def _metrics_at(k: int) -> dict[str, Column]:
    """The contribution of one hit to the metrics of its query at k; every metric is a sum of these.

    A hit has `place` (from 1), `before`, the number of hits above it, and `relevant`, |G|.
    """
    place, before, relevant = F.col("place"), F.col("before"), F.col("relevant")
    at_most_k = F.least(relevant, F.lit(k))
    ideal = np.cumsum([1.0 / log2(at + 1) for at in range(1, k + 1)])
    values = {
        "precision": F.lit(1.0 / k),
        "recall": F.lit(1.0) / relevant,
        "f1": F.lit(2.0) / (relevant + k),
        "hit": F.when(before == 0, 1.0),
        "mrr": F.when(before == 0, F.lit(1.0) / place),
        "map": (before + F.lit(1.0)) / place / at_most_k,
        "ndcg": F.lit(1.0) / F.log2(place + F.lit(1.0)) / F.element_at(F.lit(ideal), at_most_k),
    }
    return {f"{name}@{k}": F.when(place <= k, value) for name, value in values.items()}


def _user_sums(rows: DataFrame, lists: DataFrame, columns: dict[str, Column]) -> DataFrame:
    """One row per user: the sum of each metric, `rows`, `users` (1), `popularity` and `slots`."""
    hits = rows.select(
        "user_hash",
        F.size("relevant").alias("relevant"),
        F.size("items").alias("slots"),
        F.posexplode_outer("hits").alias("before", "place"),  # one row of nulls for a miss
    )
    once = F.coalesce("before", F.lit(0)) == 0
    sums = hits.groupBy("user_hash").agg(
        *(F.sum(value).alias(name) for name, value in columns.items()),
        F.sum(F.when(once, 1.0)).alias("rows"),
        F.sum(F.when(once, F.col("slots").cast("double"))).alias("slots"),
    )
    popularity = lists.groupBy("user_hash").agg(F.sum("count").cast("double").alias("popularity"))
    joined = sums.join(popularity, "user_hash", "left").withColumn("users", F.lit(1.0))
    return joined.fillna(0.0)


def _coverage(lists: DataFrame, users: int) -> tuple[int, float]:
    """Number of catalogue items that were recommended, and its jackknife standard error."""
    # An item was recommended to one user only if its smallest and largest user hash are equal.
    owner = F.when(F.min("user_hash") == F.max("user_hash"), F.min("user_hash"))
    owned = lists.groupBy("item").agg(owner.alias("owner")).groupBy("owner").count()
    alone = F.when(F.col("owner").isNotNull(), F.col("count").cast("double"))
    row = owned.agg(F.sum("count"), F.sum(alone), F.sum(alone * alone)).first()
    assert row is not None  # an aggregate without groups has one row
    total, first, second = (value or 0 for value in row)
    spread = max(second - first * first / users, 0.0)
    return int(total), sqrt(spread * (users - 1) / users)
