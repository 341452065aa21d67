"""Content KNN and Content Popularity against plain loops; what they say of bad input."""

from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from scipy import sparse

from sparkrec.baselines.content.knn import ContentKNN
from sparkrec.baselines.content.popularity import ContentPopularity, fit_ridge
from sparkrec.errors import ConfigError, SchemaError
from sparkrec.retrieval.answering.answerer import load as load_answerer
from sparkrec.retrieval.load import load_model
from sparkrec.schema.parser import feature_schema

ITEMS = {
    1: ("comedy", "blue door", 1.0),
    2: ("comedy", "red door", 2.0),
    3: ("drama", "red house", 3.0),
    4: ("drama", "blue house", 4.0),
    5: ("comedy", "green garden", 5.0),
    6: ("horror", "blue garden", 6.0),
}
NEW = {7: ("comedy", "door", 1.5), 8: (None, "nothing known", None)}
FRAME = "item_id long, genre string, title string, price double"
# How often each item was had.
COUNTS = {1: 9, 2: 8, 3: 2, 4: 1, 5: 7, 6: 1}


def declared(*features: str):
    lines = "\n".join(features)
    return feature_schema("item_id\ngenre\ntitle\nprice", "columns", lines, "features")


def frame(spark: SparkSession, items: dict) -> DataFrame:
    return spark.createDataFrame([(item, *values) for item, values in items.items()], FRAME)


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    rows = [(user, item, user, user) for item, count in COUNTS.items() for user in range(count)]
    return spark.createDataFrame(
        rows, "user_id long, item_id long, timestamp long, position long"
    ).cache()


def queries(spark: SparkSession, *histories: list) -> DataFrame:
    return spark.createDataFrame(
        list(enumerate(histories)), "query_id long, history array<long>"
    ).coalesce(1)


def given(answered: DataFrame) -> list[list[tuple[int, float]]]:
    rows = sorted(answered.collect(), key=lambda row: row["query_id"])
    return [[(entry["item_id"], entry["score"]) for entry in row["recommended"]] for row in rows]


def bag(item: int, items: dict) -> dict[str, float]:
    genre, title, _ = items[item]
    known = {f"genre {one[0]}" for one in ITEMS.values()}
    words = [word for one in ITEMS.values() for word in one[1].split()]
    found = {word for word in title.split() if words.count(word) >= 2}
    found |= {f"genre {genre}"} & known
    weights = {}
    for value in found:
        name = value.removeprefix("genre ")
        count = sum(
            name == one[0] if value.startswith("genre ") else name in one[1].split()
            for one in ITEMS.values()
        )
        weights[value] = 1 + log((1 + len(ITEMS)) / (1 + count))
    length = sqrt(sum(weight**2 for weight in weights.values()))
    return {value: weight / length for value, weight in weights.items()}


def cosine(history: list[int], item: int, items: dict) -> float:
    profile: dict[str, float] = {}
    for one in history:
        for value, weight in bag(one, items).items():
            profile[value] = profile.get(value, 0.0) + weight
    length = sqrt(sum(weight**2 for weight in profile.values()))
    return sum(profile.get(v, 0.0) * w for v, w in bag(item, items).items()) / length


def knn(spark: SparkSession, **params) -> ContentKNN:
    schema = declared("item_id", "genre", "tokens(title)")
    return ContentKNN(items=frame(spark, ITEMS), item_schema=schema, **params)


def test_content_knn_is_the_cosine_of_bags(spark: SparkSession, events: DataFrame) -> None:
    model = knn(spark, max_history=2, k=10, exclude_seen=False).fit(events)
    histories = [[1], [3, 1, 2], [6, 5]]
    for history, answer in zip(
        histories, given(model.transform(queries(spark, *histories))), strict=True
    ):
        assert len(answer) == len(ITEMS)
        for item, score in answer:
            assert score == pytest.approx(cosine(history[-2:], item, ITEMS), abs=1e-6)


