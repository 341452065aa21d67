"""Turns the Arrow batches of a partition of events into the rows of its users."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from sparkrec.baselines.item_to_item._user_rows import How, UserRows, user_rows
from sparkrec.columns import Columns
from sparkrec.encoding.catalogue import Catalogue
from sparkrec.errors import DataError
from sparkrec.io.tables import NUMBER_TYPES

WEIGHT = "_sr_weight"


def order_columns(events: DataFrame, columns: Columns) -> list[str]:
    """The columns by which events are ordered.

    Raises
    ------
    DataError
        There is no timestamp column, or a column is neither a number nor a time.
    """
    timestamp, position = columns.timestamp, columns.position
    if timestamp not in events.columns:
        raise DataError(
            f"train has no column `{timestamp}` (it has {', '.join(events.columns)}), which is "
            "needed for the order of a user's events"
        )
    names = [timestamp, position] if position in events.columns else [timestamp]
    for name in names:
        kind = events.schema[name].dataType
        if not isinstance(kind, (*NUMBER_TYPES, T.TimestampType, T.DateType)):
            raise DataError(
                f"train: column `{name}` is {kind.simpleString()}, but must be a number or a time"
            )
    return names


def gathered(
    batches: list[pa.RecordBatch], catalogue: Catalogue, max_items: int | None, how: How, seed: int
) -> UserRows:
    """The rows of all users of a partition; see `user_rows`. Clears the list of batches.

    Raises
    ------
    DataError
        An item is not in the catalogue.
    """
    if not batches:
        return UserRows(np.zeros(1, np.int64), np.empty(0, np.int32))
    table = pa.Table.from_batches(batches)
    batches.clear()
    items = catalogue.numbers(table.column(1)).astype(np.int32)
    if items.min(initial=0) < 0:
        raise DataError(
            "train has an item that was not in it when its items were counted, so it gives "
            "different rows each time it is computed; persist it or write it first"
        )
    weights = None
    if WEIGHT in table.column_names:
        weights = table.column(WEIGHT).to_numpy()
        table = table.drop_columns([WEIGHT])
    order = [_sortable(column) for column in table.columns[2:]]
    timestamps, positions = (*order, None, None)[:2]
    return user_rows(
        table.column(0), items, len(catalogue), timestamps, positions, max_items, how, seed, weights
    )


def _sortable(column: pa.ChunkedArray) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    """A column of times or positions as numbers; nulls are sorted first."""
    if pa.types.is_floating(column.type):
        return column.cast(pa.float64()).fill_null(-np.inf).to_numpy()
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    return column.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
