"""A retrieval job from its conf to its table of metrics, for any model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyspark.sql import SparkSession

from sparkrec.baselines.content.base import ContentRetriever
from sparkrec.config.load import conf_name, load_config
from sparkrec.errors import ConfigError
from sparkrec.io import storage
from sparkrec.io.publishing import publish
from sparkrec.models.registry import class_path, find_class
from sparkrec.pipeline.cli import run_command
from sparkrec.pipeline.counted import (
    ContentJob,
    CountJob,
    NoSettings,
    count_estimator,
    yardstick,
)
from sparkrec.pipeline.inputs import RetrievalJob, Tables, read_inputs
from sparkrec.pipeline.run import Run
from sparkrec.retrieval.base import Retriever

# The script that takes the class of its model from the conf.
ANY = "train"


def run_training_job(name: str, doc: str | None, argv: list[str] | None = None) -> None:
    """Run jobs/<name>.py, whose model is the built-in `name` or, for `train`, the conf's."""

    def load(path: str, overrides: Sequence[str]) -> RetrievalJob:
        return load_training_job(path, name, overrides)

    run_command(train, load, RetrievalJob if name == ANY else job_kind(name), doc, argv)


def train(job: RetrievalJob, spark: SparkSession) -> str:
    """Fit or load a model, recommend for every test row, and evaluate it beside yardsticks.

    Returns
    -------
    str
        The table of metrics.
    """
    tables = read_inputs(spark, job)
    estimator = make_estimator(job, tables)
    yardsticks = {name: yardstick(name, job, tables) for name in job.evaluation.yardsticks}
    about = {"dataset": job.dataset, "data": tables.fingerprint}
    with publish(**job.target, about=about, resume=_resumes(job)) as folder:
        run = Run(job, tables, folder)
        model = run.fit_or_load(estimator)
        run.evaluate(model)
        run.evaluate_yardsticks(yardsticks)
        return run.write_metrics(model)


def make_estimator(job: RetrievalJob, tables: Tables) -> Retriever:
    """The estimator of a job, of a count model or of a network."""
    if isinstance(job, CountJob):
        return count_estimator(job, tables)
    # Torch is imported by the jobs that use it alone.
    from sparkrec.pipeline.neural import TwoTowerJob, two_tower_estimator

    assert isinstance(job, TwoTowerJob)
    return two_tower_estimator(job, tables)


def load_training_job(
    path: str,
    name: str,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> RetrievalJob:
    """Load the conf of jobs/<name>.py.

    Raises
    ------
    ConfigError
        See `load_config`; or the conf is of another job, or its `model.class` is not to be had.
    """
    job = load_config(path, _kind_of(path, name), overrides, environ)
    model_class = find_class(job.model_class or name)
    root = job.tables.root
    output = job.output_path or storage.join(root, "runs", conf_name(path))
    return dataclasses.replace(job, output_path=output, model_class=class_path(model_class))


def job_kind(model: str) -> Any:
    """The config class of a job that trains a model, by the name of the model's class.

    Raises
    ------
    ConfigError
        There is no such class, or it is neither a network nor an Estimator.
    """
    found = find_class(model)
    if issubclass(found, Retriever):
        blocks = found.config_blocks
        if set(blocks) <= {"model"}:
            settings: Any = blocks.get("model", NoSettings)
            return (ContentJob if issubclass(found, ContentRetriever) else CountJob)[settings]
        raise ConfigError(f"{model} is the Estimator of a network; name the network itself")
    from sparkrec.models.two_tower import require_network
    from sparkrec.pipeline.neural import TwoTowerJob

    config: Any = require_network(found, model).Config
    return TwoTowerJob[config]


def _kind_of(path: str, name: str) -> Callable[[Mapping[str, Any]], Any]:
    """The config class by the values of a conf, for jobs/<name>.py."""

    def kind(conf: Mapping[str, Any]) -> Any:
        job = conf.get("job")
        if job is not None and job != name:
            raise ConfigError(
                f"{path}: job is `{job}`, but this is jobs/{name}.py; run jobs/{job}.py, or set "
                f"job: {name}"
            )
        block = conf.get("model")
        model = block.get("class") if isinstance(block, Mapping) else None
        if model is None and name == ANY:
            raise ConfigError(
                f"{path}: missing key `model.class`, the model to train: a short name, such as "
                "dssm, or module:Class"
            )
        return job_kind(str(name if model is None else model))

    return kind


def _resumes(job: RetrievalJob) -> bool:
    return bool(getattr(getattr(job, "training", None), "resume", False))
