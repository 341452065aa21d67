"""The job that splits: what it prints accounts for every event."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.columns import Columns
from sparkrec.config.load import from_json
from sparkrec.errors import ConfigError
from sparkrec.io.tables import read_table, write_table
from sparkrec.transforms.match_dataset import (
    Filters,
    MatchDataset,
    MatchInput,
    SplitBy,
    write_match_dataset,
)

SCHEMA = "user_id string, item_id string, timestamp long, position long, basket long"


def test_every_event_is_accounted_for(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        *[("a", "x", 1, 0, 1), ("a", "y", 2, 1, 2), ("a", "rare", 3, 2, 3), ("a", "x", 4, 3, 4)],
        *[("b", "x", 2, 4, 1), ("b", "y", 3, 5, 2), ("b", "x", 4, 6, 3), ("b", "y", 4, 7, 3)],
        *[("c", "x", 4, 8, 1), ("d", "x", 0, 9, 1)],
    ]
    write_table(spark.createDataFrame(rows, SCHEMA), str(tmp_path / "events"), "prepare")

    def printed(split: SplitBy) -> list[str]:
        config = MatchDataset(
            job="match_dataset",
            dataset="tiny",
            input=MatchInput(events=str(tmp_path / "events")),
            output_path=str(tmp_path / "out"),
            columns=Columns(session="basket"),
            filters=Filters(min_item_events=2, start=1),
            split=split,
        )
        lines = write_match_dataset(spark, config).splitlines()
        return [line.removeprefix(f"{tmp_path}/out/") for line in lines]

    few, outside = "users or items with too few events in train 1", "outside start..end 1"
    assert printed(SplitBy("temporal", test_from=4, new_users="drop")) == [
        "train: 4 rows",
        "validation: 2 rows, made of 2 events that lie inside train, marked there by is_validation",
        "test: 3 rows",
        f"10 events = 4 in train + 3 in test + 3 left out ({few}, users who are new in test 1, "
        f"{outside})",
    ]
    test = read_table(spark, str(tmp_path / "out" / "test"), "test").collect()
    assert {row["query_id"] for row in test} == {3, 6, 7}
    # Baskets: a row of test has all events of its basket.
    assert printed(SplitBy("last_basket")) == [
        "train: 5 rows",
        "validation: 2 rows, made of 2 events that lie inside train, marked there by is_validation",
        "test: 2 rows",
        f"10 events = 5 in train + 3 in test + 2 left out ({few}, {outside})",
    ]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"method": "temporal"}, r"split\.test_from must be given for method temporal, and for no"),
        (
            {"method": "temporal", "test_from": 9, "new_users": "train"},
            "new_users must be one of",
        ),
        (
            {"method": "temporal", "test_from": 9, "validation_from": 9},
            "must be before test_from",
        ),
        ({"method": "last_n", "validation_from": 9}, r"split\.validation_from must be left out"),
    ],
)
def test_splits_that_cannot_be(split: dict[str, object], message: str) -> None:
    values = {"job": "match_dataset", "dataset": "x", "input": {"events": "/e"}, "split": split}
    with pytest.raises(ConfigError, match=message):
        from_json(MatchDataset, {**values, "output_path": "/o"}, "test")


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"min_item_events": 0}, r"min_item_events must be at least 1"),
        ({"start": 5, "end": 5}, r"start must be before end"),
    ],
)
def test_filters_that_cannot_be(filters: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(Filters, filters, "filters")
