"""Splits: what is held out, what stays, and what a held-out row knows."""

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.transforms import (
    Core,
    Split,
    add_history,
    last_basket,
    last_n,
    leave_one_out,
    temporal,
)
from sparkrec.transforms.match_dataset import SplitBy

COLUMNS = Columns(session="basket")
SCHEMA = "user_id string, item_id string, timestamp long, position long, basket long"
# User a: items p q r s t, where q r s share a second and come in the order of their positions.
EVENTS = [
    ("a", "s", 20, 7, 2),
    ("a", "t", 30, 0, 3),
    ("a", "q", 20, 2, 2),
    ("a", "p", 10, 9, 1),
    ("a", "r", 20, 5, 2),
    ("b", "p", 15, 1, 1),
    ("b", "q", 25, 3, 2),
    ("c", "z", 40, 4, 1),
]


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(EVENTS, SCHEMA).repartition(3).persist()


def positions(frame: DataFrame) -> set[int]:
    rows = [row["position"] for row in frame.select("position").collect()]
    assert len(rows) == len(set(rows))
    return set(rows)


def queries(frame: DataFrame) -> dict[int, tuple[list[str], list[str]]]:
    return {row["query_id"]: (row["history"], row["relevant"]) for row in frame.collect()}


def parts(split: Split) -> dict[str, tuple[int, int]]:
    return {row["part"]: (row["events"], row["marked"]) for row in split.parts.collect()}


def check_relations(split: Split, events: DataFrame) -> None:
    train, test = positions(split.train), positions(split.test)
    assert train | test == positions(events) and not train & test
    marked = positions(split.train.where("is_validation"))
    assert positions(split.validation) == marked
    assert split.train.where("is_validation is null").isEmpty()
    assert parts(split) == {"train": (len(train), len(marked)), "test": (len(test), 0)}


def test_last_n(events: DataFrame) -> None:
    split = last_n(events, COLUMNS, n=2)
    check_relations(split, events)
    assert queries(split.test) == {7: (["p", "q", "r"], ["s"]), 0: (["p", "q", "r", "s"], ["t"])}
    # b has two events, c has one: both stay whole; c's only event is not given away to validation.
    assert queries(split.validation) == {5: (["p", "q"], ["r"]), 3: (["p"], ["q"])}
    assert split.test.columns == [*events.columns, "query_id", "history", "relevant"]
    assert split.validation.schema == split.test.schema
    assert split.train.columns == [*events.columns, "is_validation"]
    assert dict(split.test.dtypes)["query_id"] == "bigint"


def test_leave_one_out(events: DataFrame) -> None:
    split = leave_one_out(events, COLUMNS)
    check_relations(split, events)
    assert queries(split.test) == {0: (["p", "q", "r", "s"], ["t"]), 3: (["p"], ["q"])}
    assert queries(split.validation) == {7: (["p", "q", "r"], ["s"])}


def test_history_columns_are_kept(events: DataFrame) -> None:
    split = last_n(add_history(events, COLUMNS, max_len=2), COLUMNS, n=1)
    row = split.test.where("user_id = 'a'").collect()[0]
    assert row["recent_item_ids"] == ["r", "s"] and row["last_item"] == "s"
    assert "recent_item_ids" in split.train.columns


def test_temporal(events: DataFrame) -> None:
    split = temporal(events, COLUMNS, test_from=20)
    check_relations(split, events)
    assert queries(split.test) == {
        2: (["p"], ["q"]),
        5: (["p", "q"], ["r"]),
        7: (["p", "q", "r"], ["s"]),
        0: (["p", "q", "r", "s"], ["t"]),
        3: (["p"], ["q"]),
        4: ([], ["z"]),
    }
    # Nobody has two train events, and c, who begins at 40, has none.
    assert positions(split.train) == {9, 1}
    assert queries(split.validation) == {}


def test_temporal_leaves_new_users_out_when_asked(events: DataFrame) -> None:
    split = temporal(events, COLUMNS, test_from=30, validation_from=15, new_users="drop")
    assert positions(split.test) == {0}
    # b begins in the validation range: its event is marked, but no query is made of it.
    assert positions(split.train.where("is_validation")) == {2, 5, 7, 1, 3}
    assert queries(split.validation)[7] == (["p", "q", "r"], ["s"])
    assert positions(split.validation) == {2, 5, 7}
    assert positions(split.train) == {9, 2, 5, 7, 1, 3}
    assert parts(split) == {"train": (6, 5), "test": (1, 0), "users who are new in test": (1, 0)}


