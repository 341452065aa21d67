"""Personal Top: the user's own items by count, then popular ones."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.popularity.personal_top import PersonalTop
from sparkrec.errors import DataError

Answers = dict[int, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def train(spark: SparkSession) -> DataFrame:
    """Counts: item 1 four times, 2 three, 3 twice, 4 and 5 once."""
    items = [1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5]
    return spark.createDataFrame([(item,) for item in items], "item_id long")


@pytest.fixture(scope="module")
def queries(spark: SparkSession) -> DataFrame:
    rows = [
        (1, [4, 5, 3, 4, 99, None]),
        (2, [5, 4, 4, 5]),
        (3, [4, 5, 5, 4]),
        (4, []),
        (5, None),
        (6, [99, 98]),
    ]
    return spark.createDataFrame(rows, "query_id long, history array<long>").coalesce(1)


def answers(frame: DataFrame) -> Answers:
    return {
        row["query_id"]: [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        for row in frame.collect()
    }


def items(found: Answers) -> dict[int, list[int]]:
    return {query: [item for item, _ in given] for query, given in found.items()}


def test_own_items_by_count_ties_by_the_last_time_then_popular_ones(
    train: DataFrame, queries: DataFrame
) -> None:
    found = items(answers(PersonalTop(exclude_seen=False).fit(train).transform(queries)))
    assert found == {
        1: [4, 3, 5, 1, 2],
        2: [5, 4, 1, 2, 3],
        3: [4, 5, 1, 2, 3],
        4: [1, 2, 3, 4, 5],
        5: [1, 2, 3, 4, 5],
        6: [1, 2, 3, 4, 5],
    }


def test_scores_fall_and_a_count_beats_every_popular_item(
    train: DataFrame, queries: DataFrame
) -> None:
    found = answers(PersonalTop(exclude_seen=False).fit(train).transform(queries))
    assert [score for _, score in found[1]][:3] == [2, 1, 1]
    for given in found.values():
        scores = [score for _, score in given]
        assert scores == sorted(scores, reverse=True)
    assert max(score for _, score in found[4]) < 1


def test_k_cuts_the_list(train: DataFrame, queries: DataFrame) -> None:
    found = items(answers(PersonalTop(k=2, exclude_seen=False).fit(train).transform(queries)))
    assert found[1] == [4, 3]
    assert found[4] == [1, 2]


def test_without_seen_items_only_popular_ones_are_left(
    train: DataFrame, queries: DataFrame
) -> None:
    found = items(answers(PersonalTop().fit(train).transform(queries)))
    assert found[1] == [1, 2]
    assert found[2] == [1, 2, 3]
    assert found[6] == [1, 2, 3, 4, 5]


def test_candidates_hold_for_both_parts(train: DataFrame, queries: DataFrame) -> None:
    model = PersonalTop(exclude_seen=False, candidates=[4, 2, 1, 77]).fit(train)
    found = items(answers(model.transform(queries)))
    assert found[1] == [4, 1, 2]
    assert found[4] == [1, 2, 4]


def test_a_missing_item_column(train: DataFrame) -> None:
    with pytest.raises(DataError, match="train has no column `movie_id`"):
        PersonalTop(item_col="movie_id").fit(train)


def test_queries_without_a_history(train: DataFrame, queries: DataFrame) -> None:
    model = PersonalTop(exclude_seen=False).fit(train)
    with pytest.raises(DataError, match="queries have no `history` column"):
        model.transform(queries.drop("history")).collect()
