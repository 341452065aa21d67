"""Fits the encoders of both sides to train: the columns that a model reads, and vocabularies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.item_features import ItemFeatures
from sparkrec.encoding.sides import ItemEncoder, QueryEncoder
from sparkrec.errors import DataError, SchemaError
from sparkrec.models.two_tower import Reads
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import Feature, FeatureSchema
from sparkrec.schema.spark import fit_encoder
from sparkrec.schema.text import Text
from sparkrec.spark_versions import from_arrow, to_arrow

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SideSettings:
    """Settings of the encoders.

    Attributes
    ----------
    columns
        Names of the columns.
    model
        Name of the model, for error messages.
    reads
        The parts of queries and items that the model reads.
    max_list_length
        Maximum number of values of a list feature, of which the last are used, and of words of a
        text, of which the first are.
    text
        How texts are turned into words.
    user_buckets, item_buckets
        Number of rows by feature, for features whose values are assigned to rows by hash modulo.
    """

    columns: Columns
    model: str
    reads: Reads
    max_list_length: int
    text: Text
    user_buckets: Mapping[str, int]
    item_buckets: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Sides:
    """The catalogue and the encoders that were fitted to train.

    Attributes
    ----------
    catalogue
        The items.
    users, items
        Encoders of the user side and of the item side.
    item_features
        Encoded features of the items by dense index, int64 [items + FIRST_ITEM, width].
    content
        Content of the items by dense index (see `ItemEncoder.content`).
    """

    catalogue: Catalogue
    users: QueryEncoder
    items: ItemEncoder
    item_features: Ints
    content: dict[str, npt.NDArray[Any]]


def fit_sides(
    train: DataFrame,
    items: DataFrame | None,
    schemas: tuple[FeatureSchema, FeatureSchema],
    catalogue: Catalogue,
    settings: SideSettings,
    previous: tuple[QueryEncoder, ItemEncoder] | None = None,
) -> Sides:
    """Fit the encoders of the user side and the item side, and encode the items.

    Parameters
    ----------
    train
        Training rows with the columns of the user side.
    items
        Table with the columns of the item side; None if the item id is the only one.
    schemas
        Declarations of the user side and the item side.
    catalogue
        The items.
    settings
        Settings of the encoders.
    previous
        Encoders of an earlier model, whose vocabularies are extended.

    Raises
    ------
    SchemaError
        The model cannot read the declared features.
    """
    (user_schema, item_schema), columns = schemas, settings.columns
    reads, rest, lists = settings.reads, user_schema, settings.max_list_length
    if reads.history:
        rest = without_history(user_schema, columns, settings.model, reads.user_features)
    if reads.item_content:
        item_schema = without_item(item_schema, columns, settings.model)
    elif not reads.item_features:
        require_item_alone(item_schema, columns, settings.model)
    known = previous[0].features if previous else None
    features = fit_features(train, rest, lists, settings.user_buckets, known)
    history = columns.recent_items if reads.history else None
    users = QueryEncoder(user_schema, features, catalogue, history, reads.history)
    spark = train.sparkSession
    table = catalogue_features(spark, catalogue, items, item_schema, columns.item)
    if not (reads.item_features or reads.item_content):
        item_schema = FeatureSchema((), (), item_schema.source)

    def fit_rows(
        rows: pa.Table, schema: FeatureSchema, known: FeatureEncoder | None
    ) -> FeatureEncoder:
        frame = from_arrow(spark, rows) if schema.features else train
        return fit_features(frame, schema, lists, settings.item_buckets, known)

    encoder = ItemEncoder(
        ItemFeatures.fit(
            table,
            catalogue.counts > 0,
            item_schema,
            fit_rows,
            settings.text,
            lists,
            previous[1].features if previous else None,
        ),
        catalogue,
        dense=not reads.item_features,
    )
    if reads.item_features and encoder.features.num_floats:
        raise SchemaError(
            f"{item_schema.source}: {settings.model} reads values and words of items, not numbers; "
            "take out the features of the form number(...) and vector(...)"
        )
    return Sides(catalogue, users, encoder, encoder.matrix(table), encoder.content(table))


def plain_schema(columns: Sequence[str]) -> FeatureSchema:
    """A schema in which every column is a feature."""
    features = tuple(Feature(name, (name,), (name,)) for name in columns)
    return FeatureSchema(tuple(columns), features, "the default schema")


def catalogue_features(
    spark: SparkSession,
    catalogue: Catalogue,
    items: DataFrame | None,
    schema: FeatureSchema,
    item: str,
) -> pa.Table:
    """The columns of the item side, one row per item of the catalogue, in its order."""
    ids = pa.table({item: catalogue.ids, "_sr_order": np.arange(len(catalogue))})
    if items is None or set(schema.columns) <= {item}:
        schema.require([item], "train (there is no items table)")
        return ids.select(list(schema.columns))
    if item not in items.columns:
        raise DataError(f"the items table has no column `{item}` to join it by")
    schema.require(items.columns, "the items table")
    joined = from_arrow(spark, ids).join(items.dropDuplicates([item]), item, "left")
    return to_arrow(joined.orderBy("_sr_order").select(*schema.columns))


def without_history(
    schema: FeatureSchema, columns: Columns, model: str, other_features: bool
) -> FeatureSchema:
    """The features of the user side without the history.

    Raises
    ------
    SchemaError
        The history is not declared, or other features are declared that the model does not read.
    """
    name = columns.recent_items
    rest = tuple(f for f in schema.features if f.columns != (name,))
    if len(rest) == len(schema.features):
        raise SchemaError(
            f"{schema.source}: {model} reads the user's recent items; add the feature `{name}`"
        )
    if rest and not other_features:
        raise SchemaError(
            f"{schema.source}: {model} reads `{name}` alone; take out `{rest[0].name}`"
        )
    used = {column for feature in rest for column in feature.columns}
    return FeatureSchema(tuple(c for c in schema.columns if c in used), rest, schema.source)


def without_item(schema: FeatureSchema, columns: Columns, model: str) -> FeatureSchema:
    """The features of the item side without the item's id, which the network knows by itself.

    Raises
    ------
    SchemaError
        The id is part of a cross, or no other feature is declared.
    """
    item = columns.item
    rest = tuple(f for f in schema.features if f.columns != (item,))
    crossed = next((f.name for f in rest if item in f.columns), None)
    if crossed:
        raise SchemaError(
            f"{schema.source}: `{crossed}` has the id of the item in it, so it is no content; take "
            "it out"
        )
    if not rest:
        raise SchemaError(
            f"{schema.source}: {model} reads the content of items (model.items), but no feature "
            f"beside `{item}` is declared; declare some in the item schema, or set items: id"
        )
    used = {column for feature in rest for column in feature.columns}
    return FeatureSchema(tuple(c for c in schema.columns if c in used), rest, schema.source)


def require_item_alone(schema: FeatureSchema, columns: Columns, model: str) -> None:
    """Raise SchemaError unless the item id is the only feature of the item side."""
    names = [feature.name for feature in schema.features]
    if [feature.columns for feature in schema.features] != [(columns.item,)]:
        raise SchemaError(
            f"{schema.source}: {model} knows items by their id; declare `{columns.item}` alone, "
            f"not {', '.join(names)}"
        )


def fit_features(
    frame: DataFrame,
    schema: FeatureSchema,
    max_list_length: int,
    buckets: Mapping[str, int],
    previous: FeatureEncoder | None,
) -> FeatureEncoder:
    """Fit the encoder of a side's features, or extend the encoder of an earlier model.

    For a side without features no Spark job is run.
    """
    if not schema.features:
        return FeatureEncoder(schema, {}, np.zeros(0, np.uint64))
    wanted = None if previous else buckets
    return fit_encoder([frame.select(*schema.columns)], schema, max_list_length, wanted, previous)
