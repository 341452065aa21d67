"""What a schema declares, put to use on tables: the features of a side, fitted or joined.

Imports no Torch, so models without a network use it as well.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.item_features import ItemFeatures
from sparkrec.errors import DataError, SchemaError
from sparkrec.schema.encoder import FeatureEncoder
from sparkrec.schema.parser import Feature, FeatureSchema
from sparkrec.schema.spark import fit_encoder
from sparkrec.schema.text import Text
from sparkrec.spark_versions import from_arrow, to_arrow


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
        return _no_features(schema)
    wanted = None if previous else buckets
    return fit_encoder([frame.select(*schema.columns)], schema, max_list_length, wanted, previous)


def fit_item_features(
    spark: SparkSession,
    table: pa.Table,
    of_train: npt.NDArray[np.bool_],
    schema: FeatureSchema,
    text: Text,
    max_list_length: int,
    buckets: Mapping[str, int],
    previous: ItemFeatures | None = None,
) -> ItemFeatures:
    """Fit the encoder of the items' features to the items of train; see `ItemFeatures.fit`."""

    def fit_rows(
        rows: pa.Table, hashed: FeatureSchema, known: FeatureEncoder | None
    ) -> FeatureEncoder:
        if not hashed.features:  # Spark makes no frame without columns
            return _no_features(hashed)
        return fit_features(from_arrow(spark, rows), hashed, max_list_length, buckets, known)

    return ItemFeatures.fit(table, of_train, schema, fit_rows, text, max_list_length, previous)


def _no_features(schema: FeatureSchema) -> FeatureEncoder:
    return FeatureEncoder(schema, {}, np.zeros(0, np.uint64))
