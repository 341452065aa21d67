"""Sequence models that read the content of items: what they learn of items by their features."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.baselines.popularity.global_hot import GlobalHot
from sparkrec.errors import ConfigError, DataError, SchemaError
from sparkrec.io.tables import read_table, write_table
from sparkrec.retrieval.offline import Recommend, RecommendInput, write_recommendations
from sparkrec.retrieval.two_tower import TwoTowerModel
from sparkrec.schema.parser import FeatureSchema, feature_schema
from sparkrec.schema.text import Text
from sparkrec.training.retrievers import DSSM, SSR, GRU4Rec, SASRec

KINDS, EACH = 5, 4
ITEMS = KINDS * EACH
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")


def schema(features: str = "item_id\nkind\ntokens(title)\nnumber(price)\nvector(given)") -> Any:
    return feature_schema("item_id\nkind\ntitle\nprice\ngiven", "columns", features, "features")


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """Users go round the kinds of items; which item of a kind they choose means nothing."""
    rng = np.random.default_rng(0)
    rows = [
        (user, int((user + place) % KINDS + KINDS * rng.integers(EACH)), place, 20 * user + place)
        for user in range(150)
        for place in range(3 + user % 10)
    ]
    columns = "user_id long, item_id long, timestamp long, position long"
    return spark.createDataFrame(rows, columns).coalesce(1).cache()


@pytest.fixture(scope="module")
def items(spark: SparkSession) -> DataFrame:
    rows = [
        (
            item,
            f"kind {item % KINDS}",
            f"The {WORDS[item % KINDS]} No. {item}",
            float(item % KINDS),
            [float(item % KINDS == kind) for kind in range(KINDS)],
        )
        for item in range(ITEMS)
    ]
    columns = "item_id long, kind string, title string, price double, given array<float>"
    return spark.createDataFrame(rows, columns).coalesce(1).cache()


@pytest.fixture(scope="module")
def queries(spark: SparkSession) -> DataFrame:
    rows = [(item, [(item - 1) % ITEMS, item]) for item in range(ITEMS)]
    return spark.createDataFrame(rows, "query_id long, history array<long>").coalesce(1)


def retriever(kind: type[Any], items: DataFrame, **params: Any) -> Any:
    settings = {
        "max_len": 6,
        "epochs": 6,
        "batch_size": 8,
        "learning_rate": 0.02,
        "k": EACH,
        "seed": 2,
        "early_stopping": None,
        "exclude_seen": False,
        **({"hidden": (16,), "embedding_dim": 16} if kind in (GRU4Rec, SSR) else {"dim": 16}),
        **params,
    }
    declared: FeatureSchema = settings.pop("item_schema", schema())
    return kind(items=items, item_schema=declared, **settings)


def share_of_next_kind(model: TwoTowerModel, queries: DataFrame) -> float:
    """Share of the recommended items that are of the kind that comes next."""
    right = [
        entry["item_id"] % KINDS == (row["query_id"] + 1) % KINDS
        for row in model.transform(queries).collect()
        for entry in row["recommended"]
    ]
    assert len(right) == ITEMS * EACH
    return float(np.mean(right))


@pytest.mark.parametrize("read", ["content", "both"])
@pytest.mark.parametrize("kind", [GRU4Rec, SASRec])
def test_what_follows_is_learned_by_kind(
    events: DataFrame, items: DataFrame, queries: DataFrame, kind: type[Any], read: str
) -> None:
    model = retriever(kind, items, model_items=read).fit(events)
    assert share_of_next_kind(model, queries) > 0.95


@pytest.mark.parametrize(
    "features", ["kind", "tokens(title)", "number(price)\nkind", "vector(given)"]
)
def test_each_form_of_feature_is_enough(
    events: DataFrame, items: DataFrame, queries: DataFrame, features: str
) -> None:
    params = {"item_schema": schema(features), "text": Text(max_share=0.3)}
    model = retriever(GRU4Rec, items, model_items="content", **params).fit(events)
    assert share_of_next_kind(model, queries) > 0.95


def test_saved_and_loaded_it_answers_alike(
    events: DataFrame, items: DataFrame, queries: DataFrame, tmp_path: Path
) -> None:
    model = retriever(
        GRU4Rec, items, model_items="both", id_dropout=0.3, constrained_embedding=False, epochs=1
    ).fit(events)
    model.save(str(tmp_path / "model"))
    loaded = TwoTowerModel.load(str(tmp_path / "model"))
    assert model.transform(queries).collect() == loaded.transform(queries).collect()


NEW = (100, 101, 102)  # of the kinds 0, 1 and 2


def new_items(spark: SparkSession, ids: Sequence[int | None] = NEW) -> DataFrame:
    rows = [
        (item, f"kind {i}", f"A new {WORDS[i]}", float(i), [float(i == k) for k in range(KINDS)])
        for i, item in enumerate(ids)
    ]
    columns = "item_id long, kind string, title string, price double, given array<float>"
    return spark.createDataFrame(rows, columns)


def best(model: TwoTowerModel, history: list[int]) -> list[int]:
    schema = "query_id long, user_id long, history array<long>"
    frame = SparkSession.active().createDataFrame([(0, 1, history)], schema)
    return [entry["item_id"] for entry in model.transform(frame).first()["recommended"]]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (GRU4Rec, {"model_items": "both", "id_dropout": 0.5}),
        pytest.param(
            GRU4Rec,
            {"model_items": "content", "constrained_embedding": False},
            marks=pytest.mark.slow,
        ),
        (SASRec, {"model_items": "both", "id_dropout": 0.5, "index": "IVF2,Flat", "nprobe": 2}),
        (SSR, {"model_items": "both", "id_dropout": 0.5}),
    ],
    ids=["gru4rec both", "gru4rec content, two vectors", "sasrec, IVF", "ssr both"],
)
def test_items_that_training_never_saw(
    spark: SparkSession, events: DataFrame, items: DataFrame, kind: Any, params: Any, tmp_path: Path
) -> None:
    before = retriever(kind, items, **params, k=EACH + 1).fit(events)
    model = before.add_items(new_items(spark))
    for item, of_kind in zip(NEW, range(3), strict=True):
        # It follows where its kind does, and in a history it says what its kind says.
        assert item in best(model, [3, (of_kind - 1) % KINDS])
        assert {i % KINDS for i in best(model, [item])[:3] if i < ITEMS} == {of_kind + 1}
        assert item not in best(before, [3, (of_kind - 1) % KINDS])
    model.save(str(tmp_path / "model"))
    loaded = TwoTowerModel.load(str(tmp_path / "model"))
    assert best(loaded, [3, 4]) == best(model, [3, 4])
    assert np.array_equal(model.item_vectors[:ITEMS], before.item_vectors)
    removed = loaded.remove_items([0, 101, 777])
    removed.save(str(tmp_path / "removed"))
    for without in (removed, TwoTowerModel.load(str(tmp_path / "removed"))):
        assert not {0, 101} & set(best(without, [3, 4]) + best(without, [3, 0]))
        assert 100 in best(without, [3, 4])
        kept = np.isin(model.catalogue.ids.to_numpy(), [0, 101], invert=True)
        assert np.array_equal(without.item_vectors, model.item_vectors[kept])
        assert np.allclose(
            without.parts.network.user_vectors(without.parts.user_encoder.encode(pa_history([1]))),
            model.parts.network.user_vectors(model.parts.user_encoder.encode(pa_history([1]))),
            atol=1e-6,
        )


def test_a_score_of_new_items(spark: SparkSession, events: DataFrame, items: DataFrame) -> None:
    """Lower, they take fewer places; their order among themselves and that of the others stay."""
    known = retriever(GRU4Rec, items, model_items="both", id_dropout=0.5, k=ITEMS + 3, epochs=2)
    model = known.fit(events)
    plain, low = (model.add_items(new_items(spark), score) for score in (0.0, -100.0))
    for history in ([3, 4], [7]):
        first, last = best(plain, history), best(low, history)
        assert [item for item in first if item < ITEMS] == last[:ITEMS]
        assert [item for item in first if item >= ITEMS] == last[ITEMS:]
        assert set(best(model.add_items(new_items(spark), 100.0), history)[:3]) == set(NEW)
    sasrec = retriever(SASRec, items, model_items="both", epochs=1).fit(events)
    with pytest.raises(ConfigError, match="SASRec has no bias of items, so the scores of new"):
        sasrec.add_items(new_items(spark), -1.0)


def pa_history(items: list[int]) -> pa.Table:
    return pa.table({"recent_item_ids": pa.array([items], pa.list_(pa.int64()))})


def test_new_items_of_one_run(
    spark: SparkSession, events: DataFrame, items: DataFrame, queries: DataFrame, tmp_path: Path
) -> None:
    """`input.new_items` of jobs/recommend.py; the saved model stays as it is."""
    model = retriever(GRU4Rec, items, model_items="both", id_dropout=0.5).fit(events)
    model.save(f"{tmp_path}/model")
    write_table(queries, f"{tmp_path}/queries", "test")
    write_table(new_items(spark), f"{tmp_path}/new", "test")

    def recommended(name: str, new: str | None) -> set[int]:
        config = Recommend(
            job="recommend",
            input=RecommendInput(queries=f"{tmp_path}/queries", new_items=new),
            model_path=f"{tmp_path}/model",
            output_path=f"{tmp_path}/{name}",
            k=EACH + 1,
            exclude_seen=False,
        )
        write_recommendations(spark, config)
        rows = read_table(spark, f"{tmp_path}/{name}", "answers").collect()
        return {entry["item_id"] for row in rows for entry in row["recommended"]}

    assert set(NEW) <= recommended("with", f"{tmp_path}/new")
    assert not set(NEW) & recommended("without", None)


@pytest.mark.slow
def test_two_workers(events: DataFrame, items: DataFrame, queries: DataFrame) -> None:
    settings = {"model_items": "both", "id_dropout": 0.2, "sparse": True, "workers": 2}
    model = retriever(GRU4Rec, items, **settings, epochs=8).fit(events)
    assert share_of_next_kind(model, queries) > 0.95


@pytest.mark.slow
def test_a_resumed_run_ends_at_the_same_vectors(
    events: DataFrame, items: DataFrame, tmp_path: Path
) -> None:
    settings = {"model_items": "both", "id_dropout": 0.3}
    whole = retriever(GRU4Rec, items, **settings, epochs=3).fit(events)
    path = str(tmp_path / "work")
    retriever(GRU4Rec, items, **settings, epochs=2, work_path=path).fit(events)
    resumed = retriever(GRU4Rec, items, **settings, epochs=3, work_path=path, resume=True).fit(
        events
    )
    assert (resumed.item_vectors == whole.item_vectors).all()


def test_a_warm_start_with_new_items(
    events: DataFrame, items: DataFrame, queries: DataFrame, tmp_path: Path
) -> None:
    settings = {"model_items": "both"}
    half = events.withColumn("item_id", events["item_id"] % (ITEMS // 2))
    first = retriever(GRU4Rec, items, **settings).fit(half)
    first.save(str(tmp_path / "first"))
    start = {"model_in_path": str(tmp_path / "first"), "epochs": 1, "learning_rate": 1e-6}
    grown = retriever(GRU4Rec, items, **settings, **start).fit(events)
    known = len(first.catalogue)
    assert known < len(grown.catalogue) == ITEMS
    assert np.allclose(grown.item_vectors[:known], first.item_vectors, atol=1e-3)
    # What the kinds of items are was learned on the others.
    assert share_of_next_kind(grown, queries) > 0.9


def test_dssm_takes_new_items(spark: SparkSession, events: DataFrame, items: DataFrame) -> None:
    model = DSSM(
        items=items,
        item_schema=schema("item_id\nkind\ntokens(title)"),
        user_schema=feature_schema("last_item", "columns", "last_item", "features"),
        hidden=(16,),
        negatives="in_batch",
        loss="softmax",
        epochs=8,
        batch_size=64,
        learning_rate=0.01,
        early_stopping=None,
        exclude_seen=False,
        k=EACH + 1,
        seed=1,
    ).fit(events)
    grown = model.add_items(new_items(spark))
    assert NEW[1] in best(grown, [3, 0]) and NEW[0] in best(grown, [3, 4])


def test_mistakes_with_new_items(
    spark: SparkSession, events: DataFrame, items: DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    model = retriever(SASRec, items, model_items="both", epochs=1).fit(events)
    with pytest.raises(SchemaError, match="new items lacks the column 'title'"):
        model.add_items(new_items(spark).drop("title"))
    with pytest.raises(DataError, match="new items has no column `item_id`"):
        model.add_items(new_items(spark).drop("item_id"))
    with pytest.raises(DataError, match="of type string, those of the model int64"):
        model.add_items(
            new_items(spark)
            .selectExpr("*", "'x' item")
            .drop("item_id")
            .withColumnRenamed("item", "item_id")
        )
    with pytest.raises(DataError, match="1 rows have no item_id"):
        model.add_items(new_items(spark, [100, None]))
    with pytest.raises(DataError, match="a item_id stands in 2 rows"):
        model.add_items(new_items(spark, [100, 101, 100]))
    with caplog.at_level(logging.INFO, "sparkrec"):
        assert len(model.add_items(new_items(spark, [100, 3])).catalogue) == ITEMS + 1
    assert "1 items are left out, the model knows them" in caplog.text
    with pytest.raises(DataError, match="no item would be left"):
        model.remove_items(range(ITEMS))
    with pytest.raises(DataError, match="of type string, those of the model int64"):
        model.remove_items(["a"])
    ids = retriever(SASRec, items, item_schema=schema("item_id"), epochs=1).fit(events)
    with pytest.raises(ConfigError, match="SASRec reads the ids of items alone"):
        ids.add_items(new_items(spark))
    assert len(ids.remove_items([3]).catalogue) == ITEMS - 1
    counted = GlobalHot().fit(events)
    with pytest.raises(ConfigError, match="GlobalHotModel knows items by the events of train"):
        counted.add_items(new_items(spark))
    with pytest.raises(ConfigError, match="cannot be taken out"):
        counted.remove_items([1])


def test_mistakes(events: DataFrame, items: DataFrame) -> None:
    for features, message in [
        ("item_id", "reads the content of items .* but no feature beside `item_id`"),
        ("item_id#kind", "`item_id#kind` has the id of the item in it"),
        ("tokens(price)", "reads a text, but column 'price' is of type double"),
        ("number(title)", "reads a number, but column 'title' is of type string"),
        ("vector(title)", "reads an array of numbers, but column 'title'"),
    ]:
        with pytest.raises(SchemaError, match=message):
            retriever(SASRec, items, model_items="both", item_schema=schema(features)).fit(events)
    with pytest.raises(SchemaError, match="knows items by their id; declare `item_id` alone"):
        retriever(SASRec, items).fit(events)
    with pytest.raises(ValueError, match="id_dropout can only be used with items: both"):
        retriever(SASRec, items, model_items="content", id_dropout=0.1)
    with pytest.raises(ConfigError, match="session_parallel reads items by their id"):
        retriever(GRU4Rec, items, model_items="both", session_parallel=True).fit(events)
