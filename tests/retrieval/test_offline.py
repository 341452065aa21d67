"""Prediction offline, from a saved model's folder alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from answers import assert_same_answers
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkrec.baselines.item_to_item.item_cf import ItemCF
from sparkrec.columns import Columns
from sparkrec.encoding.declared import plain_schema
from sparkrec.errors import ConfigError, DataError, SchemaError, StorageError
from sparkrec.io.outputs import resolve
from sparkrec.io.tables import load_table, write_table
from sparkrec.retrieval.base import RetrievalModel
from sparkrec.retrieval.load import load_model
from sparkrec.retrieval.offline import Recommend, RecommendInput, write_recommendations
from sparkrec.retrieval.search.candidates import Candidates, Condition
from sparkrec.training.retrievers import DSSM, HRM, GRU4Rec
from sparkrec.transforms import add_history

EVENTS = "user_id string, movie_id long, timestamp long, position long"
TINY = {"epochs": 1, "early_stopping": None, "embedding_dim": 4, "item_col": "movie_id"}
MAKE: dict[str, Callable[[], Any]] = {
    "item_cf": lambda: ItemCF(item_col="movie_id"),
    "gru4rec": lambda: GRU4Rec(hidden=(4,), max_len=5, **TINY),
    "hrm": lambda: HRM(max_len=5, num_negatives=2, **TINY),
}


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """Users u0 to u9, each with ten of 20 movies."""
    rows = [
        (f"u{user}", (user + 3 * place) % 20, place, 100 * user + place)
        for user in range(10)
        for place in range(10)
    ]
    return spark.createDataFrame(rows, EVENTS).coalesce(1)


@pytest.fixture(
    scope="module",
    params=["item_cf", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gru4rec", "hrm"))],
)
def saved(
    request: pytest.FixtureRequest, events: DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, RetrievalModel]:
    """A model's folder, and the model."""
    model = MAKE[request.param]().fit(events)
    path = str(tmp_path_factory.mktemp("models") / request.param)
    model.save(path)
    return path, model


def run(
    spark: SparkSession, path: str, tmp_path: Path, settings: dict[str, Any], **tables: DataFrame
) -> tuple[str, str]:
    """The job's line, and where it wrote."""
    paths = {}
    for name, frame in tables.items():
        paths[name] = str(tmp_path / name)
        write_table(frame, paths[name], "test")
    target = str(tmp_path / "out")
    config = Recommend(
        job="recommend",
        input=RecommendInput(**paths),
        model_path=path,
        output_path=target,
        **settings,
    )
    return write_recommendations(spark, config), target


def lists(frame: DataFrame, key: str) -> dict[Any, list[tuple[int, float]]]:
    return {
        row[key]: [(entry["item_id"], entry["score"]) for entry in row["recommended"]]
        for row in frame.collect()
    }


def test_every_user_of_the_events(
    spark: SparkSession, saved: tuple[str, RetrievalModel], events: DataFrame, tmp_path: Path
) -> None:
    """As the model itself answers, from histories in the order of (timestamp, position)."""
    path, model = saved
    line, target = run(spark, path, tmp_path, {"k": 4}, events=events.repartition(3))
    assert line == f"{target}: 10 queries answered, 0 unknown items left out"
    found = lists(load_table(spark, target), "user_id")
    histories = [(f"u{user}", [(user + 3 * p) % 20 for p in range(10)]) for user in range(10)]
    queries = spark.createDataFrame(histories, "user_id string, history array<long>")
    wanted = lists(model.copy().set_params(k=4, exclude_seen=True).transform(queries), "user_id")
    assert_same_answers(found, wanted)
    assert all(len(given) == 4 for given in found.values())


def test_histories_of_strangers_with_unknown_items(
    spark: SparkSession, saved: tuple[str, RetrievalModel], tmp_path: Path
) -> None:
    queries = spark.createDataFrame(
        [("new", [3, 999, 6, 999], "x"), ("u1", None, "y"), ("nobody", [], "z")],
        "user_id string, history array<long>, note string",
    )
    line, target = run(spark, saved[0], tmp_path, {"k": 3}, queries=queries)
    assert line.endswith("3 queries answered, 2 unknown items left out")
    answered = load_table(spark, target)
    assert answered.columns == ["user_id", "history", "note", "recommended"]
    found = lists(answered, "user_id")
    assert all(len(given) == 3 for given in found.values())
    assert not {3, 6} & {item for item, _ in found["new"]}


def test_users_alone_and_with_events(
    spark: SparkSession, saved: tuple[str, RetrievalModel], events: DataFrame, tmp_path: Path
) -> None:
    users = spark.createDataFrame([("u1",), ("stranger",)], "user_id string")
    _, target = run(spark, saved[0], tmp_path / "a", {"k": 3}, queries=users)
    assert set(lists(load_table(spark, target), "user_id")) == {"u1", "stranger"}
    settings = {"k": 3, "max_history": 2}
    _, target = run(spark, saved[0], tmp_path / "b", settings, queries=users, events=events)
    histories = {row["user_id"]: row["history"] for row in load_table(spark, target).collect()}
    assert histories == {"u1": [5, 8], "stranger": None}


def test_parquet_of_others_and_histories_without_users(
    spark: SparkSession, saved: tuple[str, RetrievalModel], tmp_path: Path
) -> None:
    """A model that knows users answers who has none as it answers a stranger."""
    rows = spark.createDataFrame([([3, 6], "x"), ([4], "y")], "history array<long>, note string")
    path, target = str(tmp_path / "queries"), str(tmp_path / "out")
    rows.write.parquet(path)
    config = Recommend(
        job="recommend", input=RecommendInput(path), model_path=saved[0], output_path=target, k=3
    )
    write_recommendations(spark, config)
    answered = load_table(spark, target)
    assert answered.columns == ["history", "note", "recommended"]
    strangers = rows.selectExpr("'nobody' AS user_id", "*")
    model = saved[1].copy().set_params(k=3, exclude_seen=True)
    assert_same_answers(lists(answered, "note"), lists(model.transform(strangers), "note"))


