"""Global Hot: counts, ties by item id, and the columns it needs."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines import YARDSTICKS, yardstick
from sparkrec.baselines.global_hot import GlobalHot, GlobalHotModel
from sparkrec.errors import DataError


@pytest.fixture(scope="module")
def train(spark: SparkSession) -> DataFrame:
    """Item 7 three times, 3 and 5 twice, 9 and 1 once; a null counts for nothing."""
    items = [7, 3, 5, 7, 9, 3, 5, 7, 1, None]
    return spark.createDataFrame([(item,) for item in items], "movie_id long")


@pytest.fixture(scope="module")
def queries(spark: SparkSession) -> DataFrame:
    rows = [(1, []), (2, [7, 3, 7]), (3, None)]
    return spark.createDataFrame(rows, "query_id long, history array<long>").coalesce(1)


def test_items_by_count_ties_by_id(train: DataFrame, queries: DataFrame) -> None:
    model = GlobalHot(item_col="movie_id", exclude_seen=False).fit(train)
    for row in model.transform(queries).collect():
        given = [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        assert given == [(7, 3), (3, 2), (5, 2), (1, 1), (9, 1)]


def test_seen_items_make_room_for_the_next(train: DataFrame, queries: DataFrame) -> None:
    model = GlobalHot(item_col="movie_id", k=2).fit(train)
    given = {
        row["query_id"]: [entry["item_id"] for entry in row["recommended"]]
        for row in model.transform(queries).collect()
    }
    assert given == {1: [7, 3], 2: [5, 1], 3: [7, 3]}


def test_a_missing_item_column(train: DataFrame) -> None:
    with pytest.raises(DataError, match=r"train has no column `item_id` .it has movie_id."):
        GlobalHot().fit(train)


def test_it_is_a_yardstick_by_name(train: DataFrame) -> None:
    assert isinstance(yardstick("global_hot", item_col="movie_id").fit(train), GlobalHotModel)
    assert "personal_top" in YARDSTICKS
