"""Named protocols and the rows that they count."""

import pytest
from pyspark.sql import SparkSession

from sparkrec.errors import ConfigError, DataError
from sparkrec.evaluation.protocols import of_event_type, protocol, protocol_names


@pytest.mark.parametrize(
    ("name", "rating", "above", "kept"),
    [
        ("last_3", "rating", None, [3]),
        ("last_3", "rating", 1.5, [2, 3]),
        ("last_3", None, None, [1, 2, 3, 4]),
        ("leave_one_out", "rating", None, [1, 2, 3, 4]),
        ("leave_one_out", "rating", 2.0, [3]),
        ("next_basket", None, None, [1, 2, 3, 4]),
    ],
)
def test_rows_that_count(
    spark: SparkSession, name: str, rating: str | None, above: float | None, kept: list[int]
) -> None:
    test = spark.createDataFrame(
        [(1, 1.0), (2, 2.0), (3, 3.0), (4, None)], "row int, rating double"
    )
    rows = protocol(name).relevant_queries(test, rating, above)
    assert sorted(row["row"] for row in rows.collect()) == kept


def test_a_threshold_needs_a_rating(spark: SparkSession) -> None:
    test = spark.range(1)
    with pytest.raises(ConfigError, match="columns names no rating"):
        protocol("last_3").relevant_queries(test, None, 2.0)
    with pytest.raises(DataError, match="test has no column 'stars'; it has id"):
        protocol("last_3").relevant_queries(test, "stars")
    # Where every row counts, a column that nobody reads need not be there.
    assert protocol("leave_one_out").relevant_queries(test, "stars") is test


def test_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"not 'last3'; did you mean `last_3`\?"):
        protocol("last3")
    with pytest.raises(
        ConfigError,
        match=r"be one of last_3, leave_one_out, .*, cold_items, next_basket; not 'zzz'$",
    ):
        protocol("zzz")


def test_every_protocol_has_one_sentence() -> None:
    for name in protocol_names():
        assert protocol(name).name == name
        assert protocol(name).description.count(".") == 1
        assert protocol(name).description.endswith(".")


def test_a_target_keeps_the_rows_of_one_type_of_event(spark: SparkSession) -> None:
    test = spark.createDataFrame(
        [(1, "view", [7]), (2, "purchase", [7, 8]), (3, None, [])],
        "row int, event_type string, history array<int>",
    )
    kept = of_event_type(test, "purchase", "input.test").collect()
    assert [(row["row"], row["history"]) for row in kept] == [(2, [7, 8])]
    with pytest.raises(DataError, match=r"no row with event_type `cart`.*it has None, purchase, v"):
        of_event_type(test, "cart", "input.test")
    with pytest.raises(
        DataError, match=r"input\.test has no column `event_type`, which evaluation"
    ):
        of_event_type(test.drop("event_type"), "view", "input.test")
