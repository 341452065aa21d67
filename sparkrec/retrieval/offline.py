"""Batch recommendation: answers a table of users or histories with a saved model.

Of the training run only the folder of the model is needed.
"""

import logging
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from sparkrec.bounds import Bounds, Count, Length, TopK
from sparkrec.config.job import OutputJob
from sparkrec.errors import DataError
from sparkrec.io import storage
from sparkrec.io.output_paths import check_output
from sparkrec.io.publishing import publish
from sparkrec.io.tables import KEY_TYPES, read_table, write_table
from sparkrec.retrieval.base import RetrievalModel, require_history
from sparkrec.retrieval.load import load_model
from sparkrec.retrieval.recommend import RECOMMENDED
from sparkrec.retrieval.search.candidates import Candidates
from sparkrec.spark_versions import from_arrow
from sparkrec.transforms.history import add_item_features
from sparkrec.transforms.windows import user_items

log = logging.getLogger("sparkrec.recommend")


@dataclass(frozen=True)
class RecommendInput:
    """The input tables: parquet, with the column names that train had.

    Attributes
    ----------
    queries
        Table with one row per query: the user, the history (array of items, oldest first) or both.
        Other columns are copied to the output.
    events
        Table of events from which histories are made if `queries` has none. Without `queries`,
        every user of the events is answered.
    users
        Table with features of users that the model's schema names and the queries do not have.
    items
        Table with features of items. It is needed if the schema names `recent_<f>` or `last_<f>`
        and the queries do not have these columns, which are made from the histories; and if
        `candidates` reads columns of items.
    new_items
        Table of items that training never saw, with the columns of the items' table that the model
        reads. They get vectors from their content and are recommended in this run; the saved model
        stays as it is.
    """

    queries: str | None = None
    events: str | None = None
    users: str | None = None
    items: str | None = None
    new_items: str | None = None

    def __post_init__(self) -> None:
        if self.queries is None and self.events is None:
            raise ValueError("queries or events must be given")


@dataclass(frozen=True, kw_only=True)
class Recommend(OutputJob):
    """Config of jobs/recommend.py.

    Attributes
    ----------
    model_path
        Folder of a saved model of any kind: the `model` of a run folder.
    output_path
        Path of the recommendations.
    k
        Number of items to recommend for each query.
    exclude_seen
        Whether items of the history are left out.
    new_items_score
        Added to all scores of `input.new_items`: below 0 they take fewer places of the lists, above
        0 more. For models whose items have a bias.
    candidates
        Which items may be recommended; by default the rules with which the model was saved.
    max_history
        Maximum number of the latest events of a user in a history that is made from `input.events`.
    feature_items
        Number of the latest items of a history whose features are used (see `input.items`); the
        `max_len` of the history features with which the model was trained.
    fallback
        Answer for queries about which the model knows nothing: `global_hot`, popular items, or
        `none`, the model's own answer.
    format
        `parquet`: the columns of the queries and `recommended`, array<struct<item_id, score>>.
        `text`: lines ``user:7, top K: [12, 5, 9]``, as PaddleRec prints its predictions, with a
        literal K.
    """

    job: Literal["recommend"]
    input: RecommendInput
    model_path: str
    k: TopK = 20
    exclude_seen: bool = True
    new_items_score: Annotated[float, Bounds(-1000, 1000)] = 0.0
    candidates: Candidates | None = None
    max_history: Count = 1000
    feature_items: Length = 10
    fallback: Literal["none", "global_hot"] = "global_hot"
    format: Literal["parquet", "text"] = "parquet"


