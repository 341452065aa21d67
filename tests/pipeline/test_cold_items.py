"""The protocol cold_items, from events to metrics.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparkrec.errors import ConfigError, DataError
from sparkrec.io.outputs import resolve
from sparkrec.io.tables import write_table
from sparkrec.pipeline.compare import compare_runs
from sparkrec.pipeline.train import load_training_job, train
from sparkrec.transforms.cold_items import ColdItems
from sparkrec.transforms.match_dataset import MatchDataset, MatchInput, SplitBy, write_match_dataset

KINDS, EACH = 5, 8

CONF = """\
job: gru4rec
dataset: kinds
seed: 1
input: {root}/split
{schema}
model: {{max_len: 6, hidden: [16], embedding_dim: 16, {model}}}
loss: {{name: softmax, negatives: all, temperature: 1}}
training: {{epochs: 6, batch_size: 16, learning_rate: 0.02, early_stopping: null}}
evaluation: {{protocol: cold_items, yardsticks: [global_hot]}}
"""


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users go round the kinds of items; a fifth of the items is not in train."""
    root = tmp_path_factory.mktemp("cold")
    rng = np.random.default_rng(0)
    rows = [
        (user, int((user + place) % KINDS + KINDS * rng.integers(EACH)), place, 20 * user + place)
        for user in range(200)
        for place in range(4 + user % 10)
    ]
    schema = "user_id long, item_id long, timestamp long, position long"
    write_table(spark.createDataFrame(rows, schema).coalesce(1), f"{root}/events", "test")
    items = [(item, f"Kind {item % KINDS}") for item in range(KINDS * EACH)]
    frame = spark.createDataFrame(items, "item_id long, title string").coalesce(1)
    write_table(frame, f"{root}/items", "test")
    split = SplitBy("last_n", 2, cold_items=ColdItems(share=0.2, seed=3))
    config = MatchDataset(
        job="match_dataset",
        dataset="kinds",
        input=MatchInput(events=f"{root}/events"),
        output_path=f"{root}/split",
        split=split,
    )
    write_match_dataset(spark, config)
    (root / "schema").mkdir()
    for side, columns, features in (
        ("item", "item_id\ntitle", "item_id\ntokens(title)"),
        ("user", "recent_item_ids", "recent_item_ids"),
    ):
        (root / "schema" / f"{side}_column_schema").write_text(columns)
        (root / "schema" / f"{side}_combine_schema").write_text(features)
    return root


def write_conf(root: Path, name: str, model: str, schema: str = "") -> str:
    path = root / f"{name}.yaml"
    path.write_text(CONF.format(root=root, model=model, schema=schema))
    return str(path)


def results(root: Path, name: str) -> dict[str, Any]:
    metrics = json.loads(Path(resolve(f"{root}/runs/{name}"), "metrics.json").read_text())
    return {entry["model"]: entry for entry in metrics["results"] if not entry["exclude_seen"]}


def test_content_finds_what_train_lacks(root: Path, spark: SparkSession) -> None:
    schema = f"schema: {{path: {root}/schema}}"
    conf = write_conf(root, "both", "items: both, id_dropout: 0.3", schema)
    job = load_training_job(conf, "gru4rec")
    printed = train(job, spark)
    assert "cold among cold" in printed and "protocol cold_items" not in printed
    assert "cold_items: the test rows of a split that keeps some items" in printed
    found = results(root, "both")
    own, hot = found["gru4rec"], found["global_hot"]
    assert own["n"] == own["groups"]["cold"]["n"] + own["groups"]["warm"]["n"] == hot["n"]
    assert own["groups"]["cold among cold"]["n"] == own["groups"]["cold"]["n"] > 30
    # Of the right kind are 8 of 40 items: a list of 10 can have all of them.
    assert own["groups"]["cold"]["metrics"]["recall@10"] > 0.8
    assert own["groups"]["warm"]["metrics"]["recall@10"] > 0.8
    assert own["metrics"]["cold_share@20"] == pytest.approx(0.2, abs=0.1)
    assert "gru4rec - global_hot, seen kept, paired [95%]" in printed
    difference = compare_runs([f"{root}/runs/both"], [f"{root}/runs/both:global_hot"])[0]
    cold = difference.differences["recall@10, cold"]
    assert cold.difference == own["groups"]["cold"]["metrics"]["recall@10"]
    assert cold.interval95[0] > 0.5
    # Global Hot knows nothing of them.
    assert hot["groups"]["cold"]["metrics"]["recall@20"] == 0
    assert hot["groups"]["cold among cold"]["metrics"]["recall@20"] == 0
    assert hot["metrics"]["cold_share@20"] == 0


