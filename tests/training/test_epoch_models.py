"""Whole models of single epochs, written while training goes on."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkrec.errors import ConfigError
from sparkrec.retrieval.answering.answerer import load as load_answerer
from sparkrec.retrieval.two_tower import TwoTowerModel
from sparkrec.schema.parser import feature_schema
from sparkrec.training.retrievers import DSSM, GRU4Rec
from sparkrec.training.settings import EarlyStopping

ITEMS = 9


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    rows = [
        (user, (user + place) % ITEMS, place, 10 * user + place)
        for user in range(60)
        for place in range(2 + user % 6)
    ]
    schema = "user_id long, item_id long, timestamp long, position long"
    return spark.createDataFrame(rows, schema).coalesce(1).cache()


def items(spark: SparkSession) -> DataFrame:
    rows = [(item, f"kind {item % 3}") for item in range(ITEMS + 1)]
    return spark.createDataFrame(rows, "item_id long, kind string").coalesce(1)


SEQUENCE: dict[str, Any] = {"max_len": 5, "hidden": (8,), "embedding_dim": 8, "dropout_hidden": 0.2}
SHORT: dict[str, Any] = {"batch_size": 8, "learning_rate": 0.02, "early_stopping": None, "seed": 1}


def answers(model: TwoTowerModel) -> list[Any]:
    rows = [(item, item, [item]) for item in range(ITEMS)]
    frame = SparkSession.active().createDataFrame(
        rows, "query_id long, user_id long, history array<long>"
    )
    return model.transform(frame.coalesce(1)).collect()


def test_every_second_epoch_is_a_whole_model(
    spark: SparkSession, events: DataFrame, tmp_path: Path
) -> None:
    settings = {**SEQUENCE, **SHORT, "k": 3, "items": items(spark), "model_items": "both"}
    declared = feature_schema("item_id\nkind", "columns", "item_id\nkind", "features")
    models = str(tmp_path / "models")
    network = {"item_schema": declared, "index": "IVF2,Flat", "nprobe": 2, "epochs": 5}
    model = GRU4Rec(**settings, **network, save_inference_interval=2, models_path=models).fit(
        events
    )
    found = sorted(path.name for path in Path(models).iterdir())
    assert found == ["epoch-2", "epoch-4"]
    earlier, later = (TwoTowerModel.load(f"{models}/{name}") for name in found)
    assert answers(earlier) != answers(later) != answers(model)
    assert earlier.get("k") == 3
    # The training is the one without them, and a model is that of a training of so many epochs.
    plain = GRU4Rec(**settings, **network).fit(events)
    assert (plain.item_vectors == model.item_vectors).all()
    short = GRU4Rec(**settings, **{**network, "epochs": 2}).fit(events)
    assert (short.item_vectors == earlier.item_vectors).all()
    assert answers(short) == answers(earlier)
    # It takes new items and answers without Spark, like any other saved model.
    new = items(spark).where(f"item_id = {ITEMS}")
    assert len(later.add_items(new).catalogue) == ITEMS + 1
    answer = load_answerer(f"{models}/epoch-4").answer(pa.table({"history": [[3]]}))
    assert [item for item, _ in answer[0]] == [
        entry["item_id"] for entry in answers(later)[3]["recommended"]
    ]


def test_models_of_the_refit_replace_those_of_the_fit(events: DataFrame, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    settings = {**SHORT, "early_stopping": EarlyStopping("recall@2", 1)}
    model = DSSM(
        embedding_dim=4,
        hidden=(8,),
        epochs=3,
        num_negatives=3,
        save_inference_interval=1,
        models_path=models,
        **settings,
    ).fit(events)
    chosen = [e["epoch"] for e in model.fit_report["history"] if e["phase"] == "refit"][-1]
    last = TwoTowerModel.load(f"{models}/epoch-{chosen}")
    assert (last.item_vectors == model.item_vectors).all()


@pytest.mark.slow
def test_with_two_workers(events: DataFrame, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    model = GRU4Rec(
        **SEQUENCE, **SHORT, epochs=2, workers=2, save_inference_interval=2, models_path=models
    ).fit(events)
    saved = TwoTowerModel.load(f"{models}/epoch-2")
    assert (saved.item_vectors == model.item_vectors).all()


def test_they_need_a_folder(events: DataFrame) -> None:
    with pytest.raises(ConfigError, match="save_inference_interval needs `models_path`"):
        GRU4Rec(**SEQUENCE, **SHORT, save_inference_interval=1).fit(events)
