"""History holds what came before the row, in order, and nothing else."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from sparkrec.columns import Columns
from sparkrec.errors import ConfigError, DataError
from sparkrec.transforms import add_history
from sparkrec.transforms.history import add_item_features

COLUMNS = Columns(item="movie_id", session="basket")
SCHEMA = "user_id long, movie_id long, timestamp long, position long, basket long"
Event = tuple[int, int, int, int, int]


def by_position(frame: DataFrame) -> dict[int, dict[str, Any]]:
    return {row["position"]: row.asDict() for row in frame.collect()}


def expected(events: list[Event], max_len: int, by_session: bool) -> dict[int, list[int]]:
    """The recent items of each row, by brute force."""
    start: dict[tuple[int, int], tuple[int, int]] = {}
    for user, _, time, position, basket in events:
        start[user, basket] = min(start.get((user, basket), (time, position)), (time, position))
    answer = {}
    for user, _, time, position, basket in events:
        if by_session:
            keyed = [
                (start[u, b], (t, p), item)
                for u, item, t, p, b in events
                if u == user and start[u, b] < start[user, basket]
            ]
        else:
            keyed = [
                ((t, p), (t, p), item)
                for u, item, t, p, _ in events
                if u == user and (t, p) < (time, position)
            ]
        answer[position] = [item for *_, item in sorted(keyed)][-max_len:]
    return answer


def test_ties_in_time_are_broken_by_position(spark: SparkSession) -> None:
    rows = [(1, 30, 5, 2, 0), (1, 10, 5, 0, 0), (1, 40, 4, 3, 0), (1, 20, 5, 1, 0), (2, 9, 1, 4, 0)]
    out = by_position(add_history(spark.createDataFrame(rows, SCHEMA), COLUMNS, max_len=2))
    assert out[3]["recent_movie_ids"] == [] and out[3]["last_movie"] is None
    assert out[0]["recent_movie_ids"] == [40] and out[0]["last_movie"] == 40
    assert out[1]["recent_movie_ids"] == [40, 10]
    assert out[2]["recent_movie_ids"] == [10, 20] and out[2]["last_movie"] == 20
    assert out[4]["recent_movie_ids"] == []


EVENTS = st.lists(
    st.tuples(
        st.integers(1, 3), st.integers(1, 6), st.integers(0, 4), st.just(0), st.integers(1, 3)
    ),
    min_size=1,
    max_size=25,
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=EVENTS, max_len=st.integers(1, 4), by_session=st.booleans(), seed=st.integers(0, 99))
def test_history_is_the_brute_force_one(
    spark: SparkSession, drawn: list[Event], max_len: int, by_session: bool, seed: int
) -> None:
    shuffled = list(range(len(drawn)))
    random.Random(seed).shuffle(shuffled)
    events = [(u, i, t, p, b) for (u, i, t, _, b), p in zip(drawn, shuffled, strict=True)]
    frame = spark.createDataFrame(events, SCHEMA)
    out = by_position(add_history(frame, COLUMNS, max_len, by_session=by_session))
    want = expected(events, max_len, by_session)
    assert {p: row["recent_movie_ids"] for p, row in out.items()} == want
    assert {p: row["last_movie"] for p, row in out.items()} == {
        p: (items[-1] if items else None) for p, items in want.items()
    }


def test_a_basket_sees_earlier_baskets_only(spark: SparkSession) -> None:
    rows = [(1, 1, 0, 0, 7), (1, 2, 9, 1, 7), (1, 3, 5, 2, 8), (1, 4, 6, 3, 8), (1, 5, 10, 4, None)]
    events = spark.createDataFrame(rows, SCHEMA)
    out = by_position(add_history(events, COLUMNS, max_len=3, by_session=True))
    recent = {position: row["recent_movie_ids"] for position, row in out.items()}
    assert recent == {0: [], 1: [], 2: [1, 2], 3: [1, 2], 4: [2, 3, 4]}
    assert out[4]["basket"] is None


@pytest.mark.parametrize("by_session", [False, True])
def test_item_features_follow_the_items(spark: SparkSession, by_session: bool) -> None:
    rows = [(1, "a", 0, 0, 0), (1, "b", 1, 1, 1), (1, "x", 2, 2, 2), (1, "a", 3, 3, 3)]
    events = spark.createDataFrame(rows, SCHEMA.replace("movie_id long", "movie_id string"))
    items = spark.createDataFrame(
        [("a", ["war", "drama"], 1999), ("b", [], None), ("c", ["comedy"], 2001)],
        "movie_id string, genres array<string>, year int",
    )
    out = by_position(
        add_history(events, COLUMNS, 10, items, ["genres", "year"], by_session=by_session)
    )
    assert out[0]["recent_genres"] == [] and out[0]["last_genres"] is None
    assert out[0]["recent_year"] == [] and out[0]["last_year"] is None
    assert out[1]["recent_genres"] == ["war", "drama"] == out[1]["last_genres"]
    assert out[2]["recent_genres"] == ["war", "drama"] and out[2]["last_genres"] == []
    assert out[2]["recent_year"] == [1999] and out[2]["last_year"] is None
    # `x` is not among the items: it stands in the history, without features.
    assert out[3]["recent_movie_ids"] == ["a", "b", "x"] and out[3]["last_movie"] == "x"
    assert out[3]["recent_genres"] == ["war", "drama"] and out[3]["last_genres"] is None


def test_twice_is_once(spark: SparkSession) -> None:
    events = spark.createDataFrame([(1, 1, 0, 0, 0), (1, 2, 1, 1, 0)], SCHEMA)
    once = add_history(events, COLUMNS)
    twice = add_history(once, COLUMNS)
    assert twice.columns == once.columns == [*events.columns, "recent_movie_ids", "last_movie"]
    assert by_position(twice) == by_position(once)


def test_mistakes_are_named(spark: SparkSession) -> None:
    events = spark.createDataFrame([(1, 1, 0, 0, 0)], SCHEMA)
    items = spark.createDataFrame([(1, "x"), (1, "y")], "movie_id long, title string")
    with pytest.raises(DataError, match="no column item_id"):
        add_history(events, Columns())
    with pytest.raises(ConfigError, match="max_len must be at least 1"):
        add_history(events, COLUMNS, max_len=0)
    with pytest.raises(ConfigError, match="need the items table"):
        add_history(events, COLUMNS, item_features=["genres"])
    with pytest.raises(DataError, match="items: no column genres"):
        add_history(events, COLUMNS, items=items, item_features=["genres"])
    with pytest.raises(DataError, match="movie_id=1 stands in 2 rows"):
        add_history(events, COLUMNS, items=items, item_features=["title"])
    with pytest.raises(ConfigError, match="needs `session`"):
        add_history(events, Columns(item="movie_id"), by_session=True)


def test_features_of_queries_are_those_of_the_next_event(
    spark: SparkSession,
) -> None:
    """What `add_history` gives the row after a history, `add_item_features` gives the history."""
    items = spark.createDataFrame(
        [(1, ["a", "b"], "x"), (2, None, "y"), (3, ["c"], None)],
        "movie_id long, genres array<string>, year string",
    )
    histories = {1: [1, 2, 3], 2: [3, 3, 1, 2], 3: [9], 4: [2, 9, 1], 5: [1, 2, 3]}
    events = [
        (user, item, place, 10 * user + place, 0)
        for user, items_of in histories.items()
        for place, item in enumerate([*items_of, 1])
    ]
    features = ["genres", "year"]
    table = add_history(spark.createDataFrame(events, SCHEMA), COLUMNS, 3, items, features)
    names = ["recent_genres", "last_genres", "recent_year", "last_year"]
    wanted = {
        row["user_id"]: tuple(row[name] for name in names)
        for row in table.collect()
        if row["timestamp"] == len(histories[row["user_id"]])
    }
    queries = spark.createDataFrame(
        [*histories.items(), (6, []), (7, None)], "user_id long, past array<long>"
    )
    stale = queries.selectExpr("*", "'old' AS last_year")
    found = add_item_features(stale, "past", "movie_id", items, features, max_len=3)
    assert found.columns == ["user_id", "past", *names]
    rows = {row["user_id"]: tuple(row[name] for name in names) for row in found.collect()}
    assert len(rows) == 7
    assert {user: rows.pop(user) for user in (6, 7)} == dict.fromkeys((6, 7), ([], None, [], None))
    assert rows == wanted