def write_recommendations(spark: SparkSession, config: Recommend) -> str:
    """Run the job; returns a line that says what was written.

    Raises
    ------
    StorageError
        A path does not exist, the model is not a saved model, or something else wrote the output.
    DataError
        A table lacks a column or has no rows.
    """
    check_output(config.output_path, config.made_by, config.overwrite)
    model = load_model(config.model_path)
    model.set_params(k=config.k, exclude_seen=config.exclude_seen, fallback=config.fallback)
    if config.candidates is not None:
        model.set_params(candidates=config.candidates)
    item = model.columns.item
    if config.input.items is not None:
        keys = {item: KEY_TYPES}
        model.items = read_table(spark, config.input.items, "input.items", keys, foreign=True)
    if config.input.new_items is not None:
        new = read_table(spark, config.input.new_items, "input.new_items", foreign=True)
        model = model.add_items(new, config.new_items_score)
        if model.items is not None:
            model.items = model.items.unionByName(new, allowMissingColumns=True)
    if config.input.users is not None:
        model.users = read_table(
            spark, config.input.users, "input.users", {model.columns.user: KEY_TYPES}, foreign=True
        )
    queries = _queries(spark, config, model)
    unknown = _unknown_items(queries, model)
    if unknown:
        log.warning("left out %d items of histories that the model does not know", unknown)
    complete = _with_item_features(queries, config, model)
    answered = _answer(complete, model).select(
        *[f"`{name}`" for name in queries.columns], RECOMMENDED
    )
    if config.format == "parquet":
        rows = write_table(answered, **config.target)["rows"]
    else:
        rows = _write_text(answered, config, model.columns.user)
    return f"{config.output_path}: {rows:,} queries answered, {unknown:,} unknown items left out"


def _queries(spark: SparkSession, config: Recommend, model: RetrievalModel) -> DataFrame:
    user, history = model.columns.user, model.get("history_col")
    made = None
    if config.input.events is not None:
        events = read_table(
            spark, config.input.events, "input.events", {user: KEY_TYPES}, foreign=True
        )
        made = user_items(events, model.columns, history, config.max_history)
    if config.input.queries is None:
        assert made is not None
        return made
    queries = read_table(spark, config.input.queries, "input.queries", foreign=True)
    if config.format == "text" and user not in queries.columns:
        raise DataError(f"input.queries has no column `{user}`, which format: text begins with")
    if history in queries.columns:
        if made is not None:
            raise DataError(
                f"input.queries has a column `{history}`, so input.events is not read; leave out "
                "one of them"
            )
        require_history(queries, history)
        found = queries.schema[history].dataType.elementType  # type: ignore[attr-defined]
        if isinstance(found, T.StringType) != isinstance(model.item_type, T.StringType):
            raise DataError(
                f"input.queries: `{history}` has items of type {found.simpleString()}, those of "
                f"the model are {model.item_type.simpleString()}"
            )
        return queries
    if user not in queries.columns:
        raise DataError(f"input.queries has neither `{user}` nor `{history}`")
    if made is not None:
        return queries.join(made, user, "left")
    nothing = F.array().cast(f"array<{model.item_type.simpleString()}>")
    return queries.withColumn(history, nothing)


def _with_item_features(queries: DataFrame, config: Recommend, model: RetrievalModel) -> DataFrame:
    """Queries with the features of their histories' items that the model wants and they lack."""
    item, items = model.columns.item, model.items
    if items is None:
        return queries
    lacking = set(model.wanted_columns) - set(queries.columns)
    features = [name for name in items.columns if {f"recent_{name}", f"last_{name}"} & lacking]
    if not features:
        return queries
    history = model.get("history_col")
    return add_item_features(queries, history, item, items, features, config.feature_items)


def _answer(queries: DataFrame, model: RetrievalModel) -> DataFrame:
    """The queries' columns with their answers."""
    user = model.columns.user
    if user in queries.columns:
        return model.transform(queries)
    log.info("queries have no column `%s`: answered from their histories alone", user)
    return model.transform(queries.withColumn(user, F.lit(None).cast("string"))).drop(user)


def _unknown_items(queries: DataFrame, model: RetrievalModel) -> int:
    """Items of all histories, repeats counted, that are not in the model's catalogue."""
    spark, history = queries.sparkSession, model.get("history_col")
    known = from_arrow(spark, pa.table({"item": model.catalogue.ids}))
    items = queries.select(F.explode(history).alias("item")).where("item IS NOT NULL")
    return items.join(F.broadcast(known), "item", "left_anti").count()


def _write_text(answered: DataFrame, config: Recommend, user: str) -> int:
    items = F.concat_ws(", ", F.transform("recommended", lambda r: r["item_id"].cast("string")))
    line = F.format_string("user:%s, top K: [%s]", F.col(user).cast("string"), items).alias("value")
    facts: dict[str, Any] = {}
    with publish(**config.target, about=facts) as folder:
        target = storage.spark_path(folder)
        answered.select(line).write.mode("append").text(target)
        facts["rows"] = answered.sparkSession.read.text(target).count()
    return int(facts["rows"])
