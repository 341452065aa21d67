"""Fits the encoders of both sides to train: the columns that a model reads, and vocabularies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame

from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.declared import (
    catalogue_features,
    fit_features,
    fit_item_features,
    require_item_alone,
    without_history,
    without_item,
)
from sparkrec.encoding.sides import ItemEncoder, QueryEncoder
from sparkrec.errors import SchemaError
from sparkrec.models.two_tower import Reads
from sparkrec.schema.parser import FeatureSchema
from sparkrec.schema.text import Text

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
    encoder = ItemEncoder(
        fit_item_features(
            spark,
            table,
            catalogue.counts > 0,
            item_schema,
            settings.text,
            lists,
            settings.item_buckets,
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
