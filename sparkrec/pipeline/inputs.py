"""The config of every retrieval job, and its input tables, which are checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from sparkrec.bounds import Bounds, Rating, Seed, check_bounds
from sparkrec.columns import Columns
from sparkrec.config.job import OutputJob
from sparkrec.config.load import KEY
from sparkrec.errors import ConfigError, DataError
from sparkrec.evaluation.protocols import COLD_ITEMS, of_event_type, protocol
from sparkrec.io import storage
from sparkrec.io.output_paths import check_output
from sparkrec.io.outputs import is_published, resolve
from sparkrec.io.tables import INTEGER_TYPES, KEY_TYPES, NUMBER_TYPES, fingerprint, read_table
from sparkrec.retrieval.search.settings import Retrieval
from sparkrec.transforms.cold_items import FIRST_SEEN


@dataclass(frozen=True)
class Inputs:
    """Paths of the input tables: a split whose tables are found by name, and single tables.

    Attributes
    ----------
    split
        Folder with the tables `train` and `test`, as jobs/match_dataset.py writes them, and
        optionally `validation`. The folder above it may have the tables `items` and `users`.
    train
        Table with the training rows; by default `train` of the split.
    test
        Table with the queries to evaluate (`query_id`, user, `history`, `relevant`); by default
        `test` of the split.
    events
        Table with all events of train. Its items are the candidates, and their counts the
        popularity. By default `train` of the split, or the table `train` if there is no split.
    validation
        Table with the queries for early stopping; by default `validation` of the split, if it is
        there. Without it a neural model holds out events of train.
    items
        Table with the features of items that the schemas name and the training rows do not have;
        by default `items` in the folder above the split, if it is there.
    users
        Table with the features of users that the schemas name and the training rows do not have;
        by default `users` in the folder above the split, if it is there.
    cold_items
        Table of the items that the split keeps from train, for the protocol `cold_items`; by
        default `cold_items` of the split, if it is there.
    """

    split: str | None = None
    train: str | None = None
    test: str | None = None
    events: str | None = None
    validation: str | None = None
    items: str | None = None
    users: str | None = None
    cold_items: str | None = None

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
        """Paths of the tables that must exist, by key."""
        named = {name: path for name, path in vars(self).items() if path and name != "split"}
        if self.split is not None:
            by_name = {name: storage.join(self.split, name) for name in ("train", "test")}
            if self.train is not None:
                by_name["events"] = by_name["train"]
            named = {**by_name, **named}
        return named

    def paths(self) -> dict[str, str]:
        """Paths of the tables that are read: the required ones, and those found by name."""
        found = self.required()
        if self.split is None:
            return found
        places = {
            "validation": self.split,
            "cold_items": self.split,
            "items": self.root,
            "users": self.root,
        }
        for name, folder in places.items():
            path = storage.join(folder, name)
            if name not in found and is_published(path):
                found[name] = path
        return found


def _parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0]


@dataclass(frozen=True)
class EvaluationSettings:
    """How the model is evaluated.

    Attributes
    ----------
    protocol
        Name of the protocol with which the test rows were made.
    rating_above
        Only test rows with a rating above this are evaluated; by default the rule of the protocol.
    target
        Only test and validation rows with this `event_type` are evaluated, such as `purchase`.
        Their histories have the events of all types. By default rows of all types are.
    new_items_score
        With the protocol `cold_items`, added to all scores that the model gives to cold items.
        Below 0 they take fewer places of the lists. For models whose items have a bias.
    fallback
        Answer for queries about which the model knows nothing: `global_hot`, popular items, or
        `none`, the model's own answer.
    yardsticks
        Models without training that are evaluated on the same queries, reported in the same table,
        and compared with the model: `global_hot`, `personal_top` and `random`; and, where
        `schema.path` declares features of items, `content_knn` and `content_popularity`.
    """

    protocol: str
    rating_above: Rating | None = None
    target: str | None = None
    new_items_score: Annotated[float, Bounds(-1000, 1000)] = 0.0
    fallback: Literal["none", "global_hot"] = "global_hot"
    yardsticks: tuple[
        Literal["global_hot", "personal_top", "random", "content_knn", "content_popularity"], ...
    ] = ()

    def __post_init__(self) -> None:
        check_bounds(self)
        try:
            protocol(self.protocol)
        except ConfigError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class RetrievalJob(OutputJob):
    """Keys that the config of every retrieval job has.

    Attributes
    ----------
    dataset
        Name of the data set, for the report.
    input
        Folder of a split, whose tables are found by name, or a block that names single tables.
    model_class
        Class of the model: a short name (`dssm`), or `module:Class` of a network or an Estimator.
        Only jobs/train.py needs it; the other jobs set it themselves.
    output_path
        Run folder; by default `runs/<name of the conf>` in the data set's folder.
    seed
        Seed of all random numbers.
    mode
        `train`, `infer` or both. `infer` alone evaluates the saved model of `init_model_path`.
    init_model_path
        Saved model that `mode: [infer]` evaluates; by default the model in the run folder.
    """

    dataset: str
    input: str | Inputs
    evaluation: EvaluationSettings
    model_class: str = field(default="", metadata={KEY: "model.class"})
    output_path: str = ""
    seed: Seed = 0
    mode: tuple[Literal["train", "infer"], ...] = ("train", "infer")
    init_model_path: str | None = None
    columns: Columns = field(default_factory=Columns)
    retrieval: Retrieval = field(default_factory=Retrieval)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mode:
            raise ValueError("mode must name train, infer or both")

    @property
    def tables(self) -> Inputs:
        """The tables that `input` names."""
        return Inputs(split=self.input) if isinstance(self.input, str) else self.input


@dataclass(frozen=True)
class Tables:
    """The input tables of a job as DataFrames, and the content hash of each."""

    train: DataFrame
    events: DataFrame
    test: DataFrame
    validation: DataFrame | None
    items: DataFrame | None
    users: DataFrame | None
    cold_items: DataFrame | None = None
    fingerprint: dict[str, str] = field(default_factory=dict)


def read_inputs(spark: SparkSession, job: RetrievalJob) -> Tables:
    """Read the input tables of a job and check them before anything is computed.

    Raises
    ------
    StorageError, DataError, ConfigError
        A path is missing; a table is empty, lacks a column or has a column of the wrong type; no
        query is of the type `evaluation.target`; or the output path holds output that this job did
        not write.
    """
    chosen = protocol(job.evaluation.protocol)
    check_output(job.output_path, job.made_by, job.overwrite)
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
        "cold_items": {columns.item: KEY_TYPES, FIRST_SEEN: INTEGER_TYPES},
    }
    # Pointers are followed once: the tables stay the same ones while another run is published.
    paths = {name: resolve(path) for name, path in job.tables.paths().items()}
    frames = {
        name: read_table(spark, path, f"input.{name}", required[name])
        for name, path in paths.items()
    }
    if job.evaluation.target is not None:
        for name in {"test", "validation"} & set(frames):
            frames[name] = of_event_type(frames[name], job.evaluation.target, f"input.{name}")
    if chosen.name == COLD_ITEMS and not {"cold_items", "items"} <= set(frames):
        lacking = "cold_items" if "cold_items" not in frames else "items"
        raise DataError(
            f"the protocol cold_items needs the table input.{lacking}; make the split with "
            "split.cold_items, and name the table of the items' features in input.items"
        )
    # An error should appear now and not after the model was trained.
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
        cold_items=frames.get("cold_items"),
        fingerprint=fingerprint(paths),
    )


def _check_items(queries: DataFrame, train: DataFrame, item: str, where: str) -> None:
    """Check that histories and relevant items have the type of the items of train."""
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
    """Params of a retriever that follow from the config of every job."""
    columns = job.columns
    return {
        "user_col": columns.user,
        "item_col": columns.item,
        "timestamp_col": columns.timestamp,
        "position_col": columns.position,
        **({"session_col": columns.session} if columns.session is not None else {}),
        "k": job.retrieval.k,
        "exclude_seen": job.retrieval.exclude_seen,
        "candidates": job.retrieval.candidates,
        "fallback": job.evaluation.fallback,
    }
