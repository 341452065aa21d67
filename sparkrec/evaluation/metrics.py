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

A model knows nothing of the user of a query without a history; what it recommends there is usually
a list of popular items. So if some queries have a history and others have none, the metrics of both
are also given apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkrec.errors import DataError
from sparkrec.evaluation.bootstrap import bootstrap_sums, interval, ratios
from sparkrec.evaluation.inputs import catalogue_size, check_columns, check_rows, join_inputs

WITH_HISTORY, WITHOUT_HISTORY = "with history", "without history"
LAST = "last item"

Doubles = npt.NDArray[np.float64]

_DECIMALS = 6


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
    groups
        The same for groups of the queries, by their name, without coverage and popularity. Here
        `WITH_HISTORY` and `WITHOUT_HISTORY`, if both kinds occur, and `LAST` if it was wanted.
    replicates
        float64 [replicates], by name of the metric: its value in each bootstrap replicate. Another
        evaluation of the same queries with the same seed has the same resamples, so the differences
        of both are a paired bootstrap (`evaluation.compare`).
    """

    n: int
    metrics: dict[str, float]
    interval95: dict[str, tuple[float, float]]
    groups: "dict[str, Evaluation]" = field(default_factory=dict)
    replicates: dict[str, Doubles] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of_sums(
        cls, rows: Doubles, sums: Mapping[str, Doubles], groups: "dict[str, Evaluation]"
    ) -> "Evaluation":
        """Metrics that are ratios of sums.

        Parameters
        ----------
        rows
            [1 + replicates]: number of rows, first without weights, then in each replicate.
        sums
            The same for the sum of each metric over the rows.
        """
        values = {name: rounded(total[0] / rows[0]) for name, total in sums.items()}
        replicates = {name: ratios(total[1:], rows[1:]) for name, total in sums.items()}
        return cls(int(rows[0]), values, _intervals(replicates), groups, replicates)


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
    last_apart: bool = False,
) -> Evaluation:
    """Evaluate recommendations by the formulas of this module's docstring.

    Parameters
    ----------
    recommendations
        `query_id`, and `recommended: array<struct<item_id, score>>`, best first. A list for a
        query that is not evaluated is ignored.
    queries
        `query_id`, the column named by `user`, `relevant: array<item>`, and optionally `history`
        (an array). Rows without a relevant item are not evaluated. A query without recommendations
        has no hit, and neither have the places after the end of a short list.
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
    last_apart
        Whether the query with the longest history of each user is also a group, `LAST`. This is for
        protocols that query every event of a session.

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
    joined = join_inputs(recommendations, queries, user, ks[-1], last_apart)
    conservative = ties == "conservative"
    joined = joined.withColumn("hits", _hit_positions(ks[-1] if conservative else None))
    joined.persist(StorageLevel.MEMORY_AND_DISK)
    counts = item_counts
    if not item_counts.is_cached:  # the caller may have persisted it, and may still need it
        counts = item_counts.select("item", "count").persist(StorageLevel.MEMORY_AND_DISK)
    try:
        without = check_rows(joined)
        catalogue = catalogue_size(counts)
        rows = joined.filter(F.size("relevant") > 0)
        lists = rows.select("user_hash", F.explode("items").alias("item"))
        lists = lists.join(counts.select("item", "count"), "item")

        metrics_at_ks = {name: value for k in ks for name, value in _metrics_at(k).items()}
        columns = {**metrics_at_ks, "rows": F.when(_once(), 1.0)}
        wanted = {WITH_HISTORY: F.col("has_history"), WITHOUT_HISTORY: ~F.col("has_history")}
        wanted = wanted if without else {}
        wanted |= {LAST: F.col("is_last")} if last_apart else {}
        groups = _groups(columns, wanted)
        names = [*columns, *groups, "users", "popularity", "slots"]
        table = bootstrap_sums(
            _user_sums(rows, lists, {**columns, **groups}), ["user_hash"], names, replicates, seed
        )
        sums = dict(zip(names, table.T, strict=True))
        users = int(sums["users"][0])
        covered, error = _coverage(lists, users)
    finally:
        joined.unpersist()
        if counts is not item_counts:
            counts.unpersist()

    by_group = {
        name: _of_group(sums, metrics_at_ks, f" {name}", {})
        for name in wanted
        if sums[f"rows {name}"][0] > 0 and (name == LAST or without < int(sums["rows"][0]))
    }
    whole = _of_group(sums, metrics_at_ks, "", by_group)
    last = ks[-1]
    coverage, margin = covered / catalogue, 1.96 * error / catalogue
    popularity, slots = sums["popularity"], sums["slots"]
    whole.metrics[f"coverage@{last}"] = rounded(coverage)
    whole.interval95[f"coverage@{last}"] = (
        rounded(max(coverage - margin, 0.0)),
        rounded(min(coverage + margin, 1.0)),
    )
    whole.metrics[f"popularity@{last}"] = rounded(popularity[0] / max(slots[0], 1.0))
    resampled = {f"popularity@{last}": ratios(popularity[1:], slots[1:])}
    whole.interval95.update(_intervals(resampled))
    whole.replicates.update(resampled)
    return whole


def _groups(columns: Mapping[str, Column], wanted: Mapping[str, Column]) -> dict[str, Column]:
    """The columns again, for the queries of each group."""
    return {
        f"{name} {group}": F.when(condition, value)
        for group, condition in wanted.items()
        for name, value in columns.items()
    }


def _of_group(
    sums: Mapping[str, Doubles],
    metrics: Iterable[str],
    group: str,
    groups: dict[str, Evaluation],
) -> Evaluation:
    """The means over a group of queries, whose sums have names that end with `group`."""
    of_group = {name: sums[f"{name}{group}"] for name in metrics}
    return Evaluation.of_sums(sums[f"rows{group}"], of_group, groups)


def _intervals(replicates: Mapping[str, Doubles]) -> dict[str, tuple[float, float]]:
    ends = {name: interval(values) for name, values in replicates.items()}
    return {name: (rounded(low), rounded(high)) for name, (low, high) in ends.items()}


def rounded(value: float) -> float:
    """A figure without the last digits, which depend on the order in which Spark sums."""
    return round(float(value), _DECIMALS)


def _hit_positions(full: int | None) -> Column:
    """Positions (from 1) of the relevant items in `items`, ascending.

    If `full` is given, the position is that of the last item with the same score, and there is none
    if that is the end of a list of length `full`.
    """

    def place(item: Column) -> Column:
        # `F.array_position` takes no Column in Spark 3.5.
        found = F.call_function("array_position", F.col("items"), item).cast("int")
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


def _once() -> Column:
    """Whether this row of the exploded hits is the first of its query."""
    return F.coalesce("before", F.lit(0)) == 0


def _user_sums(rows: DataFrame, lists: DataFrame, columns: dict[str, Column]) -> DataFrame:
    """One row per user: the sum of each column, `users` (1), `popularity` and `slots`."""
    hits = rows.select(
        "user_hash",
        "has_history",
        "is_last",
        F.size("relevant").alias("relevant"),
        F.size("items").alias("slots"),
        F.posexplode_outer("hits").alias("before", "place"),  # one row of nulls for a miss
    )
    sums = hits.groupBy("user_hash").agg(
        *(F.sum(value).alias(name) for name, value in columns.items()),
        F.sum(F.when(_once(), F.col("slots").cast("double"))).alias("slots"),
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
