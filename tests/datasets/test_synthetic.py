"""Synthetic events: shape, popularity, structure, and that a seed says all."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.datasets.synthetic import Shape, synthetic_events
from sparkrec.errors import ConfigError
from sparkrec.spark_versions import to_arrow

EVENTS, ITEMS, FOLLOW, SUCCESSORS = 200_000, 2_000, 0.6, 3
SHAPE = Shape(items=ITEMS, follow=FOLLOW, successors=SUCCESSORS)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    return synthetic_events(spark, EVENTS, seed=5, shape=SHAPE).cache()


@pytest.fixture(scope="module")
def walks(events: DataFrame) -> dict[int, list[int]]:
    """The items of each user in the order of (timestamp, position)."""
    found: dict[int, list[int]] = {}
    ordered = events.orderBy("user_id", "timestamp", "position").select("user_id", "item_id")
    for user, item in to_arrow(ordered).to_pandas().itertuples(index=False):
        found.setdefault(user, []).append(item)
    return found


def rows(frame: DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in frame.orderBy("position").collect()]


def test_columns_and_numbers(events: DataFrame, walks: dict[int, list[int]]) -> None:
    kinds = {field.name: field.dataType.simpleString() for field in events.schema.fields}
    assert kinds == dict.fromkeys(("user_id", "item_id", "timestamp", "position"), "bigint")
    assert events.count() == EVENTS
    assert sorted(walks) == list(range(EVENTS // 100))
    lengths = [len(items) for items in walks.values()]
    assert (min(lengths), max(lengths)) == pytest.approx((10, 190), abs=3)
    assert np.std(lengths) > 40
    items = {item for walk in walks.values() for item in walk}
    assert items <= set(range(1, ITEMS + 1))
    assert len(items) > ITEMS * 0.98


def test_positions_count_the_events_and_times_rise_with_them(events: DataFrame) -> None:
    table = to_arrow(events.orderBy("position")).to_pandas()
    assert (table["position"] == np.arange(EVENTS)).all()
    same_user = table["user_id"].diff() == 0
    assert same_user.sum() == EVENTS - EVENTS // 100
    assert (table["timestamp"].diff()[same_user] >= 0).all()


def test_popularity_is_zipfs(walks: dict[int, list[int]]) -> None:
    counts = Counter(item for walk in walks.values() for item in walk)
    by_rank = np.array(sorted(counts.values(), reverse=True)[:500])
    slope, _ = np.polyfit(np.log(np.arange(1, 501)), np.log(by_rank), 1)
    assert slope == pytest.approx(-1, abs=0.1)
    # Ids are shuffled: a small one is not a popular one.
    popular = [item for item, _ in counts.most_common(100)]
    assert ITEMS * 0.3 < np.mean(popular) < ITEMS * 0.7


def test_an_item_has_few_likely_successors(walks: dict[int, list[int]]) -> None:
    after: dict[int, Counter[int]] = {}
    for walk in walks.values():
        for item, following in pairwise(walk):
            after.setdefault(item, Counter())[following] += 1
    hits = [sum(n for _, n in c.most_common(SUCCESSORS)) for c in after.values()]
    frequent = [sum(c.values()) for c in after.values()]
    of_frequent = [h / n for h, n in zip(hits, frequent, strict=True) if n >= 200]
    assert len(of_frequent) > 50
    # The rest are draws of popular items, some of which happen to be successors.
    assert FOLLOW - 0.05 < np.median(of_frequent) < FOLLOW + 0.15


def test_without_following_the_last_item_says_nothing(spark: SparkSession) -> None:
    shape = Shape(items=50, follow=0.0)
    found = to_arrow(synthetic_events(spark, 100_000, shape=shape).orderBy("position")).to_pandas()
    pairs = Counter(zip(found["item_id"][:-1], found["item_id"][1:], strict=True))
    share = found["item_id"].value_counts(normalize=True)
    first, second = share.index[:2]
    expected = share[first] * share[second] * 100_000
    assert pairs[first, second] == pytest.approx(expected, rel=0.1)


def test_a_seed_says_all_however_events_are_partitioned(
    spark: SparkSession, events: DataFrame
) -> None:
    small = Shape(items=50, events_per_user=5)
    once = rows(synthetic_events(spark, 30_000, seed=7, shape=small))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1")
    try:
        assert rows(synthetic_events(spark, 30_000, seed=7, shape=small)) == once
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert rows(synthetic_events(spark, 30_000, seed=8, shape=small)) != once
    again = to_arrow(synthetic_events(spark, EVENTS, seed=5, shape=SHAPE).repartition(3))
    assert again.sort_by("position").equals(to_arrow(events).sort_by("position"))


@pytest.mark.parametrize("number", [1, 99, 100, 101, 1_234, 100_301])
def test_any_number_of_events(spark: SparkSession, number: int) -> None:
    found = synthetic_events(spark, number, shape=Shape(items=30))
    assert [row[3] for row in rows(found)] == list(range(number))
    assert found.agg(F.countDistinct("user_id")).head() == (max(1, number // 100),)


@pytest.mark.parametrize("heavy", [1, 100, 2_050, 150_000])
def test_a_heavy_user_is_one_more(spark: SparkSession, heavy: int) -> None:
    found = synthetic_events(spark, 1_500, seed=2, shape=Shape(heavy_user_events=heavy))
    positions = [row[3] for row in rows(found)]
    assert positions == list(range(1_500 + heavy))
    own = to_arrow(found.where("user_id = 15").orderBy("position")).to_pandas()
    assert len(own) == heavy
    assert own["timestamp"].is_monotonic_increasing
    assert own["position"].min() == 1_500
    assert found.where("user_id > 15").count() == 0


def test_an_item_that_every_user_has(spark: SparkSession) -> None:
    shape = Shape(items=500, common_item=True, heavy_user_events=700)
    found = synthetic_events(spark, 20_000, shape=shape)
    firsts = found.groupBy("user_id").agg(F.min_by("item_id", "position").alias("item"))
    assert firsts.count() == 201
    common = firsts.select("item").distinct().collect()
    assert len(common) == 1
    counts = found.groupBy("item_id").count().orderBy(F.desc("count"))
    assert counts.head()["item_id"] == common[0]["item"]


def test_text_ids_and_other_names(spark: SparkSession) -> None:
    columns = Columns(user="u", item="movie_id", timestamp="at", position="line")
    text = synthetic_events(spark, 500, 3, columns, Shape(items=40, text_ids=True))
    numbers = synthetic_events(spark, 500, 3, columns, Shape(items=40))
    assert text.columns == ["u", "movie_id", "at", "line"]
    expected = [(f"user-{u}", f"item-{i}", at, line) for u, i, at, line in numbers.collect()]
    assert [tuple(row) for row in text.collect()] == expected


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"items": 0}, "items must be at least 1"),
        ({"successors": 0}, "successors must be at least 1"),
        ({"events_per_user": 0}, "events_per_user must be at least 1"),
        ({"heavy_user_events": -1}, "heavy_user_events must be at least 0"),
        ({"follow": 1.5}, "follow must be between 0 and 1"),
    ],
)
def test_numbers_out_of_range(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shape(**params)


def test_no_events(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match="events must be at least 1"):
        synthetic_events(spark, 0)
