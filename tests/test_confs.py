"""The repository's confs: each loads as the config of its job, and every job has one."""

import importlib.util
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparkrec.columns import Columns
from sparkrec.config.load import load_config
from sparkrec.models.dssm import DSSM
from sparkrec.models.gru4rec import GRU4Rec
from sparkrec.models.registry import BUILT_IN
from sparkrec.models.sasrec import SASRec
from sparkrec.pipeline.inputs import RetrievalJob
from sparkrec.pipeline.neural import Schema
from sparkrec.pipeline.train import load_training_job

REPO = Path(__file__).parents[1]
CONFS = sorted((REPO / "conf").glob("*.yaml"))
JOBS = {path.stem: path for path in (REPO / "jobs").glob("*.py") if path.stem != "__init__"}
ENVIRON = {
    "MY_S3_BUCKET": "s3://bucket/some prefix",
    "ML_1M": "/data/ml-1m",
    "RSC15": "/data/rsc15",
    "TAFENG": "/data/tafeng",
}


def job_name(conf: Path) -> str:
    """The value of `job`; a variable that is not expanded is still YAML."""
    return str(yaml.safe_load(conf.read_text(encoding="utf-8"))["job"])


def config_class(job: str) -> Any:
    """What the first parameter of the job's `main` is annotated with."""
    spec = importlib.util.spec_from_file_location(f"job_{job}", JOBS[job])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(iter(typing.get_type_hints(module.main).values()))


@pytest.mark.parametrize("conf", CONFS, ids=lambda path: path.stem)
def test_every_conf_loads(conf: Path) -> None:
    name = job_name(conf)
    if name in BUILT_IN:
        config: Any = load_training_job(str(conf), name, environ=ENVIRON)
    else:
        config = load_config(str(conf), config_class(name), environ=ENVIRON)
    assert conf.stem.startswith(name)
    output = getattr(config, "output_path", None)
    if output is not None:
        assert output.startswith(ENVIRON["MY_S3_BUCKET"] + "/")
        if "/runs/" in output:
            assert output.endswith(f"/runs/{conf.stem}")
    if isinstance(config, RetrievalJob):
        assert output is not None and f"/runs/{conf.stem}" in output
    if hasattr(config, "overwrite"):
        assert config.overwrite is False


def test_every_job_has_a_conf() -> None:
    """But the job that takes any model, which a conf of docs/extending.md shows."""
    assert {job_name(conf) for conf in CONFS} == set(JOBS) - {"train"}


def test_the_confs_say_little() -> None:
    lines = [line for conf in CONFS for line in conf.read_text(encoding="utf-8").splitlines()]
    said = sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)
    assert said <= 9 * len(CONFS)


@pytest.mark.parametrize(
    ("model", "roles"),
    [
        ("dssm", DSSM.reads(DSSM.Config()).default_features),
        ("gru4rec", GRU4Rec.reads(GRU4Rec.Config()).default_features),
        ("sasrec", SASRec.reads(SASRec.Config()).default_features),
    ],
)
def test_documented_schemas_are_the_default_of_their_model(
    model: str, roles: tuple[str, ...]
) -> None:
    columns = Columns(item="movie_id")
    names = {
        "user": columns.user,
        "last_item": columns.last_item,
        "recent_items": columns.recent_items,
    }
    schema = Schema(str(REPO / "schema" / model / "ml_1m"))
    for side, features in (("user", [names[role] for role in roles]), ("item", [columns.item])):
        found = schema.read(side)
        assert found is not None
        assert [feature.name for feature in found.features] == features
