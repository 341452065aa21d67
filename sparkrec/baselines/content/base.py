"""Base of the models that know items by their declared features alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.encoding.count_catalogue import count_catalogue
from sparkrec.encoding.declared import catalogue_features, fit_item_features, without_item
from sparkrec.encoding.item_features import ItemFeatures
from sparkrec.errors import ConfigError
from sparkrec.retrieval.base import Retriever
from sparkrec.schema.parser import FeatureSchema
from sparkrec.schema.text import Text


class ContentRetriever(Retriever):
    """Fits the encoder of the items' features.

    Parameters
    ----------
    items
        Table with the features that `item_schema` names, one row an item.
    item_schema
        Declares the features; the id of the item is left out of them.
    text, item_buckets, max_list_length
        As in the `schema:` block of a conf.
    config, params
        As in `Retriever`.
    """

    def __init__(
        self,
        config: Any = None,
        *,
        items: DataFrame | None = None,
        item_schema: FeatureSchema | None = None,
        text: Text | None = None,
        item_buckets: Mapping[str, int] | None = None,
        max_list_length: int = 64,
        users: DataFrame | None = None,
        **params: Any,
    ) -> None:
        super().__init__(config, users=users, **params)
        self.items, self.item_schema = items, item_schema
        self.text, self.item_buckets = text or Text(), dict(item_buckets or {})
        self.max_list_length = max_list_length

    def _fit_features(self, dataset: DataFrame) -> tuple[Catalogue, ItemFeatures, pa.Table]:
        """The items of train, the encoder of their features, and the table of these.

        Raises
        ------
        ConfigError
            `items` or `item_schema` was not given.
        SchemaError
            Nothing but the id is declared, or a column is missing.
        """
        name = type(self).__name__
        if self.items is None or self.item_schema is None:
            lacking = "items" if self.items is None else "item_schema"
            raise ConfigError(
                f"{name} reads the content of items; give it the table of the items' features "
                f"(`items`) and the features to read (`item_schema`); `{lacking}` is missing"
            )
        columns, spark = self.columns, dataset.sparkSession
        schema = without_item(self.item_schema, columns, name)
        catalogue = count_catalogue(dataset, columns.item)
        table = catalogue_features(spark, catalogue, self.items, schema, columns.item)
        features = fit_item_features(
            spark,
            table,
            np.ones(len(catalogue), bool),
            schema,
            self.text,
            self.max_list_length,
            self.item_buckets,
        )
        return catalogue, features, table