def test_a_core_does_not_know_the_test(spark: SparkSession) -> None:
    """`hot` is asked for three times in the test, but occurs once in train; `x` is in both."""
    rows = [
        *[("a", "x", 1, 0, 1), ("a", "hot", 2, 1, 2), ("a", "x", 3, 2, 3), ("a", "hot", 9, 3, 4)],
        *[("b", "x", 1, 4, 1), ("b", "y", 2, 5, 2), ("b", "hot", 9, 6, 3), ("b", "x", 9, 7, 3)],
        *[("c", "y", 3, 8, 1), ("d", "x", 9, 9, 1)],
    ]
    events = spark.createDataFrame(rows, SCHEMA)
    items = temporal(events, COLUMNS, test_from=9, core=Core(min_item_events=2))
    assert positions(items.train) == {0, 2, 4, 5, 8}
    # Histories keep what the user did. `d` is new, and `x` is inside.
    assert queries(items.test) == {7: (["x", "y", "hot"], ["x"]), 9: ([], ["x"])}
    assert queries(items.validation) == {2: (["x", "hot"], ["x"]), 5: (["x"], ["y"])}
    outside = "users or items with too few events in train"
    assert parts(items) == {"train": (5, 2), "test": (2, 0), outside: (3, 0)}
    users = temporal(events, COLUMNS, test_from=9, core=Core(min_user_events=2))
    assert positions(users.train) == {0, 1, 2, 4, 5}
    assert positions(users.test) == {3, 6, 7}

    basket = last_basket(events, COLUMNS, core=Core(min_item_events=2))
    # The last basket of b is {hot, x}; `hot` is outside, and the only item of a's last basket.
    assert baskets(basket.test) == {("b", 7): (9, ["x", "y"], ["x"])}


def test_validation_is_the_last_train_event_that_a_core_leaves(spark: SparkSession) -> None:
    rows = [("a", item, at, at, at) for at, item in enumerate(["x", "x", "y", "rare", "x"])]
    rows += [("b", "x", 1, 10, 1), ("b", "y", 2, 11, 2), ("b", "x", 3, 12, 3)]
    split = leave_one_out(spark.createDataFrame(rows, SCHEMA), COLUMNS, Core(min_item_events=2))
    assert queries(split.validation) == {2: (["x", "x"], ["y"]), 11: (["x"], ["y"])}


def test_temporal_tests_new_users(events: DataFrame) -> None:
    conf = SplitBy("temporal", test_from=30, validation_from=15)
    split = conf.split(events, COLUMNS)
    check_relations(split, events)
    assert queries(split.test) == {0: (["p", "q", "r", "s"], ["t"]), 4: ([], ["z"])}
    # b's events all lie in the validation range.
    assert positions(split.validation) == {2, 5, 7, 1, 3}
    assert queries(split.validation)[1] == ([], ["p"])


def test_temporal_validation_range(events: DataFrame) -> None:
    split = temporal(events, COLUMNS, test_from=30, validation_from=15)
    check_relations(split, events)
    assert positions(split.test) == {0, 4}
    assert positions(split.validation) == {2, 5, 7, 1, 3}
    assert queries(split.validation)[7] == (["p", "q", "r"], ["s"])


def baskets(frame: DataFrame) -> dict[tuple[str, int], Any]:
    return {
        (row["user_id"], row["query_id"]): (row["timestamp"], row["history"], row["relevant"])
        for row in frame.collect()
    }


def test_last_basket(spark: SparkSession, events: DataFrame) -> None:
    again = spark.createDataFrame([("a", "t", 31, 20, 3), ("a", "o", 32, 21, 3)], SCHEMA)
    events = events.unionByName(again)
    split = last_basket(add_history(events, COLUMNS, by_session=True), COLUMNS)
    assert baskets(split.test) == {
        ("a", 0): (30, ["p", "q", "r", "s"], ["o", "t"]),
        ("b", 3): (25, ["p"], ["q"]),
    }
    assert baskets(split.validation) == {("a", 2): (20, ["p"], ["q", "r", "s"])}
    assert positions(split.train) == {9, 2, 5, 7, 1, 4}
    assert positions(split.train.where("is_validation")) == {2, 5, 7}
    assert split.test.columns == [
        *["user_id", "query_id", "timestamp", "history", "relevant"],
        *["recent_item_ids", "last_item"],
    ]
    row = split.test.where("user_id = 'a'").collect()[0]
    assert row["recent_item_ids"] == ["p", "q", "r", "s"] and row["last_item"] == "s"


def test_interleaved_baskets_are_ordered_by_their_first_event(spark: SparkSession) -> None:
    rows = [("u", "1", 0, 0, 1), ("u", "2", 5, 1, 2), ("u", "3", 9, 2, 1), ("u", "4", 9, 3, 2)]
    split = last_basket(spark.createDataFrame(rows, SCHEMA), COLUMNS)
    assert baskets(split.test) == {("u", 1): (5, ["1", "3"], ["2", "4"])}
    assert split.validation.isEmpty()


def test_mistakes_are_named(events: DataFrame) -> None:
    with pytest.raises(ConfigError, match="n must be at least 1"):
        last_n(events, COLUMNS, n=0)
    with pytest.raises(DataError, match="no column movie_id"):
        leave_one_out(events, Columns(item="movie_id"))
    with pytest.raises(ConfigError, match="needs `session`"):
        last_basket(events, Columns())
    with pytest.raises(ConfigError, match="not before"):
        temporal(events, COLUMNS, test_from=10, validation_from=10)
    with pytest.raises(ConfigError, match="new_users"):
        temporal(events, COLUMNS, test_from=10, new_users="train")  # type: ignore[arg-type]