def test_candidate_rules(spark: SparkSession, events: DataFrame, tmp_path: Path) -> None:
    """Rules of the conf on columns of the items, and on the time of the query."""
    path = str(tmp_path / "model")
    ItemCF(item_col="movie_id").fit(events).save(path)
    items = spark.createDataFrame(
        [(item, float(item), 100 if item < 10 else None) for item in range(20)],
        "movie_id long, price double, gone_at long",
    )
    queries = spark.createDataFrame(
        [("a", [3, 6], 99), ("b", [3, 6], 100)],
        "user_id string, history array<long>, timestamp long",
    )
    rules = Candidates(
        deny=(17,), where={"price": Condition(at_least=5)}, available_until="gone_at"
    )
    settings = {"k": 20, "candidates": rules}
    _, target = run(spark, path, tmp_path / "a", settings, queries=queries, items=items)
    found = lists(load_table(spark, target), "user_id")
    late = set(range(10, 20)) - {17}
    assert {item for item, _ in found["a"]} == late | {5, 7, 8, 9}
    assert {item for item, _ in found["b"]} == late
    with pytest.raises(ConfigError, match=r"no table of items was given; name it in input\.items"):
        run(spark, path, tmp_path / "b", settings, queries=queries)
    with pytest.raises(DataError, match="queries have no column `timestamp`"):
        asked = queries.drop("timestamp")
        run(spark, path, tmp_path / "c", settings, queries=asked, items=items)


@pytest.mark.slow
def test_features_of_items_are_made_of_the_histories(
    spark: SparkSession, events: DataFrame, tmp_path: Path
) -> None:
    """A model that reads the genres of recent items answers histories as it answers queries that
    come with the genres."""
    genres = [(item, [f"g{item % 3}", f"h{item % 2}"]) for item in range(20)]
    items = spark.createDataFrame(genres, "movie_id long, genres array<string>")
    columns = Columns(item="movie_id")
    train = add_history(events, columns, 4, items, ["genres"])
    schema = plain_schema(("user_id", "recent_movie_ids", "recent_genres"))
    model = DSSM(user_schema=schema, hidden=(8,), num_negatives=2, **TINY).fit(train)
    path = str(tmp_path / "model")
    model.save(path)
    rows = spark.createDataFrame(
        [("u1", [3, 6, 9, 12, 15]), ("new", [1, 4])], "user_id string, history array<long>"
    )
    message = (
        "^the table of queries lacks the column 'recent_genres' .*; no table of users was given"
    )
    with pytest.raises(SchemaError, match=message):
        run(spark, path, tmp_path / "a", {}, queries=rows)
    settings = {"k": 5, "feature_items": 4}
    _, target = run(spark, path, tmp_path / "b", settings, queries=rows, items=items)
    answered = load_table(spark, target)
    assert answered.columns == ["user_id", "history", "recommended"]
    complete = rows.withColumn(
        "recent_genres",
        F.expr("flatten(transform(slice(history, -least(4, size(history)), 4), "
               "i -> array('g' || i % 3, 'h' || i % 2)))"),
    )  # fmt: skip
    wanted = model.copy().set_params(k=5, exclude_seen=True).transform(complete)
    assert_same_answers(lists(answered, "user_id"), lists(wanted, "user_id"))


def test_text(
    spark: SparkSession, saved: tuple[str, RetrievalModel], events: DataFrame, tmp_path: Path
) -> None:
    _, parquet = run(spark, saved[0], tmp_path / "a", {"k": 3}, events=events)
    _, text = run(spark, saved[0], tmp_path / "b", {"k": 3, "format": "text"}, events=events)
    found = lists(load_table(spark, parquet), "user_id")
    wanted = {
        f"user:{user}, top K: [{', '.join(str(item) for item, _ in given)}]"
        for user, given in found.items()
    }
    assert {row["value"] for row in spark.read.text(resolve(text)).collect()} == wanted


def test_mistakes(spark: SparkSession, events: DataFrame, tmp_path: Path) -> None:
    model = ItemCF(item_col="movie_id").fit(events)
    path = str(tmp_path / "model")
    model.save(path)
    with pytest.raises(ValueError, match="queries or events must be given"):
        RecommendInput()
    both = spark.createDataFrame([("u1", [1])], "user_id string, history array<long>")
    with pytest.raises(DataError, match="leave out one of them"):
        run(spark, path, tmp_path / "a", {}, queries=both, events=events)
    with pytest.raises(DataError, match="neither `user_id` nor `history`"):
        run(spark, path, tmp_path / "b", {}, queries=both.select("history").toDF("past"))
    texts = spark.createDataFrame([("u1", ["1"])], "user_id string, history array<string>")
    with pytest.raises(DataError, match="has items of type string, those of the model are bigint"):
        run(spark, path, tmp_path / "c", {}, queries=texts)
    single = spark.createDataFrame([("u1", 1)], "user_id string, history long")
    with pytest.raises(DataError, match="not an array"):
        run(spark, path, tmp_path / "d", {}, queries=single)
    with pytest.raises(DataError, match="no column `user_id`, which format: text begins with"):
        run(spark, path, tmp_path / "e", {"format": "text"}, queries=both.select("history"))
    table = str(tmp_path / "a" / "events")
    with pytest.raises(StorageError, match="is no saved model"):
        load_model(table)
    with pytest.raises(StorageError):
        load_model(str(tmp_path / "nothing"))
