"""The job that trains any model: classes by name, what a conf says by default, loaded models."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkrec.errors import ConfigError, DataError
from sparkrec.io.outputs import resolve, runs
from sparkrec.io.rollback import rollback
from sparkrec.io.tables import write_table
from sparkrec.models.registry import class_path, find_class, short_name
from sparkrec.pipeline.paths import check_paths
from sparkrec.pipeline.train import conf_name, load_training_job, train

NET = '''
"""A network and a count model outside the package."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from pyspark.sql import DataFrame

from sparkrec.baselines.popularity.personal_top import PersonalTopModel
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.models.sequence import SequenceNetwork
from sparkrec.retrieval.base import Retriever


@dataclass(frozen=True)
class MeanConfig:
    max_len: int = 5
    temperature: float = 3.0


class Mean(SequenceNetwork):
    Config = MeanConfig

    def __init__(self, config, user, item):
        super().__init__(user, item, item.item_encoder(8))

    def encode_steps(self, vectors, mask):
        return vectors.cumsum(dim=1) / mask.cumsum(dim=1).clamp(min=1)[..., None]


@dataclass(frozen=True)
class Shift:
    width: int = 1


class Mine(Retriever):
    config_blocks: ClassVar[dict[str, type[Any]]] = {"model": Shift}
    model_class = PersonalTopModel

    def _fit(self, dataset: DataFrame) -> PersonalTopModel:
        assert self.get("width") == 2
        catalogue = count_catalogue(dataset, self.get("item_col"))
        return self._copyValues(PersonalTopModel(catalogue))


class NoConfig(SequenceNetwork):
    pass


class Stranger:
    pass
'''

CONF = """\
job: train
dataset: small
input: {root}/split
model: {model}
evaluation: {{protocol: leave_one_out}}
"""
TRAINING = """\
loss: {name: softmax, negatives: all, temperature: 1}
training: {epochs: 2, batch_size: 4, early_stopping: null}
"""


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A split, and a folder on Python's path with a module outside the package."""
    root = tmp_path_factory.mktemp("any model")
    train = [(user, item, item, 10 * user + item) for user in range(4) for item in range(1, 4)]
    schema = "user_id long, item_id long, timestamp long, position long"
    write_table(spark.createDataFrame(train, schema).coalesce(1), f"{root}/split/train", "test")
    test = [(user, user, [1, 2], [3]) for user in range(3)]
    queries = "query_id long, user_id long, history array<long>, relevant array<long>"
    write_table(spark.createDataFrame(test, queries).coalesce(1), f"{root}/split/test", "test")
    (root / "outside_models.py").write_text(NET)
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))


def write_conf(root: Path, model: str, name: str, more: str = "") -> str:
    path = root / f"{name}.yaml"
    path.write_text(CONF.format(root=root, model=model) + more)
    return str(path)


@pytest.mark.slow
def test_a_network_from_outside(root: Path, spark: SparkSession) -> None:
    conf = write_conf(root, "{class: outside_models:Mean, max_len: 4}", "mean", TRAINING)
    job = load_training_job(conf, "train")
    assert job.output_path == f"{root}/runs/mean"
    assert "Mean " in train(job, spark)
    metrics = json.loads(Path(resolve(job.output_path), "metrics.json").read_text())
    assert metrics["model"] == "Mean"
    assert metrics["config"]["model"] == {
        "class": "outside_models:Mean",
        "max_len": 4,
        "temperature": 3.0,
    }
    assert metrics["diverged"] is False
    # A run may start from the model of the run before it, which stays.
    again = load_training_job(conf, "train", [f"training.model_in_path={job.output_path}/model"])
    check_paths(again)
    train(again, spark)
    assert len(runs(job.output_path)) == 2
    assert rollback(job.output_path) == runs(job.output_path)[0]
    # Loaded, not trained; and not by the conf of another network.
    infer = ["mode=[infer]", "overwrite=true"]
    assert "Mean " in train(load_training_job(conf, "train", infer), spark)
    with pytest.raises(DataError, match=r"holds a model of outside_models:Mean, not of .*sasrec"):
        train(load_training_job(conf, "train", [*infer, "model={class: sasrec}"]), spark)


def test_a_count_model_from_outside(root: Path, spark: SparkSession) -> None:
    conf = write_conf(root, "{class: outside_models:Mine, width: 2}", "mine")
    assert "Mine " in train(load_training_job(conf, "train"), spark)


def test_a_built_in_by_its_short_name(root: Path) -> None:
    job = load_training_job(write_conf(root, "{class: item_cf, shrinkage: 2}", "cf"), "train")
    assert job.model_class == "sparkrec.baselines.item_to_item.item_cf:ItemCF"
    assert job.model.shrinkage == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{}", "missing key `model.class`"),
        ("{class: dsm}", "unknown model `dsm`; did you mean `dssm`\\?; known: dssm, .*swing"),
        ("{class: 'outside_models:'}", "must be module:Class"),
        ("{class: no_such_module:X}", "there is no module `no_such_module` on Python's path"),
        ("{class: outside_models:Maen}", "has no class `Maen`; did you mean `Mean`"),
        ("{class: outside_models:Stranger}", "outside_models:Stranger is not a network"),
        ("{class: outside_models:NoConfig}", "NoConfig must have a `Config`, a frozen dataclass"),
        ("{class: outside_models:Mean, dim: 3}", "unknown key `model.dim`"),
        (
            "{class: sparkrec.training.retrievers:DSSM}",
            "is the Estimator of a network; name the network itself",
        ),
    ],
)
def test_mistakes_in_the_class(root: Path, model: str, message: str) -> None:
    conf = write_conf(root, model, "wrong", TRAINING)
    with pytest.raises(ConfigError, match=message):
        load_training_job(conf, "train")


def test_a_conf_of_another_job(root: Path) -> None:
    conf = write_conf(root, "{}", "other")
    with pytest.raises(ConfigError, match=r"job is `train`, but this is jobs/dssm.py; run jobs/tr"):
        load_training_job(conf, "dssm")
    with pytest.raises(ConfigError, match=r"job is `hrm`, but this is jobs/dssm.py"):
        load_training_job(conf, "dssm", ["job=hrm"])


def test_a_class_that_no_other_process_finds_is_refused() -> None:
    class Local:
        pass

    with pytest.raises(ConfigError, match="define it at the top level of a module file"):
        class_path(Local)


def test_names_of_classes() -> None:
    assert short_name(find_class("dssm")) == "dssm"
    assert short_name(Path) == "Path"
    assert find_class(class_path(find_class("gru4rec"))) is find_class("gru4rec")


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "conf/a.yaml.dev", "/x/a"])
def test_the_name_of_a_conf(name: str) -> None:
    assert conf_name(name) == "a"