@pytest.mark.slow
def test_a_model_of_ids_alone_misses_them(root: Path, spark: SparkSession) -> None:
    train(load_training_job(write_conf(root, "ids", "items: id"), "gru4rec"), spark)
    own = results(root, "ids")["gru4rec"]["groups"]
    assert own["cold"]["metrics"]["recall@20"] == 0
    assert own["warm"]["metrics"]["recall@20"] > 0.5


@pytest.mark.slow
def test_content_models_without_training(root: Path, spark: SparkSession) -> None:
    """As models of their own; and one as the yardstick of the other, all of jobs/train.py."""
    conf = root / "knn.yaml"
    conf.write_text(
        f"job: train\ndataset: kinds\ninput: {root}/split\nschema: {{path: {root}/schema}}\n"
        "model: {class: content_knn, max_history: 1}\n"
        "evaluation: {protocol: cold_items, yardsticks: [content_popularity]}\n"
    )
    assert "content_knn - content_popularity, seen kept" in train(
        load_training_job(str(conf), "train"), spark
    )
    found = results(root, "knn")
    knn = found["content_knn"]["groups"]["cold among cold"]["metrics"]
    # The kind that comes next is never that of the last item.
    assert knn["recall@20"] == 1 and knn["mrr@10"] < 0.3
    assert found["content_popularity"]["groups"]["cold"]["n"] > 30


def test_yardsticks_of_content_need_a_schema(root: Path, spark: SparkSession) -> None:
    conf = write_conf(root, "no_schema", "items: id")
    job = load_training_job(conf, "gru4rec", ["evaluation.yardsticks=[content_knn]"])
    with pytest.raises(ConfigError, match=r"ContentKNN reads .* but the conf has no schema\.path"):
        train(job, spark)


def test_a_score_of_new_items(root: Path, spark: SparkSession) -> None:
    """It gives them fewer places and changes nothing among them."""
    schema = f"schema: {{path: {root}/schema}}"
    conf = write_conf(root, "low", "items: both, id_dropout: 0.3", schema)
    both = results(root, "both")["gru4rec"]
    overrides = ["mode=[infer]", f"init_model_path={root}/runs/both/model"]
    overrides += ["evaluation.new_items_score=-100", "evaluation.yardsticks=[]"]
    train(load_training_job(conf, "gru4rec", overrides), spark)
    low = results(root, "low")["gru4rec"]
    for group in ("cold among cold", "warm among warm"):
        assert low["groups"][group] == both["groups"][group]
    assert low["groups"]["warm"]["metrics"] == low["groups"]["warm among warm"]["metrics"]
    assert low["groups"]["cold"]["metrics"]["recall@20"] == 0
    assert low["metrics"]["cold_share@20"] == 0


def test_it_needs_the_tables(root: Path, spark: SparkSession) -> None:
    conf = write_conf(root, "lacking", "items: id")
    tables = {name: f"{root}/split/{name}" for name in ("train", "test")}
    for named, lacking in (({}, "cold_items"), ({"cold_items": "split/cold_items"}, "items")):
        given = {**tables, **{name: f"{root}/{path}" for name, path in named.items()}}
        job = load_training_job(conf, "gru4rec", [f"input={json.dumps(given)}"])
        with pytest.raises(DataError, match=f"needs the table input.{lacking};"):
            train(job, spark)
    given = {**tables, "items": f"{root}/items", "cold_items": f"{root}/items"}
    job = load_training_job(conf, "gru4rec", [f"input={json.dumps(given)}"])
    with pytest.raises(DataError, match=r"input\.cold_items: .* has no column `first_seen`"):
        train(job, spark)
