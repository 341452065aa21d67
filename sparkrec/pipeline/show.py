"""Shows recommendations with names instead of ids, next to the history of the user."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.bounds import Count, check_bounds
from sparkrec.columns import Columns
from sparkrec.config.job import Job
from sparkrec.io import storage
from sparkrec.io.outputs import read_manifest
from sparkrec.io.tables import KEY_TYPES, read_table
from sparkrec.transforms import tail


@dataclass(frozen=True)
class ShowInput:
    """Input of the job.

    Attributes
    ----------
    run
        Folder of a finished run.
    test
        Table of the test queries that the run answered.
    items
        Table of the items with their names.
    """

    run: str
    test: str
    items: str


@dataclass(frozen=True, kw_only=True)
class Show(Job):
    """Config of jobs/show.py.

    Attributes
    ----------
    name
        Column of the items table with the name to show.
    queries
        Number of test queries to show; for the same data they are always the same ones.
    items
        Number of items of each list to show.
    exclude_seen
        Whether to show the recommendations without seen items, or those with seen items.
    """

    job: Literal["show"]
    dataset: str
    input: ShowInput
    name: str
    columns: Columns = field(default_factory=Columns)
    queries: Count = 3
    items: Count = 8
    exclude_seen: bool = False

    def __post_init__(self) -> None:
        check_bounds(self)


def show_recommendations(spark: SparkSession, config: Show) -> str:
    """A block of text for each query: what the user had last, is recommended, and then chose."""
    columns = config.columns
    read_manifest(config.input.run)
    items = read_table(spark, config.input.items, "input.items", {columns.item: KEY_TYPES})
    test = read_table(spark, config.input.test, "input.test", {columns.user: KEY_TYPES})
    folder = "seen_excluded" if config.exclude_seen else "seen_kept"
    path = storage.join(config.input.run, "recommendations", folder)
    recommended = read_table(spark, path, "input.run")
    chosen = test.orderBy(F.xxhash64("query_id")).limit(config.queries)
    rows = chosen.join(recommended, "query_id").select(
        F.col(columns.user).alias("user"),
        F.reverse(tail(F.col("history"), config.items)).alias("history"),
        F.slice("recommended.item_id", 1, config.items).alias("recommended"),
        F.slice("relevant", 1, config.items).alias("relevant"),
    )
    found = rows.collect()
    names = _names(items, columns.item, config.name, {i for row in found for i in _ids(row)})
    blocks = []
    for row in found:
        relevant = set(row["relevant"])
        blocks.append(
            f"{columns.user} {row['user']}\n"
            f"  had last:    {_join(row['history'], names)}\n"
            f"  recommended: {_join(row['recommended'], names, relevant)}\n"
            f"  then chose:  {_join(row['relevant'], names)}"
        )
    return "\n".join([*blocks, "(* was among what the user then chose)"])


def _ids(row: Any) -> list[Any]:
    return [*row["history"], *row["recommended"], *row["relevant"]]


def _names(items: DataFrame, item: str, name: str, wanted: set[Any]) -> dict[Any, str]:
    found = items.where(F.col(item).isin(list(wanted))).select(item, name).collect()
    return {row[item]: str(row[name]) for row in found}


def _join(
    ids: list[Any], names: dict[Any, str], marked: set[Any] | frozenset[Any] = frozenset()
) -> str:
    texts = [f"{names.get(i, str(i))}{'*' if i in marked else ''}" for i in ids]
    return "; ".join(texts) or "nothing"