def test_content_knn_of_new_items(spark: SparkSession, events: DataFrame, tmp_path: Path) -> None:
    """A new item is found and read at once, saved and loaded; an item without content has 0."""
    model = knn(spark, k=10, exclude_seen=False).fit(events).add_items(frame(spark, NEW))
    every = ITEMS | NEW
    asked = queries(spark, [1], [7, 3])
    answers = given(model.transform(asked))
    for history, answer in zip([[1], [7, 3]], answers, strict=True):
        assert sorted(item for item, _ in answer) == sorted(every)
        for item, score in answer:
            wanted = 0.0 if item == 8 else cosine(history, item, every)
            assert score == pytest.approx(wanted, abs=1e-6)
    model.save(str(tmp_path / "model"))
    assert given(load_model(str(tmp_path / "model")).transform(asked)) == answers
    alone = load_answerer(str(tmp_path / "model")).answer([[1], [7, 3]])
    assert [[item for item, _ in answer] for answer in alone] == [
        [item for item, _ in answer] for answer in answers
    ]
    fewer = given(model.remove_items([1, 8]).transform(asked))
    assert sorted(item for item, _ in fewer[0]) == [2, 3, 4, 5, 6, 7]


def test_queries_without_content_get_the_fallback(spark: SparkSession, events: DataFrame) -> None:
    model = knn(spark, k=3).fit(events).add_items(frame(spark, NEW))
    answers = given(model.transform(queries(spark, [], [8], [99])))
    assert [[item for item, _ in answer] for answer in answers] == [[1, 2, 5]] * 3


def test_ridge_is_the_closed_solution() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(200, 6)) * (rng.random((200, 6)) < 0.5)
    target = dense @ [3, -2, 0, 0, 1, 0] + 5 + rng.normal(size=200)
    weights, intercept = fit_ridge(sparse.csr_array(dense), target)
    centred = dense - dense.mean(axis=0)
    found = []
    for penalty in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
        gram = centred.T @ centred + penalty * np.eye(6)
        closed = np.linalg.solve(gram, centred.T @ (target - target.mean()))
        found.append(np.abs(closed - weights).max())
    assert min(found) < 1e-5
    assert intercept == pytest.approx(target.mean() - dense.mean(axis=0) @ weights)
    assert weights == pytest.approx([3, -2, 0, 0, 1, 0], abs=0.35)


def test_content_popularity_ranks_new_items_by_their_content(
    spark: SparkSession, events: DataFrame, tmp_path: Path
) -> None:
    """Comedies are had most often, so a new one is expected to be, and the order is everyone's."""
    schema = declared("item_id", "genre", "number(price)")
    estimator = ContentPopularity(items=frame(spark, ITEMS), item_schema=schema, k=10)
    model = estimator.fit(events).set_params(exclude_seen=False)
    model = model.add_items(frame(spark, {7: NEW[7], 9: ("drama", "x", 3.5)}))
    asked = queries(spark, [], [3], [1, 2])
    answers = given(model.transform(asked))
    assert answers[0] == answers[1] == answers[2]
    place = {item: number for number, (item, _) in enumerate(answers[0])}
    assert place[7] < min(place[item] for item in (3, 4, 6, 9))
    scores = [score for _, score in answers[0]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 8
    model.save(str(tmp_path / "model"))
    loaded = load_model(str(tmp_path / "model"))
    assert given(loaded.transform(asked)) == answers
    again = loaded.add_items(frame(spark, {10: NEW[7]}))
    scores_of = dict(given(again.transform(asked))[0])
    assert scores_of[10] == pytest.approx(scores_of[7])
    assert 7 not in dict(given(again.remove_items([7]).transform(asked))[0])


@pytest.mark.parametrize("kind", [ContentKNN, ContentPopularity])
def test_what_is_missing_is_said(kind: type, spark: SparkSession, events: DataFrame) -> None:
    with pytest.raises(ConfigError, match="`item_schema` is missing"):
        kind(items=frame(spark, ITEMS)).fit(events)
    with pytest.raises(ConfigError, match="`items` is missing"):
        kind(item_schema=declared("genre")).fit(events)
    with pytest.raises(SchemaError, match="no feature beside `item_id` is declared"):
        kind(items=frame(spark, ITEMS), item_schema=declared("item_id")).fit(events)
