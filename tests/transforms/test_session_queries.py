"""Queries of test sessions, and the split by a session's end."""

from pyspark.sql import SparkSession

from sparkrec.columns import Columns
from sparkrec.transforms.session_queries import last_sessions, session_queries

COLUMNS = Columns(user="session_id")
SCHEMA = "session_id long, item_id string, timestamp long, position long"


def test_every_event_after_the_first_is_asked_for(spark: SparkSession) -> None:
    """An item that train lacks is neither asked for nor part of a history."""
    test = [
        (1, "a", 10, 0),
        (1, "b", 11, 1),
        (1, "?", 12, 2),
        (1, "a", 13, 3),
        (2, "?", 10, 4),
        (2, "b", 20, 5),
        (3, "b", 10, 7),  # in the same second: position decides
        (3, "a", 10, 6),
    ]
    train = spark.createDataFrame([("a",), ("b",), ("c",)], "item_id string")
    found = session_queries(spark.createDataFrame(test, SCHEMA), train, COLUMNS)
    queries = {
        r["query_id"]: (r["session_id"], r["history"], r["relevant"]) for r in found.collect()
    }
    assert queries == {
        1: (1, ["a"], ["b"]),
        3: (1, ["a", "b"], ["a"]),
        7: (3, ["a"], ["b"]),
    }


def test_sessions_are_split_whole_by_their_end(spark: SparkSession) -> None:
    events = [(1, "a", 0, 0), (1, "a", 89, 1), (2, "a", 50, 2), (2, "a", 90, 3), (3, "a", 100, 4)]
    train, test = last_sessions(spark.createDataFrame(events, SCHEMA), COLUMNS, 10)
    assert {row["position"] for row in train.collect()} == {0, 1}
    assert {row["position"] for row in test.collect()} == {2, 3, 4}
    assert train.columns == test.columns == ["session_id", "item_id", "timestamp", "position"]
