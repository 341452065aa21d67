"""How well items are found that train has never seen, beside those that it has.

Every relevant item of a query is a row of its own here, its *target*: a basket may have cold items
and warm ones. recall@k is the share of the targets that are among the first k recommended items,
mrr@k and ndcg@k have the target as the one relevant item. All targets have the same weight.

===================  ===============================================================================
group                targets, and the items that they are ranked among
===================  ===============================================================================
`cold`               targets that are cold items, among all items
`warm`               targets that are not, among all items
`cold among cold`    cold targets, among the cold items
`warm among warm`    warm targets, among the warm items: what they were without the cold ones
`cold, <age>`        cold targets by the time since their first event, among all items
===================  ===============================================================================

Without the name of a group, metrics are those of all targets among all items, with
`cold_share@k`, the share of the places of all lists that cold items have. It should be about their
share of the targets.

Both the users and the items that are tested are a sample, and a popular cold item is in many rows.
So intervals are resampled over both: the weight of a row in a replicate is the product of its
user's and its item's (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007).
"""

from collections.abc import Mapping, Sequence

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkrec.errors import DataError
from sparkrec.evaluation.bootstrap import bootstrap_sums
from sparkrec.evaluation.metrics import Evaluation, rounded

COLD, WARM = "cold", "warm"
AMONG_COLD, AMONG_WARM = "cold among cold", "warm among warm"
_DAY = 86_400
# Ages of cold items, in days: from, to, name.
_AGES = (
    (0, 1, "cold, first day"),
    (1, 7, "cold, first week"),
    (7, 28, "cold, first four weeks"),
    (28, None, "cold, older"),
)


def evaluate_cold(
    recommendations: DataFrame,
    among: Mapping[str, DataFrame],
    queries: DataFrame,
    user: str,
    cold: DataFrame,
    ks: Sequence[int] = (10, 20),
    timestamp: str | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate recommendations by groups of targets; see the docstring of this module.

    Parameters
    ----------
    recommendations
        `query_id` and `recommended`, as in `metrics.evaluate`. A query without a row has no hit.
    among
        The same with the cold items as the only candidates, by the name `AMONG_COLD`, and with the
        others, by the name `AMONG_WARM`; either may be missing.
    queries
        `query_id`, the column named by `user`, `relevant: array<item>`.
    cold
        The cold items: `item`, and `first_seen` where groups by age are wanted.
    ks
        Cut-offs.
    timestamp
        Column of the time of a query, in seconds, for groups by age.
    replicates, seed
        Number of bootstrap replicates, and their seed.

    Returns
    -------
    Evaluation
        Of all targets, with the groups that have any. Its `n` is the number of targets.

    Raises
    ------
    DataError
        No query has a relevant item.
    """
    last = max(ks)
    known = cold.select(
        F.col("item").alias("target"),
        F.lit(True).alias("is_cold"),
        *([F.col("first_seen")] if timestamp is not None else []),
    )
    targets = queries.select(
        "query_id",
        F.xxhash64(F.col(user).cast("string")).alias("user_hash"),
        *([F.col(timestamp).alias("asked")] if timestamp is not None else []),
        F.explode(F.array_distinct("relevant")).alias("target"),
    )
    targets = targets.where(F.col("target").isNotNull())
    rows = targets.join(F.broadcast(known), "target", "left")
    for name, lists in {"all": recommendations, **among}.items():
        items = F.slice("recommended.item_id", 1, last)
        rows = rows.join(lists.select("query_id", items.alias(name)), "query_id", "left")
    is_cold = F.coalesce("is_cold", F.lit(False))
    groups = {"": ("all", F.lit(True)), COLD: ("all", is_cold), WARM: ("all", ~is_cold)}
    own = {AMONG_COLD: is_cold, AMONG_WARM: ~is_cold}
    groups |= {name: (name, own[name]) for name in among}
    if timestamp is not None:
        age = (F.col("asked") - F.col("first_seen")) / _DAY
        for low, high, name in _AGES:
            older = F.lit(True) if high is None else age < high
            groups[name] = "all", is_cold & (age >= low) & older
    columns = {
        f"{metric} {group}": value
        for group, (lists_of, wanted) in groups.items()
        for metric, value in _metrics(lists_of, wanted, ks).items()
    }
    table = rows.select(
        "user_hash",
        F.xxhash64(F.col("target").cast("string")).alias("item_hash"),
        *[F.coalesce(value.cast("double"), F.lit(0.0)).alias(n) for n, value in columns.items()],
    ).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        if table.isEmpty():
            raise DataError("no query has a relevant item: there is nothing to evaluate")
        sums = bootstrap_sums(table, ("user_hash", "item_hash"), list(columns), replicates, seed)
    finally:
        table.unpersist()
    by_name = dict(zip(columns, sums.T, strict=True))
    found: dict[str, Evaluation] = {}
    for group in groups:
        count = by_name[f"rows {group}"]
        if count[0]:
            totals = {metric: by_name[f"{metric} {group}"] for metric in _names(ks)}
            found[group] = Evaluation.of_sums(count, totals, {})
    whole = found.pop("")
    whole.metrics[f"cold_share@{last}"] = _cold_share(recommendations, queries, cold, last)
    whole.groups.update(found)
    return whole


def _names(ks: Sequence[int]) -> list[str]:
    return [f"{metric}@{k}" for k in ks for metric in ("recall", "mrr", "ndcg")]


def _metrics(lists: str, wanted: Column, ks: Sequence[int]) -> Mapping[str, Column]:
    """What a target adds to the sums of its group: 1 to `rows`, and its metrics."""
    # `F.array_position` takes no Column in Spark 3.5.
    place = F.call_function("array_position", F.col(f"`{lists}`"), F.col("target"))
    place = F.coalesce(place, F.lit(0)).cast("double")
    values = {"rows": F.lit(1.0)}
    for k in ks:
        hit = (place > 0) & (place <= k)
        values[f"recall@{k}"] = hit.cast("double")
        values[f"mrr@{k}"] = F.when(hit, 1 / place)
        values[f"ndcg@{k}"] = F.when(hit, 1 / F.log2(place + 1))
    return {name: F.when(wanted, value) for name, value in values.items()}


def _cold_share(recommendations: DataFrame, queries: DataFrame, cold: DataFrame, k: int) -> float:
    lists = recommendations.join(queries.select("query_id").distinct(), "query_id", "left_semi")
    places = lists.select(F.explode(F.slice("recommended.item_id", 1, k)).alias("item"))
    marked = places.join(F.broadcast(cold.select("item", F.lit(1.0).alias("cold"))), "item", "left")
    row = marked.agg(F.avg(F.coalesce("cold", F.lit(0.0)))).first()
    return rounded(row[0] or 0.0) if row is not None else 0.0
