"""Sessions by an inactivity gap."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.io.tables import load_table, write_table
from sparkrec.transforms.sessionize import Sessionize, SessionizeInput, sessionize, write_sessions

COLUMNS = Columns(session="session_id")
SCHEMA = "user_id string, item_id long, timestamp long, position long"
GAP = 100


def sessions(spark: SparkSession, events: list[tuple[str, int]], **limits: Any) -> list[int]:
    """The session of each event (user, timestamp), whose position is its place in the list."""
    rows = [(user, 7, time, place) for place, (user, time) in enumerate(events)]
    frame = spark.createDataFrame(rows[::-1], SCHEMA)
    found = sessionize(frame, COLUMNS, GAP, **limits).collect()
    return [row["session_id"] for row in sorted(found, key=lambda row: row["position"])]


def by_hand(events: list[tuple[str, int]], most: int | None) -> list[int]:
    """In plain Python: walk each user's events in order."""
    found: dict[int, int] = {}
    for user in {user for user, _ in events}:
        mine = sorted((time, place) for place, (who, time) in enumerate(events) if who == user)
        start, last, size = -1, 0, 0
        for time, place in mine:
            if start < 0 or time - last > GAP or size == most:
                start, size = place, 0
            found[place], last, size = start, time, size + 1
    return [found[place] for place in range(len(events))]


def test_a_gap_ends_a_session_and_a_gap_to_the_second_does_not(spark: SparkSession) -> None:
    events = [("a", 0), ("b", 50), ("a", 100), ("a", 201), ("b", 60), ("a", 201)]
    assert sessions(spark, events) == [0, 1, 0, 3, 1, 3]


def test_a_full_session_is_followed_by_another(spark: SparkSession) -> None:
    events = [("a", time) for time in (0, 1, 2, 3, 4, 500, 501)]
    assert sessions(spark, events, max_events=2) == [0, 0, 2, 2, 4, 5, 5]


@given(
    events=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 600)), min_size=1, max_size=25
    ),
    most=st.sampled_from([None, 1, 3]),
)
@settings(max_examples=10, deadline=None)
def test_agrees_with_a_walk(
    spark: SparkSession, events: list[tuple[str, int]], most: int | None
) -> None:
    assert sessions(spark, events, max_events=most) == by_hand(events, most)


def test_other_columns_stay_and_an_old_session_is_replaced(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [("a", 1, 0, 0, "x", "old")], f"{SCHEMA}, note string, session_id string"
    )
    found = sessionize(frame, COLUMNS, GAP)
    assert found.columns == ["user_id", "item_id", "timestamp", "position", "note", "session_id"]
    assert found.first()["session_id"] == 0  # type: ignore[index]


def test_mistakes(spark: SparkSession) -> None:
    frame = spark.createDataFrame([], SCHEMA)
    with pytest.raises(ConfigError, match="gap_seconds must be at least 1, not 0"):
        sessionize(frame, COLUMNS, 0)
    with pytest.raises(ConfigError, match="must name the column that the session"):
        sessionize(frame, Columns(), GAP)
    with pytest.raises(DataError, match="no column timestamp"):
        sessionize(frame.drop("timestamp"), COLUMNS, GAP)
    with pytest.raises(ValueError, match="columns must name the session"):
        Sessionize(
            job="sessionize",
            dataset="mine",
            input=SessionizeInput("x"),
            output_path="y",
            columns=Columns(),
        )


def test_the_job_writes_a_table(spark: SparkSession, tmp_path: Path) -> None:
    rows = [("a", 1, 0, 0), ("a", 2, 5000, 1), ("b", 1, 0, 2)]
    source, target = str(tmp_path / "events"), str(tmp_path / "sessions")
    write_table(spark.createDataFrame(rows, SCHEMA), source, "test")
    config = Sessionize(
        job="sessionize", dataset="mine", input=SessionizeInput(source), output_path=target
    )
    assert write_sessions(spark, config) == f"{target}: 3 events in 3 sessions"
    found = {row["position"]: row["session_id"] for row in load_table(spark, target).collect()}
    assert found == {0: 0, 1: 1, 2: 2}
