"""Checks the inputs of `evaluate` and joins them to one row per query."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, IntegralType, StructType

from sparkrec.errors import DataError
from sparkrec.session import slots


def check_columns(
    recommendations: DataFrame, queries: DataFrame, user: str, item_counts: DataFrame
) -> None:
    """Raise DataError unless all columns exist and all items have the same type."""
    needed = (
        ("recommendations", recommendations, ("query_id", "recommended")),
        ("queries", queries, ("query_id", user, "relevant")),
        ("item_counts", item_counts, ("item", "count")),
    )
    for name, frame, columns in needed:
        for column in columns:
            if column not in frame.columns:
                raise DataError(
                    f"{name} has no column {column!r}; it has {', '.join(frame.columns)}"
                )
    recommended = recommendations.schema["recommended"].dataType
    element = recommended.elementType if isinstance(recommended, ArrayType) else None
    if not isinstance(element, StructType) or "item_id" not in element.names:
        raise DataError(
            "recommendations.recommended must be array<struct<item_id, score>>, "
            f"not {recommended.simpleString()}"
        )
    relevant = queries.schema["relevant"].dataType
    if not isinstance(relevant, ArrayType):
        raise DataError(
            f"queries.relevant must be an array of items, not {relevant.simpleString()}"
        )
    item = element["item_id"].dataType
    others = {
        "queries.relevant": relevant.elementType,
        "item_counts.item": item_counts.schema["item"].dataType,
    }
    for name, other in others.items():
        if not _comparable(item, other):
            raise DataError(
                f"recommended items are {item.simpleString()} but those of {name} are "
                f"{other.simpleString()}: cast one of them"
            )


def _comparable(left: DataType, right: DataType) -> bool:
    """Whether items of the two types can be equal: the same type, or integers of any width."""
    return left == right or (isinstance(left, IntegralType) and isinstance(right, IntegralType))


def join_inputs(
    recommendations: DataFrame, queries: DataFrame, user: str, k: int, last: bool = False
) -> DataFrame:
    """Join the inputs to one row per query id of either input.

    The columns are `query_id`, `user_hash` (bigint), `items` and `scores` (the first `k`
    recommendations, never null), `relevant` (distinct, never null, empty if the query does not
    count), `has_history`, `is_last` (with `last`: whether no query of its user that counts has a
    longer history), and `lists` and `queries`, the number of rows in each input with this query id.

    Raises
    ------
    DataError
        `last` is wanted, and the queries have no column `history`.
    """
    has_history, is_last = F.lit(True), F.lit(False)
    if "history" in queries.columns:
        has_history = F.coalesce(F.size("history") > 0, F.lit(False))
    if last:
        if "history" not in queries.columns:
            raise DataError("queries has no column history, which tells a user's last query")
        length = F.when(F.size(F.array_compact("relevant")) > 0, F.size("history"))
        longest = F.max(length).over(Window.partitionBy(user))
        is_last = F.coalesce(length == longest, F.lit(False))
    # Adaptive execution does not merge small partitions of a persisted frame, so their number is
    # set by the task slots and not by spark.sql.shuffle.partitions.
    partitions = 2 * slots(queries.sparkSession)
    lists = recommendations.select(
        "query_id",
        F.slice("recommended.item_id", 1, k).alias("items"),
        F.slice("recommended.score", 1, k).alias("scores"),
    ).repartition(partitions, "query_id")
    wanted = queries.select(
        "query_id",
        # As text, so that an id has the same hash whether it is stored as int or as bigint.
        F.xxhash64(F.col(user).cast("string")).alias("user_hash"),
        F.array_compact(F.array_distinct("relevant")).alias("relevant"),
        has_history.alias("has_history"),
        is_last.alias("is_last"),
    ).repartition(partitions, "query_id")
    listed = lists.groupBy("query_id").agg(
        F.first("items").alias("items"),
        F.first("scores").alias("scores"),
        F.count(F.lit(1)).alias("lists"),
    )
    asked = wanted.groupBy("query_id").agg(
        F.first("user_hash").alias("user_hash"),
        F.first("relevant").alias("relevant"),
        F.first("has_history").alias("has_history"),
        F.first("is_last").alias("is_last"),
        F.count(F.lit(1)).alias("queries"),
    )
    both = listed.join(asked, "query_id", "full")
    return both.select(
        "query_id",
        "user_hash",
        "has_history",
        "is_last",
        *(F.coalesce(name, F.array()).alias(name) for name in ("items", "scores", "relevant")),
        *(F.coalesce(name, F.lit(0)).alias(name) for name in ("lists", "queries")),
    )


def check_rows(joined: DataFrame) -> int:
    """Number of evaluated queries without a history.

    Raises
    ------
    DataError
        There is a mistake that is only visible in the rows of `join_inputs`.
    """
    query = F.col("query_id").cast("string")
    repeated = F.size(F.array_distinct("items")) < F.size("items")
    found = joined.agg(
        F.count_if(F.size("relevant") > 0).alias("n"),
        F.count_if((F.size("relevant") > 0) & ~F.col("has_history")).alias("without"),
        F.max(F.col("query_id").isNull()).alias("null_id"),
        F.min(F.when(F.col("lists") > 1, query)).alias("lists"),
        F.min(F.when(F.col("queries") > 1, query)).alias("queries"),
        F.min(F.when(repeated, query)).alias("repeated"),
    ).first()
    assert found is not None  # an aggregate without groups has one row
    if found["null_id"]:
        raise DataError("query_id is null in a row of recommendations or queries")
    for name, value in (("recommendations", found["lists"]), ("queries", found["queries"])):
        if value is not None:
            raise DataError(f"{name} has more than one row with query_id {value}")
    if found["repeated"] is not None:
        raise DataError(f"an item is recommended twice for query_id {found['repeated']}")
    if not found["n"]:
        raise DataError("no query has a relevant item: there is nothing to evaluate")
    return int(found["without"])


def catalogue_size(item_counts: DataFrame) -> int:
    """Number of items in `item_counts`; DataError if it is empty or has an item twice."""
    rows, items = item_counts.agg(F.count(F.lit(1)), F.count_distinct("item")).first() or (0, 0)
    if rows == 0:
        raise DataError("item_counts is empty: there is no catalogue to cover")
    if items != rows:
        raise DataError(f"item_counts has {rows} rows but {items} distinct items: count each once")
    return int(rows)
