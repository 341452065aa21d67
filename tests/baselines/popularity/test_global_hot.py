"""Global Hot: counts, ties by item id, windows, decay and segments, and the columns it needs."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.baselines.popularity.global_hot import GlobalHot, GlobalHotModel
from sparkrec.errors import ConfigError, DataError


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


DAY = 86_400
EVENTS = "user_id long, item_id long, timestamp long"
USERS = "user_id long, gender string, age int"


def given(model: GlobalHotModel, queries: DataFrame) -> dict[int, list[tuple[int, float]]]:
    return {
        row["query_id"]: [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        for row in model.transform(queries).collect()
    }


@pytest.fixture(scope="module")
def nobody(spark: SparkSession) -> DataFrame:
    """A query of a user without history."""
    rows = [(0, 99, [])]
    return spark.createDataFrame(rows, "query_id long, user_id long, history array<long>")


@pytest.fixture(scope="module")
def dated(spark: SparkSession) -> DataFrame:
    """Days before the latest event: item 1 on 4, 4 and 3; 2 on 2; 3 on 1 and 0; 4 on 9, 9 and 9."""
    days = [(1, 4), (1, 4), (1, 3), (2, 2), (3, 1), (3, 0), (4, 9), (4, 9), (4, 9), (None, 0)]
    rows = [(1, item, (100 - day) * DAY) for item, day in days]
    return spark.createDataFrame(rows, EVENTS)


def test_a_window_counts_the_last_days_and_the_others_follow(
    dated: DataFrame, nobody: DataFrame
) -> None:
    """The event exactly three days old is outside; items 1 and 4 follow by count, tie by id."""
    found = given(GlobalHot(window=3).fit(dated), nobody)[0]
    assert [item for item, _ in found] == [3, 2, 1, 4]
    assert [score for _, score in found[:2]] == [2, 1]
    assert 1 > found[2][1] > found[3][1] > 0


def test_weights_halve(dated: DataFrame, nobody: DataFrame) -> None:
    found = given(GlobalHot(half_life=1).fit(dated), nobody)[0]
    assert found == [(3, 1.5), (1, 0.25), (2, 0.25), (4, 3 * 2**-9)]


def test_a_window_and_a_half_life_together(dated: DataFrame, nobody: DataFrame) -> None:
    found = given(GlobalHot(window=5, half_life=2).fit(dated), nobody)[0]
    expected = [1 + 2**-0.5, 2 * 2**-2 + 2**-1.5, 0.5]
    assert [item for item, _ in found] == [3, 1, 2, 4]
    assert [score for _, score in found[:3]] == pytest.approx(expected, abs=1e-6)


def test_decayed_weights_do_not_depend_on_the_order_of_train(
    spark: SparkSession, nobody: DataFrame
) -> None:
    """Items 1 and 2 have the same ages, added up in other orders: a tie, so the ids decide."""
    ages = [0, 37, 61, 113, 5_000, 86_399]
    rows = [(1, 1, 10 * DAY - age) for age in ages] + [(1, 2, 10 * DAY - age) for age in ages[::-1]]
    models = [
        GlobalHot(half_life=0.37).fit(spark.createDataFrame(part, EVENTS).repartition(parts))
        for part, parts in ((rows, 1), (rows[::-1], 4))
    ]
    first, second = (given(model, nobody)[0] for model in models)
    assert first == second
    assert [item for item, _ in first] == [1, 2]
    assert first[0][1] == first[1][1]


@pytest.fixture(scope="module")
def users(spark: SparkSession) -> DataFrame:
    rows = [(1, "F", 25), (2, "F", 25), (3, "M", 25), (4, "M", None), (5, "F", 25), (6, "X", 1)]
    return spark.createDataFrame(rows, USERS).coalesce(1)


@pytest.fixture(scope="module")
def bought(spark: SparkSession) -> DataFrame:
    """F, 25: item 5 twice, 4 and 6 once. M, 25: item 1. Overall: 1 three times, 2 and 5 twice."""
    rows = [(1, 5), (2, 5), (1, 6), (2, 4), (3, 1), (4, 1), (4, 2), (77, 2), (77, 1)]
    return spark.createDataFrame([(user, item, 0) for user, item in rows], EVENTS)


OVERALL = [(1, 3), (2, 2), (5, 2), (4, 1), (6, 1)]


@pytest.fixture(scope="module")
def asked(spark: SparkSession) -> DataFrame:
    rows = [(10, 5, []), (11, 3, []), (12, 4, []), (13, 6, []), (14, 88, []), (15, None, []),
            (16, 5, [5, 2, 4]), (17, 3, [1, 5, 4, 5]), (18, 1, None)]  # fmt: skip
    schema = "query_id long, user_id long, history array<long>"
    return spark.createDataFrame(rows, schema).coalesce(1)


def test_a_segments_items_come_first_then_the_overall_list(
    bought: DataFrame, users: DataFrame, asked: DataFrame
) -> None:
    model = GlobalHot(segment=["gender", "age"], users=users).fit(bought)
    found = given(model, asked)
    assert [item for item, _ in found[10]] == [5, 4, 6, 1, 2]
    assert [score for _, score in found[10]] == [2, 1, 1, 1 / 2, pytest.approx(1 / 3)]
    assert found[18] == found[10]
    assert [item for item, _ in found[11]] == [1, 2, 5, 4, 6]
    # An age that is null, a segment that train lacks, a stranger, nobody.
    assert found[12] == found[13] == found[14] == found[15] == OVERALL
    assert [item for item, _ in found[16]] == [6, 1]
    assert [item for item, _ in found[17]] == [2, 6]


@pytest.mark.slow
def test_a_short_list_of_a_segment_is_filled_and_candidates_hold_for_both(
    bought: DataFrame, users: DataFrame, asked: DataFrame
) -> None:
    hot = GlobalHot(segment=["gender"], segment_length=1, users=users, exclude_seen=False)
    model = hot.fit(bought)
    assert [item for item, _ in given(model, asked)[10]] == [5, 1, 2, 4, 6]
    # Known by gender alone: user 4 has one, and of the men's items only the first was kept.
    assert [item for item, _ in given(model, asked)[12]] == [1, 2, 5, 4, 6]
    model.set_params(candidates=[6, 2, 1234], k=3)
    assert [item for item, _ in given(model, asked)[10]] == [2, 6]
    model.set_params(candidates=[6, 5], k=1)
    assert [item for item, _ in given(model, asked)[10]] == [5]
    model.set_params(candidates=[1234])
    assert given(model, asked)[16] == []


def test_segments_by_recent_events(spark: SparkSession, users: DataFrame, asked: DataFrame) -> None:
    rows = [(1, 5, 9 * DAY), (2, 5, 9 * DAY), (1, 6, 10 * DAY), (3, 7, 10 * DAY)]
    model = GlobalHot(segment=["gender"], window=1, users=users).fit(
        spark.createDataFrame(rows, EVENTS)
    )
    found = given(model, asked)
    assert [item for item, _ in found[10]] == [6, 7, 5]
    assert [item for item, _ in found[11]] == [7, 6, 5]


@pytest.mark.slow
def test_columns_of_train_and_queries_need_no_users_table(
    spark: SparkSession, bought: DataFrame, users: DataFrame, asked: DataFrame
) -> None:
    model = GlobalHot(segment=["gender", "age"]).fit(bought.join(users, "user_id", "left"))
    joined = asked.join(users, "user_id", "left")
    expected = GlobalHot(segment=["gender", "age"], users=users).fit(bought)
    assert given(model, joined) == given(expected, asked)
    assert model.transform(joined).columns == [*joined.columns, "recommended"]


@pytest.mark.slow
def test_a_user_with_two_rows_in_the_users_table_counts_once(
    bought: DataFrame, users: DataFrame, asked: DataFrame
) -> None:
    twice = GlobalHot(segment=["gender", "age"], users=users.union(users)).fit(bought)
    once = GlobalHot(segment=["gender", "age"], users=users).fit(bought)
    assert given(twice, asked) == given(once, asked)


def test_a_loaded_segmented_model_answers_alike(
    bought: DataFrame, users: DataFrame, asked: DataFrame, tmp_path: Path
) -> None:
    model = GlobalHot(segment=["age", "gender"], users=users).fit(bought)
    model.save(str(tmp_path / "model"))
    again = GlobalHotModel.load(str(tmp_path / "model"))
    with pytest.raises(DataError, match=r"queries: segment needs age, gender, but the users table"):
        again.transform(asked)
    again.users = users
    assert given(again, asked) == given(model, asked)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"window": 3, "timestamp_col": "at"},
            "train, for window and half_life, has no column `at`",
        ),
        ({"segment": ["city"]}, "segment needs city, but the users table has no column `city`"),
        ({"segment": ["gender"], "user_col": "uid"}, "the users table has no column `uid`"),
    ],
)
def test_missing_columns(
    bought: DataFrame, users: DataFrame, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        GlobalHot(users=users, **params).fit(bought)


def test_a_segment_of_nobody(bought: DataFrame, users: DataFrame) -> None:
    with pytest.raises(DataError, match="no event of train has a user with gender"):
        GlobalHot(segment=["gender"], users=users.where("false")).fit(bought)
    with pytest.raises(ConfigError, match="segment: `item_id` is the item column"):
        GlobalHot(segment=["item_id"]).fit(bought)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"window": 0}, "window must be above 0"),
        ({"half_life": -1.5}, "half_life must be above 0"),
        ({"segment_length": 0}, "segment_length must be at least 1"),
    ],
)
def test_params_out_of_range(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalHot(**params)


def test_weights_of_events(spark: SparkSession, nobody: DataFrame) -> None:
    """A purchase counts 3 and a view 1; an item without weight comes last."""
    rows = [
        *[(1, 7, 0, 1.0), (2, 7, 0, 1.0), (1, 5, 10 * DAY, 3.0), (1, 4, 10 * DAY, 0.5)],
        *[(1, 9, 0, 0.0), (2, 9, 0, 0.0), (3, 9, 0, 0.0)],
    ]
    events = spark.createDataFrame(rows, f"{EVENTS}, worth double")
    found = given(GlobalHot(weight_col="worth", exclude_seen=False).fit(events), nobody)
    assert [(item, round(score, 6)) for item, score in next(iter(found.values()))][:3] == [
        *[(5, 3.0), (7, 2.0), (4, 0.5)]
    ]
    assert [item for item, _ in next(iter(found.values()))] == [5, 7, 4, 9]
    decayed = GlobalHot(weight_col="worth", half_life=10.0, exclude_seen=False).fit(events)
    assert next(iter(given(decayed, nobody).values()))[1] == (7, 1.0)
    negative = events.withColumn("worth", F.col("worth") - 1)
    with pytest.raises(DataError, match=r"train: column `worth`.*negative in 4 rows"):
        GlobalHot(weight_col="worth").fit(negative)
