"""Filters: the k-core against brute force, ranges, positives."""

import random
from collections import Counter

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.transforms import date_range, k_core, positives

COLUMNS = Columns(rating="rating")
Pair = tuple[int, str]


def one_pass(pairs: list[Pair], users: int, items: int) -> list[Pair]:
    by_user = Counter(u for u, _ in pairs)
    by_item = Counter(i for _, i in pairs)
    return [(u, i) for u, i in pairs if by_user[u] >= users and by_item[i] >= items]


def kept(frame: DataFrame) -> list[Pair]:
    return sorted((row["user_id"], row["item_id"]) for row in frame.collect())


@pytest.mark.parametrize(("users", "items", "seed"), [(2, 3, 3), (4, 1, 1)])
def test_k_core_is_the_brute_force_one(
    spark: SparkSession, users: int, items: int, seed: int
) -> None:
    rng = random.Random(seed)
    pairs = [(rng.randint(1, 40), f"i{rng.randint(1, 35)}") for _ in range(110)]
    events = spark.createDataFrame(pairs, "user_id long, item_id string").coalesce(1)
    left = one_pass(pairs, users, items)
    assert kept(k_core(events, COLUMNS, users, items, iterate=False)) == sorted(left)
    assert 0 < len(left) < len(pairs)
    while left != (left := one_pass(left, users, items)):
        pass
    assert kept(k_core(events, COLUMNS, users, items)) == sorted(left)


def test_k_core_unravels_a_chain(spark: SparkSession) -> None:
    # Each user shares an item with the next: taking off the ends takes off everything.
    chain = [(u, f"i{u + d}") for u in range(4) for d in (0, 1)]
    square = [(u, i) for u in (10, 11) for i in ("x", "y")]
    events = spark.createDataFrame([*chain, *square], "user_id long, item_id string")
    assert kept(k_core(events, COLUMNS, 2, 2)) == square
    assert len(kept(k_core(events, COLUMNS, 2, 2, iterate=False))) == 6 + 4


def test_k_core_keeps_columns_and_repeats(spark: SparkSession) -> None:
    rows = [(1, "a", 5), (1, "a", 6), (2, "b", 7)]
    events = spark.createDataFrame(rows, "user_id long, item_id string, timestamp long")
    out = k_core(events, COLUMNS, 2, 2)
    assert out.columns == events.columns
    assert sorted(row["timestamp"] for row in out.collect()) == [5, 6]


def test_date_range_is_half_open(spark: SparkSession) -> None:
    events = spark.range(5).withColumnRenamed("id", "timestamp")

    def times(start: int | None, end: int | None) -> list[int]:
        return sorted(row[0] for row in date_range(events, COLUMNS, start, end).collect())

    assert times(1, 3) == [1, 2]
    assert times(None, 2) == [0, 1]
    assert times(3, None) == [3, 4]


def test_positives_are_strictly_above(spark: SparkSession) -> None:
    events = spark.createDataFrame([(1, 2.0), (2, 2.5), (3, None)], "user_id long, rating double")
    assert [row["user_id"] for row in positives(events, COLUMNS, 2).collect()] == [2]


def test_mistakes_are_named(spark: SparkSession) -> None:
    events = spark.createDataFrame([(1, "a")], "user_id long, item_id string")
    with pytest.raises(ConfigError, match="min_user_events"):
        k_core(events, COLUMNS, 0, 2)
    with pytest.raises(DataError, match="no column timestamp"):
        date_range(events, COLUMNS, 1, 2)
    with pytest.raises(ConfigError, match="empty"):
        date_range(events.withColumnRenamed("user_id", "timestamp"), COLUMNS, 2, 2)
    with pytest.raises(ConfigError, match="rating"):
        positives(events, Columns(), 2)
    with pytest.raises(DataError, match="no column rating"):
        positives(events, COLUMNS, 2)
