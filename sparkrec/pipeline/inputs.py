"""What every retrieval job has: its config, and the tables it reads, checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from sparkrec.columns import Columns
from sparkrec.config.load import KEY
from sparkrec.errors import DataError
from sparkrec.evaluation.protocols import protocol
from sparkrec.io import storage
from sparkrec.io.publishing import check_output, is_published
from sparkrec.io.tables import INTEGER_TYPES, KEY_TYPES, NUMBER_TYPES, read_table
from sparkrec.retrieval.search.settings import Retrieval


@dataclass(frozen=True)
class Inputs:
    """Published tables: those of a split, found by name, and any that are named one by one.

    Attributes
    ----------
    split
        Folder with `train` and `test`, as jobs/match_dataset.py writes them, and perhaps
        `validation`; the folder above it may have `items` and `users`.
    train
        Rows to train on.
    events
        All events of train, which say what is a candidate and what is popular; by default the
        split's `train`.
    validation
        Queries to stop early on; without any, a neural model holds out events of train itself.
    test
        Queries to evaluate: `query_id`, user, `history`, `relevant`.
    items, users
        Features that the schemas name and the rows do not have.
    """

    split: str | None = None
    train: str | None = None
    test: str | None = None
    events: str | None = None
    validation: str | None = None
    items: str | None = None
    users: str | None = None

    def __post_init__(self) -> None:
        for name in ("train", "test"):
            if self.split is None and getattr(self, name) is None:
                raise ValueError(f"{name} must be given, or split, the folder that has it")

    @property
    def root(self) -> str:
        """The folder of the data set: the one above the split."""
        split = self.split or _parent(self.train or "")
        return _parent(split)

    def required(self) -> dict[str, str]:
        """The tables that must be there, by their key."""
        named = {name: path for name, path in vars(self).items() if path and name != "split"}
        if self.split is not None:
            by_name = {name: storage.join(self.split, name) for name in ("train", "test")}
            if self.train is not None:
                by_name["events"] = by_name["train"]
            named = {**by_name, **named}
        return named

    def paths(self) -> dict[str, str]:
        """The tables that are read: those that must be there, and what the split has beside."""
        found = self.required()
        if self.split is None:
            return found
        places = {"validation": self.split, "items": self.root, "users": self.root}
        for name, folder in places.items():
            path = storage.join(folder, name)
            if name not in found and is_published(path):
                found[name] = path
        return found


def _parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0]


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
    job
        The script's name: `dssm` for jobs/dssm.py.
    model_class
        What is trained: a short name (`dssm`), or `module:Class` of a network or of an Estimator.
        Given by the script, but for jobs/train.py.
    dataset
        Name of the data, for the report.
    input
        The tables, or the folder of a split that has them.
    mode
        `train`, `infer` or both: `infer` alone evaluates the saved model of `init_model_path`
        (by default the run folder's own).
    output_path
        The run folder; by default `runs/<name of the conf>` below the data set's folder.
    """

    job: str
    dataset: str
    input: str | Inputs
    evaluation: EvaluationSettings
    model_class: str = field(default="", metadata={KEY: "model.class"})
    output_path: str = ""
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

    @property
    def tables(self) -> Inputs:
        """The tables that `input` names."""
        return Inputs(split=self.input) if isinstance(self.input, str) else self.input


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
    chosen = protocol(job.evaluation.protocol)
    check_output(job.output_path, job.job, job.overwrite)
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
        for name, path in job.tables.paths().items()
    }
    # Fails now, if it does, and not when the model is trained.
    chosen.relevant_queries(frames["test"], columns.rating, job.evaluation.rating_above)
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
