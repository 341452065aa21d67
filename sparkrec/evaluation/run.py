"""A retrieval job's run: inputs, run folder, recommendations, evaluation, metrics.json.

A run folder holds `model/`, `recommendations/{seen_kept,seen_excluded}/`, `metrics.json`, and for
neural models `work/` (encoded rows and checkpoints). Its manifest is written last.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec import config as configs
from sparkrec import storage
from sparkrec.baselines import yardstick
from sparkrec.columns import Columns
from sparkrec.errors import DataError
from sparkrec.evaluation.metrics import count_items, evaluate
from sparkrec.evaluation.protocols import protocol
from sparkrec.evaluation.report import Result, format_table, metrics_json
from sparkrec.retrieval.base import RetrievalModel, Retriever
from sparkrec.retrieval.settings import Retrieval
from sparkrec.tables import (
    INTEGER_TYPES,
    KEY_TYPES,
    NUMBER_TYPES,
    fingerprint,
    read_table,
    write_table,
)

log = logging.getLogger("sparkrec.run")


@dataclass(frozen=True)
class Inputs:
    """Published tables.

    Attributes
    ----------
    train
        Rows to train on.
    events
        All events of train, which say what is a candidate and what is popular; `train` where it
        has them all.
    validation
        Queries to stop early on; by default a neural model holds out events of train itself.
    test
        Queries to evaluate: `query_id`, user, `history`, `relevant`.
    items, users
        Features that the schemas name and the rows do not have.
    """

    train: str
    test: str
    events: str | None = None
    validation: str | None = None
    items: str | None = None
    users: str | None = None

    def paths(self) -> dict[str, str]:
        """The tables that are named, by their key."""
        return {name: path for name, path in vars(self).items() if path is not None}


@dataclass(frozen=True)
class EvaluationSettings:
    """What is reported.

    Attributes
    ----------
    protocol
        Name of the protocol that the test rows were made by.
    rating_above
        Test rows with a rating above it count; the protocol's own rule by default.
    fallback
        `global_hot`, or `none`: what unknown users without history are given.
    yardsticks
        Count models that stand beside the job's own in its table.
    """

    protocol: str
    rating_above: float | None = None
    fallback: Literal["none", "global_hot"] = "global_hot"
    yardsticks: tuple[Literal["global_hot", "personal_top"], ...] = ()


@dataclass(frozen=True, kw_only=True)
class RetrievalJob:
    """What the config of every retrieval job has.

    Attributes
    ----------
    mode
        `train`, `infer` or both: `infer` alone evaluates the saved model of `init_model_path`
        (by default the run folder's own).
    output_path
        The run folder.
    """

    job: str
    dataset: str
    input: Inputs
    evaluation: EvaluationSettings
    output_path: str
    seed: int = 0
    mode: tuple[Literal["train", "infer"], ...] = ("train", "infer")
    init_model_path: str | None = None
    columns: Columns = field(default_factory=Columns)
    retrieval: Retrieval = field(default_factory=Retrieval)
    overwrite: bool = False
    spark: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.mode:
            raise ValueError("mode must name train, infer or both")


@dataclass(frozen=True)
class Tables:
    """The job's inputs as data frames; `events` is always there."""

    train: DataFrame
    events: DataFrame
    test: DataFrame
    validation: DataFrame | None
    items: DataFrame | None
    users: DataFrame | None


def read_inputs(spark: SparkSession, job: RetrievalJob) -> Tables:
    """Read the job's tables and check what can be checked before anything is computed.

    Raises
    ------
    StorageError, DataError, ConfigError
        A path is missing, a table is empty, lacks a column or has one of the wrong type; the
        protocol is unknown; the output path holds what is not this job's.
    """
    protocol(job.evaluation.protocol)
    storage.check_output(job.output_path, job.job, job.overwrite)
    columns = job.columns
    keys = {columns.user: KEY_TYPES, columns.item: KEY_TYPES}
    rated: dict[str, Sequence[Any]] = {}
    if columns.rating is not None and job.evaluation.rating_above is not None:
        rated = {columns.rating: NUMBER_TYPES}
    required: dict[str, Mapping[str, Sequence[Any]]] = {
        "train": keys,
        "events": keys,
        "test": {"query_id": INTEGER_TYPES, columns.user: KEY_TYPES, **rated},
        "validation": {"query_id": INTEGER_TYPES},
        "items": {columns.item: KEY_TYPES},
        "users": {columns.user: KEY_TYPES},
    }
    frames = {
        name: read_table(spark, path, f"input.{name}", required[name])
        for name, path in job.input.paths().items()
    }
    for name in ("test", "validation"):
        if name in frames:
            _check_items(frames[name], frames["train"], columns.item, f"input.{name}")
    return Tables(
        train=frames["train"],
        events=frames.get("events", frames["train"]),
        test=frames["test"],
        validation=frames.get("validation"),
        items=frames.get("items"),
        users=frames.get("users"),
    )


def _check_items(queries: DataFrame, train: DataFrame, item: str, where: str) -> None:
    """Histories and relevant items must be items of the same type as those of train."""
    for name in ("history", "relevant"):
        if name not in queries.columns:
            raise DataError(f"{where} has no column `{name}` (it has {', '.join(queries.columns)})")
        wanted, found = train.schema[item].dataType, queries.schema[name].dataType
        text = isinstance(wanted, T.StringType)
        if not isinstance(found, T.ArrayType) or text != isinstance(
            found.elementType, T.StringType
        ):
            raise DataError(
                f"{where}: column `{name}` is {found.simpleString()}, but must be "
                f"array<{wanted.simpleString()}>, as `{item}` in input.train"
            )


class Run:
    """A run folder while its job is at work."""

    def __init__(self, job: RetrievalJob, tables: Tables, keep: bool = False) -> None:
        """Claim the run folder; with `keep`, what an earlier run left there stays."""
        self.job, self.tables = job, tables
        self.seconds: dict[str, float] = {}
        self.results: list[Result] = []
        self._data = fingerprint(job.input.paths())
        storage.claim(job.output_path, job.job, job.overwrite, keep or "train" not in job.mode)

    @property
    def data(self) -> dict[str, str]:
        """Content hash of every input."""
        return self._data

    def path(self, *parts: str) -> str:
        """A path in the run folder."""
        return storage.join(self.job.output_path, *parts)

    def model(self, estimator: Retriever) -> RetrievalModel:
        """Fit and save the model, or load the saved one where `mode` is `[infer]`."""
        if "train" not in self.job.mode:
            model = estimator.model_class.load(saved_model_path(self.job))
            model.set_params(**retriever_params(self.job))
            model.users = self.tables.users
            return model
        start = perf_counter()
        model = estimator.fit(self.tables.train)
        self.seconds |= {"fit": perf_counter() - start, **model.seconds}
        model.save(self.path("model"), overwrite=True)
        return model

    def evaluate(self, model: RetrievalModel, name: str, is_yardstick: bool = False) -> None:
        """Recommend for every test row, seen kept and seen excluded, and evaluate both.

        The recommendations of the job's own model are written to the run folder; those of a
        yardstick are not. Does nothing where `mode` is `[train]`.
        """
        if "infer" not in self.job.mode:
            return
        job, columns = self.job, self.job.columns
        chosen = protocol(job.evaluation.protocol)
        queries = chosen.relevant_queries(
            self.tables.test, columns.rating, job.evaluation.rating_above
        )
        counts = count_items(self.tables.events, columns.item).persist()
        first = job.retrieval.exclude_seen
        for exclude_seen in (first, not first):
            params = {model.getParam("exclude_seen"): exclude_seen}
            answered = model.transform(queries, params).select("query_id", "recommended")
            start = perf_counter()
            if is_yardstick:
                recommendations = answered.persist()
            else:
                folder = "seen_excluded" if exclude_seen else "seen_kept"
                path = self.path("recommendations", folder)
                about = write_table(answered, path, job.job, overwrite=True)
                recommendations = answered.sparkSession.read.parquet(storage.spark_path(path))
                self._report_short(recommendations, about["rows"], exclude_seen)
                self._add_seconds("recommend", start)
            start = perf_counter()
            found = evaluate(recommendations, queries, columns.user, counts, seed=job.seed)
            recommendations.unpersist()
            if not is_yardstick:
                self._add_seconds("evaluate", start)
            self.results.append(
                Result(name, chosen.name, exclude_seen, found.n, found.metrics, found.interval95)
            )
        counts.unpersist()

    def evaluate_yardsticks(self) -> None:
        """Evaluate the count models that the conf asks for, beside the job's own."""
        for name in self.job.evaluation.yardsticks:
            model = yardstick(name, **retriever_params(self.job)).fit(self.tables.events)
            self.evaluate(model, name, is_yardstick=True)

    def finish(self) -> str:
        """Write metrics.json and the run folder's manifest; returns the table to print."""
        job = self.job
        metrics = metrics_json(
            model=job.job,
            dataset=job.dataset,
            config=configs.to_json(job),
            seed=job.seed,
            data=self.data,
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            results=self.results,
        )
        storage.write_json(self.path("metrics.json"), metrics)
        storage.finish(job.output_path, job.job, {"dataset": job.dataset, "data": self.data})
        return f"{format_table(self.results)}\n\nwritten to {job.output_path}"

    def _add_seconds(self, name: str, start: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start

    def _report_short(self, recommendations: DataFrame, rows: int, exclude_seen: bool) -> None:
        short = recommendations.where(F.size("recommended") < self.job.retrieval.k).count()
        if short:
            log.warning(
                "%d of %d queries got fewer than %d items (seen %s)",
                short,
                rows,
                self.job.retrieval.k,
                "excluded" if exclude_seen else "kept",
            )


def retriever_params(job: RetrievalJob) -> dict[str, Any]:
    """The params of a retriever that every job's config gives."""
    columns = job.columns
    return {
        "user_col": columns.user,
        "item_col": columns.item,
        "timestamp_col": columns.timestamp,
        "position_col": columns.position,
        "k": job.retrieval.k,
        "exclude_seen": job.retrieval.exclude_seen,
        "fallback": job.evaluation.fallback,
    }


def saved_model_path(job: RetrievalJob) -> str:
    """Where `mode: [infer]` finds its model.

    Raises
    ------
    DataError
        No model is there.
    """
    path = job.init_model_path or storage.join(job.output_path, "model")
    if not storage.is_published(path):
        raise DataError(
            f"mode is [infer], but there is no saved model at {path}; set init_model_path, or "
            "train with mode: [train, infer]"
        )
    return path
