"""A count model's job as a whole, on a small table: train, then ask the saved model otherwise."""

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.errors import ConfigError
from sparkrec.io.outputs import read_manifest, resolve
from sparkrec.io.tables import load_table, write_table
from sparkrec.pipeline.train import load_training_job, train

CONF = """
job: item_cf
dataset: small
input: {{train: {root}/train, test: {root}/test}}
model: {{num_neighbours: 3, trigger: last}}
retrieval: {{k: 3, exclude_seen: true}}
evaluation: {{protocol: leave_one_out}}
output_path: {root}/run
"""


@pytest.fixture
def conf(spark: SparkSession, tmp_path: Path) -> str:
    """Users 0 to 3 had items 1 and 2 (user 3 item 3 as well); the test asks for what they lack."""
    train = [(user, item, item, 10 * user + item) for user in range(4) for item in (1, 2)]
    train.append((3, 3, 3, 33))
    schema = "user_id long, item_id long, timestamp long, position long"
    write_table(spark.createDataFrame(train, schema), str(tmp_path / "train"), "test")
    test = [(user, user, [1, 2], [3]) for user in range(3)]
    queries = "query_id long, user_id long, history array<long>, relevant array<long>"
    write_table(spark.createDataFrame(test, queries), str(tmp_path / "test"), "test")
    path = tmp_path / "conf.yaml"
    path.write_text(CONF.format(root=tmp_path), encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_a_job_counts_writes_the_i2i_table_and_evaluates(spark: SparkSession, conf: str) -> None:
    assert "item_cf" in train(load_training_job(conf, "item_cf"), spark)
    output = str(Path(conf).parent / "run")
    run = Path(resolve(output))
    i2i = {row["key"]: row["value"] for row in load_table(spark, f"{output}/i2i").collect()}
    assert [entry["item_id"] for entry in i2i[1]] == [2, 3]
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["config"]["model"]["num_neighbours"] == 3
    excluded = next(result for result in metrics["results"] if result["exclude_seen"])
    assert excluded["metrics"]["recall@10"] == 1.0

    first = read_manifest(f"{output}/recommendations/seen_kept")
    asked = ["mode=[infer]", "model.trigger=history", "model.decay=1.0", "overwrite=true"]
    train(load_training_job(conf, "item_cf", asked), spark)
    again = read_manifest(f"{output}/recommendations/seen_kept")
    assert first["content"] != again["content"]
    assert resolve(output) != str(run) and load_table(spark, str(run / "i2i")).count() == len(i2i)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{decay: 2}", r"conf.yaml:5: model.decay must be "),
        ("{trigger: first}", r"conf.yaml:5: model.trigger must be one of last, history"),
        ("{shrink: 1}", r"conf.yaml:5: unknown key `model.shrink`; did you mean"),
    ],
)
def test_a_mistake_in_the_model_block_names_its_line(
    tmp_path: Path, block: str, message: str
) -> None:
    path = tmp_path / "conf.yaml"
    text = CONF.format(root=tmp_path).replace("{num_neighbours: 3, trigger: last}", block)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_training_job(str(path), "item_cf")
