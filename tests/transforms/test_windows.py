"""Windows over a user's items, in their order."""

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.transforms.windows import item_windows


def events(spark: SparkSession, items: dict[str, str]) -> DataFrame:
    """One event a letter, all of a user in pairs of the same second, shuffled."""
    rows = [
        (user, item, place // 2, place)
        for user, letters in items.items()
        for place, item in enumerate(letters)
    ]
    schema = "user_id string, item_id string, timestamp long, position long"
    return spark.createDataFrame(rows[::-1], schema)


def windows(spark: SparkSession, items: dict[str, str], steps: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in item_windows(events(spark, items), Columns(), steps).collect():
        found.setdefault(row["user_id"], []).append("".join(row["window"]))
    return {user: sorted(of_user) for user, of_user in found.items()}


def test_every_item_but_the_first_is_an_answer_once(spark: SparkSession) -> None:
    found = windows(spark, {"u": "abcdefgh", "v": "abc", "w": "a", "x": "ab"}, steps=3)
    assert found == {"u": ["ab", "bcde", "efgh"], "v": ["abc"], "x": ["ab"]}


def test_a_window_as_long_as_the_user_is_one(spark: SparkSession) -> None:
    assert windows(spark, {"u": "abcd"}, steps=3) == {"u": ["abcd"]}
    assert windows(spark, {"u": "abcde"}, steps=3) == {"u": ["ab", "bcde"]}
    assert windows(spark, {"u": "abcd"}, steps=1) == {"u": ["ab", "bc", "cd"]}


def test_rows_without_item_are_left_out(spark: SparkSession) -> None:
    rows = [("u", "a", 1, 1), ("u", None, 2, 2), ("u", "b", 3, 3), ("v", None, 1, 4)]
    schema = "user_id string, item_id string, timestamp long, position long"
    found = item_windows(spark.createDataFrame(rows, schema), Columns(), 5).collect()
    assert [row["window"] for row in found] == [["a", "b"]]


def test_values_stand_beside_their_items(spark: SparkSession) -> None:
    frame = events(spark, {"u": "abcde", "v": "z"}).withColumn("worth", F.col("position") * 0.5)
    found = item_windows(frame, Columns(), 3, {"worth": F.col("worth")}).collect()
    assert sorted(("".join(row["window"]), row["worth"]) for row in found) == [
        ("ab", [0.0, 0.5]),
        ("bcde", [0.5, 1.0, 1.5, 2.0]),
    ]


def test_mistakes(spark: SparkSession) -> None:
    frame = events(spark, {"u": "ab"})
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        item_windows(frame, Columns(), 0)
    with pytest.raises(DataError, match="no column position"):
        item_windows(frame.drop("position"), Columns(), 3)
