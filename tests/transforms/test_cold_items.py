"""Splits that keep some items from train: what train may know, and what stays a test row."""

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError
from sparkrec.io.tables import read_table, write_table
from sparkrec.transforms import (
    Core,
    Split,
    add_history,
    last_basket,
    last_n,
    leave_one_out,
    temporal,
)
from sparkrec.transforms.cold_items import ColdItems, cold_items
from sparkrec.transforms.match_dataset import MatchDataset, MatchInput, SplitBy, write_match_dataset

COLUMNS = Columns(session="basket")
SCHEMA = "user_id long, item_id long, timestamp long, position long, basket long"
USERS, EACH = 30, 8


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """Item i is first seen at 10 i, or later; a user takes eight of them in time order."""
    rows = [
        (
            user,
            (user + 3 * place) % 40,
            10 * 40 + 10 * place + user,
            EACH * user + place,
            place // 2,
        )
        for user in range(USERS)
        for place in range(EACH)
    ]
    frame = spark.createDataFrame(rows, SCHEMA)
    return add_history(frame, COLUMNS, max_len=5).coalesce(2).persist()


def rows_of(frame: DataFrame) -> set[tuple[int, ...]]:
    return {(row["user_id"], row["query_id"], *row["relevant"]) for row in frame.collect()}


def items_of(frame: DataFrame, column: str = "item_id") -> set[int]:
    return {row[0] for row in frame.select(column).distinct().collect()}


SPLITS = {
    "last_n": lambda events, cold=None: last_n(events, COLUMNS, 2, cold=cold),
    "leave_one_out": lambda events, cold=None: leave_one_out(events, COLUMNS, cold=cold),
    "last_basket": lambda events, cold=None: last_basket(events, COLUMNS, cold=cold),
    "temporal": lambda events, cold=None: temporal(events, COLUMNS, 470, cold=cold),
    "temporal, validation": lambda events, cold=None: temporal(
        events, COLUMNS, 470, 450, cold=cold
    ),
}


@pytest.mark.parametrize("method", SPLITS)
@pytest.mark.parametrize(
    "chosen", [ColdItems(share=0.3, seed=4), ColdItems(first_seen_after=440)], ids=["share", "time"]
)
def test_train_knows_nothing_of_cold_items(
    events: DataFrame, method: str, chosen: ColdItems
) -> None:
    plain, found = SPLITS[method](events), SPLITS[method](events, chosen)
    cold = items_of(cold_items(events, COLUMNS, chosen))
    assert 5 <= len(cold) <= 20
    expected = {row["position"] for row in plain.train.collect() if row["item_id"] not in cold}
    assert {row["position"] for row in found.train.collect()} == expected
    assert not [name for name in found.train.columns if name.startswith(("recent_", "last_"))]
    # The test rows are the same, to the histories.
    assert sorted(map(str, found.test.collect())) == sorted(map(str, plain.test.collect()))
    relevant = {item for row in found.validation.collect() for item in row["relevant"]}
    assert not relevant & cold
    marked = found.train.where("is_validation")
    assert items_of(marked) == relevant
    parts = {row["part"]: row["events"] for row in found.parts.collect()}
    assert sum(parts.values()) == USERS * EACH
    assert parts["cold items before the test rows"] == plain.train.count() - len(expected)


def test_first_seen_is_the_first_event_of_all(events: DataFrame) -> None:
    found = cold_items(events, COLUMNS, ColdItems(first_seen_after=440)).collect()
    times: dict[int, list[int]] = {}
    for row in events.collect():
        times.setdefault(row["item_id"], []).append(row["timestamp"])
    assert {row["item_id"]: (row["first_seen"], row["events"]) for row in found} == {
        item: (min(moments), len(moments)) for item, moments in times.items() if min(moments) >= 440
    }


def test_the_data_may_have_a_column_of_that_name(events: DataFrame) -> None:
    """It comes back as it was, and without cold items train keeps its histories."""
    named = events.withColumn("first_seen", events["position"] * 2)
    plain = last_n(named, COLUMNS, 2)
    assert {"recent_item_ids", "last_item", "first_seen"} <= set(plain.train.columns)
    found = last_n(named, COLUMNS, 2, cold=ColdItems(share=0.3, seed=4))
    for row in (*found.train.collect(), *found.test.collect()):
        assert row["first_seen"] == 2 * row["position"]


def test_a_share_is_drawn_by_the_seed(events: DataFrame) -> None:
    drawn = [
        items_of(cold_items(events, COLUMNS, ColdItems(share=0.25, seed=seed, rows=rows)))
        for rows in ("test", "validation")
        for seed in range(3)
    ]
    assert len({tuple(sorted(items)) for items in drawn}) == 6
    for of_test, of_validation in zip(drawn[:3], drawn[3:], strict=True):
        assert not of_test & of_validation


def test_validation_rows_in_the_place_of_test_rows(events: DataFrame) -> None:
    plain = last_n(events, COLUMNS, 2)
    chosen = ColdItems(share=0.3, seed=4, rows="validation")
    found: Split = last_n(events, COLUMNS, 2, cold=chosen)
    assert rows_of(found.test) == rows_of(plain.validation)
    tested = {row["position"] for row in plain.test.collect()}
    known = {row["position"] for row in found.train.collect()}
    assert not known & (tested | {row["query_id"] for row in plain.validation.collect()})
    assert not items_of(found.train) & items_of(cold_items(events, COLUMNS, chosen))
    with pytest.raises(ConfigError, match=r"cold_items\.rows: validation is not for temporal"):
        temporal(events, COLUMNS, 470, cold=chosen)


def test_cold_items_are_tested_outside_of_the_core(events: DataFrame) -> None:
    """In a temporal split an item that begins with the test rows has no event in train."""
    core, chosen = Core(min_item_events=3), ColdItems(first_seen_after=450)
    plain = temporal(events, COLUMNS, 450, core=core)
    found = temporal(events, COLUMNS, 450, core=core, cold=chosen)
    cold = items_of(cold_items(events, COLUMNS, chosen))
    assert items_of(found.train) == items_of(plain.train)
    assert not items_of(plain.test) & cold
    assert items_of(found.test) == items_of(plain.test) | cold


def test_the_job_lists_the_cold_items(
    spark: SparkSession, events: DataFrame, tmp_path: Path
) -> None:
    write_table(events, str(tmp_path / "events"), "prepare")
    chosen = ColdItems(first_seen_after=440)
    config = MatchDataset(
        job="match_dataset",
        dataset="tiny",
        input=MatchInput(events=str(tmp_path / "events")),
        output_path=str(tmp_path / "out"),
        columns=COLUMNS,
        split=SplitBy("last_n", 2, cold_items=chosen),
    )
    cold = items_of(cold_items(events, COLUMNS, chosen))
    printed = write_match_dataset(spark, config)
    assert f"{tmp_path}/out/cold_items: {len(cold)} items" in printed
    assert "cold items before the test rows" in printed
    found = read_table(spark, str(tmp_path / "out" / "cold_items"), "cold_items")
    assert items_of(found) == cold


def test_settings() -> None:
    for settings in ({}, {"share": 0.1, "first_seen_after": 5}):
        with pytest.raises(ValueError, match="share must be given, or first_seen_after"):
            ColdItems(**settings)
    with pytest.raises(ValueError, match=r"share must be at most 0\.5"):
        ColdItems(share=0.6)
