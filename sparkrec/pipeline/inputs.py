"""What every retrieval job has: its config, and the tables it reads, checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from sparkrec.columns import Columns
from sparkrec.errors import DataError
from sparkrec.evaluation.protocols import protocol
from sparkrec.io.publishing import check_output
from sparkrec.io.tables import INTEGER_TYPES, KEY_TYPES, NUMBER_TYPES, read_table
from sparkrec.retrieval.search.settings import Retrieval


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
        for name, path in job.input.paths().items()
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
