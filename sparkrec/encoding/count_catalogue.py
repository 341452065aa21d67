"""Counts the catalogue of an events table on Spark."""

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError
from sparkrec.io.tables import KEY_TYPES, require_columns
from sparkrec.spark_versions import to_arrow


def count_catalogue(events: DataFrame, item: str) -> Catalogue:
    """The distinct items of an events table, sorted by id, with their counts.

    Events without an item are left out. One shuffle; the items are collected on the driver.

    Raises
    ------
    DataError
        The column is missing or has a type that is not possible for an id, or no event has an item.
    """
    require_columns(events, {item: KEY_TYPES}, "train")
    known = events.where(F.col(item).isNotNull())
    counted = known.groupBy(item).agg(F.count("*").alias("_sr_events"))
    table = to_arrow(counted.orderBy(item)).combine_chunks()
    if not table.num_rows:
        raise DataError(f"train has no event with a {item}; there is nothing to recommend")
    ids = table.column(item)
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    if pa.types.is_large_string(ids.type) or pa.types.is_string_view(ids.type):
        ids = ids.cast(pa.string())
    return Catalogue(ids, table.column("_sr_events").to_numpy().astype(np.int64))
